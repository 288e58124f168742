"""Index and patient coordinates are each other's inverse, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from iort_planner.errors import GeometryError
from iort_planner.imaging.volume import ImageGrid, Volume

mm = st.floats(-500, 500)
spacings = st.tuples(*[st.floats(0.05, 10.0)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)


def make_grid(
    spacing: tuple[float, ...], origin: tuple[float, ...], turn: tuple[float, ...], *, left_handed: bool
) -> ImageGrid:
    direction = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    if left_handed:
        direction[:, 2] *= -1
    return ImageGrid(
        size_voxels=(40, 30, 20), spacing_mm=np.array(spacing), origin_lps_mm=np.array(origin), direction=direction
    )


@settings(max_examples=200, deadline=None)
@given(spacings, st.tuples(mm, mm, mm), angles, st.booleans(), st.tuples(mm, mm, mm))
def test_there_and_back(
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    turn: tuple[float, ...],
    left_handed: bool,
    point: tuple[float, ...],
) -> None:
    grid = make_grid(spacing, origin, turn, left_handed=left_handed)
    assert grid.index_to_lps(grid.lps_to_index(point)) == pytest.approx(point, abs=1e-8)
    i, j, k = 3.25, -7.5, 11.0
    step = [s * n for s, n in zip(spacing, (i, j, k), strict=True)]
    by_hand = np.array(origin) + sum(grid.direction[:, n] * step[n] for n in range(3))
    assert grid.index_to_lps([i, j, k]) == pytest.approx(by_hand, abs=1e-8)


@settings(max_examples=50, deadline=None)
@given(spacings, st.tuples(mm, mm, mm), angles)
def test_distances_in_the_patient_do_not_depend_on_the_frame(
    spacing: tuple[float, ...], origin: tuple[float, ...], turn: tuple[float, ...]
) -> None:
    grid = make_grid(spacing, origin, turn, left_handed=False)
    a, b = np.array([1.0, 2.0, 3.0]), np.array([9.5, 0.5, -4.0])
    expected = np.linalg.norm((a - b) * np.array(spacing))
    assert np.linalg.norm(grid.index_to_lps(a) - grid.index_to_lps(b)) == pytest.approx(expected, abs=1e-8)


def test_a_crop_keeps_every_voxel_where_it_was() -> None:
    grid = make_grid((0.5, 0.8, 1.1), (-10, 20, 30), (11, 22, 33), left_handed=False)
    values = np.arange(40 * 30 * 20, dtype=np.int16).reshape(20, 30, 40)
    volume = Volume(values=values, grid=grid, hu_calibrated=True)
    part = volume.crop((5, 6, 7), (20, 19, 18))
    point = grid.index_to_lps([9, 10, 11])
    assert part.grid.lps_to_index(point) == pytest.approx([4, 4, 4])
    assert part.values[4, 4, 4] == values[11, 10, 9]
    assert part.sample(point) == pytest.approx(values[11, 10, 9])


@pytest.mark.parametrize(
    "bad",
    [
        {"spacing_mm": np.array([1.0, 0.0, 1.0])},
        {"spacing_mm": np.array([1.0, np.nan, 1.0])},
        {"origin_lps_mm": np.array([np.inf, 0.0, 1.0])},
        {"direction": np.ones((3, 3))},
        {"direction": np.diag([1.0, 1.001, 1.0])},
        {"size_voxels": (3, 0, 3)},
    ],
)
def test_a_grid_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "size_voxels": (3, 4, 5),
        "spacing_mm": np.ones(3),
        "origin_lps_mm": np.zeros(3),
        "direction": np.eye(3),
    }
    with pytest.raises(GeometryError):
        ImageGrid(**(fields | bad))  # type: ignore[arg-type]  # wrong on purpose


def turned_grid() -> ImageGrid:
    return ImageGrid(
        size_voxels=(5, 6, 7),
        spacing_mm=np.array([0.5, 0.8, 1.3]),
        origin_lps_mm=np.array([-3.0, 12.0, 40.0]),
        direction=Rotation.from_euler("xyz", [10, -25, 170], degrees=True).as_matrix(),
    )


def test_distances_of_all_voxels_are_those_of_their_centres() -> None:
    grid, point = turned_grid(), np.array([1.0, 9.0, 44.0])

    np.testing.assert_allclose(
        grid.distances_mm(point), np.linalg.norm(grid.voxel_centres_lps_mm() - point, axis=-1), atol=1e-9
    )


def test_room_is_the_distance_to_the_nearest_outer_face() -> None:
    grid = turned_grid()

    assert grid.room_mm(grid.index_to_lps([2.0, 2.5, 3.0])) == pytest.approx(2.5 * 0.5)  # the five columns are nearest
    assert grid.room_mm(grid.index_to_lps([2.0, 2.5, 7.5])) == pytest.approx(-1.3)


def test_voxel_extent_along_each_index_axis_is_the_spacing() -> None:
    grid = turned_grid()
    for n in range(3):
        assert grid.voxel_extent_mm(grid.direction[:, n]) == pytest.approx(grid.spacing_mm[n])


def test_the_affine_is_index_to_lps() -> None:
    grid = ImageGrid(
        size_voxels=(4, 5, 6),
        spacing_mm=np.array([0.5, 0.7, 2.0]),
        origin_lps_mm=np.array([-10.0, 20.0, 30.0]),
        direction=np.array([[0.0, -1.0, 0.0], [0.6, 0.0, 0.8], [-0.8, 0.0, 0.6]]),
    )
    index = np.array([3.0, -1.0, 4.5])
    np.testing.assert_allclose(grid.affine_lps_mm @ np.append(index, 1.0), grid.index_to_lps(index), rtol=1e-14)
