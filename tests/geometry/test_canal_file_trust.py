"""A label map is trusted only where it is a whole canal at the source's level, and its error stays within its bound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from iort_planner.geometry._kernels import closest_point_on_mesh
from iort_planner.geometry.canal import SpinalCanal
from iort_planner.geometry.canal_surface import canal_from_mask
from iort_planner.geometry.distance import wall_triangles
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from iort_planner.units import FloatArray

Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="module", params=["small"])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return build(read_spec(find_spec(request.param)), 0)


@pytest.fixture(scope="module")
def whole(phantom: Phantom) -> Mask:
    """The phantom's exact canal as a label map."""
    inside: Mask = phantom.canal.signed_distance_mm(phantom.volume.grid.voxel_centres_lps_mm()) < 0
    return inside


@pytest.fixture(scope="module")
def offset_mm(phantom: Phantom) -> FloatArray:
    offset: FloatArray = phantom.volume.grid.voxel_centres_lps_mm() - phantom.truth.source_lps_mm
    return offset


def read(phantom: Phantom, mask: Mask) -> tuple[SpinalCanal, float]:
    """The canal, and by how much its distance from the source is wrong."""
    source = phantom.truth.source_lps_mm
    canal = canal_from_mask(mask, phantom.volume.grid, source)
    return canal, closest_point_on_mesh(source, wall_triangles(canal))[0] - phantom.truth.distance_from_source_mm


def test_a_whole_canal_is_trusted(phantom: Phantom, whole: Mask) -> None:
    canal, error = read(phantom, whole)
    assert (canal.confidence, canal.reasons) == (Confidence.HIGH, ())
    assert abs(error) < 0.3
    # by hand: 0.5 mm of drawing, and the largest spacing's uniform rounding
    assert canal.uncertainty_mm == pytest.approx(np.hypot(0.5, phantom.volume.grid.spacing_mm.max() / np.sqrt(12.0)))


DIRECTIONS = [(0.0, 0.0, 1.0), (0.0, 0.5, 0.87), (0.5, -0.3, 0.8)]  # axial cuts, and two aslant


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_cut_off_canal_is_wrong_and_trusted(
    phantom: Phantom, whole: Mask, offset_mm: FloatArray, direction: tuple[float, float, float]
) -> None:
    """Cut from above, from below, to a slab, and with a slab missing: 2 sigma hold, or the confidence is low."""
    height = offset_mm @ (np.array(direction) / np.linalg.norm(direction))
    wrong = 0
    for at in range(-24, 25, 8):
        pieces = [height > at, height < at, np.abs(height - at) < 8.0, np.abs(height - at) > 6.0]
        for number, piece in enumerate(pieces):
            if not (whole & piece).any():
                continue
            canal, error = read(phantom, whole & piece)
            assert abs(error) < 2.5 * canal.uncertainty_mm, (at, number, canal.reasons)
            if abs(error) > 1.5:
                wrong += 1
                assert canal.confidence is Confidence.LOW, (at, number, error)
    assert wrong >= 6


def test_the_testers_cuts_say_why(phantom: Phantom, whole: Mask, offset_mm: FloatArray) -> None:
    distance = np.linalg.norm(offset_mm, axis=-1)
    axial = np.abs(offset_mm[..., 2])
    for mask, why in (
        (whole & (offset_mm[..., 2] < -18.0), "short of the source's level"),
        (whole & (axial > 18.0), "2 separate parts"),
        (whole & (distance > 18.0), "not whole there"),
        (whole & (axial < 7.0), "past the source's level"),
    ):
        canal, error = read(phantom, mask)
        assert canal.confidence is Confidence.LOW
        assert any(why in reason for reason in canal.reasons), canal.reasons
        assert abs(error) < 2.0 * canal.uncertainty_mm


def test_a_single_voxel_is_no_canal(phantom: Phantom, whole: Mask) -> None:
    for number in (0.2, 0.5, 0.8):
        mask = np.zeros_like(whole)
        inside = np.argwhere(whole)
        mask[tuple(inside[int(number * len(inside))])] = True
        canal, error = read(phantom, mask)
        assert canal.confidence is Confidence.LOW
        assert any("tiny" in reason for reason in canal.reasons)
        assert abs(error) < 2.0 * canal.uncertainty_mm


def column(radius_mm: float, half_length_mm: float = 30.0) -> tuple[Mask, ImageGrid]:
    """An upright tube round the origin of a grid of 1 mm."""
    grid = ImageGrid(
        size_voxels=(61, 61, 71),
        spacing_mm=np.ones(3),
        origin_lps_mm=np.array([-30.0, -30.0, -35.0]),
        direction=np.eye(3),
    )
    x, y, z = np.moveaxis(grid.voxel_centres_lps_mm(), -1, 0)
    return (np.hypot(x, y) < radius_mm) & (np.abs(z) < half_length_mm), grid


@pytest.mark.parametrize(("radius_mm", "usual"), [(4.0, False), (6.0, True), (9.0, True), (13.0, True), (16.0, False)])
def test_cross_sections_that_no_canal_has(radius_mm: float, usual: bool) -> None:
    """Limits 80 and 620 mm2 are radii of 5.0 and 14.0 mm."""
    mask, grid = column(radius_mm)
    canal = canal_from_mask(mask, grid, np.array([0.0, -25.0, 0.0]))
    assert (canal.confidence is Confidence.HIGH) == usual, canal.reasons
    assert any("mm2 is unusual" in reason for reason in canal.reasons) != usual


@pytest.mark.parametrize("beyond_mm", [6.0, 8.0, 13.0, 20.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_canal_must_reach_past_the_sources_level_on_both_sides(beyond_mm: float, sign: float) -> None:
    mask, grid = column(8.0)
    canal = canal_from_mask(mask, grid, np.array([0.0, -18.0, sign * (30.0 - beyond_mm)]))
    assert (canal.confidence is Confidence.HIGH) == (beyond_mm > 10.0)
    assert any("past the source's level" in reason for reason in canal.reasons) == (beyond_mm < 10.0)


def test_a_coarse_file_counts_in_the_uncertainty() -> None:
    mask, grid = column(8.0)
    source = np.array([0.0, -18.0, 0.0])
    own = canal_from_mask(mask, grid, source)
    assert canal_from_mask(mask, grid, source, file_spacing_mm=np.full(3, 0.5)).uncertainty_mm == own.uncertainty_mm
    coarse = canal_from_mask(mask, grid, source, file_spacing_mm=np.array([2.0, 1.0, 1.0]))
    assert coarse.uncertainty_mm == pytest.approx(np.hypot(own.uncertainty_mm, 1.0))
    assert coarse.confidence is Confidence.HIGH
    coarser = canal_from_mask(mask, grid, source, file_spacing_mm=np.full(3, 4.0))
    assert coarser.uncertainty_mm == pytest.approx(np.hypot(own.uncertainty_mm, 2.0))
    assert any("4.0 mm are coarse" in reason for reason in coarser.reasons)


def test_on_an_uncalibrated_image_the_confidence_is_low() -> None:
    mask, grid = column(8.0)
    canal = canal_from_mask(mask, grid, np.array([0.0, -18.0, 0.0]), hu_calibrated=False)
    assert canal.confidence is Confidence.LOW
    assert canal.reasons == ("the image's values are not HU",)


def test_far_away_is_another_vertebras() -> None:
    mask, grid = column(8.0)
    canal = canal_from_mask(mask, grid, np.array([0.0, -50.0, 0.0]))
    assert any("42 mm away" in reason for reason in canal.reasons)
