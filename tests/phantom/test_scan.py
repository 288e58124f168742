"""The voxels: HU of the parts, partial volume of the needle, edges at the exact canal, repeatability."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import Label, Phantom, PhantomSpec, build, canal_of, pose_of
from iort_planner.phantom.anatomy import Anatomy
from iort_planner.phantom.needle_model import coverage
from iort_planner.phantom.scan import grid_of, spine_frame
from iort_planner.phantom.tissues import TissuePainter
from iort_planner.units import FloatArray

from .conftest import quiet

# Spine coordinates (left, posterior, cranial) deep inside each part, 2.5 blur widths or more from its border.
INSIDE = {
    "cord": (0.0, -1.8, 3.0),
    "lesion": (-1.0, -25.0, 0.0),
    "spongiosa": (-12.0, -22.0, 6.0),
    "disc": (0.0, -22.0, 14.5),
    "vessel": (9.0, -48.0, 3.0),
    "muscle": (-30.0, 28.0, 8.0),
    "fat": (-20.0, -44.0, 8.0),
    "air": (-20.0, 55.0, 0.0),
}


@pytest.mark.parametrize("part", INSIDE)
def test_a_part_has_its_nominal_hu_inside(fine_quiet: Phantom, part: str) -> None:
    point = spine_frame(fine_quiet.spec).to_lps(INSIDE[part])
    assert fine_quiet.volume.sample(point) == pytest.approx(getattr(fine_quiet.spec.hu, part), abs=4.0)


def test_plastic_and_steel_have_their_nominal_hu_on_the_axis(fine_quiet: Phantom) -> None:
    tip, axis = fine_quiet.pose.tip_lps_mm, fine_quiet.pose.axis_lps
    hu = fine_quiet.volume.sample(tip + np.array([[2.5], [20.0], [60.0]]) * axis)
    # blur of 0.6 mm across a radius of 2.2 mm leaves 0.1 % of the step outside: 8 HU of 8000, 0.1 of the plastic's 70
    np.testing.assert_allclose(hu, [120.0, 8000.0, 8000.0], atol=20.0)


def test_a_thin_cortex_stands_out_between_canal_and_body(fine_quiet: Phantom) -> None:
    frame, canal = spine_frame(fine_quiet.spec), fine_quiet.canal
    depth = np.arange(-4.0, 2.0, 0.05)
    profile = fine_quiet.volume.sample(
        frame.to_lps(np.stack([np.full(depth.shape, -4.0), depth - canal.half_depth_mm, np.zeros(depth.shape)], -1))
    )
    wall = frame.to_spine(canal.nearest_point_lps_mm(frame.to_lps([-4.0, -canal.half_depth_mm, 0.0])))[1]
    peak = depth[int(np.argmax(profile))] - canal.half_depth_mm
    # 1 mm of 1050 HU blurred by 0.6 mm (plus a voxel) keeps 0.55 to 0.7 of its height, half a millimetre before the
    # wall and drawn a little to the spongiosa, which is brighter than the fat behind the wall
    assert 550.0 < profile.max() < 800.0
    assert peak == pytest.approx(wall - 0.5, abs=0.3)


def test_bone_starts_exactly_at_the_canal_at_the_pedicles(reference_spec: PhantomSpec) -> None:
    painter = TissuePainter(reference_spec, edge_mm=0.01)
    angle = np.linspace(0.0, 2.0 * np.pi, 90, endpoint=False)
    wall = canal_of(reference_spec).wall_spine_mm(angle, np.full(angle.shape, 3.0))
    outward = wall * [1.0, 1.0, 0.0]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    for shift, label in ((-0.05, Label.CANAL), (0.05, Label.TARGET_VERTEBRA), (0.5, Label.TARGET_VERTEBRA)):
        left, back, up = (wall + shift * outward).T.astype(np.float32)
        _, labels = painter.paint(left, back, up, np.full(left.shape, 100.0, np.float32))
        assert set(labels) == {int(label)}


def test_bone_bounds_the_body_back_wall_at_every_height(reference_spec: PhantomSpec) -> None:
    painter, canal = TissuePainter(reference_spec, edge_mm=0.01), canal_of(reference_spec)
    angle, along = np.meshgrid(np.radians(np.linspace(-150.0, -30.0, 41)), np.linspace(-8.0, 8.0, 17))
    left, back, up = canal.wall_spine_mm(angle, along).reshape(-1, 3).T.astype(np.float32)
    factor = np.float32(1.01)
    _, labels = painter.paint(left * factor, back * factor, up, np.full(left.shape, 100.0, np.float32))
    assert set(labels) == {int(Label.TARGET_VERTEBRA)}


@pytest.mark.parametrize("name", ["small_spec", "oblique_spec"])
def test_needle_volume_is_kept_by_partial_volume(name: str, request: pytest.FixtureRequest) -> None:
    spec: PhantomSpec = request.getfixturevalue(name)
    # a grid that holds the whole needle
    whole = dataclasses.replace(spec.grid, size_voxels=(150, 150, 90), centre_offset_mm=(0.0, 20.0, 5.0))
    grid = grid_of(dataclasses.replace(spec, grid=whole))
    pose = pose_of(spec)
    filled = coverage(pose, grid)
    voxel = float(np.prod(grid.spacing_mm))
    a = spec.applicator
    r = a.outer_radius_mm
    expected_plastic = np.pi * r**2 * (a.radiolucent_tip_length_mm - r) + 2.0 / 3.0 * np.pi * r**3
    shaft = np.pi * r**2 * (a.length_mm - a.radiolucent_tip_length_mm)
    cannula = np.pi * (pose.cannula_radius_mm**2 - (a.cannula_inner_diameter_mm / 2) ** 2) * a.cannula_length_mm
    assert filled.plastic.sum() * voxel == pytest.approx(expected_plastic, rel=0.01)
    assert filled.steel.sum() * voxel == pytest.approx(shaft + cannula, rel=0.005)


def test_cross_section_of_the_shaft_in_air(fine_quiet: Phantom) -> None:
    grid, pose, hu = fine_quiet.volume.grid, fine_quiet.pose, fine_quiet.spec.hu
    past_cannula = pose.cannula_end_mm + pose.applicator.cannula_length_mm
    # rows (j) cut the needle; row of a point of the axis, half-way between the cannula's and the applicator's end
    row = round(float(grid.lps_to_index(pose.tip_lps_mm + (past_cannula + 94.0) / 2 * pose.axis_lps)[1]))
    fraction = (fine_quiet.volume.values[:, row, :].astype(np.float64) - hu.air) / (hu.steel - hu.air)
    area = float(fraction.sum()) * grid.spacing_mm[0] * grid.spacing_mm[2]
    expected = np.pi * pose.applicator.outer_radius_mm**2 / abs(float(pose.axis_lps @ grid.direction[:, 1]))
    assert area == pytest.approx(expected, rel=0.01)


def test_steel_begins_at_the_metal_end(fine_quiet: Phantom) -> None:
    t = np.arange(0.0, 14.0, 0.02)
    profile = fine_quiet.volume.sample(fine_quiet.pose.tip_lps_mm + t[:, None] * fine_quiet.pose.axis_lps)
    half = (fine_quiet.spec.hu.steel + fine_quiet.spec.hu.plastic) / 2
    assert t[int(np.argmax(profile > half))] == pytest.approx(6.0, abs=0.1)


def test_same_seed_same_voxels_and_uids(small_spec: PhantomSpec, small: Phantom) -> None:
    again, other = build(small_spec, seed=3), build(small_spec, seed=4)
    assert again.volume.sha256() == small.volume.sha256()
    assert again.volume.frame_of_reference_uid == small.volume.frame_of_reference_uid
    assert other.volume.sha256() != small.volume.sha256()
    assert other.volume.frame_of_reference_uid != small.volume.frame_of_reference_uid
    assert other.truth.distance_from_source_mm == small.truth.distance_from_source_mm


def test_noise_has_the_stated_standard_deviation(small: Phantom, small_spec: PhantomSpec) -> None:
    noiseless = dataclasses.replace(small_spec, scanner=dataclasses.replace(small_spec.scanner, noise_hu=0.0))
    difference = small.volume.values.astype(float) - build(noiseless, seed=3).volume.values
    inside = (small.volume.values > -500) & (small.volume.values < 2500)
    assert difference[inside].std() == pytest.approx(20.0, rel=0.03)
    assert abs(difference[inside].mean()) < 0.5


def test_streaks_are_dark_along_the_needles_shadow_and_stay_on_slices_with_steel(small_spec: PhantomSpec) -> None:
    clean = build(quiet(small_spec))
    streaky = build(quiet(small_spec, streak_amplitude=1.0))
    difference = streaky.volume.values.astype(float) - clean.volume.values
    held = np.flatnonzero((clean.labels == Label.STEEL).any(axis=(1, 2)))
    assert np.abs(difference[: held[0] - 6]).max(initial=0.0) == 0.0
    ahead, beside = [], []
    direction = clean.pose.axis_lps[:2] / np.linalg.norm(clean.pose.axis_lps[:2])
    for k in held[3:-3:3]:
        points = clean.volume.grid.crop((0, 0, int(k)), (*clean.volume.grid.size_voxels[:2], int(k) + 1))
        plane = points.voxel_centres_lps_mm()[0, ..., :2]
        steel = plane[clean.labels[k] == Label.STEEL]
        along, across = (
            (plane - steel.mean(axis=0)) @ direction,
            (plane - steel.mean(axis=0)) @ (direction[::-1] * [-1, 1]),
        )
        end = ((steel - steel.mean(axis=0)) @ direction).min()  # the distal one: the other may lie outside the image
        ahead.append(difference[k][(np.abs(across) < 1.5) & (along > end - 8.0) & (along < end - 3.0)].mean())
        beside.append(difference[k][(np.abs(along) < 4.0) & (np.abs(across) > 5.0) & (np.abs(across) < 9.0)].mean())
    assert np.mean(ahead) < -80.0
    assert np.mean(beside) > np.mean(ahead) + 80.0


def test_values_stop_at_the_scanners_limit(small: Phantom) -> None:
    assert small.volume.values.max() == 3071
    assert small.volume.values.min() >= -1024
    assert small.volume.hu_calibrated


def test_grid_is_that_of_a_prone_patient(small: Phantom) -> None:
    np.testing.assert_array_equal(small.volume.grid.direction, np.diag([-1.0, -1.0, 1.0]))
    spacing = small.volume.grid.spacing_mm
    assert len(set(spacing.tolist())) == 3
    # air behind the patient is at the first rows, the belly at the last
    assert small.volume.values[:, 0, :].mean() < -900
    assert small.volume.values[:, -1, 40:60].mean() > -200


def test_an_oblique_grid_shows_the_same_body(oblique_spec: PhantomSpec) -> None:
    grid = dataclasses.replace(oblique_spec.grid, size_voxels=(120, 120, 72))
    spec = dataclasses.replace(quiet(oblique_spec, clip_hu=30000.0), grid=grid)
    turned = build(spec)
    straight = build(dataclasses.replace(spec, grid=dataclasses.replace(spec.grid, rotation_deg=(0.0, 0.0, 0.0))))
    assert turned.truth.to_dict() == straight.truth.to_dict()
    direction = turned.volume.grid.direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    assert np.abs(direction - straight.volume.grid.direction).max() > 0.1
    points = spine_frame(spec).to_lps(np.random.default_rng(5).uniform((-30, -40, -25), (30, 25, 25), (4000, 3)))
    a, b = turned.volume.sample(points), straight.volume.sample(points)
    seen = np.isfinite(a) & np.isfinite(b)  # within both images
    assert seen.mean() > 0.7
    assert np.corrcoef(a[seen], b[seen])[0, 1] > 0.99
    assert abs(np.median(a[seen] - b[seen])) < 1.0
    steel = turned.volume.grid.voxel_centres_lps_mm()[turned.volume.values > 4500]
    along, _ = turned.pose.cylinder_coordinates(steel)
    offset = (steel - turned.pose.tip_lps_mm)[(along > 8) & (along < 60)].mean(axis=0)
    across = offset - (offset @ turned.pose.axis_lps) * turned.pose.axis_lps
    assert np.linalg.norm(across) < 0.1


def test_canal_mask_matches_the_exact_canal(fine_quiet: Phantom) -> None:
    centres = fine_quiet.volume.grid.crop((40, 60, 40), (110, 140, 56)).voxel_centres_lps_mm()
    distance = fine_quiet.canal.signed_distance_mm(centres)
    mask = fine_quiet.mask(Label.CANAL)[40:56, 60:140, 40:110]
    clear = np.abs(distance) > 0.02
    assert np.array_equal(mask[clear], (distance < 0.0)[clear])
    assert mask.any()


def breaching(spec: PhantomSpec, breaches: bool) -> PhantomSpec:
    """A lesion over the right half of the back wall of the body."""
    lesion = dataclasses.replace(spec.lesion, centre_mm=(-4.0, -13.0, 0.0), radii_mm=(6.0, 8.0, 7.0), breaches=breaches)
    return dataclasses.replace(spec, lesion=lesion)


def beside_the_wall(spec: PhantomSpec, outward_mm: float) -> tuple[FloatArray, FloatArray]:
    """Points on the canal's wall behind the body, and others off it; spine coordinates."""
    angle, along = np.meshgrid(np.radians(np.linspace(-150.0, -30.0, 61)), np.linspace(-7.0, 7.0, 15))
    wall = canal_of(spec).wall_spine_mm(angle, along).reshape(-1, 3)
    outward = wall * [1.0, 1.0, 0.0]
    return wall, wall + outward_mm * outward / np.linalg.norm(outward, axis=-1, keepdims=True)


@pytest.mark.parametrize("breaches", [True, False])
def test_a_breaching_lesion_takes_the_wall_up_to_the_canal(reference_spec: PhantomSpec, breaches: bool) -> None:
    spec = breaching(reference_spec, breaches)
    painter, anatomy = TissuePainter(spec, edge_mm=0.01), Anatomy(spec)
    wall, outside = beside_the_wall(spec, 0.05)
    left, back, up = outside.T.astype(np.float32)
    hu, labels = painter.paint(left, back, up, np.full(left.shape, 100.0, np.float32))
    depth = anatomy.lesion(*wall.T)
    clear = np.abs(depth) > 0.2  # where 0.05 mm decides nothing
    taken = breaches & (depth < 0.0)
    assert 0.1 < float(np.mean(depth < 0.0)) < 0.5
    np.testing.assert_array_equal((labels == Label.LESION)[clear], taken[clear])
    np.testing.assert_array_equal((hu == spec.hu.lesion)[clear], taken[clear])
    assert set(labels[clear & ~taken]) == {int(Label.TARGET_VERTEBRA)}
    np.testing.assert_array_equal(anatomy.breached(*wall.T)[clear], taken[clear])


def test_no_shell_of_cortex_is_left_in_a_breach(small_spec: PhantomSpec) -> None:
    grid = dataclasses.replace(small_spec.grid, size_voxels=(60, 84, 40))
    for breaches, least, most in ((True, -120.0, 80.0), (False, 250.0, 900.0)):
        phantom = build(dataclasses.replace(quiet(breaching(small_spec, breaches)), grid=grid))
        wall, before = beside_the_wall(phantom.spec, 1.0)
        lps = phantom.canal.frame.to_lps
        deep = Anatomy(phantom.spec).lesion(*before.T) < -2.0  # away from the breach's rim, where blur brings bone in
        assert deep.any()
        hu = np.stack([phantom.volume.sample(lps(wall + t * (before - wall))) for t in (0.0, 0.5, 1.0)])[:, deep]
        assert hu.min() > -120.0
        assert least < hu.max() < most
        assert phantom.breached(lps(wall[deep])).all() == breaches
        assert phantom.mask(Label.LESION).any() == breaches


@pytest.mark.parametrize(("radius", "plane"), [(-200.0, 0.0), (250.0, 60.0)])
def test_the_drawn_canal_follows_every_curve(small_spec: PhantomSpec, radius: float, plane: float) -> None:
    spine = dataclasses.replace(small_spec.spine, kyphosis_radius_mm=radius, bend_plane_deg=plane)
    grid = dataclasses.replace(small_spec.grid, size_voxels=(50, 60, 60))
    phantom = build(dataclasses.replace(quiet(small_spec), spine=spine, grid=grid))
    sample = np.random.default_rng(4).random(phantom.labels.shape) < 0.05
    distance = phantom.canal.signed_distance_mm(phantom.volume.grid.voxel_centres_lps_mm()[sample])
    inside, needle = phantom.mask(Label.CANAL)[sample], phantom.mask(Label.STEEL, Label.PLASTIC)[sample]
    clear = (np.abs(distance) > 0.02) & ~needle
    assert np.array_equal(inside[clear], (distance < 0.0)[clear])
    assert inside[clear].sum() > 200


def test_a_canal_without_a_cord_holds_none(small_spec: PhantomSpec) -> None:
    canal = dataclasses.replace(small_spec.canal, cord_width_mm=0.0, cord_depth_mm=0.0)
    painter = TissuePainter(dataclasses.replace(small_spec, canal=canal), edge_mm=0.01)
    zero = np.zeros(1, np.float32)
    hu, labels = painter.paint(zero, zero, zero, np.full(1, 100.0, np.float32))
    assert hu[0] == small_spec.hu.thecal_sac
    assert labels[0] == Label.CANAL


def test_a_needle_outside_the_image_is_refused(small_spec: PhantomSpec) -> None:
    moved = dataclasses.replace(small_spec.grid, centre_offset_mm=(150.0, 0.0, 0.0))
    with pytest.raises(PhantomError, match="outside the image"):
        build(dataclasses.replace(small_spec, grid=moved))


def test_a_negative_seed_is_refused(small_spec: PhantomSpec) -> None:
    with pytest.raises(PhantomError, match="seed = -1"):
        build(small_spec, seed=-1)
