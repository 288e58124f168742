"""A tilted stack made straight: every point where it was, nothing cut off, nothing made up, and what linear costs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from iort_planner.errors import GeometryError
from iort_planner.imaging.geometry_checks import SlicePlane, Stack, stack_slices
from iort_planner.imaging.tilt import Tilt, resample_tilt
from iort_planner.imaging.volume import ImageGrid, Volume

from .dicom_factory import AXIAL, OBLIQUE, ORIENTATIONS, PRONE, SAGITTAL

Array = npt.NDArray[np.float64]
OUTSIDE = -1024.0
SIZE, SPACING = (46, 41, 25), (0.6, 0.75, 1.3)


def planes(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    axes: tuple[tuple[float, ...], tuple[float, ...]],
    degrees_ij: tuple[float, float],
) -> list[SlicePlane]:
    """Slices whose positions drift along rows and columns by the tangents of two angles."""
    row, column = np.array(axes[0]), np.array(axes[1])
    tangents = np.tan(np.radians(degrees_ij))
    step = spacing[2] * (np.cross(row, column) + row * tangents[0] + column * tangents[1])
    return [
        SlicePlane(
            name=f"s{k:03d}",
            rows=size[1],
            columns=size[0],
            spacing_ij_mm=spacing[:2],
            row_lps=tuple(row),
            column_lps=tuple(column),
            position_lps_mm=tuple(np.array([-12.5, 31.25, -140.75]) + step * k),
            frame_of_reference_uid="1.2",
        )
        for k in range(size[2])
    ]


def pixel_points(stack: list[SlicePlane]) -> Array:
    """Where every pixel lies, (nk, nj, ni, 3), by DICOM PS3.3 C.7.6.2.1.1 a slice: the oracle."""
    result = []
    for plane in stack:
        j, i = np.meshgrid(np.arange(plane.rows), np.arange(plane.columns), indexing="ij")
        along, down = i * plane.spacing_ij_mm[0], j * plane.spacing_ij_mm[1]
        result.append(
            np.array(plane.position_lps_mm)
            + along[..., None] * np.array(plane.row_lps)
            + down[..., None] * np.array(plane.column_lps)
        )
    return np.array(result)


def tilt_of(stack: list[SlicePlane]) -> Tilt:
    tilt = stack_slices(stack).tilt
    assert tilt is not None
    return tilt


TILTS = [(0.0, 14.0), (0.0, -21.5), (9.0, 0.0), (-17.0, 0.0), (11.0, -6.0)]


@pytest.mark.parametrize("axes", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("degrees", TILTS)
def test_every_voxel_holds_what_lies_there(
    axes: tuple[tuple[float, ...], tuple[float, ...]], degrees: tuple[float, float]
) -> None:
    """Linear interpolation is exact for a linear function of place: one wrong shift of 0.001 mm shows."""
    stack = planes(SIZE, SPACING, axes, degrees)
    gradient = np.array([3.0, -7.0, 5.0])
    values = (pixel_points(stack) @ gradient).astype(np.float32)
    straight, grid = resample_tilt(values, tilt_of(stack[::-1]), outside=1e6)
    truth = grid.voxel_centres_lps_mm() @ gradient
    inside = straight < 1e5
    # within half a pixel of a slice's edge the nearest pixel's value stands: not linear there
    inner = inside & ndimage.binary_erosion(inside, np.ones((1, 3, 3), bool))
    assert inner.sum() > 0.8 * values.size
    assert np.max(np.abs(straight - truth)[inner]) < 0.002
    edge = np.abs(gradient) @ np.abs(np.column_stack(axes)) @ np.array(SPACING[:2]) / 2
    assert np.max(np.abs(straight - truth)[inside]) <= edge + 0.002
    assert np.all(grid.contains(pixel_points(stack)))
    assert inside.sum() >= values.size


def test_two_tilts_add_to_the_angle_between_positions_and_normal() -> None:
    tilt = tilt_of(planes(SIZE, SPACING, OBLIQUE, (11.0, -6.0)))
    tangent = np.hypot(np.tan(np.radians(11.0)), np.tan(np.radians(6.0)))
    assert tilt.angle_deg == pytest.approx(np.degrees(np.arctan(tangent)), abs=1e-9)
    assert tilt.shift_ij_mm == pytest.approx(1.3 * np.tan(np.radians([11.0, -6.0])), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    degrees=st.tuples(st.floats(-30, 30), st.floats(-30, 30)).filter(lambda d: max(abs(d[0]), abs(d[1])) > 3.0),
)
def test_random_values_agree_with_resampling_through_patient_coordinates(
    seed: int, degrees: tuple[float, float]
) -> None:
    """An oracle of another make: the inverse of the sheared affine, and scipy's interpolation at whole slices."""
    rng = np.random.default_rng(seed)
    stack = planes((17, 23, 6), (0.9, 0.5, 0.8), OBLIQUE, degrees)
    values = rng.integers(-1024, 3072, (6, 23, 17)).astype(np.int16)
    straight, grid = resample_tilt(values, tilt_of(stack), outside=-2000)
    expected, sure = through_patient(values, stack, grid)
    assert straight.dtype == np.int16
    assert np.max(np.abs(straight - expected)[sure]) <= 0.51
    around = [ndimage.maximum_filter(values, (1, 3, 3)).max(), ndimage.minimum_filter(values, (1, 3, 3)).min()]
    reached = straight != -2000
    assert straight[reached].max() <= around[0]
    assert straight[reached].min() >= around[1]


def through_patient(
    values: npt.NDArray[Any], stack: list[SlicePlane], grid: ImageGrid
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Values on ``grid`` by the inverse of the stack's affine, and which of them lie among its pixel centres."""
    first, last = stack[0], stack[-1]
    step = (np.array(last.position_lps_mm) - np.array(first.position_lps_mm)) / (len(stack) - 1)
    affine = np.column_stack(
        [
            np.array(first.row_lps) * first.spacing_ij_mm[0],
            np.array(first.column_lps) * first.spacing_ij_mm[1],
            step,
        ]
    )
    index = (grid.voxel_centres_lps_mm() - np.array(first.position_lps_mm)) @ np.linalg.inv(affine).T
    assert np.max(np.abs(index[..., 2] - np.arange(len(stack))[:, None, None])) < 1e-6  # nothing between slices
    index[..., 2] = np.rint(index[..., 2])
    at = np.moveaxis(index[..., ::-1], -1, 0)
    expected = ndimage.map_coordinates(values.astype(np.float64), at, order=1, mode="nearest")
    limit = np.array(values.shape[::-1]) - 1 - 1e-6
    sure: npt.NDArray[np.bool_] = np.all((index > 1e-6 - 1e-5) & (index < limit + 1e-5), axis=-1)
    return expected, sure


# --- shapes: what is found in the straight volume, and what linear interpolation costs ---


def painted(points: Array, distance: Array, edge_mm: float, low: float, high: float) -> npt.NDArray[np.float32]:
    return (low + (high - low) * np.clip(0.5 - distance / edge_mm, 0.0, 1.0)).astype(np.float32)


@pytest.mark.parametrize("degrees", TILTS)
def test_a_ball_and_a_slanted_needle_stay_where_they_are(degrees: tuple[float, float]) -> None:
    spacing, size = (0.5, 0.55, 0.8), (90, 82, 44)
    stack = planes(size, spacing, OBLIQUE, degrees)
    points = pixel_points(stack)
    tilt = tilt_of(stack)
    middle = tilt.straight_grid().index_to_lps((np.array(tilt.straight_grid().size_voxels) - 1) / 2)
    centre = middle + np.array([3.1, -2.2, 1.7])
    ball = painted(points, np.linalg.norm(points - centre, axis=-1) - 5.0, 0.6, 0.0, 1000.0)
    straight, grid = resample_tilt(ball, tilt, outside=0.0)
    found = np.einsum("kjic,kji->c", grid.voxel_centres_lps_mm(), straight) / straight.sum(dtype=np.float64)
    assert np.linalg.norm(found - centre) < 0.01

    axis = np.array([0.35, -0.2, 0.915])
    axis /= np.linalg.norm(axis)
    offset = points - middle
    radial = np.linalg.norm(offset - (offset @ axis)[..., None] * axis, axis=-1)
    needle = painted(points, radial - 2.2, 0.6, -100.0, 3071.0)
    straight, grid = resample_tilt(np.rint(needle).astype(np.int16), tilt, outside=-100.0)
    offset = grid.voxel_centres_lps_mm() - middle
    along = offset @ axis
    near = (np.abs(along) < 12.0) & (np.linalg.norm(offset - along[..., None] * axis, axis=-1) < 5.0)
    weight = (straight[near] + 100.0)[:, None]
    cuts = np.digitize(along[near], np.linspace(-12, 12, 13)) - 1
    centres = np.array([(offset[near] * weight)[cuts == c].sum(0) / weight[cuts == c].sum() for c in range(12)])
    off = centres - (centres @ axis)[:, None] * axis
    assert np.max(np.linalg.norm(off, axis=1)) < 0.05  # each cut's centroid; the cuts' own grain is 0.02


@pytest.mark.parametrize("shape", ["rod", "ball"])
def test_what_linear_interpolation_costs_and_what_cubic_would_make_up(shape: str) -> None:
    """Half-height radius of a steel rod and ball of 4.4 mm in tissue, pixels of 0.7 mm, image blur of 0.5 mm (k=1).

    Linear: the half-height edge moves by at most 0.02 mm and by 0.01 mm on average (at 0.9 mm pixels: 0.03 and 0.015).
    A cubic spline keeps the edge within 0.005 mm, but makes tissue beside the steel 200 HU darker than it is.
    """
    size, spacing = (50, 50, 60), (0.7, 0.7, 0.6)
    stack = planes(size, spacing, AXIAL, (0.0, 14.0))
    tilt = tilt_of(stack)
    grid = tilt.straight_grid()
    centre = grid.index_to_lps((np.array(grid.size_voxels) - 1) / 2) + np.array([0.11, 0.23, 0.31])

    def scene(points: Array) -> npt.NDArray[np.float32]:
        offset = points - centre
        radius = np.linalg.norm(offset[..., : 2 if shape == "rod" else 3], axis=-1)
        return painted(points, radius - 2.2, 1.4, 40.0, 6000.0)  # a ramp of 1.4 mm: about a blur of 0.5 mm

    def half_height(values: npt.NDArray[np.float32], at: npt.NDArray[Any]) -> Array:
        """Radius of equal area of each slice above half height, by counting a 10-fold finer grid."""
        fine = ndimage.zoom(values[at], (1, 10, 10), order=1, grid_mode=True, mode="nearest")
        area = np.sum(fine > 3020.0, axis=(1, 2)) * spacing[0] * spacing[1] / 100.0
        return np.asarray(np.sqrt(area / np.pi))

    tilted = scene(pixel_points(stack))
    straight, _ = resample_tilt(tilted, tilt, outside=40.0)
    ideal = scene(grid.voxel_centres_lps_mm())
    slices = np.flatnonzero((ideal > 5900).any(axis=(1, 2)))
    error = np.subtract(half_height(straight, slices), half_height(ideal, slices))
    assert np.max(np.abs(error)) < 0.025
    assert abs(np.mean(error)) < 0.015
    assert straight.min() >= tilted.min()
    assert straight.max() <= tilted.max()

    drift = tilt.shift_ij_mm[1] / spacing[1]
    cubic = np.array([ndimage.shift(p, (k * drift % 1.0, 0.0), order=3, mode="nearest") for k, p in enumerate(tilted)])
    assert cubic.min() < 40.0 - 100.0


# --- when there is a tilt ---


def straight_problems(stack: Stack) -> set[str]:
    return {p.id for p in stack.problems}


def test_the_tilt_is_there_exactly_when_nothing_else_is_wrong() -> None:
    tilted = planes((9, 9, 8), (0.5, 0.5, 1.0), OBLIQUE, (0.0, 12.0))
    found = stack_slices([tilted[n] for n in (3, 0, 7, 1, 2, 6, 5, 4)])
    assert found.grid is None
    assert straight_problems(found) == {"tilted-stack"}
    assert found.tilt is not None
    assert found.order == (1, 3, 4, 0, 7, 6, 5, 2)

    frames = [replace(p, frame_of_reference_uid=p.name) for p in tilted]
    assert straight_problems(stack_slices(frames)) == {"tilted-stack", "frame-of-reference-mixed"}
    assert stack_slices(frames).tilt is not None

    moved = [
        replace(p, position_lps_mm=tuple(np.add(p.position_lps_mm, (0.3 * (p.name == "s003"), 0, 0)))) for p in tilted
    ]
    for name, wrong in {
        "missing-slice": tilted[:3] + tilted[4:],
        "duplicate-position": [*tilted, tilted[2]],
        "mixed-size": [*tilted[:-1], replace(tilted[-1], rows=8)],
        "mixed-pixel-spacing": [*tilted[:-1], replace(tilted[-1], spacing_ij_mm=(0.5, 0.6))],
        "too-few-slices": tilted[:2],
        "shifted-slice": moved,
    }.items():
        stack = stack_slices(wrong)
        assert name in straight_problems(stack) or name == "shifted-slice"
        assert stack.problems
        assert stack.tilt is None, name
    assert stack_slices(planes((9, 9, 8), (0.5, 0.5, 1.0), OBLIQUE, (0.0, 0.0))).tilt is None


def test_positions_with_two_decimals_are_still_one_tilt() -> None:
    stack = planes(SIZE, SPACING, AXIAL, (0.0, 14.0))
    rounded = [
        replace(
            p,
            position_lps_mm=(
                round(p.position_lps_mm[0], 2),
                round(p.position_lps_mm[1], 2),
                round(p.position_lps_mm[2], 2),
            ),
        )
        for p in stack
    ]
    exact, found = tilt_of(stack).straight_grid(), tilt_of(rounded).straight_grid()
    assert exact.index_to_lps((20, 20, 12)) == pytest.approx(found.index_to_lps((20, 20, 12)), abs=0.01)


# --- limits ---


@pytest.mark.parametrize("degrees", [45.5, -50.0, 80.0])
def test_a_tilt_no_gantry_has_is_refused(degrees: float) -> None:
    stack = planes((40, 40, 5), (0.5, 0.5, 0.5), AXIAL, (0.0, degrees))
    with pytest.raises(GeometryError, match=rf"tilted by {abs(degrees)} degrees, at most 45"):
        resample_tilt(np.zeros((5, 40, 40), np.int16), tilt_of(stack), outside=OUTSIDE)


def test_a_grid_that_would_grow_beyond_twice_is_refused() -> None:
    stack = planes((40, 40, 100), (0.5, 0.5, 1.0), AXIAL, (0.0, 15.0))
    with pytest.raises(GeometryError, match=r"2\.4 times as large \(40 x 94 x 100 voxels\), limit 2"):
        resample_tilt(np.zeros((100, 40, 40), np.int16), tilt_of(stack), outside=OUTSIDE)


def test_values_that_do_not_fit_are_refused() -> None:
    tilt = tilt_of(planes((40, 40, 5), (0.5, 0.5, 0.5), AXIAL, (0.0, 10.0)))
    for wrong in (np.zeros((5, 40, 41), np.int16), np.zeros((5, 40, 40), np.float64)):
        with pytest.raises(GeometryError, match="do not fit"):
            resample_tilt(wrong, tilt, outside=OUTSIDE)
    with pytest.raises(GeometryError, match="finite"):
        replace(tilt, shift_ij_mm=np.array([0.0, np.nan]))


def test_whole_pixel_drift_moves_values_untouched_and_fills_the_rest() -> None:
    degrees = float(np.degrees(np.arctan(0.5)))
    stack = planes((6, 5, 4), (0.5, 0.5, 1.0), AXIAL, (0.0, -degrees))  # one pixel a slice
    values = np.random.default_rng(1).integers(-1000, 3000, (4, 5, 6)).astype(np.int16)
    straight, grid = resample_tilt(values, tilt_of(stack), outside=OUTSIDE)
    assert grid.size_voxels == (6, 8, 4)
    for k in range(4):
        assert np.array_equal(straight[k, 3 - k : 8 - k], values[k])
    assert np.sum(straight == OUTSIDE) == 4 * 3 * 6 + np.sum(values == OUTSIDE)


def test_memory_is_the_result_and_a_few_slices() -> None:
    stack = planes((256, 256, 60), (0.7, 0.7, 1.0), PRONE, (0.0, 20.0))
    values, tilt = np.zeros((60, 256, 256), np.int16), tilt_of(stack)
    tracemalloc.start()
    straight, _ = resample_tilt(values, tilt, outside=OUTSIDE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < straight.nbytes + 8 * 4 * straight[0].size


# --- real data ---


@pytest.mark.shared
def test_real_tilted_files_agree_with_resampling_through_patient_coordinates(shared_data: Path) -> None:
    """Four tilted slices of a Siemens scanner (pixels replaced by noise in the source: no anatomy to look at)."""
    files = [pydicom.dcmread(f) for f in sorted((shared_data / "dicom_formats" / "gantry_tilt").glob("*.dcm"))]
    stack = [
        SlicePlane(
            name=str(n),
            rows=f.Rows,
            columns=f.Columns,
            spacing_ij_mm=(f.PixelSpacing[1], f.PixelSpacing[0]),
            row_lps=tuple(f.ImageOrientationPatient[:3]),
            column_lps=tuple(f.ImageOrientationPatient[3:]),
            position_lps_mm=tuple(f.ImagePositionPatient),
            frame_of_reference_uid="",
        )
        for n, f in enumerate(files)
    ]
    found = stack_slices(stack)
    assert found.tilt is not None
    assert found.tilt.angle_deg == pytest.approx(14.0, abs=0.01)
    ordered = [stack[n] for n in found.order]
    values = np.array([files[n].pixel_array for n in found.order]).astype(np.int16) - np.int16(1024)
    straight, grid = resample_tilt(values, found.tilt, outside=OUTSIDE)
    expected, sure = through_patient(values, ordered, grid)
    assert sure.mean() > 0.9
    assert np.max(np.abs(straight - expected)[sure]) <= 0.51


@pytest.mark.shared
@pytest.mark.parametrize("degrees", [(0.0, 14.0), (0.0, -14.0)])
def test_real_anatomy_scanned_askew_lies_where_it_was(shared_data: Path, degrees: tuple[float, float]) -> None:
    """A real spine cut along tilted slices and made straight again: no slice is off by more than 0.05 mm."""
    files = [pydicom.dcmread(f) for f in (shared_data / "lidc0314_lower_thoracic_1mm" / "ct").iterdir()]
    files.sort(key=lambda f: f.ImagePositionPatient[2])
    whole = Volume(
        values=np.array([f.pixel_array + f.RescaleIntercept for f in files]).astype(np.int16),
        grid=ImageGrid(
            size_voxels=(224, 224, 100),
            spacing_mm=np.array([0.78125, 0.78125, 1.0]),
            origin_lps_mm=np.array(files[0].ImagePositionPatient),
            direction=np.eye(3),
        ),
        hu_calibrated=True,
    )
    volume = whole.crop((60, 60, 20), (170, 190, 80))
    stack = planes((90, 80, 24), (0.78125, 0.78125, 1.5), AXIAL, degrees)
    middle = volume.grid.index_to_lps((np.array(volume.grid.size_voxels) - 1) / 2)
    shift = middle - pixel_points(stack).reshape(-1, 3).mean(axis=0)
    stack = [replace(p, position_lps_mm=tuple(np.add(p.position_lps_mm, shift))) for p in stack]
    askew = volume.sample(pixel_points(stack), order=3, outside=OUTSIDE)
    tilt = tilt_of(stack)
    straight, grid = resample_tilt(askew, tilt, outside=OUTSIDE)
    truth = volume.sample(grid.voxel_centres_lps_mm(), order=3, outside=OUTSIDE)
    common = ndimage.binary_erosion((straight != OUTSIDE) & (truth != OUTSIDE), np.ones((1, 5, 5), bool))
    for k in range(len(straight)):
        down, along = np.gradient(truth[k].astype(np.float64), *grid.spacing_mm[1::-1])
        use = common[k]
        difference = (straight[k] - truth[k])[use].astype(np.float64)
        slopes = np.column_stack([along[use], down[use]])
        moved, *_ = np.linalg.lstsq(slopes, difference, rcond=None)
        assert np.linalg.norm(moved) < 0.05, k


def test_a_sagittal_stack_can_be_tilted_too() -> None:
    tilt = tilt_of(planes(SIZE, SPACING, SAGITTAL, (7.0, 0.0)))
    assert tilt.straight_grid().direction == pytest.approx(tilt.direction)
