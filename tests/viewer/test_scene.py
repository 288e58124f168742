"""The scene as data: positions, sides and cuts, however the image was stored."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from iort_planner.geometry.canal import segment_canal
from iort_planner.geometry.canal_surface import canal_mask
from iort_planner.imaging.volume import Volume
from iort_planner.phantom import Phantom, build, find_spec, read_spec
from iort_planner.phantom.tissues import Label
from iort_planner.planning.plan import Plan
from iort_planner.units import FloatArray
from iort_planner.viewer.scene import Scene, Surface, _camera, build_scene
from tests import plan_factory as factory

SIZE = (1200, 900)
# Columns are the image's axes in LPS: as usual, prone with the feet first, oblique, and left-handed.
STORED = {
    "usual": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "oblique": Rotation.from_euler("xyz", [20.0, -15.0, 30.0], degrees=True).as_matrix(),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(*factory.example())


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return build(read_spec(find_spec("small")), seed=5)


def triple(point: FloatArray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in point)
    return (x, y, z)


@pytest.fixture(scope="module")
def planned(phantom: Phantom) -> tuple[Plan, Volume, factory.Mask]:
    """A plan on a phantom, with neighbours and ribs round the planned vertebra."""
    truth = phantom.truth
    plan = factory.make_example_plan(phantom.volume)
    needle = dataclasses.replace(
        plan.needles[0],
        tip_lps_mm=triple(truth.tip_lps_mm),
        axis_lps=triple(truth.axis_lps),
        source_lps_mm=triple(truth.source_lps_mm),
        cannula_end_lps_mm=None,
    )
    plan = dataclasses.replace(
        plan,
        needles=(needle,),
        canal=dataclasses.replace(plan.canal, nearest_point_lps_mm=triple(truth.nearest_point_lps_mm)),
    )
    canal = segment_canal(phantom.volume, truth.source_lps_mm, truth.axis_lps)
    return plan, phantom.volume, canal_mask(canal, phantom.volume.grid)


def labels_at(phantom: Phantom, points: FloatArray) -> FloatArray:
    grid = phantom.volume.grid
    index = np.clip(np.rint(grid.lps_to_index(points)).astype(int), 0, np.array(grid.size_voxels) - 1)
    result: FloatArray = phantom.labels[index[:, 2], index[:, 1], index[:, 0]]
    return result


def only(scene: Scene, kind: str) -> Surface:
    (surface,) = scene.of_kind(kind)
    return surface


def signed_volume(surface: Surface) -> float:
    corners = surface.mesh.vertices_lps_mm - surface.mesh.vertices_lps_mm.mean(axis=0)
    a, b, c = (corners[surface.mesh.faces[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def test_isodoses_are_balls_round_the_source(scene: Scene) -> None:
    radii = [
        np.linalg.norm(surface.mesh.vertices_lps_mm - factory.SOURCE_LPS_MM, axis=1)
        for surface in scene.of_kind("isodose")
    ]
    assert [float(r.mean()) for r in radii] == pytest.approx([8.31, 10.93, 14.62])
    assert all(np.ptp(r) < 1e-9 for r in radii)
    assert "8 Gy | 10.4 Gy(RBE), r = 10.9 mm" in scene.of_kind("isodose")[1].label


def test_the_title_calls_the_canal_dose_nominal_and_gives_the_limit(scene: Scene) -> None:
    assert scene.title[2] == "canal maximum 8.0 Gy | 10.3 Gy(RBE), nominal  (limit 8 Gy | 10.4 Gy(RBE))"


def test_an_isodose_outside_the_table_is_a_note_and_no_surface() -> None:
    plan, volume, mask = factory.example()
    result = dataclasses.replace(plan.result, isodose_radius_mm={"8": 10.93, "4": None})
    scene = build_scene(dataclasses.replace(plan, result=result), volume, mask)
    assert len(scene.of_kind("isodose")) == 1
    assert any("4 Gy" in note and "outside the table" in note for note in scene.notes)


@pytest.mark.parametrize("stored", STORED)
def test_bone_and_canal_lie_at_the_same_place_however_the_image_is_stored(stored: str, scene: Scene) -> None:
    grid = factory.example_grid(direction=STORED[stored])
    volume = factory.example_volume(grid)
    other = build_scene(factory.make_example_plan(volume), volume, factory.example_mask(grid))
    canal = only(other, "canal")
    from_axis = np.linalg.norm((canal.mesh.vertices_lps_mm - factory.CANAL_CENTRE_LPS_MM)[:, :2], axis=1)
    wall = np.abs(canal.mesh.vertices_lps_mm[:, 2] - factory.CENTRE_LPS_MM[2]) < 20.0
    assert np.median(from_axis[wall]) == pytest.approx(factory.CANAL_RADIUS_MM, abs=0.3)  # 1 mm voxels
    assert signed_volume(canal) > 0.0
    here, there = (cKDTree(only(s, "bone").mesh.vertices_lps_mm) for s in (scene, other))
    # whole voxels of a sharp synthetic image differ by up to half their diagonal between the two grids
    assert np.percentile(here.query(there.data)[0], 99) < 1.3
    assert np.percentile(there.query(here.data)[0], 99) < 1.3


def test_the_needles_metal_is_not_drawn_as_bone(scene: Scene) -> None:
    offset = only(scene, "bone").mesh.vertices_lps_mm - factory.tip_lps_mm()
    along = offset @ factory.AXIS_LPS
    across = np.linalg.norm(offset - along[:, None] * factory.AXIS_LPS, axis=1)
    assert across[along > 0.0].min() > 2.2


def test_bone_is_cut_to_the_planned_level_and_its_surroundings(scene: Scene) -> None:
    offset = only(scene, "bone").mesh.vertices_lps_mm - factory.SOURCE_LPS_MM
    assert np.abs(offset).max() <= 41.0
    assert np.abs(offset[:, 2]).max() <= 26.0


def test_a_lump_at_the_patients_left_is_drawn_at_the_patients_left() -> None:
    grid = factory.example_grid(direction=STORED["prone"])
    centre = factory.SOURCE_LPS_MM + np.array([25.0, 0.0, 0.0])
    lump = np.linalg.norm(grid.voxel_centres_lps_mm() - centre, axis=-1) < 6.0
    volume = Volume(values=np.where(lump, 900, 0).astype(np.int16), grid=grid, hu_calibrated=True)
    scene = build_scene(factory.make_example_plan(volume), volume, None)
    np.testing.assert_allclose(only(scene, "bone").mesh.vertices_lps_mm.mean(axis=0), centre, atol=0.5)


def test_the_planned_vertebra_is_drawn_apart_from_the_faint_rest(
    phantom: Phantom, planned: tuple[Plan, Volume, factory.Mask]
) -> None:
    scene = build_scene(*planned)
    vertebra, rest = only(scene, "vertebra"), only(scene, "bone")
    assert vertebra.opacity > 4.0 * rest.opacity
    assert vertebra.label == "planned vertebra"
    assert rest.label.startswith("other bone")
    assert scene.notes == ()
    # a millimetre inside the surface there is the vertebra's bone, not a rib's or a neighbour's
    corners = vertebra.mesh.vertices_lps_mm[vertebra.mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    labels = labels_at(phantom, corners.mean(axis=1) - 1.5 * normals)
    labels = labels[~np.isin(labels, (Label.STEEL, Label.PLASTIC))]
    assert np.mean(labels == Label.TARGET_VERTEBRA) > 0.9
    assert np.mean(np.isin(labels, (Label.RIB, Label.OTHER_VERTEBRA))) < 0.04
    # and the rest is not drawn through it
    distance = cKDTree(phantom.volume.grid.voxel_centres_lps_mm()[phantom.mask(Label.TARGET_VERTEBRA)]).query(
        rest.mesh.vertices_lps_mm
    )[0]
    assert np.mean(distance < 1.0) < 0.05


def test_where_the_vertebra_is_not_told_apart_all_bone_is_drawn_with_the_reason(
    planned: tuple[Plan, Volume, factory.Mask],
) -> None:
    plan, volume, _ = planned
    points = (plan.canal.nearest_point_lps_mm,)
    plan = dataclasses.replace(plan, canal=dataclasses.replace(plan.canal, method="points", points_lps_mm=points))
    scene = build_scene(plan, volume, None)
    assert scene.of_kind("vertebra") == ()
    assert only(scene, "bone").opacity >= 0.3
    assert any("not told apart" in note for note in scene.notes)


def test_an_image_without_bone_is_drawn_without_and_says_so() -> None:
    plan, volume, mask = factory.example()
    empty = Volume(values=np.zeros_like(volume.values), grid=volume.grid, hu_calibrated=True)
    scene = build_scene(plan, empty, mask)
    assert scene.of_kind("bone") == ()
    assert any("no bone" in note for note in scene.notes)


def test_without_hu_the_bone_says_that_its_level_is_a_grey_value() -> None:
    volume = factory.example_volume(hu_calibrated=False)
    scene = build_scene(factory.make_example_plan(volume), volume, factory.example_mask(volume.grid))
    assert "not HU" in only(scene, "bone").label
    assert "HU)" not in only(scene, "bone").label.replace("not HU)", "")


def test_a_plan_on_points_shows_the_points_and_no_canal_surface() -> None:
    plan, volume, _ = factory.example()
    points = (plan.canal.nearest_point_lps_mm, (12.0, -130.0, -425.0))
    plan = dataclasses.replace(plan, canal=dataclasses.replace(plan.canal, method="points", points_lps_mm=points))
    drawn = build_scene(plan, volume, None).of_kind("canal")
    assert [tuple(np.round(s.mesh.vertices_lps_mm.mean(axis=0), 6)) for s in drawn] == [
        tuple(np.round(p, 6)) for p in points
    ]
    assert [bool(s.label) for s in drawn] == [True, False]


def test_the_distance_line_runs_from_the_source_to_the_nearest_point(scene: Scene) -> None:
    line = only(scene, "distance")
    ends = line.mesh.vertices_lps_mm.min(axis=0), line.mesh.vertices_lps_mm.max(axis=0)
    expected = np.sort([factory.SOURCE_LPS_MM, factory.nearest_canal_point_lps_mm()], axis=0)
    np.testing.assert_allclose(ends, expected, atol=0.36)  # its radius
    assert line.label.endswith("11.1 mm")


def test_the_cannula_is_drawn_only_where_it_was_seen(scene: Scene) -> None:
    plan, volume, mask = factory.example()
    assert only(scene, "cannula").label == "guide cannula"
    needle = dataclasses.replace(plan.needles[0], cannula_end_lps_mm=None)
    assert build_scene(dataclasses.replace(plan, needles=(needle,)), volume, mask).of_kind("cannula") == ()


def test_same_input_same_scene(scene: Scene) -> None:
    again = build_scene(*factory.example())
    for a, b in zip(scene.surfaces, again.surfaces, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices_lps_mm, b.mesh.vertices_lps_mm)
        np.testing.assert_array_equal(a.mesh.faces, b.mesh.faces)


def pixel_of(scene: Scene, *offset_mm: float) -> FloatArray:
    return scene.camera.project(factory.SOURCE_LPS_MM + np.array(offset_mm), SIZE)


def test_seen_from_the_left_behind_superior_is_up_and_posterior_is_right(scene: Scene) -> None:
    here = pixel_of(scene, 0.0, 0.0, 0.0)
    assert pixel_of(scene, 0.0, 0.0, 10.0)[1] < here[1] - 20.0  # pixels count from the top
    assert pixel_of(scene, 0.0, 10.0, 0.0)[0] > here[0] + 20.0
    towards = scene.camera.position_lps_mm - scene.camera.focus_lps_mm
    assert towards[0] > 0.0
    assert towards[1] > 0.0  # from the left, from behind


def test_a_needle_from_the_right_is_looked_at_from_the_right() -> None:
    axis = factory.AXIS_LPS * np.array([-1.0, 1.0, 1.0])
    camera = _camera(factory.SOURCE_LPS_MM, axis, factory.nearest_canal_point_lps_mm())
    assert camera.position_lps_mm[0] < camera.focus_lps_mm[0]
    pixels = camera.project(factory.SOURCE_LPS_MM + np.array([[0.0, 0.0, 0.0], [0.0, 10.0, 0.0]]), SIZE)
    assert pixels[1, 0] < pixels[0, 0] - 20.0  # posterior is on the left now


@settings(max_examples=80, deadline=None)
@given(st.floats(-80.0, 80.0), st.floats(-40.0, 40.0), st.floats(4.0, 25.0), st.floats(-60.0, 60.0))
def test_source_and_nearest_point_are_always_in_the_picture_and_clear_of_the_legend(
    azimuth_deg: float, rise_deg: float, distance_mm: float, round_deg: float
) -> None:
    azimuth, rise, turn = (math.radians(v) for v in (azimuth_deg, rise_deg, round_deg))
    axis = np.array([math.sin(azimuth) * math.cos(rise), math.cos(azimuth) * math.cos(rise), math.sin(rise)])
    nearest = factory.SOURCE_LPS_MM + distance_mm * np.array([math.sin(turn), math.cos(turn), 0.0])
    pixels = _camera(factory.SOURCE_LPS_MM, axis, nearest).project([factory.SOURCE_LPS_MM, nearest], SIZE)
    assert np.all((pixels[:, 0] > 0.28 * SIZE[0]) & (pixels[:, 0] < 0.95 * SIZE[0]))
    assert np.all((pixels[:, 1] > 0.2 * SIZE[1]) & (pixels[:, 1] < 0.8 * SIZE[1]))
