"""The canal found in a scan: exact on made-up spines, honest where it can't (real scans: test_canal_real.py)."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry import canal_trust
from iort_planner.geometry._kernels import closest_point_on_mesh
from iort_planner.geometry.canal import SpinalCanal, is_closed
from iort_planner.geometry.canal_segmentation import segment
from iort_planner.geometry.canal_surface import canal_from_mask, canal_mask, signed_volume_mm3
from iort_planner.geometry.distance import wall_triangles
from iort_planner.geometry.needle import Confidence
from iort_planner.imaging.volume import Volume
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from iort_planner.units import FloatArray
from tests.geometry.canal_scans import LEVEL_MM, Spine, scan, source_and_axis, turned


def distance_mm(canal: SpinalCanal, point_lps_mm: FloatArray) -> float:
    return closest_point_on_mesh(point_lps_mm, wall_triangles(canal))[0]


def found(spine: Spine, volume: Volume) -> SpinalCanal:
    return segment(volume, *source_and_axis(spine))


SPINES = [
    pytest.param(Spine(), 0.0, True, id="straight, needle"),
    pytest.param(Spine(), 40.0, True, id="noise of 40 HU"),
    pytest.param(Spine(radius_mm=6.0), 0.0, False, id="narrow"),
    pytest.param(Spine(radius_mm=11.0), 0.0, True, id="wide"),
    pytest.param(Spine(bend_radius_mm=120.0), 0.0, True, id="kyphosis of 120 mm"),
    pytest.param(Spine(turn=turned((0.35, 0.0, 0.0))), 20.0, True, id="tilted by 20 degrees"),
    pytest.param(Spine(turn=turned((0.0, 0.0, np.pi))), 20.0, True, id="labelled the wrong way up"),
    pytest.param(Spine(turn=turned((0.2, 0.3, 0.6))), 20.0, True, id="oblique"),
]


@pytest.mark.parametrize(("spine", "noise_hu", "needle"), SPINES)
def test_wall_of_a_round_canal_is_found_where_it_is(spine: Spine, noise_hu: float, needle: bool) -> None:
    canal = found(spine, scan(spine, noise_hu=noise_hu, needle=needle))
    source, _ = source_and_axis(spine)
    assert distance_mm(canal, source) == pytest.approx(float(spine.wall_distance_mm(source)), abs=0.15)
    assert canal.method == "auto"
    assert canal.confidence is Confidence.HIGH
    assert canal.reasons == ()
    assert 0.3 <= canal.uncertainty_mm < 0.6
    assert is_closed(canal.faces, canal.vertices_lps_mm.shape[0])
    assert signed_volume_mm3(canal.vertices_lps_mm, canal.faces) > 0
    off_mm = spine.wall_distance_mm(canal.vertices_lps_mm[:-2])  # without the middles of the caps
    on_bone = canal.on_bone[:-2]
    assert 0.7 < on_bone.mean() < 1.0  # discs and foramina are open, and said to be
    assert np.percentile(np.abs(off_mm[on_bone]), 95) < 0.6
    assert np.abs(off_mm).max() < 2.0  # no leak through a foramen
    lengths = np.ptp(spine.to_spine(canal.vertices_lps_mm)[:, 2])
    assert lengths > 50.0


LONG_SPINES = [
    pytest.param(Spine(turn=turned((0.52, 0.0, 0.0))), id="tilted by 30 degrees"),
    pytest.param(Spine(turn=turned((0.0, -0.52, 0.0))), id="leaning by 30 degrees"),
    pytest.param(Spine(bend_radius_mm=110.0, turn=turned((0.3, 0.35, 0.5))), id="kyphotic and oblique"),
    pytest.param(Spine(bend_radius_mm=-130.0), id="lordotic"),
    pytest.param(Spine(side_bend_radius_mm=140.0), id="scoliotic"),
]


@pytest.mark.parametrize("spine", LONG_SPINES)
def test_canal_is_followed_over_one_level_each_way(spine: Spine) -> None:
    canal = found(spine, scan(spine, spacing_mm=(1.1, 1.1, 1.2), size=(106, 130, 120), noise_hu=25.0, needle=True))
    wall = canal.vertices_lps_mm[:-2]
    off_mm, along_mm = spine.wall_distance_mm(wall), spine.to_spine(wall)[:, 2]
    assert along_mm.min() < -1.5 * LEVEL_MM
    assert along_mm.max() > 1.5 * LEVEL_MM
    assert np.percentile(np.abs(off_mm), 95) < 1.2
    assert np.abs(off_mm).max() < 2.5
    source, _ = source_and_axis(spine)
    assert distance_mm(canal, source) == pytest.approx(float(spine.wall_distance_mm(source)), abs=0.2)
    assert canal.confidence is Confidence.HIGH
    assert canal.nearest_wall == "bone"


def test_canal_ends_where_the_bone_ends() -> None:
    """Beyond the last vertebra there is soft tissue only: nothing is made up there."""
    spine = Spine(ends_mm=40.0)
    canal = found(spine, scan(spine, size=(96, 104, 130)))
    assert np.abs(spine.to_spine(canal.vertices_lps_mm)[:, 2]).max() < 40.0 + 12.0
    assert canal.confidence is Confidence.HIGH


@pytest.fixture(scope="module")
def straight_mm() -> float:
    """Distance from source to wall on a grid along the patient's axes."""
    spine = Spine()
    return distance_mm(found(spine, scan(spine, needle=True)), source_and_axis(spine)[0])


@pytest.mark.parametrize(
    "direction",
    [
        pytest.param(turned((0.3, -0.2, 0.5)), id="oblique"),
        pytest.param(turned((0.0, 0.0, np.pi / 2)), id="on the side"),
        pytest.param(turned((0.7, 0.0, 0.0)), id="tilted"),
        pytest.param(np.diag([-1.0, -1.0, 1.0]), id="prone"),
        pytest.param(np.diag([1.0, 1.0, -1.0]), id="feet first, left-handed"),
    ],
)
def test_turning_the_grid_changes_nothing(direction: FloatArray, straight_mm: float) -> None:
    spine = Spine()
    source, _ = source_and_axis(spine)
    volume = scan(spine, needle=True, direction=direction, size=(100, 108, 80))
    assert distance_mm(found(spine, volume), source) == pytest.approx(straight_mm, abs=0.1)


def test_spacing_changes_little() -> None:
    spine = Spine()
    source, _ = source_and_axis(spine)
    for spacing, size in (((0.6, 0.6, 0.7), (130, 140, 90)), ((1.2, 1.2, 2.0), (72, 76, 35))):
        canal = found(spine, scan(spine, spacing_mm=spacing, size=size))
        assert distance_mm(canal, source) == pytest.approx(float(spine.wall_distance_mm(source)), abs=0.25)


def test_coarse_slices_are_low_confidence() -> None:
    spine = Spine()
    canal = found(spine, scan(spine, spacing_mm=(0.9, 0.9, 4.0), size=(96, 104, 18)))
    assert canal.confidence is Confidence.LOW
    assert any("4.0 mm is coarse" in reason for reason in canal.reasons)


def test_scaled_intensities_give_the_same_wall_with_low_confidence() -> None:
    spine = Spine()
    source, _ = source_and_axis(spine)
    volume = scan(spine, needle=True, noise_hu=15.0)
    gray = Volume(
        values=np.clip(0.35 * volume.values + 310.0, 0, 4095).astype(np.int16), grid=volume.grid, hu_calibrated=False
    )
    canal = found(spine, gray)
    assert distance_mm(canal, source) == pytest.approx(distance_mm(found(spine, volume), source), abs=0.2)
    assert canal.confidence is Confidence.LOW
    assert any("not HU" in reason for reason in canal.reasons)


# plain: only the label is missing; shifted: a lost rescale intercept; scaled: other units; cut: and no values below 0
READINGS = [
    pytest.param(1.0, 0.0, -np.inf, id="plain"),
    pytest.param(1.0, 1024.0, -np.inf, id="shifted"),
    pytest.param(0.3, 200.0, -np.inf, id="scaled and shifted"),
    pytest.param(1.0, 0.0, 0.0, id="cut at 0"),
]


@pytest.fixture(scope="module", params=["small", "reference"])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return build(read_spec(find_spec(request.param)), 0)


@pytest.mark.parametrize(("slope", "shift", "least"), READINGS)
def test_phantom_without_calibration_is_found_with_low_confidence(
    phantom: Phantom, slope: float, shift: float, least: float
) -> None:
    """Its spongiosa fills more of the source's surroundings than its soft tissue does."""
    values = np.maximum(slope * phantom.volume.values + shift, least).astype(np.float32)
    volume = Volume(values=values, grid=phantom.volume.grid, hu_calibrated=False)
    truth = phantom.truth
    canal = segment(volume, truth.source_lps_mm, truth.axis_lps)
    error = distance_mm(canal, truth.source_lps_mm) - truth.distance_from_source_mm
    assert abs(error) < 0.4
    assert canal.confidence is Confidence.LOW
    assert any("not HU" in reason for reason in canal.reasons)


def test_refusal_says_that_the_image_is_not_calibrated() -> None:
    volume = scan(Spine())
    noise = np.random.default_rng(3).normal(50.0, 20.0, volume.values.shape)
    for values in (np.full_like(volume.values, 700), noise.astype(np.int16)):
        gray = Volume(values=values, grid=volume.grid, hu_calibrated=False)
        with pytest.raises(CanalNotFoundError, match=r"no spinal canal found.*not calibrated in HU.*--canal FILE"):
            found(Spine(), gray)


@pytest.mark.parametrize("half_angle_deg", [25.0, 40.0, 60.0])
def test_breached_wall_towards_the_source_does_not_leak_and_is_low_confidence(half_angle_deg: float) -> None:
    """The posterior body wall is gone and the lesion behind it is as soft as the canal: its wall can only be guessed."""
    spine = Spine(breach_deg=half_angle_deg)
    canal = found(spine, scan(spine, noise_hu=10.0))
    assert np.abs(spine.wall_distance_mm(canal.vertices_lps_mm[:-2])).max() < 2.0
    assert canal.confidence is Confidence.LOW
    assert any("where a whole vertebra has bone" in reason for reason in canal.reasons)
    assert canal.nearest_on_bone is False
    assert canal.nearest_gap_mm is not None
    assert f"interpolated, {canal.nearest_gap_mm:.1f} mm to the nearest seen bone" == canal.nearest_wall
    source, _ = source_and_axis(spine)
    error = abs(distance_mm(canal, source) - float(spine.wall_distance_mm(source)))
    assert error < 2.0 * canal.uncertainty_mm


def test_no_wall_on_bone_is_high_beyond_the_limit_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canal_trust, "_EDGE_UNCERTAINTY_MM", 0.95)
    canal = found(Spine(), scan(Spine()))
    assert canal.nearest_on_bone
    assert canal.confidence is Confidence.LOW
    assert canal.reasons == ("the wall nearest to the source is on bone, and uncertain (±1.0 mm, limit 0.9 mm)",)


@pytest.mark.parametrize("half_angle_deg", [25.0, 40.0, 60.0])
def test_a_dense_rim_before_a_destroyed_wall_is_not_taken_for_it(half_angle_deg: float) -> None:
    spine = Spine(breach_deg=half_angle_deg, rim_mm=3.0)
    canal = found(spine, scan(spine, noise_hu=20.0, needle=True))
    source, _ = source_and_axis(spine)
    error = distance_mm(canal, source) - float(spine.wall_distance_mm(source))
    assert error < -2.0  # the rim looks like a wall
    assert canal.confidence is Confidence.LOW
    assert any("another bony edge" in reason for reason in canal.reasons)
    assert abs(error) < 2.0 * canal.uncertainty_mm


@pytest.mark.parametrize("at_mm", [-17.0, -15.0, -13.0, 13.0, 15.0, 17.0])
def test_a_source_before_a_disc_keeps_its_confidence(at_mm: float) -> None:
    """Discs and foramina are gaps too: natural ones."""
    spine = Spine()
    source, axis = source_and_axis(spine)
    source = source + np.array([0.0, 0.0, at_mm])
    canal = segment(scan(spine, noise_hu=20.0, size=(96, 104, 90)), source, axis)
    assert distance_mm(canal, source) == pytest.approx(float(spine.wall_distance_mm(source)), abs=0.8)
    assert canal.reasons == ()


def test_faint_bone_is_found_with_low_confidence() -> None:
    spine = Spine(contrast_hu=280.0, spongiosa_hu=80.0)
    canal = found(spine, scan(spine))
    source, _ = source_and_axis(spine)
    assert distance_mm(canal, source) == pytest.approx(float(spine.wall_distance_mm(source)), abs=0.2)
    assert any("faint" in reason for reason in canal.reasons)


def test_tube_stops_at_the_images_end_and_says_so_when_that_is_near() -> None:
    spine = Spine()
    far = scan(spine, size=(96, 104, 40), middle_offset_mm=(0.0, 0.0, -8.0))
    canal = found(spine, far)
    assert canal.confidence is Confidence.HIGH
    top = far.grid.corners_lps_mm()[:, 2].max()
    assert top - 3.0 < canal.vertices_lps_mm[:, 2].max() <= top + 0.1
    near = found(spine, scan(spine, size=(96, 104, 40), middle_offset_mm=(0.0, 0.0, -17.5)))
    assert near.confidence is Confidence.LOW
    assert any("end in the image" in reason or "could not be followed" in reason for reason in near.reasons)


def test_no_bone_no_canal() -> None:
    volume = scan(Spine())
    noise = np.random.default_rng(3).normal(50.0, 20.0, volume.values.shape)
    soft = Volume(values=noise.astype(np.int16), grid=volume.grid, hu_calibrated=True)
    with pytest.raises(CanalNotFoundError, match=r"hardly any bone.*--canal FILE"):
        found(Spine(), soft)


def test_source_far_from_the_spine_or_the_image_is_refused() -> None:
    spine = Spine()
    volume = scan(spine, size=(96, 104, 40))
    _, axis = source_and_axis(spine)
    with pytest.raises(CanalNotFoundError, match="outside the image"):
        segment(volume, np.array([500.0, 0.0, 0.0]), axis)
    with pytest.raises(CanalNotFoundError, match="no spinal canal found"):
        segment(volume, np.asarray(spine.to_lps(np.array([-42.0, 34.0, 18.0]))), axis)


def test_solid_bone_has_no_canal() -> None:
    volume = scan(Spine())
    solid = Volume(values=np.full_like(volume.values, 700), grid=volume.grid, hu_calibrated=True)
    with pytest.raises(CanalNotFoundError, match="no soft tissue enclosed"):
        found(Spine(), solid)


def test_mask_of_an_automatic_canal_and_back() -> None:
    spine = Spine(bend_radius_mm=150.0)
    volume = scan(spine)
    canal = found(spine, volume)
    mask = canal_mask(canal, volume.grid)
    volume_mm3 = signed_volume_mm3(canal.vertices_lps_mm, canal.faces)
    assert np.count_nonzero(mask) * np.prod(volume.grid.spacing_mm) == pytest.approx(volume_mm3, rel=0.01)
    source, _ = source_and_axis(spine)
    again = canal_from_mask(mask, volume.grid, source)
    assert again.confidence is Confidence.HIGH
    assert distance_mm(again, source) == pytest.approx(distance_mm(canal, source), abs=0.3)


def test_the_same_scan_gives_the_same_surface() -> None:
    spine = Spine()
    volume = scan(spine, noise_hu=20.0)
    one, two = found(spine, volume), found(spine, volume)
    assert np.array_equal(one.vertices_lps_mm, two.vertices_lps_mm)


# 'small' is what most tests use; 'oblique' turns grid and spine; bound of the brief for phantoms: 0.7 mm
@pytest.mark.parametrize("name", ["small", "oblique"])
def test_phantom_canal_is_within_its_bound(name: str) -> None:
    phantom = build(read_spec(find_spec(name)), 0)
    truth = phantom.truth
    canal = segment(phantom.volume, truth.source_lps_mm, truth.axis_lps)
    error = distance_mm(canal, truth.source_lps_mm) - truth.distance_from_source_mm
    assert abs(error) < 0.4
    assert abs(error) < 2.0 * canal.uncertainty_mm
    off_mm = np.abs(phantom.canal.signed_distance_mm(canal.vertices_lps_mm[canal.on_bone]))
    assert np.percentile(off_mm, 95) < 1.5


def test_lost_bone_only_lowers_the_confidence_it_never_raises_it() -> None:
    phantom = build(read_spec(find_spec("small")), 1)
    truth = phantom.truth
    values = np.where(phantom.volume.values > 250, 250, phantom.volume.values).astype(np.int16)
    flat = Volume(values=values, grid=phantom.volume.grid, hu_calibrated=True)
    canal = segment(flat, truth.source_lps_mm, truth.axis_lps)
    assert abs(distance_mm(canal, truth.source_lps_mm) - truth.distance_from_source_mm) < 1.5
