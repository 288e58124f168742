"""Dose on a grid against the table point by point; NaN exactly where the table has no value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iort_planner.dose.water import dose_grid, dose_on_grid
from iort_planner.imaging.volume import ImageGrid
from iort_planner.source.table_file import read_table
from iort_planner.units import Quantity

TABLE = read_table()
SOURCE = np.array([-3.2, 215.7, -670.4])
IMAGE = ImageGrid(
    size_voxels=(50, 60, 70),
    spacing_mm=np.array([0.5, 0.6, 0.8]),
    origin_lps_mm=np.array([-20.0, 190.0, -700.0]),
    direction=Rotation.from_euler("xyz", [4, -7, 178], degrees=True).as_matrix(),
)


def test_the_grid_is_parallel_to_the_image_1_mm_and_reaches_50_mm() -> None:
    grid = dose_grid([SOURCE], IMAGE)

    assert grid.size_voxels == (101, 101, 101)
    assert grid.spacing_mm.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(grid.direction, IMAGE.direction)
    np.testing.assert_allclose(grid.index_to_lps([50, 50, 50]), SOURCE, atol=1e-9)


def test_two_sources_share_a_grid_that_reaches_50_mm_round_each() -> None:
    other = SOURCE + np.array([12.0, 0.0, 30.0])
    grid = dose_grid([SOURCE, other], IMAGE)
    for source in (SOURCE, other):
        index = grid.lps_to_index(source)
        assert np.all(index >= 50 - 1e-6)
        assert np.all(np.array(grid.size_voxels) - 1 - index >= 50 - 1e-6)


def test_each_voxel_holds_the_table_times_the_time_and_nan_exactly_outside_the_table() -> None:
    grid, time_s = dose_grid([SOURCE], IMAGE), 246.0
    dose = dose_on_grid(TABLE, [SOURCE], [time_s], grid)
    r = np.round(np.linalg.norm(grid.voxel_centres_lps_mm() - SOURCE, axis=-1), 9)
    inside = (r >= 3.0) & (r <= 50.0)

    assert dose.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(dose), ~inside)
    rng = np.random.default_rng(1)
    for k, j, i in np.argwhere(inside)[rng.choice(inside.sum(), 300, replace=False)]:
        expected = TABLE.dose_rate_at(Quantity(float(r[k, j, i]), "mm")).to("Gy/s").magnitude * time_s
        assert float(dose[k, j, i]) == pytest.approx(float(expected), rel=1e-6)


def test_dose_of_two_dwells_is_the_sum() -> None:
    other = SOURCE + np.array([12.0, 0.0, 5.0])
    grid = dose_grid([SOURCE, other], IMAGE)
    both = dose_on_grid(TABLE, [SOURCE, other], [60.0, 120.0], grid)
    one, two = dose_on_grid(TABLE, [SOURCE], [60.0], grid), dose_on_grid(TABLE, [other], [120.0], grid)
    known = ~np.isnan(both)

    np.testing.assert_allclose(both[known], (one + two)[known], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(both), np.isnan(one) | np.isnan(two))
