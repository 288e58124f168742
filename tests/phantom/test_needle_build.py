"""Every build of a needle against the closed forms of its parts, walls thinner than voxels too; what a tube's inside reads."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from iort_planner.errors import PhantomError
from iort_planner.phantom import Label, Phantom, PhantomSpec, build, canal_of, find_spec, grid_of, pose_of, read_spec
from iort_planner.phantom.needle_build import NeedleBuild
from iort_planner.phantom.needle_model import Coverage, coverage
from iort_planner.phantom.truth import make_truth

from .conftest import quiet

# Outer radius, plastic, length, tip to source (shipped applicator), and the cannula's bore, outside and length.
R, TIP, LENGTH, SOURCE = 2.2, 6.0, 94.0, 3.0
CANNULA_MM3 = math.pi * (2.7**2 - 2.2**2) * 55.0
BUILDS: list[dict[str, Any]] = [
    {"content": "solid"},
    {"content": "solid", "hollow_tip": True, "tip_wall_mm": 0.6},
    {"content": "air", "wall_mm": 0.3},
    {"content": "air", "wall_mm": 0.7, "hollow_tip": True, "tip_wall_mm": 1.0},
    {"content": "probe", "wall_mm": 0.3, "probe_wall_mm": 0.1},
    {"content": "probe", "wall_mm": 0.6, "probe_wall_mm": 0.4, "probe_end_mm": 0.5},
    {"content": "probe", "wall_mm": 0.5, "probe_wall_mm": 0.15, "hollow_tip": True, "tip_wall_mm": 0.6},
]
SPACINGS = [(0.35, 0.4, 0.6), (0.8, 0.8, 1.25), (0.9, 0.9, 3.0)]


def with_needle(spec: PhantomSpec, **keys: Any) -> PhantomSpec:
    return dataclasses.replace(spec, needle=dataclasses.replace(spec.needle, **keys))


def covered(spec: PhantomSpec, spacing: tuple[float, float, float], *, depth: bool = False) -> tuple[Coverage, float]:
    """The needle on a turned grid that holds all of it, and a voxel's volume."""
    columns, rows, slices = (math.ceil(n / s) for n, s in zip((150, 170, 110), spacing, strict=True))
    grid = dataclasses.replace(
        spec.grid,
        size_voxels=(columns, rows, slices),
        spacing_mm=spacing,
        centre_offset_mm=(0.0, 20.0, 5.0),
        rotation_deg=(7.0, -4.0, 11.0),
    )
    return coverage(pose_of(spec), grid_of(dataclasses.replace(spec, grid=grid)), depth=depth), math.prod(spacing)


def ball_and_cylinder_mm3(radius_mm: float) -> float:
    """Half ball about the point R from the tip, and a cylinder from there to the metal."""
    return 2.0 / 3.0 * math.pi * radius_mm**3 + math.pi * radius_mm**2 * (TIP - R)


def expected_mm3(built: NeedleBuild) -> tuple[float, float, float]:
    """Plastic, steel and emptiness by closed forms, with the cannula."""
    tip = ball_and_cylinder_mm3(R)
    bore = ball_and_cylinder_mm3(R - built.tip_wall_mm) if built.hollow_tip else 0.0
    shaft = math.pi * R**2 * (LENGTH - TIP)
    if built.content == "solid":
        return tip - bore, shaft + CANNULA_MM3, bore
    inside = math.pi * (R - built.wall_mm) ** 2 * (LENGTH - TIP)
    steel = shaft - inside + CANNULA_MM3
    if built.content == "air":
        return tip - bore, steel, inside + bore
    r, w, half = built.probe_diameter_mm / 2.0, built.probe_wall_mm, built.probe_end_mm / 2.0
    length = LENGTH - (SOURCE - half)
    probe = math.pi * (r**2 - (r - w) ** 2) * length + math.pi * (r - w) ** 2 * 2.0 * half
    in_tip = math.pi * r**2 * (TIP - (SOURCE - half))
    if built.hollow_tip:  # the probe is as wide as that bore: it takes its place and no plastic's
        return tip - bore, steel + probe, inside + bore - probe
    return tip - in_tip, steel + probe, inside + in_tip - probe


@pytest.mark.parametrize("keys", BUILDS, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_each_material_has_the_volume_of_its_closed_form(
    small_spec: PhantomSpec, keys: dict[str, Any], spacing: tuple[float, float, float]
) -> None:
    spec = with_needle(small_spec, **keys)
    filled, voxel_mm3 = covered(spec, spacing)
    plastic, steel, air = expected_mm3(NeedleBuild.of(spec.needle))

    assert float(filled.plastic.sum()) * voxel_mm3 == pytest.approx(plastic, rel=0.01, abs=0.5)
    assert float(filled.steel.sum()) * voxel_mm3 == pytest.approx(steel, rel=0.005)
    assert float(filled.air.sum()) * voxel_mm3 == pytest.approx(air, rel=0.005, abs=0.3)
    total = filled.plastic + filled.steel + filled.air
    assert total.min() >= 0.0
    assert total.max() <= 1.0 + 1e-5


@pytest.mark.parametrize("wall_mm", [0.1, 0.4])
def test_the_probes_thin_wall_in_the_plastic_has_its_volume_slab_by_slab(
    small_spec: PhantomSpec, wall_mm: float
) -> None:
    """Between its end at the source and the sheath only the probe's wall is steel: no more of it in one place than another."""
    spec = with_needle(small_spec, content="probe", wall_mm=0.5, probe_wall_mm=wall_mm, cannula=False)
    filled, _ = covered(spec, (0.45, 0.45, 0.6))
    pose = pose_of(spec)
    grid = grid_of(
        dataclasses.replace(
            spec,
            grid=dataclasses.replace(
                spec.grid,
                size_voxels=(334, 378, 184),
                spacing_mm=(0.45, 0.45, 0.6),
                centre_offset_mm=(0.0, 20.0, 5.0),
                rotation_deg=(7.0, -4.0, 11.0),
            ),
        )
    )
    k, j, i = (range(part.start, part.stop) for part in filled.box)
    points = grid.crop((i[0], j[0], k[0]), (i[-1] + 1, j[-1] + 1, k[-1] + 1)).voxel_centres_lps_mm()
    along, _ = pose.cylinder_coordinates(points)
    slab = (along > 4.0) & (along < 5.5)
    area = float(filled.steel[slab].sum()) * 0.45 * 0.45 * 0.6 / 1.5
    assert area == pytest.approx(math.pi * (1.6**2 - (1.6 - wall_mm) ** 2), rel=0.06)


def test_a_cannula_alone_is_a_tube_and_none_is_nothing(small_spec: PhantomSpec) -> None:
    for content, inside in (("air", (0.0, math.pi * 2.2**2 * 55.0)), ("solid", (math.pi * 2.2**2 * 55.0, 0.0))):
        filled, voxel_mm3 = covered(with_needle(small_spec, parts="cannula", content=content), (0.8, 0.8, 1.25))
        assert float(filled.steel.sum()) * voxel_mm3 == pytest.approx(CANNULA_MM3 + inside[0], rel=0.005)
        assert float(filled.air.sum()) * voxel_mm3 == pytest.approx(inside[1], rel=0.005, abs=0.3)
        assert not filled.plastic.any()
    filled, _ = covered(with_needle(small_spec, parts="none"), (0.8, 0.8, 1.25))
    assert float((filled.steel + filled.air + filled.plastic).max()) == 0.0
    filled, voxel_mm3 = covered(with_needle(small_spec, cannula=False), (0.8, 0.8, 1.25))
    assert float(filled.steel.sum()) * voxel_mm3 == pytest.approx(math.pi * R**2 * (LENGTH - TIP), rel=0.005)


def test_without_beam_hardening_a_hollow_needle_is_its_parts_times_their_hu(small_spec: PhantomSpec) -> None:
    """And a solid one drawn by shares is that drawn by samples, within what 125 samples resolve."""
    by_samples, _ = covered(small_spec, (0.8, 0.8, 1.25))
    by_shares, _ = covered(small_spec, (0.8, 0.8, 1.25), depth=True)
    assert by_shares.steel_depth is not None
    assert np.abs(by_samples.steel - by_shares.steel).max() < 0.06
    assert float(by_samples.steel.sum()) == pytest.approx(float(by_shares.steel.sum()), rel=0.003)


def fine(spec: PhantomSpec, cupping: float, steel_hu: float, **keys: Any) -> Phantom:
    grid = dataclasses.replace(spec.grid, size_voxels=(110, 140, 60), spacing_mm=(0.5, 0.5, 0.7))
    scanner = quiet(spec, metal_cupping=cupping).scanner
    return build(
        dataclasses.replace(
            with_needle(spec, **keys), grid=grid, scanner=scanner, hu=dataclasses.replace(spec.hu, steel=steel_hu)
        )
    )


def on_axis(phantom: Phantom, along: float) -> float:
    return float(phantom.volume.sample(phantom.pose.tip_lps_mm + along * phantom.pose.axis_lps))


def test_a_tubes_inside_reads_anything_from_air_to_the_clip(small_spec: PhantomSpec) -> None:
    thin = fine(small_spec, 0.0, 6000.0, content="air", wall_mm=0.3)
    thick = fine(small_spec, 0.4, 12000.0, content="probe", wall_mm=0.6, probe_wall_mm=0.4)
    middle = fine(small_spec, 0.15, 9000.0, content="air", wall_mm=0.5)

    assert on_axis(thin, 10.0) < -900.0
    assert -700.0 < on_axis(middle, 10.0) < 1500.0
    assert on_axis(thick, 25.0) == 3071.0


def test_beam_hardening_lowers_the_middle_of_solid_metal_more_than_its_rim(small_spec: PhantomSpec) -> None:
    """By closed form: the middle of a wide cylinder, deep in it, loses 1 - exp(-2.2 mm / 1 mm) of the cupping."""
    spec = dataclasses.replace(small_spec, scanner=quiet(small_spec, clip_hu=30000.0).scanner)
    flat, cupped = (fine_unclipped(spec, c) for c in (0.0, 0.3))
    deep, rim = 8000.0 * 0.3 * (1.0 - math.exp(-2.2)), 8000.0 * 0.3 * (1.0 - math.exp(-0.6))
    lost = flat - cupped
    assert lost[0] == pytest.approx(deep, rel=0.06)  # voxels of half a millimetre
    assert rim * 0.6 < lost[1] < lost[0]


def fine_unclipped(spec: PhantomSpec, cupping: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """HU on the axis and 1.6 mm beside it, past the cannula's reach."""
    grid = dataclasses.replace(spec.grid, size_voxels=(110, 140, 60), spacing_mm=(0.5, 0.5, 0.7))
    scanner = dataclasses.replace(spec.scanner, metal_cupping=cupping, psf_sigma_mm=0.0, slice_sigma_mm=0.0)
    phantom = build(dataclasses.replace(with_needle(spec, cannula=False), grid=grid, scanner=scanner))
    return np.asarray(phantom.volume.sample(phantom.pose.points_lps_mm(20.0, [0.0, 1.6])), dtype=np.float64)


@pytest.mark.parametrize(("content", "streaks"), [("solid", 1.0), ("air", 0.5), ("probe", 0.7)])
def test_streaks_follow_the_metal_that_there_is(small_spec: PhantomSpec, content: str, streaks: float) -> None:
    """Far from the needle they are weaker behind a hollow one: at most the given part of those of a solid one."""
    grid = dataclasses.replace(small_spec.grid, size_voxels=(64, 84, 40))

    def strength(kind: str) -> float:
        keys = {"content": kind, "wall_mm": 0.3, "probe_wall_mm": 0.1, "cannula": False}
        spec = dataclasses.replace(with_needle(small_spec, **keys), grid=grid)
        clean, streaky = build(quiet(spec)), build(quiet(spec, streak_amplitude=1.0))
        difference = streaky.volume.values.astype(float) - clean.volume.values
        soft = np.abs(clean.volume.values) < 200
        return float(np.abs(difference[soft]).mean())

    assert strength(content) <= streaks * strength("solid") * 1.0001


def test_the_bore_has_a_label_of_its_own(small_spec: PhantomSpec) -> None:
    hollow = fine(small_spec, 0.0, 8000.0, content="air", wall_mm=0.3, hollow_tip=True)
    assert hollow.mask(Label.BORE).sum() > 500
    assert not fine(small_spec, 0.0, 8000.0).mask(Label.BORE).any()


def test_truth_lists_every_needle_with_its_build_and_all_other_metal() -> None:
    spec = read_spec(find_spec("instrumented"))
    other = dataclasses.replace(
        spec.needle,
        tip_mm=(-4.0, -25.0, -2.0),
        through_mm=(-18.4, 0.0, 5.0),
        content="air",
        hollow_tip=True,
        wall_mm=0.4,
    )
    spec = with_needle(dataclasses.replace(spec, extra_needles=(other,)), content="probe", cannula=False)
    truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec), (pose_of(spec, other),)).to_dict()
    first, second = truth["needles"]

    assert [n["content"] for n in truth["needles"]] == ["probe", "air"]
    assert (first["hollow_tip"], second["hollow_tip"], second["wall_mm"]) == (False, True, 0.4)
    assert first["cannula_end_lps_mm"] is None
    np.testing.assert_allclose(
        second["source_lps_mm"], np.array(second["tip_lps_mm"]) + 3.0 * np.array(second["axis_lps"])
    )
    assert [m["kind"] for m in truth["metal"]] == ["screw"] * 4 + ["rod"] * 2 + ["marker"]


def test_truth_without_a_needle_measures_nothing(small_spec: PhantomSpec) -> None:
    for parts, count in (("none", 0), ("cannula", 1)):
        spec = with_needle(small_spec, parts=parts, content="air")
        truth = make_truth(spec, 0, pose_of(spec), canal_of(spec), grid_of(spec)).to_dict()
        assert len(truth["needles"]) == count
        assert truth["canal"]["distance_from_source_mm"] is None
        assert truth["canal"]["shaft_clearance_mm"] is None
        assert all(needle["tip_lps_mm"] is None for needle in truth["needles"])
    outside = dataclasses.replace(small_spec.grid, centre_offset_mm=(150.0, 0.0, 0.0), size_voxels=(40, 40, 20))
    with pytest.raises(PhantomError, match="outside the image"):
        build(dataclasses.replace(small_spec, grid=outside))
    build(dataclasses.replace(with_needle(small_spec, parts="none"), grid=outside))


def test_the_probes_end_stands_at_the_effective_source_point(small_spec: PhantomSpec) -> None:
    """Centre of gravity of the metal within the plastic, less the thin wall that goes on: 3 mm from the tip."""
    spec = dataclasses.replace(small_spec, scanner=quiet(small_spec, clip_hu=30000.0).scanner)
    grid = dataclasses.replace(spec.grid, size_voxels=(110, 140, 60), spacing_mm=(0.5, 0.5, 0.7))
    for length in (0.5, 1.0):
        keys = {"content": "probe", "wall_mm": 0.4, "probe_wall_mm": 0.1, "probe_end_mm": length, "cannula": False}
        phantom = build(dataclasses.replace(with_needle(spec, **keys), grid=grid))
        along = np.arange(1.0, 5.0, 0.02)
        profile = phantom.volume.sample(phantom.pose.points_lps_mm(along))
        assert along[int(np.argmax(profile))] == pytest.approx(SOURCE, abs=0.2)
        assert profile.max() > 1800.0  # half a millimetre of steel, blurred by 0.6 mm and the voxels
