"""The compiled grid against a plain loop: every direction, several sources, oblique grids, the edges of a table."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iort_planner.dose import water
from iort_planner.dose.tg43 import depth_dose_table, rate_cgy_per_h_u
from iort_planner.dose.water import dose_on_grid
from iort_planner.errors import DepthDoseTableError, InputError
from iort_planner.imaging.volume import ImageGrid
from iort_planner.source.depth_dose import DepthDoseTable, Scale
from iort_planner.source.polar import PolarAnisotropy
from iort_planner.source.table_file import read_table
from iort_planner.source.tg43 import parse_tg43
from iort_planner.units import FloatArray
from tests.tg43_texts import tg43_text

SHIPPED = read_table()
POLAR = PolarAnisotropy(
    theta_deg=np.array([0.0, 25.0, 60.0, 90.0, 130.0, 180.0]),
    distance_mm=np.array([5.0, 12.0, 30.0]),
    factor=np.array(
        [[1.2, 1.1, 1.05], [1.1, 1.05, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.9, 0.95, 0.97], [0.3, 0.4, 0.6]]
    ),
)
TURNED = Rotation.from_euler("xyz", [14, -27, 171], degrees=True).as_matrix()
GRID = ImageGrid(
    size_voxels=(23, 19, 17),
    spacing_mm=np.array([1.1, 1.7, 2.3]),
    origin_lps_mm=np.array([-20.0, 190.0, -700.0]),
    direction=TURNED,
)
CENTRE = GRID.index_to_lps([11.3, 9.1, 8.2])
AXIS = np.array([0.3, -0.8, 0.52])


def plain_dose(
    table: DepthDoseTable,
    sources: list[FloatArray],
    times_s: list[float],
    grid: ImageGrid,
    axes: list[FloatArray] | None = None,
) -> FloatArray:
    """One voxel, one source at a time, through the public reader of the table and its factor."""
    dose = np.zeros(grid.shape)
    for k, j, i in np.ndindex(*grid.shape):
        point = grid.index_to_lps([i, j, k])
        for n, (source, time_s) in enumerate(zip(sources, times_s, strict=True)):
            r = round(float(np.linalg.norm(point - source)), 9)
            rate = float(table.rate_gy_per_min(np.array(r)))
            if table.anisotropy is not None and axes is not None and np.isfinite(rate):
                towards_hub = axes[n] / np.linalg.norm(axes[n])
                cosine = np.clip(-(point - source) @ towards_hub / r, -1.0, 1.0)
                theta = np.degrees(np.arccos(cosine))
                reached = table.anisotropy.theta_deg[0] <= theta <= table.anisotropy.theta_deg[-1]
                rate *= float(table.anisotropy.factor_at(r, theta)) if reached else np.nan
            dose[k, j, i] += rate * time_s / 60.0
    return dose


def agree(dose: np.ndarray[tuple[int, ...], np.dtype[np.float32]], expected: FloatArray) -> None:
    """NaN at the same voxels, and within the look-up's bound plus float32's rounding elsewhere."""
    assert dose.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(dose), np.isnan(expected))
    assert np.isfinite(expected).any()
    assert np.isnan(expected).any()
    np.testing.assert_allclose(dose, expected, rtol=3.3e-6 + 6e-8, equal_nan=True)


def test_one_source_on_an_oblique_grid() -> None:
    agree(dose_on_grid(SHIPPED, [CENTRE], [246.0], GRID), plain_dose(SHIPPED, [CENTRE], [246.0], GRID))


def test_a_polar_table_in_every_direction() -> None:
    table = replace(SHIPPED, anisotropy=POLAR)
    agree(
        dose_on_grid(table, [CENTRE], [246.0], GRID, [AXIS]),
        plain_dose(table, [CENTRE], [246.0], GRID, [AXIS]),
    )


def test_two_sources_with_axes_of_their_own() -> None:
    table = replace(SHIPPED, anisotropy=POLAR)
    sources, axes = [CENTRE, CENTRE + np.array([6.0, -9.0, 4.0])], [AXIS, np.array([1.0, 0.2, -0.1])]
    agree(
        dose_on_grid(table, sources, [60.0, 200.0], GRID, axes), plain_dose(table, sources, [60.0, 200.0], GRID, axes)
    )


def test_angles_that_the_table_does_not_reach_have_no_dose() -> None:
    part = PolarAnisotropy(theta_deg=POLAR.theta_deg[1:-1], distance_mm=POLAR.distance_mm, factor=POLAR.factor[1:-1])
    table = replace(SHIPPED, anisotropy=part)
    agree(dose_on_grid(table, [CENTRE], [60.0], GRID, [AXIS]), plain_dose(table, [CENTRE], [60.0], GRID, [AXIS]))


def test_one_distance_is_enough_for_a_polar_table() -> None:
    one = PolarAnisotropy(theta_deg=POLAR.theta_deg, distance_mm=np.array([10.0]), factor=POLAR.factor[:, 1:2])
    table = replace(SHIPPED, anisotropy=one)
    agree(dose_on_grid(table, [CENTRE], [60.0], GRID, [AXIS]), plain_dose(table, [CENTRE], [60.0], GRID, [AXIS]))


def test_a_factor_of_the_angle_alone_gives_its_closed_form() -> None:
    """D = 1000/r^2 (1 + 0.3 cos(theta)): a power law is exact in ln-ln, the cosine to 4e-6 on rows of half a degree."""
    theta = np.linspace(0.0, 180.0, 361)
    r = np.array([2.0, 5.0, 60.0])
    table = DepthDoseTable(
        name="closed form",
        distance_mm=r,
        dose_rate_gy_per_min=1000.0 / r**2,
        uncertainty_percent=np.ones(3),
        scale=Scale.OTHER,
        clinical=False,
        origin="closed form",
        trusted_range_mm=(2.0, 60.0),
        anisotropy=PolarAnisotropy(
            theta_deg=theta, distance_mm=np.array([1.0]), factor=1.0 + 0.3 * np.cos(np.radians(theta))[:, None]
        ),
    )
    dose = dose_on_grid(table, [CENTRE], [60.0], GRID, [AXIS])
    offset = GRID.voxel_centres_lps_mm() - CENTRE
    distance = np.linalg.norm(offset, axis=-1)
    cosine = -(offset @ AXIS) / np.linalg.norm(AXIS) / distance
    inside = (distance >= 2.0) & (distance <= 60.0)
    np.testing.assert_allclose(dose[inside], (1000.0 / distance**2 * (1.0 + 0.3 * cosine))[inside], rtol=1e-5)


def test_a_tg43_table_gives_the_formalism_on_the_grid() -> None:
    source = parse_tg43(tg43_text())
    dose = dose_on_grid(depth_dose_table(source), [CENTRE], [3600.0], GRID, [AXIS])
    offset = GRID.voxel_centres_lps_mm() - CENTRE
    distance = np.linalg.norm(offset, axis=-1)
    theta = np.degrees(np.arccos(np.clip(-(offset @ AXIS) / np.linalg.norm(AXIS) / distance, -1.0, 1.0)))
    inside = (distance >= 3.0) & (distance <= 50.0)
    expected = rate_cgy_per_h_u(source, distance, theta) * 40000.0 / 100.0  # cGy/h/U * U -> Gy in an hour
    np.testing.assert_allclose(dose[inside], expected[inside], rtol=6e-4)


def test_moving_source_axis_and_grid_together_changes_nothing() -> None:
    table = replace(SHIPPED, anisotropy=POLAR)
    before = dose_on_grid(table, [CENTRE], [60.0], GRID, [AXIS])
    turn, shift = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix(), np.array([31.0, -7.0, 210.0])
    moved = replace(GRID, origin_lps_mm=turn @ GRID.origin_lps_mm + shift, direction=turn @ GRID.direction)
    after = dose_on_grid(table, [turn @ CENTRE + shift], [60.0], moved, [turn @ AXIS])
    np.testing.assert_array_equal(np.isnan(after), np.isnan(before))
    np.testing.assert_allclose(after, before, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("distance_mm", [3.0, 50.0])
def test_a_voxel_centre_at_the_first_or_last_row_is_in_the_table_whatever_the_direction(distance_mm: float) -> None:
    """The dose there is the row's own, at 400 grids turned at random; 1e-6 mm outside there is none."""
    rng = np.random.default_rng(3)
    outwards = -1.0 if distance_mm == 3.0 else 1.0
    row = float(SHIPPED.rate_gy_per_min(np.array(distance_mm)))
    for _ in range(400):
        grid = ImageGrid(
            size_voxels=(3, 1, 1),
            spacing_mm=np.array([distance_mm, 1.0, 1.0]),
            origin_lps_mm=rng.uniform(-400, 400, 3),
            direction=Rotation.random(random_state=rng).as_matrix(),
        )
        middle = grid.index_to_lps([1, 0, 0])
        dose = dose_on_grid(SHIPPED, [middle], [60.0], grid)[0, 0]
        assert float(dose[0]) == pytest.approx(row, rel=1e-6)
        assert float(dose[2]) == pytest.approx(row, rel=1e-6)
        outside = replace(grid, spacing_mm=np.array([distance_mm + outwards * 1e-6, 1.0, 1.0]))
        assert np.isnan(dose_on_grid(SHIPPED, [outside.index_to_lps([1, 0, 0])], [60.0], outside)).all()


def test_dose_is_proportional_to_time_and_reaches_a_dose_at_its_isodose_radius() -> None:
    one, two = (dose_on_grid(SHIPPED, [CENTRE], [t], GRID) for t in (100.0, 200.0))
    np.testing.assert_allclose(two, 2.0 * one, rtol=1e-6, equal_nan=True)
    time_s = 8.0 / float(SHIPPED.rate_gy_per_min(np.array(13.0))) * 60.0
    grid = ImageGrid(
        size_voxels=(2, 1, 1), spacing_mm=np.array([13.0, 1, 1]), origin_lps_mm=CENTRE, direction=np.eye(3)
    )
    assert float(dose_on_grid(SHIPPED, [CENTRE], [time_s], grid)[0, 0, 1]) == pytest.approx(8.0, rel=3.4e-6)


def test_slabs_computed_side_by_side_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dose_on_grid(SHIPPED, [CENTRE], [60.0], GRID)
    monkeypatch.setattr(water, "_VOXELS_A_THREAD", 500)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    np.testing.assert_array_equal(dose_on_grid(SHIPPED, [CENTRE], [60.0], GRID), whole)


def steep_table(*, exponent: float, first_mm: float) -> DepthDoseTable:
    r = np.array([first_mm, 10.0, 100.0])
    return replace(
        SHIPPED,
        distance_mm=r,
        dose_rate_gy_per_min=r**-exponent,
        uncertainty_percent=np.ones(3),
        trusted_range_mm=(first_mm, 100.0),
    )


@pytest.mark.parametrize(("exponent", "first_mm"), [(1.0, 3.0), (3.0, 1.0), (6.0, 1.0), (2.65, 0.2)])
def test_the_look_up_error_keeps_its_bound_on_steep_tables(exponent: float, first_mm: float) -> None:
    """Power laws from near the source, along a fine line of voxels."""
    grid = ImageGrid(
        size_voxels=(40_000, 1, 1), spacing_mm=np.array([0.0023, 1, 1]), origin_lps_mm=np.zeros(3), direction=np.eye(3)
    )
    dose = dose_on_grid(steep_table(exponent=exponent, first_mm=first_mm), [np.zeros(3)], [60.0], grid)[0, 0]
    r = 0.0023 * np.arange(40_000)
    inside = np.isfinite(dose)
    assert np.all(inside == (np.round(r, 9) >= first_mm))
    np.testing.assert_allclose(dose[inside], r[inside] ** -exponent, rtol=3.3e-6)


def test_a_table_that_starts_far_too_near_is_refused() -> None:
    with pytest.raises(DepthDoseTableError, match="start farther from the source"):
        dose_on_grid(steep_table(exponent=3.0, first_mm=1e-5), [CENTRE], [60.0], GRID)


def test_a_polar_table_without_axes_is_refused() -> None:
    with pytest.raises(InputError, match="give the axis of each dwell"):
        dose_on_grid(replace(SHIPPED, anisotropy=POLAR), [CENTRE], [60.0], GRID)


@pytest.mark.parametrize(("times", "axes"), [([60.0, 60.0], None), ([60.0], [AXIS, AXIS]), ([], [AXIS])])
def test_sources_times_and_axes_go_together(times: list[float], axes: list[FloatArray] | None) -> None:
    with pytest.raises(InputError, match="as many times and axes"):
        dose_on_grid(SHIPPED, [CENTRE], times, GRID, axes)


@pytest.mark.parametrize("axis", [np.zeros(3), np.array([np.nan, 0, 1]), np.array([1.0, 0.0])])
def test_an_axis_that_is_none_is_refused(axis: FloatArray) -> None:
    with pytest.raises(InputError, match="three finite numbers"):
        dose_on_grid(replace(SHIPPED, anisotropy=POLAR), [CENTRE], [60.0], GRID, [axis])


UNCACHED = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # no folder that numba could write to
from iort_planner.dose import _kernels
import numba.core.caching
assert isinstance(_kernels.fill_dose._cache, numba.core.caching.NullCache)
import numpy as np
assert abs(_kernels.polar_factor(np.array([0.0, 180.0]), np.array([5.0]), np.array([[1.0], [2.0]]), 90.0, 5.0) - 1.5) < 1e-12
"""
LAZY = """
import sys
import iort_planner.dose.water, iort_planner.dose.points, iort_planner.workflow, iort_planner.cli.main
assert "numba" not in sys.modules
"""


@pytest.mark.parametrize("code", [UNCACHED, LAZY], ids=["without a folder for its cache", "not imported before a grid"])
def test_numba_works(code: str) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
