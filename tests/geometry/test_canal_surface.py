"""Surface from a label map and label map from a surface: closed, outward, of the right volume, in the right place."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry.canal import SpinalCanal, canal_from_points, is_closed
from iort_planner.geometry.canal_surface import canal_from_mask, canal_mask, signed_volume_mm3, tube_mesh
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray
from tests.geometry.canal_scans import turned


def grid_of(
    spacing_mm: tuple[float, float, float],
    size: tuple[int, int, int] = (60, 56, 50),
    direction: FloatArray | None = None,
) -> ImageGrid:
    return ImageGrid(
        size_voxels=size,
        spacing_mm=np.array(spacing_mm),
        origin_lps_mm=np.array([-31.0, 12.5, 140.0]),
        direction=np.eye(3) if direction is None else direction,
    )


def tube(grid: ImageGrid, radius_mm: float, half_length_mm: float) -> tuple[FloatArray, FloatArray]:
    """Middle and unit axis (a little tilted) of a cylinder in the middle of a grid."""
    middle = grid.index_to_lps((np.array(grid.size_voxels) - 1) / 2.0)
    axis = np.array([0.15, -0.2, 1.0])
    return middle, axis / np.linalg.norm(axis)


def beside(grid: ImageGrid, distance_mm: float = 20.0) -> FloatArray:
    """A source at the level of the tube's middle."""
    middle, axis = tube(grid, 0.0, 0.0)
    across = np.cross(axis, [1.0, 0.0, 0.0])
    result: FloatArray = middle + distance_mm * across / np.linalg.norm(across)
    return result


def cylinder_mask(
    grid: ImageGrid, radius_mm: float, half_length_mm: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    middle, axis = tube(grid, radius_mm, half_length_mm)
    offset = grid.voxel_centres_lps_mm() - middle
    along = offset @ axis
    across = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
    return np.asarray((across <= radius_mm) & (np.abs(along) <= half_length_mm), dtype=np.bool_)


def mesh_canal(vertices: FloatArray, faces: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> SpinalCanal:
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=np.ones(vertices.shape[0], dtype=bool),
        method="auto",
        confidence=Confidence.HIGH,
        uncertainty_mm=0.5,
    )


def cylinder_mesh(middle: FloatArray, axis: FloatArray, radius_mm: float, half_length_mm: float) -> SpinalCanal:
    one = np.cross(axis, [0.0, 1.0, 0.0])
    one /= np.linalg.norm(one)
    other = np.cross(axis, one)
    angle = np.linspace(0.0, 2 * np.pi, 180, endpoint=False)
    ring = radius_mm * (np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * other)
    ends = middle + np.array([[-half_length_mm], [half_length_mm]]) * axis
    return mesh_canal(*tube_mesh(ends[:, None] + ring, ends))


GRIDS = [
    pytest.param(grid_of((1.0, 1.0, 1.0)), id="isotropic"),
    pytest.param(grid_of((0.7, 0.8, 1.25)), id="three spacings"),
    pytest.param(grid_of((0.8, 0.8, 5.0), (60, 56, 16)), id="thick slices"),
    pytest.param(grid_of((0.9, 0.8, 1.1), direction=turned((0.3, -0.2, 0.5))), id="oblique"),
    pytest.param(grid_of((1.0, 1.0, 1.0), direction=np.diag([-1.0, -1.0, 1.0])), id="prone"),
    pytest.param(grid_of((1.0, 1.0, 1.0), direction=np.diag([1.0, 1.0, -1.0])), id="left-handed"),
]


@pytest.mark.parametrize("grid", GRIDS)
def test_mask_to_surface_keeps_volume_place_and_orientation(grid: ImageGrid) -> None:
    mask = cylinder_mask(grid, 9.0, 17.0)
    canal = canal_from_mask(mask, grid, beside(grid))
    assert canal.method == "file"
    assert canal.confidence is (Confidence.HIGH if grid.spacing_mm.max() < 2.5 else Confidence.LOW), canal.reasons
    assert is_closed(canal.faces, canal.vertices_lps_mm.shape[0])
    voxels_mm3 = np.count_nonzero(mask) * float(np.prod(grid.spacing_mm))
    assert signed_volume_mm3(canal.vertices_lps_mm, canal.faces) == pytest.approx(voxels_mm3, rel=0.01)
    middle, axis = tube(grid, 9.0, 17.0)
    offset = canal.vertices_lps_mm - middle
    along = offset @ axis
    side = np.abs(along) < 11.0
    radius = np.linalg.norm(offset - along[:, None] * axis, axis=1)[side]
    # smoother than the voxels it is made from: half a voxel is the height of their stairs
    assert abs(radius.mean() - 9.0) < 0.15
    assert np.sqrt(np.mean((radius - 9.0) ** 2)) < 0.3 * max(1.0, float(grid.spacing_mm.max()) / 2.5)


@pytest.mark.parametrize("grid", GRIDS)
def test_surface_to_mask_is_the_voxel_centre_rule(grid: ImageGrid) -> None:
    """Oracle: the equation of the cylinder, asked at every voxel centre."""
    middle, axis = tube(grid, 8.0, 15.0)
    found = canal_mask(cylinder_mesh(middle, axis, 8.0, 15.0), grid)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    # 180 corners: the mesh runs at most 8 * (1 - cos(1 degree)) = 0.0012 mm inside the cylinder
    assert np.all(cylinder_mask(grid, 8.0 - 0.0013, 15.0 - 1e-6) <= found)
    assert np.all(found <= cylinder_mask(grid, 8.0 + 1e-6, 15.0 + 1e-6))


@settings(deadline=None, max_examples=15)
@given(
    st.tuples(*[st.floats(0.5, 2.0)] * 3),
    st.tuples(*[st.floats(-0.8, 0.8)] * 3),
    st.floats(5.0, 10.0),
)
def test_round_trip_keeps_the_volume(
    spacing_mm: tuple[float, float, float], rotation: tuple[float, float, float], radius_mm: float
) -> None:
    grid = grid_of(spacing_mm, direction=turned(rotation))
    middle, axis = tube(grid, radius_mm, 10.0)
    first = canal_mask(cylinder_mesh(middle, axis, radius_mm, 10.0), grid)
    second = canal_mask(canal_from_mask(first, grid, beside(grid)), grid)
    assert np.count_nonzero(second) == pytest.approx(np.count_nonzero(first), rel=0.03)
    assert np.count_nonzero(first != second) < 0.06 * np.count_nonzero(first)


def test_mask_that_reaches_the_border_is_closed_there() -> None:
    grid = grid_of((1.0, 1.0, 1.0), (20, 20, 12))
    mask = np.zeros(grid.shape, dtype=np.uint8)
    mask[:, 6:15, 5:14] = 1
    canal = canal_from_mask(mask, grid, beside(grid))
    assert signed_volume_mm3(canal.vertices_lps_mm, canal.faces) == pytest.approx(9 * 9 * 12, rel=0.01)
    # the outer faces of the outer voxels lie half a voxel beyond their centres
    low, high = canal.vertices_lps_mm[:, 2].min(), canal.vertices_lps_mm[:, 2].max()
    assert low == pytest.approx(grid.origin_lps_mm[2] - 0.5, abs=0.15)
    assert high == pytest.approx(grid.origin_lps_mm[2] + 11.5, abs=0.15)
    assert np.array_equal(canal_mask(canal, grid)[3:-3, 8:13, 7:12], mask[3:-3, 8:13, 7:12])


def test_mask_of_a_single_slice_or_voxel_still_closes() -> None:
    grid = grid_of((1.0, 1.0, 3.0), (20, 20, 5))
    for where in ((slice(2, 3), slice(5, 14), slice(5, 14)), (slice(2, 3), slice(5, 6), slice(5, 6))):
        mask = np.zeros(grid.shape, dtype=bool)
        mask[where] = True
        canal = canal_from_mask(mask, grid, beside(grid))
        assert signed_volume_mm3(canal.vertices_lps_mm, canal.faces) > 0


def test_specks_are_left_out_and_said_so() -> None:
    grid = grid_of((1.0, 1.0, 1.0))
    mask = cylinder_mask(grid, 9.0, 17.0)
    clean = canal_from_mask(mask, grid, beside(grid))
    mask[2, 2, 2] = True
    canal = canal_from_mask(mask, grid, beside(grid))
    assert np.allclose(canal.vertices_lps_mm.min(axis=0), clean.vertices_lps_mm.min(axis=0), atol=0.05)
    assert canal.confidence is Confidence.LOW
    assert "specks" in canal.reasons[0]


def test_large_separate_parts_are_kept_and_said_so() -> None:
    grid = grid_of((1.0, 1.0, 1.0))
    mask = cylinder_mask(grid, 9.0, 17.0)
    mask[24:27] = False
    canal = canal_from_mask(mask, grid, beside(grid))
    volume = signed_volume_mm3(canal.vertices_lps_mm, canal.faces)
    assert volume == pytest.approx(np.count_nonzero(mask), rel=0.02)
    assert canal.confidence is Confidence.LOW
    assert "2 separate parts" in canal.reasons[0]


def test_holes_inside_are_filled() -> None:
    grid = grid_of((1.0, 1.0, 1.0))
    mask = cylinder_mask(grid, 9.0, 17.0)
    hollow = mask.copy()
    hollow[23:27, 26:30, 28:32] = False
    assert np.array_equal(
        canal_from_mask(hollow, grid, beside(grid)).vertices_lps_mm,
        canal_from_mask(mask, grid, beside(grid)).vertices_lps_mm,
    )


def test_unusable_masks_are_refused_by_name() -> None:
    grid = grid_of((1.0, 1.0, 1.0))
    with pytest.raises(CanalNotFoundError, match="empty"):
        canal_from_mask(np.zeros(grid.shape, dtype=np.uint8), grid, beside(grid))
    with pytest.raises(CanalNotFoundError, match="on that grid"):
        canal_from_mask(np.ones((3, 3, 3), dtype=np.uint8), grid, beside(grid))
    with pytest.raises(CanalNotFoundError, match="no inside"):
        canal_mask(canal_from_points(np.array([[0.0, 0.0, 0.0]])), grid)


def test_canal_outside_or_across_the_image_is_cut_there() -> None:
    grid = grid_of((1.0, 1.0, 1.0))
    axis = np.array([0.0, 0.0, 1.0])
    assert not canal_mask(cylinder_mesh(np.array([500.0, 0.0, 0.0]), axis, 8.0, 10.0), grid).any()
    corner = grid.index_to_lps([0.0, 0.0, 0.0])
    part = canal_mask(cylinder_mesh(corner, axis, 8.2, 10.3), grid)
    j, i = np.mgrid[: grid.shape[1], : grid.shape[2]]
    expected = np.zeros(grid.shape, dtype=np.uint8)
    expected[:11] = i**2 + j**2 < 8.2**2
    assert np.array_equal(part, expected)


def test_mask_on_a_clinical_grid_takes_well_under_a_second() -> None:
    grid = grid_of((0.5, 0.5, 0.6), (512, 512, 200))
    middle, axis = tube(grid, 9.0, 30.0)
    canal = cylinder_mesh(middle, axis, 9.0, 30.0)
    start = time.perf_counter()
    count = np.count_nonzero(canal_mask(canal, grid))
    assert time.perf_counter() - start < 1.0  # 0.05 s alone; the limit leaves room for a busy machine
    assert count * 0.15 == pytest.approx(np.pi * 81.0 * 60.0, rel=0.01)


@given(st.integers(3, 12), st.integers(2, 6), st.booleans())
def test_tube_mesh_is_closed_and_faces_outwards(angles: int, planes: int, reverse: bool) -> None:
    angle = np.linspace(0.0, 2 * np.pi, angles, endpoint=False) * (-1.0 if reverse else 1.0)
    height = np.arange(planes, dtype=np.float64)
    rings = np.stack(
        np.broadcast_arrays(np.cos(angle)[None], np.sin(angle)[None], height[:, None]), axis=-1
    ) + np.array([100.0, -50.0, 7.0])
    vertices, faces = tube_mesh(rings, np.array([[100.0, -50.0, 7.0], [100.0, -50.0, 6.0 + planes]]))
    assert is_closed(faces, vertices.shape[0])
    # a prism: area of the regular polygon times the height
    prism = 0.5 * angles * np.sin(2 * np.pi / angles) * (planes - 1)
    assert signed_volume_mm3(vertices, faces) == pytest.approx(prism, rel=1e-9)
