"""The highest dose rate on a surface against dense sampling of that surface; polar angles and rates at points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from iort_planner.dose.points import max_rate_on_surface, polar_angles_deg, rate_at_points
from iort_planner.dose.tg43 import depth_dose_table
from iort_planner.errors import DepthDoseRangeError
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.table_file import read_table
from iort_planner.source.tg43 import parse_tg43
from iort_planner.units import FloatArray
from tests.tg43_texts import tg43_text

SHIPPED = read_table()
SOURCE = np.array([-3.2, 215.7, -670.4])
Faces = npt.NDArray[np.int64]
# a strong shadow forwards, so that the nearest point is not the one with the highest dose
SHADOW = replace(
    SHIPPED,
    anisotropy=PolarAnisotropy(
        theta_deg=np.array([0.0, 20.0, 40.0, 90.0, 140.0, 180.0]),
        distance_mm=np.array([5.0, 15.0]),
        factor=np.array([[0.2, 0.3], [0.3, 0.4], [0.9, 0.95], [1.0, 1.0], [0.9, 0.9], [0.4, 0.5]]),
    ),
)


def tube(
    radius_mm: float, offset_mm: FloatArray, length_mm: float = 80.0, step_mm: float = 2.0
) -> tuple[FloatArray, Faces]:
    """A canal: an open tube along z whose axis passes at ``offset_mm`` from the source."""
    around = int(np.ceil(2 * np.pi * radius_mm / step_mm))
    z = np.arange(-length_mm / 2, length_mm / 2 + step_mm, step_mm)
    angle = np.arange(around) * 2 * np.pi / around
    ring = radius_mm * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    vertices = np.concatenate([np.column_stack([ring, np.full(around, height)]) for height in z]) + offset_mm + SOURCE
    faces = []
    for level in range(len(z) - 1):
        for n in range(around):
            a, b = level * around + n, level * around + (n + 1) % around
            faces += [[a, b, a + around], [b, b + around, a + around]]
    return vertices, np.array(faces)


def sampled_maximum(
    table: DepthDoseTable, axis: FloatArray, vertices: FloatArray, faces: Faces, reach_mm: float = 22.0
) -> float:
    """Highest rate on a lattice of 28 steps a side on every triangle that comes within reach, 0.07 mm apart."""
    triangles = vertices[faces]
    triangles = triangles[np.min(np.linalg.norm(triangles - SOURCE, axis=-1), axis=1) < reach_mm]
    steps = 28
    weights = np.array([(a, b, steps - a - b) for a in range(steps + 1) for b in range(steps + 1 - a)]) / steps
    best = 0.0
    for part in np.array_split(triangles, max(1, len(triangles) // 200)):
        points = np.einsum("wc,mcd->mwd", weights, part).reshape(-1, 3)
        best = max(best, float(np.nanmax(rate_at_points(table, SOURCE, axis, points))))
    return best


def directions(count: int) -> list[FloatArray]:
    return list(Rotation.random(count, random_state=11).as_matrix()[:, 0])


def test_polar_angles_count_from_the_distal_axis() -> None:
    axis = np.array([0.0, 0.0, 2.0])  # from the tip towards the hub
    offsets = np.array([[0, 0, -5.0], [3, 0, 0], [0, 0, 4.0], [0, 1, -1.0]])
    np.testing.assert_allclose(polar_angles_deg(offsets, axis), [0.0, 90.0, 180.0, 45.0], atol=1e-12)


def test_the_rate_at_a_point_is_table_times_factor_and_nan_beyond_the_table() -> None:
    points = SOURCE + np.array([[0.0, 0.0, -10.0], [0.0, 60.0, 0.0]])
    got = rate_at_points(SHADOW, SOURCE, np.array([0.0, 0.0, 1.0]), points)
    assert got[0] == pytest.approx(0.25 * float(SHIPPED.rate_gy_per_min(np.array(10.0))), rel=1e-12)
    assert np.isnan(got[1])


@pytest.mark.parametrize("axis", directions(8))
def test_the_highest_rate_on_a_canal_wall_is_that_of_dense_sampling_within_0_1_percent(axis: FloatArray) -> None:
    vertices, faces = tube(9.0, np.array([17.0, 2.0, 0.0]))
    point, rate = max_rate_on_surface(SHADOW, SOURCE, axis, vertices, faces)
    sampled = sampled_maximum(SHADOW, axis, vertices, faces)

    assert rate >= sampled * (1 - 5e-4)
    assert rate <= sampled * (1 + 1e-3)
    assert float(rate_at_points(SHADOW, SOURCE, axis, point)) == pytest.approx(rate, rel=1e-9)
    edges = vertices[faces[:, 0]] - point
    assert np.min(np.linalg.norm(edges, axis=-1)) < 2.9  # the point lies on the wall, in one of its 2 mm triangles


@pytest.mark.parametrize("axis", directions(4))
def test_it_holds_for_a_line_source_too(axis: FloatArray) -> None:
    table = depth_dose_table(parse_tg43(tg43_text()))
    vertices, faces = tube(9.0, np.array([16.0, -3.0, 0.0]))
    _, rate = max_rate_on_surface(table, SOURCE, axis, vertices, faces)
    sampled = sampled_maximum(table, axis, vertices, faces)
    assert rate >= sampled * (1 - 5e-4)
    assert rate <= sampled * (1 + 1e-3)


def test_in_a_shadow_it_is_not_the_nearest_point() -> None:
    vertices, faces = tube(9.0, np.array([17.0, 0.0, 0.0]))
    point, rate = max_rate_on_surface(SHADOW, SOURCE, np.array([-1.0, 0.0, 0.0]), vertices, faces)
    nearest = rate_at_points(SHADOW, SOURCE, np.array([-1.0, 0.0, 0.0]), SOURCE + np.array([8.0, 0.0, 0.0]))
    assert rate > 1.3 * float(nearest)
    assert np.linalg.norm(point - SOURCE) > 8.5


def test_an_isotropic_table_gives_the_nearest_points_rate_exactly() -> None:
    vertices, faces = tube(9.0, np.array([17.0, 2.0, 1.0]))
    point, rate = max_rate_on_surface(SHIPPED, SOURCE, np.array([1.0, 0.0, 0.0]), vertices, faces)
    assert rate == float(SHIPPED.rate_gy_per_min(np.array(np.linalg.norm(point - SOURCE))))
    assert np.linalg.norm(point - SOURCE) <= np.min(np.linalg.norm(vertices - SOURCE, axis=1))
    same = replace(
        SHIPPED,
        anisotropy=PolarAnisotropy(
            theta_deg=np.array([0.0, 90.0, 180.0]), distance_mm=np.array([5.0]), factor=np.ones((3, 1))
        ),
    )
    assert max_rate_on_surface(same, SOURCE, np.array([1.0, 0.0, 0.0]), vertices, faces)[1] == pytest.approx(
        rate, rel=1e-12
    )


def test_turning_everything_together_changes_nothing() -> None:
    vertices, faces = tube(9.0, np.array([17.0, 2.0, 0.0]))
    axis = np.array([-0.6, 0.1, 0.8])
    _, rate = max_rate_on_surface(SHADOW, SOURCE, axis, vertices, faces)
    turn = Rotation.from_rotvec([0.9, -0.3, 1.7]).as_matrix()
    _, turned = max_rate_on_surface(SHADOW, SOURCE @ turn.T, axis @ turn.T, vertices @ turn.T, faces)
    assert turned == pytest.approx(rate, rel=5e-4)


@pytest.mark.parametrize(("offset_mm", "least"), [(11.5, "2.5"), (62.0, "53")])
def test_a_surface_nearer_or_farther_than_the_table_is_refused(offset_mm: float, least: str) -> None:
    vertices, faces = tube(9.0, np.array([offset_mm, 0.0, 0.0]))
    with pytest.raises(DepthDoseRangeError, match=rf"nearest point is {least}\S* mm .*never extrapolated"):
        max_rate_on_surface(SHADOW, SOURCE, np.array([1.0, 0.0, 0.0]), vertices, faces)


def test_an_angle_that_the_table_does_not_reach_is_refused() -> None:
    polar = SHADOW.anisotropy
    assert polar is not None
    part = PolarAnisotropy(theta_deg=polar.theta_deg[1:], distance_mm=polar.distance_mm, factor=polar.factor[1:])
    vertices, faces = tube(9.0, np.array([17.0, 0.0, 0.0]))
    with pytest.raises(DepthDoseRangeError, match="polar angle"):
        max_rate_on_surface(replace(SHADOW, anisotropy=part), SOURCE, np.array([-1.0, 0.0, 0.0]), vertices, faces)
