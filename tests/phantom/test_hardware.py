"""Screws, rods, rails, markers and further needles: their volumes, their place, who wins, and who makes streaks."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import Label, Phantom, PhantomSpec, build
from iort_planner.phantom.frame import rotation_matrix
from iort_planner.phantom.hardware import Implant, coverage, implants_of
from iort_planner.phantom.scan import spine_frame
from iort_planner.phantom.solids import Frustum
from iort_planner.phantom.spec_model import MarkerSpec, Material, RailSpec, RodSpec, ScrewSpec
from iort_planner.units import FloatArray

from .conftest import quiet

SCREW = ScrewSpec(
    tip_mm=(-9.0, -26.0, -3.0),
    through_mm=(-12.7, 0.0, 3.0),
    diameter_mm=5.5,
    length_mm=40.0,
    head_diameter_mm=10.0,
    head_length_mm=12.0,
    material="titanium",
)
ROD = RodSpec(start_mm=(-19.0, 20.0, -24.0), end_mm=(-17.0, 19.0, 22.0), diameter_mm=5.0, material="titanium")
MARKER = MarkerSpec(centre_mm=(-10.0, 34.0, 6.0), radius_mm=3.0, material="steel")
BALL = 4.0 / 3.0 * np.pi
MATERIALS: tuple[Material, ...] = get_args(Material)


def oblique_grid(spec: PhantomSpec, spacing: tuple[float, float, float]) -> ImageGrid:
    """A turned grid of 100 mm round the spine's origin."""
    direction = rotation_matrix((17.0, -9.0, 25.0))
    size = np.round(100.0 / np.array(spacing)).astype(int)
    return ImageGrid(
        size_voxels=(int(size[0]), int(size[1]), int(size[2])),
        spacing_mm=np.array(spacing),
        origin_lps_mm=np.array(spec.spine.origin_lps_mm) - direction @ (size * np.array(spacing) / 2.0),
        direction=direction,
    )


def implant(spec: PhantomSpec, **fields: Any) -> Implant:
    (only,) = implants_of(dataclasses.replace(spec, **fields), spine_frame(spec))
    return only


@pytest.mark.parametrize("spacing", [(0.4, 0.5, 0.6), (0.7, 0.7, 1.5), (1.0, 1.0, 3.0)])
@pytest.mark.parametrize(
    ("fields", "volume_mm3"),
    [
        # cone over the first 5.5 mm, shaft over the other 34.5, head
        ({"screws": (SCREW,)}, np.pi * (2.75**2 * (5.5 / 3.0 + 34.5) + 5.0**2 * 12.0)),
        ({"rods": (ROD,)}, None),
        ({"markers": (MARKER,)}, BALL * 3.0**3),
    ],
)
def test_volumes_are_those_of_the_closed_forms(
    small_spec: PhantomSpec, fields: dict[str, Any], volume_mm3: float | None, spacing: tuple[float, float, float]
) -> None:
    if volume_mm3 is None:  # a straight rod between two points of a curved spine
        ends = spine_frame(small_spec).to_lps([ROD.start_mm, ROD.end_mm])
        volume_mm3 = np.pi * 2.5**2 * float(np.linalg.norm(ends[1] - ends[0]))
    grid = oblique_grid(small_spec, spacing)
    filled = coverage(implant(small_spec, **fields), grid).solid
    assert filled.min() >= 0.0
    assert filled.max() <= 1.0
    assert float(filled.sum()) * np.prod(spacing) == pytest.approx(volume_mm3, rel=0.01)


@given(
    points=st.lists(st.tuples(*[st.floats(-12, 12)] * 3), min_size=2, max_size=2),
    end_radius=st.sampled_from([0.0, 1.5, 4.0, 6.0]),
)
def test_a_frustums_distance_is_never_more_than_the_true_one(
    points: list[tuple[float, float, float]], end_radius: float
) -> None:
    solid = Frustum(
        start_lps_mm=np.array([1.0, -2.0, 0.5]),
        end_lps_mm=np.array([-3.0, 1.0, 7.0]),
        radius_mm=4.0,
        end_radius_mm=end_radius,
    )
    a, b = np.array(points)
    first, second = solid.signed_distance_mm(np.stack([a, b]))
    # whoever changes sides has crossed the surface on the way: distances add up to no more than the way
    assert abs(first - second) <= np.linalg.norm(a - b) + 1e-9


def with_hardware(spec: PhantomSpec, **fields: Any) -> Phantom:
    """The level alone, without noise and streaks, nothing clipped."""
    grid = dataclasses.replace(spec.grid, size_voxels=(64, 84, 40))
    return build(dataclasses.replace(quiet(spec, clip_hu=30000.0), **({"grid": grid} | fields)))


@pytest.mark.parametrize("material", MATERIALS)
def test_each_material_has_its_hu_and_the_implants_label(small_spec: PhantomSpec, material: Material) -> None:
    hu = {"titanium": 5500.0, "carbon": 180.0, "steel": 8000.0}[material]
    phantom = with_hardware(small_spec, rods=(dataclasses.replace(ROD, diameter_mm=8.0, material=material),))
    frame = spine_frame(small_spec)
    middle = frame.to_lps([ROD.start_mm, ROD.end_mm]).mean(axis=0)
    # blur of 0.6 mm on coarse voxels leaves at most 1 % of the step at 4 mm from the axis's middle
    assert phantom.volume.sample(middle) == pytest.approx(hu, rel=0.01, abs=3.0)
    i, j, k = np.rint(phantom.volume.grid.lps_to_index(middle)).astype(int)
    assert phantom.labels[k, j, i] == Label.IMPLANT


def test_the_needle_wins_where_a_screw_crosses_it(small_spec: PhantomSpec) -> None:
    tip, through = np.array(small_spec.needle.tip_mm), np.array(small_spec.needle.through_mm)
    along = (through - tip) / np.linalg.norm(through - tip)
    across = np.cross(along, [0.0, 0.0, 1.0])
    start = tip + 3.0 * along - 20.0 * across
    crossing = dataclasses.replace(
        SCREW, tip_mm=tuple(start.tolist()), through_mm=tuple((start + 40.0 * across).tolist()), diameter_mm=8.0
    )
    phantom = with_hardware(small_spec, screws=(crossing,))
    plain = with_hardware(small_spec)
    for label in (Label.PLASTIC, Label.STEEL):
        np.testing.assert_array_equal(phantom.mask(label), plain.mask(label))
    labels_near = phantom.mask(Label.IMPLANT).sum()
    assert labels_near > 100


def test_steel_and_titanium_make_streaks_and_carbon_does_not(small_spec: PhantomSpec) -> None:
    strength: dict[Material, float] = {}
    for material in MATERIALS:
        rods = tuple(
            dataclasses.replace(ROD, start_mm=(x, 20.0, -24.0), end_mm=(x, 20.0, 22.0), material=material)
            for x in (-19.0, 19.0)
        )
        clean = with_hardware(small_spec, rods=rods)
        streaky = with_hardware(small_spec, rods=rods, scanner=quiet(small_spec, streak_amplitude=1.0).scanner)
        held = np.flatnonzero(clean.mask(Label.STEEL, Label.PLASTIC).any(axis=(1, 2)))
        part = slice(2, int(held[0]) - 4)  # slices of the rods alone, clear of the needle's blur
        assert part.stop > part.start
        assert clean.mask(Label.IMPLANT)[part].any(axis=(1, 2)).all()
        soft = np.abs(clean.volume.values[part]) < 200
        difference = streaky.volume.values[part].astype(float) - clean.volume.values[part]
        strength[material] = float(np.abs(difference[soft]).mean())
    assert strength["carbon"] == 0.0
    assert 5.0 < strength["titanium"] < 0.8 * strength["steel"]


def test_a_second_needle_is_drawn_like_the_first(small_spec: PhantomSpec) -> None:
    mirrored = dataclasses.replace(
        small_spec.needle,
        tip_mm=(-5.5, -21.0, 0.0),
        through_mm=(-13.4, -1.0, 4.5),
    )
    phantom = with_hardware(small_spec, extra_needles=(mirrored,))
    (other,) = phantom.extra_poses
    for pose in (phantom.pose, other):
        hu = phantom.volume.sample(pose.tip_lps_mm + np.array([[2.5], [20.0], [40.0]]) * pose.axis_lps)
        # coarse voxels (1.2 mm) and 0.6 mm of blur leave 3 % of the steel's surroundings on the axis of 2.2 mm radius
        np.testing.assert_allclose(hu, [120.0, 8000.0, 8000.0], rtol=0.05, atol=60.0)
    plain = with_hardware(small_spec)
    assert phantom.truth.distance_from_source_mm == plain.truth.distance_from_source_mm


def test_a_rail_stays_with_the_table_when_the_spine_turns(small_spec: PhantomSpec) -> None:
    rail = RailSpec(
        start_offset_mm=(40.0, -140.0, -200.0), end_offset_mm=(40.0, -140.0, 200.0), diameter_mm=10.0, material="steel"
    )
    turned = dataclasses.replace(small_spec, spine=dataclasses.replace(small_spec.spine, rotation_deg=(9.0, -7.0, 5.0)))
    for spec in (small_spec, turned):
        (solid,) = implant(spec, rails=(rail,)).solids
        points, radius = solid.box_lps_mm()
        np.testing.assert_allclose(points - spec.spine.origin_lps_mm, [rail.start_offset_mm, rail.end_offset_mm])
        assert radius == 5.0


def test_what_lies_outside_the_image_changes_no_voxel(small_spec: PhantomSpec, small: Phantom) -> None:
    far = MarkerSpec(centre_mm=(150.0, 30.0, 0.0), radius_mm=3.0, material="steel")
    again = build(dataclasses.replace(small_spec, markers=(far,)), seed=3)
    assert again.volume.sha256() == small.volume.sha256()


def steel_mask_centre(phantom: Phantom, centre: FloatArray, radius_mm: float) -> FloatArray:
    grid = phantom.volume.grid
    near = (grid.distances_mm(centre) < radius_mm) & phantom.mask(Label.IMPLANT)
    return np.asarray(grid.voxel_centres_lps_mm()[near].mean(axis=0))


def test_a_marker_lies_where_it_was_put(small_spec: PhantomSpec) -> None:
    phantom = with_hardware(small_spec, markers=(MARKER,))
    centre = spine_frame(small_spec).to_lps(MARKER.centre_mm)
    # the mean of some 80 voxels of 1.1 mm
    np.testing.assert_allclose(steel_mask_centre(phantom, centre, 6.0), centre, atol=0.25)
