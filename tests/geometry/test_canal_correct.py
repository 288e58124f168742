"""A canal corrected by hand: through the points, only near them, closed, and never folded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry._kernels import closest_point_on_mesh
from iort_planner.geometry.canal import SpinalCanal, canal_from_points, is_closed
from iort_planner.geometry.canal_correct import FARTHEST_MM, INFLUENCE_MM, correct_canal
from iort_planner.geometry.canal_surface import signed_volume_mm3, tube_mesh
from iort_planner.geometry.distance import wall_triangles
from iort_planner.geometry.needle import Confidence
from iort_planner.units import FloatArray

RADIUS_MM, LENGTH_MM = 8.0, 60.0


def tube(half_angles: int = 36) -> SpinalCanal:
    """A round tube along z."""
    angle = np.pi * np.arange(2 * half_angles) / half_angles
    z = np.arange(0.0, LENGTH_MM + 0.1, 1.25)
    rings = np.stack(np.broadcast_arrays(RADIUS_MM * np.cos(angle), RADIUS_MM * np.sin(angle), z[:, None]), axis=-1)
    vertices, faces = tube_mesh(rings, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, z[-1]]]))
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=np.ones(vertices.shape[0], dtype=np.bool_),
        method="auto",
        confidence=Confidence.HIGH,
        uncertainty_mm=0.3,
        nearest_gap_mm=0.0,
    )


TUBE = tube()


def wall_point(angle_deg: float, z_mm: float, outwards_mm: float) -> FloatArray:
    angle, radius = np.radians(angle_deg), RADIUS_MM + outwards_mm
    return np.array([radius * np.cos(angle), radius * np.sin(angle), z_mm])


def from_surface_mm(canal: SpinalCanal, point: FloatArray) -> float:
    return closest_point_on_mesh(point, wall_triangles(canal))[0]


@settings(max_examples=12, deadline=None)
@given(
    angle_deg=st.floats(0.0, 360.0),
    z_mm=st.floats(10.0, 50.0),
    outwards_mm=st.floats(-3.0, 4.0),
    turn_deg=st.floats(60.0, 180.0),
    other_mm=st.floats(-1.5, 2.0),
)
def test_the_surface_passes_through_the_points_and_stays_closed(
    angle_deg: float, z_mm: float, outwards_mm: float, turn_deg: float, other_mm: float
) -> None:
    points = np.stack(
        [wall_point(angle_deg, z_mm, outwards_mm), wall_point(angle_deg + turn_deg, z_mm + 6.0, other_mm)]
    )
    canal = correct_canal(TUBE, points)
    for point in points:
        assert from_surface_mm(canal, point) < 1e-3
    assert is_closed(canal.faces, canal.vertices_lps_mm.shape[0])
    assert signed_volume_mm3(canal.vertices_lps_mm, canal.faces) > 0
    moved = np.linalg.norm(canal.vertices_lps_mm - TUBE.vertices_lps_mm, axis=1)
    # a point belongs to the nearest place, which lies straight below it on the wall (a flat chord's error aside)
    anchors = [wall_point(angle_deg, z_mm, 0.0), wall_point(angle_deg + turn_deg, z_mm + 6.0, 0.0)]
    away = np.min([np.linalg.norm(TUBE.vertices_lps_mm - anchor, axis=1) for anchor in anchors], axis=0)
    assert np.all(moved[away > INFLUENCE_MM + 0.5] == 0.0)


def test_one_point_moves_its_side_and_hardly_the_opposite_one() -> None:
    canal = correct_canal(TUBE, wall_point(0.0, 30.0, 2.0))
    assert from_surface_mm(canal, wall_point(180.0, 30.0, 0.0)) < 0.05
    assert from_surface_mm(canal, wall_point(0.0, 34.0, 0.0)) > 1.0  # no spike: its surroundings come along


def test_points_on_the_surface_change_nothing_but_are_recorded() -> None:
    on_it = np.stack([TUBE.vertices_lps_mm[100], TUBE.vertices_lps_mm[1500]])
    canal = correct_canal(TUBE, on_it)
    assert np.allclose(canal.vertices_lps_mm, TUBE.vertices_lps_mm, atol=1e-9)
    assert canal.corrections == 2
    assert np.array_equal(canal.corrected_lps_mm, on_it)


def test_a_correction_is_recorded_and_never_raises_the_confidence() -> None:
    point = wall_point(90.0, 30.0, -1.0)
    once = correct_canal(TUBE, point)
    twice = correct_canal(once, wall_point(270.0, 20.0, 1.0))
    assert (TUBE.corrections, once.corrections, twice.corrections) == (0, 1, 2)
    assert once.confidence is Confidence.HIGH
    assert once.uncertainty_mm >= 0.7  # a hand is no better than that
    assert once.nearest_wall == "bone; corrected by hand at 1 point(s)"
    assert once.method == "auto"


def test_moving_the_patient_moves_the_corrected_canal_with_him() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    shift = np.array([100.0, -250.0, 40.0])
    point = wall_point(33.0, 25.0, 1.7)
    moved = correct_canal(replace(TUBE, vertices_lps_mm=TUBE.vertices_lps_mm @ turn.T + shift), turn @ point + shift)
    here = correct_canal(TUBE, point)
    assert np.allclose(moved.vertices_lps_mm, here.vertices_lps_mm @ turn.T + shift, atol=1e-6)


def test_a_point_far_from_the_wall_is_refused() -> None:
    with pytest.raises(CanalNotFoundError, match=r"12\.0 mm from the canal's surface \(limit 10 mm\)"):
        correct_canal(TUBE, wall_point(0.0, 30.0, 12.0))
    assert FARTHEST_MM == 10.0


@pytest.mark.parametrize("outwards_mm", [-4.3, -7.0, -9.0, -11.5])
def test_a_point_between_two_walls_is_refused(outwards_mm: float) -> None:
    with pytest.raises(CanalNotFoundError, match="it belongs to no one wall"):
        correct_canal(TUBE, wall_point(20.0, 30.0, outwards_mm))


def test_by_hand_is_what_moved() -> None:
    canal = correct_canal(TUBE, np.stack([wall_point(0.0, 20.0, 2.0), TUBE.vertices_lps_mm[72 * 36 + 36]]))
    assert canal.moved_at(wall_point(0.0, 20.0, 2.0))
    assert canal.moved_at(wall_point(0.0, 26.0, 0.0))
    assert not canal.moved_at(wall_point(180.0, 20.0, 0.0))
    assert not canal.moved_at(canal.corrected_lps_mm[1])  # it was on the surface already
    assert correct_canal(canal, wall_point(180.0, 45.0, 1.0)).moved_at(wall_point(0.0, 20.0, 2.0))
    assert not np.any(TUBE.by_hand)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        pytest.param(
            [wall_point(0.0, 30.0, 2.0), wall_point(0.0, 30.0, -2.0)], "contradict", id="two walls at one place"
        ),
        pytest.param([wall_point(0.0, 30.0, 3.0), wall_point(0.0, 30.3, -3.0)], "contradict", id="a step"),
        pytest.param([np.array([np.nan, 0.0, 0.0])], "finite", id="not a number"),
        pytest.param(np.zeros((0, 3)), "1 to 200 wall points", id="none"),
        pytest.param(np.zeros((201, 3)), "1 to 200 wall points", id="too many"),
    ],
)
def test_points_that_cannot_be_met_are_refused(points: FloatArray, why: str) -> None:
    with pytest.raises(CanalNotFoundError, match=why):
        correct_canal(TUBE, np.asarray(points))


def test_points_have_no_surface_to_correct() -> None:
    with pytest.raises(CanalNotFoundError, match="no surface to correct"):
        correct_canal(canal_from_points(np.zeros((1, 3))), np.ones(3))
