"""That the independent renderer can be trusted: volumes and projections against closed forms, its constants, one whole case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xraylib

from iort_planner.geometry.needle import locate_needle
from iort_planner.imaging.volume import ImageGrid
from iort_planner.phantom import canal_of
from tests.sweeps import independent_beam as beams
from tests.sweeps.independent_cases import LEAST_CLEARANCE_MM, draw, scanned, truth_of
from tests.sweeps.independent_scan import Kernel, beam_error_hu, blurred, cells_of, slice_weights
from tests.sweeps.independent_scanner import draw_scanner
from tests.sweeps.independent_shapes import Body, Part, Stuff, ball, body, cone

SHARP = Kernel(half_per_mm=0.45, boost=0.7, order=0, flat=0.4)
STUFF_HU = {Stuff.STEEL: 12000.0, Stuff.TITANIUM: 6000.0, Stuff.PLASTIC: 100.0, Stuff.VOID: -1000.0}
STUFF_HU |= {Stuff.CEMENT: 1800.0, Stuff.DENSE: 14000.0}


def grid(size: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> ImageGrid:
    spacing = np.array(spacing_mm)
    middle = (np.array(size) - 1.0) / 2.0 * spacing
    return ImageGrid(size_voxels=size, spacing_mm=spacing, origin_lps_mm=-middle, direction=np.eye(3))


def volume_mm3(one: Body, stuff: Stuff) -> float:
    where = grid((50, 48, 26), (0.72, 0.72, 1.3))
    cells = cells_of([one], where)
    cell_mm3 = float(np.prod(where.spacing_mm)) / float(np.prod(cells.split))
    return float(cells.share[:, stuff].sum(dtype=np.float64)) * cell_mm3


@pytest.mark.parametrize(
    ("part", "expected_mm3"),
    [
        (Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=20.0, outer_mm=2.2), np.pi * 2.2**2 * 20.0),
        (Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=20.0, outer_mm=2.2, inner_mm=1.9), np.pi * (2.2**2 - 1.9**2) * 20),
        (Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=20.0, outer_mm=1.6, inner_mm=1.5), np.pi * (1.6**2 - 1.5**2) * 20),
        (Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=10.0, outer_mm=cone(10.0, 3.0)), np.pi * 3.0**2 * 10.0 / 3.0),
        (Part(stuff=Stuff.STEEL, low_mm=-4.0, high_mm=4.0, outer_mm=ball(4.0)), 4.0 / 3.0 * np.pi * 4.0**3),
        (Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=20.0, outer_mm=0.0, half_mm=(5.0, 0.5)), 10.0 * 1.0 * 20.0),
    ],
)
def test_parts_fill_their_closed_form_volume_however_they_lie(part: Part, expected_mm3: float) -> None:
    one = body([part], np.array([-3.0, -2.0, -4.0]), np.array([2.0, 6.0, 1.0]), 5.1)

    assert volume_mm3(one, Stuff.STEEL) == pytest.approx(expected_mm3, rel=0.01)


def test_later_parts_replace_earlier_ones() -> None:
    """A rod bored out and a tube hold the same steel, and the bore's air is what is missing."""
    start, end = np.array([-3.0, -2.0, -4.0]), np.array([2.0, 6.0, 1.0])
    rod = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=20.0, outer_mm=2.2)
    bored = body([rod, replace(rod, stuff=Stuff.VOID, outer_mm=1.7)], start, end, 2.2)
    tube = body([replace(rod, inner_mm=1.7)], start, end, 2.2)

    assert volume_mm3(bored, Stuff.STEEL) == pytest.approx(volume_mm3(tube, Stuff.STEEL), rel=0.01)
    assert volume_mm3(bored, Stuff.VOID) == pytest.approx(np.pi * 1.7**2 * 20.0, rel=0.01)


@pytest.mark.parametrize("order", [0, 3])
def test_the_point_spread_keeps_the_mass_and_a_sharp_one_overshoots_at_edges(order: int) -> None:
    kernel = replace(SHARP, order=order)
    point, edge = np.zeros((1, 61, 61), np.float32), np.zeros((1, 61, 61), np.float32)
    point[0, 30, 30], edge[:, :, 31:] = 1.0, 1.0
    spread, step = blurred(point, 0.5, kernel), blurred(edge, 0.5, kernel)

    assert float(spread.sum()) == pytest.approx(1.0, abs=1e-3)
    assert float(spread[0, 30, 30]) == float(spread.max())
    assert float(step[0, 30].max()) > 1.05
    assert float(step[0, 30].min()) < -0.05


def test_a_split_grid_is_sampled_at_the_voxels_centres() -> None:
    """Two pixels a voxel: a block that fills one voxel is centred on it."""
    values = np.zeros((1, 80, 80), np.float32)
    values[0, 40:42, 40:42] = 1.0
    spread = blurred(values, 0.4, SHARP, 2)[0]
    i = np.arange(40)

    assert float((spread.sum(axis=0) * i).sum() / spread.sum()) == pytest.approx(20.0, abs=0.01)
    assert spread.sum() == pytest.approx(1.0, abs=1e-3)


def test_slice_profiles_are_normed_and_as_wide_as_they_say() -> None:
    for flat in (0.0, 0.4, 0.7):
        weights = slice_weights(replace(SHARP, flat=flat), 9, 8).toarray()
        at = (np.arange(72) + 0.5) / 8.0 - 4.5

        assert weights[4].sum() == pytest.approx(1.0)
        assert float((weights[4] * at).sum()) == pytest.approx(0.0, abs=1e-6)
        assert float(np.count_nonzero(weights[4] >= 0.5 * weights[4].max())) / 8.0 == pytest.approx(1.0, abs=0.13)


def test_attenuation_is_that_of_an_independent_table() -> None:
    """xraylib's cross sections, within 2 %: other tables, and the energies are nominal."""
    for n, energy in enumerate(beams.ENERGIES_KEV):
        iron, titanium = xraylib.CS_Total(26, energy), xraylib.CS_Total(22, energy)
        water = xraylib.CS_Total_CP("H2O", energy)

        assert beams._IRON_PER_MM[n] == pytest.approx(iron * 0.7874, rel=0.02)
        assert beams._TITANIUM_PER_MM[n] == pytest.approx(titanium * 0.4540, rel=0.02)
        assert beams._WATER_PER_MM[n] == pytest.approx(water * 0.1, rel=0.02)


def test_back_projection_gives_back_a_disc() -> None:
    bins, angles = 241, (np.arange(180) + 0.5) * np.pi / 180
    offset = (np.arange(bins) - 120.0) * 0.5
    disc = 2.0 * np.sqrt(np.maximum(15.0**2 - (offset - 4.0 * np.cos(angles)[:, None]) ** 2, 0.0))
    rows = beams.filtered(disc, 0.5)
    image = beams.back_project(rows, np.cos(angles), np.sin(angles), 0.5, (81, 81), 0.5)

    assert float(image[36:45, 44:53].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(np.abs(image[2:8, 38:43]).mean()) == pytest.approx(0.0, abs=0.03)


def test_hardening_lowers_solid_steel_and_raises_the_inside_of_a_tube() -> None:
    where = grid((71, 71, 5), (0.7, 0.7, 1.0))
    beam = beams.Beam(strength=1.0, photons=1e6, scatter=0.0, views=120)
    water = beams.Water(half_mm=(150.0, 90.0), centre_mm=(0.0, 0.0))
    found = []
    for inner in (0.0, 1.8):
        part = Part(stuff=Stuff.STEEL, low_mm=0.0, high_mm=30.0, outer_mm=2.2, inner_mm=inner)
        one = body([part], np.array([0.0, 0.0, -15.0]), np.zeros(3), 2.2)
        error = beam_error_hu(cells_of([one], where), STUFF_HU, where, SHARP, beam, water, 1)
        found.append(float(error[2, 35, 35]))

    assert -9000.0 < found[0] < -1000.0
    assert 50.0 < found[1] < 3000.0


def test_no_metal_means_no_error() -> None:
    plastic = body([Part(stuff=Stuff.PLASTIC, low_mm=0.0, high_mm=9.0, outer_mm=2.2)], np.zeros(3), np.ones(3), 2.2)
    where = grid((40, 40, 8), (0.7, 0.7, 1.0))
    beam = beams.Beam(strength=1.0, photons=1e5, scatter=0.05, views=60, shake_mm=0.2)
    water = beams.Water(half_mm=(150.0, 90.0), centre_mm=(0.0, 0.0))

    assert not np.any(beam_error_hu(cells_of([plastic], where), STUFF_HU, where, SHARP, beam, water, 1))


def test_a_seed_gives_the_same_case_and_needles_stand_where_they_may() -> None:
    seen = set[str]()
    for seed in range(12):
        case, again = draw(seed), draw(seed)
        truth, canal = truth_of(case), canal_of(case.spec)
        seen |= set(case.groups)

        assert case.told() == again.told()
        assert truth.shaft_clearance_mm >= LEAST_CLEARANCE_MM
        assert 5.0 <= truth.distance_from_source_mm <= 20.0
        assert float(canal.signed_distance_mm(truth.tip_lps_mm)) > 0.0

    assert {"solid", "air", "probe", "clean", "streaked", "ct-fine", "ct-thick", "c-arm", "screws"} <= seen


def test_a_negative_has_metal_but_no_needle() -> None:
    case = draw(3, negative=True)

    assert case.needles == ()
    assert case.bodies


def test_a_solid_needle_without_streaks_is_found() -> None:
    case = draw(15)
    assert {"solid", "clean"} <= set(case.groups)
    scanner, spec = draw_scanner(np.random.default_rng(0), case.spec, "ct-fine")
    case = replace(case, spec=replace(spec, grid=case.spec.grid), scanner=replace(case.scanner, kernel=scanner.kernel))
    needle = locate_needle(scanned(case), case.applicator)

    assert np.linalg.norm(needle.tip_lps_mm - truth_of(case).tip_lps_mm) < 0.3
