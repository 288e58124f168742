"""Closed contours become the voxels whose centres they enclose, whatever plane they are drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from iort_planner.imaging.structures.contour_planes import sort_contours
from iort_planner.imaging.structures.contours import contour_mask
from tests.imaging.dicom_factory import OBLIQUE, ORIENTATIONS, SAGITTAL, Scan
from tests.imaging.structure_factory import (
    Array,
    X,
    Y,
    Z,
    axial_grid,
    closed,
    drawn,
    grid_of,
    lopsided,
    mask_contours,
    read,
    ring,
    square,
    write_rtstruct,
)

# Masks that contours were drawn round


@pytest.mark.parametrize("axis", ["k", "j", "i"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_outlines_of_a_mask_give_the_mask_back(tmp_path: Path, orientation: str, axis: str) -> None:
    # Three spacings, three sizes, no symmetry; contours in the image's slices and across them.
    scan = Scan(axes=ORIENTATIONS[orientation])
    mask = lopsided(scan)
    path = write_rtstruct(tmp_path / "rs.dcm", drawn(mask_contours(mask, scan, axis)))
    found = read(path, grid_of(scan))
    assert np.array_equal(found.mask, mask)
    assert (found.roi, found.kind, found.frame_verified, found.notes) == ("3 canal", "rtstruct", True, ())
    assert found.spacing_mm[2] == pytest.approx(scan.spacing_mm["ijk".index(axis)], abs=1e-6)
    assert not found.mask.flags.writeable


def test_contours_rounded_to_two_decimals_give_the_same_mask(tmp_path: Path) -> None:
    scan = Scan(axes=OBLIQUE)
    rounded = [(kind, np.round(points, 2)) for kind, points in mask_contours(lopsided(scan), scan)]
    assert np.array_equal(read(write_rtstruct(tmp_path / "rs.dcm", drawn(rounded)), grid_of(scan)).mask, lopsided(scan))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(ORIENTATIONS)), st.sampled_from("kji"))
def test_any_mask_comes_back(seed: int, orientation: str, axis: str) -> None:
    scan = Scan(axes=ORIENTATIONS[orientation], size=(7, 6, 5))
    mask = np.random.default_rng(seed).random((5, 6, 7)) < 0.5
    contours = [points for _, points in mask_contours(mask, scan, axis)]
    planes = sort_contours(contours, grid_of(scan), "it")
    found, _ = contour_mask(planes, grid_of(scan), "it")
    assert np.array_equal(found, mask)


def test_a_contour_round_one_voxel_centre_is_that_voxel(tmp_path: Path) -> None:
    # Half a pixel of shift anywhere would choose a neighbour or none.
    scan = Scan(axes=OBLIQUE)
    corners = ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1))
    contours = [np.array([scan.point(5 + a, 3 + b, k) for a, b in corners]) for k in (2, 3)]
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(closed(*contours))), grid_of(scan))
    assert np.argwhere(found.mask).tolist() == [[2, 3, 5], [3, 3, 5]]


# Shapes with a known volume


@pytest.mark.parametrize("plane_gap", [1.0, 2.5, 3.0])
def test_the_volume_of_a_cylinder(tmp_path: Path, plane_gap: float) -> None:
    depths = np.arange(-9.0, 9.1, plane_gap)
    contours = closed(*(ring((0.3, -0.4, d), 6.0, X, Y) for d in depths))
    grid = axial_grid((0.2, 0.25, 0.3))
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(contours)), grid)
    polygon = 0.5 * 200 * 6.0**2 * np.sin(2 * np.pi / 200)
    expected = polygon * (depths[-1] - depths[0] + plane_gap)  # half a spacing beyond both ends
    assert found.mask.sum() * 0.2 * 0.25 * 0.3 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("plane_gap", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (1, 2, 3), (-3, 1, 0.2)])
def test_a_sphere_in_planes_of_any_orientation(tmp_path: Path, plane_gap: float, normal: tuple[float, ...]) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    u = np.cross(n, [0.3, -0.8, 0.52])
    u /= np.linalg.norm(u)
    centre, radius = np.array([0.6, -0.2, 0.4]), 8.0
    depths = np.arange(-radius + 0.5 * plane_gap, radius, plane_gap)
    contours = [ring(centre + d * n, float(np.sqrt(radius**2 - d**2)), u, np.cross(n, u)) for d in depths]
    grid = axial_grid()
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(closed(*contours))), grid).mask
    assert found.sum() * 0.63 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06 if plane_gap == 3.0 else 0.02)
    # Within the outermost planes, the surface lies between the sphere and the chords from plane to plane.
    offset = grid.voxel_centres_lps_mm() - centre
    depth, distance = offset @ n, np.linalg.norm(offset, axis=-1)
    between = np.abs(depth) <= depths[-1]
    sag = radius - np.sqrt(radius**2 - (0.5 * plane_gap) ** 2) + 0.02
    slack = np.where(np.abs(depth) < 0.8 * radius, 2.5 * sag, 0.5 * plane_gap + 0.5)
    assert not np.any(found & between & (distance > radius + 0.02))
    assert not np.any(~found & between & (distance < radius - slack))


def test_between_planes_the_radius_changes_evenly(tmp_path: Path) -> None:
    # Signed distances of two discs on one axis interpolate to a cone: closed form.
    contours = closed(
        ring((0, 0, -6), 4.0, X, Y, 1000), ring((0, 0, 0), 10.0, X, Y, 1000), ring((0, 0, 6), 7.0, X, Y, 1000)
    )
    grid = axial_grid()
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(contours)), grid).mask
    points = grid.voxel_centres_lps_mm()
    z, r = points[..., 2], np.hypot(points[..., 0], points[..., 1])
    radius = np.interp(z, [-6, 0, 6], [4.0, 10.0, 7.0])
    expected = (r < radius) & (np.abs(z) <= 9.0)
    sure = np.abs(r - radius) > 0.01
    assert np.array_equal(found[sure], expected[sure])


def test_sagittal_contours_on_an_axial_image_and_the_reverse(tmp_path: Path) -> None:
    scan = Scan(axes=SAGITTAL, size=(21, 19, 17))
    centre = scan.point(10.2, 9.1, 8.3)
    discs = closed(*(ring(centre + np.array([d, 0, 0]), 3.0, Y, Z) for d in np.arange(-3, 3.1, 0.75)))
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(discs)), grid_of(scan)).mask
    offset = grid_of(scan).voxel_centres_lps_mm() - centre
    r = np.hypot(offset[..., 1], offset[..., 2])
    sure = np.abs(r - 3.0) > 0.01
    expected = (r < 3.0) & (np.abs(offset[..., 0]) <= 3.375)
    assert np.array_equal(found[sure], expected[sure])


# Holes, keyholes, doubles, gaps


def keyhole(outer: float, inner: float, z: float) -> Array:
    """One line round an outer square, in along a channel of no width, round the inner one, and out again."""
    a, b = square(outer, z), square(inner, z)[::-1]
    return np.concatenate([a, a[:1], b[-1:], b[:-1], b[-1:]])


def test_a_keyhole_is_a_hole(tmp_path: Path) -> None:
    grid = axial_grid()
    depths = np.arange(-4.0, 4.1, 1.0)
    hole = [c for z in depths for c in (square(9.0, z), square(4.0, z))]
    with_hole = read(write_rtstruct(tmp_path / "hole.dcm", drawn(closed(*hole))), grid).mask
    with_key = read(write_rtstruct(tmp_path / "key.dcm", drawn(closed(*(keyhole(9, 4, z) for z in depths)))), grid).mask
    xor = [("CLOSEDPLANAR_XOR", c) for c in hole]
    with_xor = read(write_rtstruct(tmp_path / "xor.dcm", drawn(xor)), grid).mask
    points = np.abs(grid.voxel_centres_lps_mm())
    widest = points[..., :2].max(axis=-1)
    assert np.array_equal(with_hole, (widest < 9.0) & (widest > 4.0) & (points[..., 2] <= 4.5))
    assert np.array_equal(with_hole, with_key)
    assert np.array_equal(with_hole, with_xor)


def test_a_contour_that_is_there_twice_does_not_cancel(tmp_path: Path) -> None:
    contours = [square(6.0, z) for z in (-1.0, 0.0, 1.0)]
    again = np.roll(contours[1], 2, axis=0)[::-1]
    once = read(write_rtstruct(tmp_path / "once.dcm", drawn(closed(*contours))), axial_grid())
    twice = read(write_rtstruct(tmp_path / "twice.dcm", drawn(closed(*contours, again))), axial_grid())
    assert np.array_equal(once.mask, twice.mask)
    assert any("there twice were taken once" in note for note in twice.notes)


def test_contours_that_cross_are_said(tmp_path: Path) -> None:
    depths = (0.0, 1.0, 2.0)
    beside = [square(4.0, z) + np.array([5.0, 0.3, 0.0]) for z in depths]
    crossed = read(
        write_rtstruct(tmp_path / "a.dcm", drawn(closed(*(square(4.0, z) for z in depths), beside[1]))), axial_grid()
    )
    assert crossed.notes == ("contours cross each other in 1 plane(s); what lies in two of them counts as outside",)
    touching = [square(4.0, z) + np.array([8.0, 8.0, 0.0]) for z in depths]
    apart = read(
        write_rtstruct(tmp_path / "b.dcm", drawn(closed(*(square(4.0, z) for z in depths), *touching))), axial_grid()
    )
    assert apart.notes == ()


def test_a_wide_gap_is_said_and_not_filled(tmp_path: Path) -> None:
    depths = [-8.0, -7.0, -6.0, -5.0, 3.0, 4.0, 5.0]
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(closed(*(square(5.0, z) for z in depths)))), axial_grid())
    z = axial_grid().voxel_centres_lps_mm()[..., 2][found.mask]
    assert sorted(set(np.round(z, 6))) == depths
    assert found.notes == ("1 gap(s) between contour planes were not filled (up to 8.0 mm wide, usual 1.0 mm)",)


def test_planes_that_are_dense_in_one_part_only_are_joined(tmp_path: Path) -> None:
    depths = [*np.arange(-6.0, -2.9, 1.0), *np.arange(0.0, 9.1, 3.0)]
    found = read(write_rtstruct(tmp_path / "rs.dcm", drawn(closed(*(square(5.0, z) for z in depths)))), axial_grid())
    assert found.notes == ()
    filled = np.flatnonzero(found.mask.any(axis=(1, 2)))
    assert np.all(np.diff(filled) == 1)


# A slow oracle


def _inside(point: Array, polygons: list[Array]) -> bool:
    """Even-odd by the angle each polygon turns round the point: nothing shared with crossings of rows."""
    odd = 0
    for polygon in polygons:
        a = polygon - point
        b = np.roll(a, -1, axis=0)
        turn = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], np.sum(a * b, axis=1)).sum() / (2 * np.pi)
        odd += round(turn)
    return odd % 2 == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_polygons_agree_with_winding_angles(seed: int) -> None:
    # Crossing and overlapping polygons, in a plane that is oblique to the image.
    rng = np.random.default_rng(seed)
    n, u = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
    v = np.cross(n, u)
    polygons = [rng.uniform(-6, 6, size=(int(rng.integers(3, 8)), 2)) for _ in range(int(rng.integers(1, 4)))]
    assume(all(np.linalg.svd(p - p.mean(axis=0))[1][1] > 0.5 for p in polygons))  # points on a line are refused
    contours = [p @ np.stack([u, v]) + d * n for d in (-0.7, 0.7) for p in polygons]
    grid = axial_grid((1.3, 1.1, 0.9), reach_mm=8.0)
    mask, _ = contour_mask(sort_contours(contours, grid, "it"), grid, "it")
    points = grid.voxel_centres_lps_mm().reshape(-1, 3)
    near = np.flatnonzero(np.abs(points @ n) < 1.39)
    for place in rng.choice(near, size=60):
        flat = np.array([points[place] @ u, points[place] @ v])
        assert mask.reshape(-1)[place] == _inside(flat, polygons)
