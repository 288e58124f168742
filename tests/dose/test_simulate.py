"""Transport on spheres and slabs: against closed forms, a scattering integral written apart, and itself."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from iort_planner.cli.main import main
from iort_planner.dose.attenuation import (
    ELECTRON_KEV,
    KEV_ANGSTROM,
    coherent,
    form_factor_squared,
    incoherent,
    mass_attenuation,
    mass_energy_local,
    scattering_function,
)
from iort_planner.dose.materials import read_material
from iort_planner.dose.simulate import GY_PER_KEV_G, simulate
from iort_planner.dose.simulation_case import Score, SimulationCase, Slab, Sphere
from iort_planner.dose.spectrum import line, read_spectrum
from iort_planner.errors import SimulationError
from iort_planner.source.table_file import read_table

WATER = read_material("water")
BONE = read_material("cortical bone")


def shell(r_mm: float, half_mm: float = 0.05) -> Score:
    return Score(kind="shell", low_mm=r_mm - half_mm, high_mm=r_mm + half_mm)


def disc(x_mm: float, radius_mm: float = 1.0, half_mm: float = 0.25) -> Score:
    return Score(kind="disc", low_mm=x_mm - half_mm, high_mm=x_mm + half_mm, radius_mm=radius_mm)


def in_water(*scores: Score, kev: float = 30.0, outer_mm: float = 300.0) -> SimulationCase:
    return SimulationCase(
        spectrum=line(kev), spheres=(Sphere(outer_radius_mm=outer_mm, material=WATER),), scores=scores
    )


def primary_gy(kev: float, r_mm: float) -> float:
    """exp(-mu r) / (4 pi r^2) times mu_en times E, at a point."""
    energy, r = np.array([kev]), r_mm / 10.0
    mu, local = mass_attenuation(WATER, energy)[0], mass_energy_local(WATER, energy)[0]
    return float(kev * local * math.exp(-mu * r) / (4.0 * math.pi * r * r) * GY_PER_KEV_G)


@pytest.mark.parametrize("kev", [12.0, 20.0, 30.0, 50.0])
@pytest.mark.parametrize("r_mm", [5.0, 10.0, 20.0])
def test_the_primary_in_water_is_the_closed_form_within_0_1_percent(kev: float, r_mm: float) -> None:
    dose = simulate(in_water(shell(r_mm), kev=kev), histories=1000).doses[0]

    assert dose.to_water_gy * dose.primary_fraction == pytest.approx(primary_gy(kev, r_mm), rel=1e-3)


def test_the_primary_behind_a_slab_of_bone_is_weaker_by_the_closed_form() -> None:
    slab = Slab(x_min_mm=5.0, x_max_mm=8.0, material=BONE)
    case = SimulationCase(
        spectrum=line(30.0),
        spheres=(Sphere(outer_radius_mm=300.0, material=WATER),),
        slabs=(slab,),
        scores=(disc(15.0, radius_mm=0.2, half_mm=0.05), disc(6.5, radius_mm=0.2, half_mm=0.05)),
    )
    behind, within = simulate(case, histories=1000).doses
    energy = np.array([30.0])
    extra = (mass_attenuation(BONE, energy)[0] * BONE.density_g_cm3 - mass_attenuation(WATER, energy)[0]) / 10.0

    expected = primary_gy(30.0, 15.0) * math.exp(-3.0 * extra)
    assert behind.to_water_gy * behind.primary_fraction == pytest.approx(expected, rel=2e-3)
    expected = primary_gy(30.0, 6.5) * math.exp(-1.5 * extra)
    assert within.to_water_gy * within.primary_fraction == pytest.approx(expected, rel=2e-3)
    ratio = mass_energy_local(BONE, energy)[0] / mass_energy_local(WATER, energy)[0]
    assert within.to_medium_gy / within.to_water_gy == pytest.approx(ratio, rel=0.02)
    assert (behind.medium, within.medium) == ("water", "cortical bone")


def test_energy_absorbed_and_escaped_is_what_was_emitted() -> None:
    found = simulate(in_water(shell(10.0), outer_mm=50.0), histories=50_000)

    assert found.absorbed_kev + found.escaped_kev == pytest.approx(found.emitted_kev, rel=1e-9)
    assert 0.1 < found.escaped_kev / found.emitted_kev < 0.9


def first_scatter_gy(kev: float, r_mm: float) -> float:
    """Dose of photons that have scattered once, at r in water, by quadrature; nothing of the simulation is in it.

    Over the scattering point in bipolar coordinates: by distance s from the source and d from the point, the volume element is
    2 pi s d / r ds dd. In the limits of a sphere so large that nothing comes back from beyond it.
    """
    r = r_mm / 10.0
    s = np.concatenate([np.linspace(1e-4, r - 1e-4, 241), np.linspace(r + 1e-4, 9.0, 481)])
    x_grid = np.linspace(0.0, 5.0, 1001)
    factor = form_factor_squared(WATER, x_grid)
    bound = scattering_function(WATER, x_grid)
    electrons = 6.02214076e23 * sum(
        share * z / weight for share, z, weight in ((0.111894, 1, 1.008), (0.888106, 8, 15.999))
    )
    r_e2 = (2.8179403262e-13) ** 2
    energies = np.linspace(kev / (1.0 + 2.0 * kev / ELECTRON_KEV) - 0.01, kev, 200)
    mu_of, local_of = mass_attenuation(WATER, energies), mass_energy_local(WATER, energies)
    mu0 = mass_attenuation(WATER, np.array([kev]))[0]
    inner = []
    for each in s:
        d = np.linspace(abs(r - each), min(r + each, 9.0), 1201)
        d = np.maximum((d[1:] + d[:-1]) / 2.0, 1e-6)
        step = (min(r + each, 9.0) - abs(r - each)) / 1200
        cosine = np.clip((r * r - each * each - d * d) / (2.0 * each * d), -1.0, 1.0)
        left = 1.0 / (1.0 + kev / ELECTRON_KEV * (1.0 - cosine))
        x = kev / KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine))
        compton = 0.5 * r_e2 * left**2 * (left + 1.0 / left - 1.0 + cosine**2) * np.interp(x, x_grid, bound) * electrons
        rayleigh = 0.5 * r_e2 * (1.0 + cosine**2) * np.interp(x, x_grid, factor) * 6.02214076e23
        changed = kev * left
        of_compton = (
            compton
            * changed
            * np.interp(changed, energies, local_of)
            * np.exp(-np.interp(changed, energies, mu_of) * d)
        )
        of_rayleigh = rayleigh * kev * local_of[-1] * np.exp(-mu0 * d)
        value = (of_compton + of_rayleigh) / d**2 * 2.0 * math.pi * each * d / r
        inner.append(math.exp(-mu0 * each) / (4.0 * math.pi * each**2) * float(np.sum(value)) * step)
    total = 0.0
    for part in (s <= r, s > r):
        total += float(np.trapezoid(np.array(inner)[part], s[part]))
    return total * GY_PER_KEV_G


def test_the_cross_sections_of_the_scattering_integral_are_those_of_the_coefficients() -> None:
    """So that the next test compares transport with transport: over all angles they give the scattering coefficients."""
    kev, cosine = 30.0, np.linspace(-1.0, 1.0, 20001)
    x_grid = np.linspace(0.0, 5.0, 1001)
    x = kev / KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine))
    rayleigh = (1.0 + cosine**2) * np.interp(x, x_grid, form_factor_squared(WATER, x_grid)) * 6.02214076e23
    area = 0.5 * (2.8179403262e-13) ** 2 * 2.0 * math.pi * float(np.trapezoid(rayleigh, cosine))
    assert area == pytest.approx(float(coherent(WATER, np.array([kev]))[0]), rel=0.01)
    assert float(incoherent(WATER, np.array([kev]))[0]) == pytest.approx(0.1827, rel=0.02)  # NIST XCOM, 30 keV


@pytest.mark.parametrize("kev", [15.0, 30.0])
@pytest.mark.parametrize("r_mm", [8.0, 15.0])
def test_what_has_scattered_once_is_the_deterministic_integral_within_2_percent(r_mm: float, kev: float) -> None:
    dose = simulate(in_water(shell(r_mm, 0.25), kev=kev), histories=1_500_000, seed=3).doses[0]

    assert dose.once_scattered_gy == pytest.approx(first_scatter_gy(kev, r_mm), rel=0.02)
    assert dose.once_scattered_gy < dose.to_water_gy * (1.0 - dose.primary_fraction)


def test_the_uncertainty_falls_with_the_root_of_the_histories_and_is_the_scatter_of_repeats() -> None:
    case = in_water(shell(10.0, 0.5))
    few = [simulate(case, histories=20_000, seed=seed).doses[0] for seed in range(12)]
    many = simulate(case, histories=1_600_000, seed=1).doses[0]

    said = float(np.mean([each.uncertainty_percent for each in few]))
    assert said / many.uncertainty_percent == pytest.approx(math.sqrt(1_600_000 / 20_000), rel=0.35)
    seen = 100.0 * float(np.std([each.to_water_gy for each in few], ddof=1)) / many.to_water_gy
    assert seen == pytest.approx(said, rel=0.75)  # chi with 11 degrees of freedom: 95 % within 45 %


def test_one_thread_and_two_give_the_same_bits_and_another_seed_another_result() -> None:
    case = in_water(shell(10.0), disc(15.0))
    one, two = (simulate(case, histories=40_000, seed=5, threads=n).doses for n in (1, 2))

    assert one == two
    assert simulate(case, histories=40_000, seed=6).doses != one


def test_a_requested_uncertainty_is_reached() -> None:
    found = simulate(in_water(shell(10.0, 0.5)), uncertainty_percent=0.3)

    assert found.doses[0].uncertainty_percent <= 0.3


def test_spectrum_and_transport_give_the_shape_of_the_shipped_table_within_3_percent() -> None:
    """The bar holds from 5 to 30 mm; the fit itself reaches further (docs/simulate.md)."""
    radii = [5.0, 8.0, 10.0, 13.0, 20.0, 30.0]
    case = SimulationCase(
        spectrum=read_spectrum(),
        spheres=(Sphere(outer_radius_mm=300.0, material=WATER),),
        scores=tuple(shell(r, 0.1) for r in radii),
    )
    dose = np.array([each.to_water_gy for each in simulate(case, histories=600_000).doses])
    table = read_table()
    ratio = dose / table.rate_gy_per_min(np.array(radii))

    assert np.abs(ratio / np.median(ratio) - 1.0).max() < 0.03
    assert dose[1] / dose[3] == pytest.approx(3.64, abs=0.10)  # Sethi et al. 2018: D8 over D13


CASE = """
[source]
energies_kev = [30.0]
weights = [1.0]
[[material]]
name = "putty"
density_g_cm3 = 1.1
mass_fractions = { H = 0.1, C = 0.5, O = 0.4 }
[[sphere]]
outer_radius_mm = 13.0
material = "putty"
[[sphere]]
outer_radius_mm = 150.0
material = "water"
[[slab]]
x_min_mm = 5.0
x_max_mm = 8.0
material = "cortical bone"
[[score]]
kind = "shell"
r_min_mm = 9.95
r_max_mm = 10.05
[[score]]
kind = "disc"
x_min_mm = 14.75
x_max_mm = 15.25
radius_mm = 1.0
"""


def test_the_command_writes_a_table_with_its_head_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, out = tmp_path / "case.toml", tmp_path / "table.csv"
    case.write_text(CASE, encoding="utf-8")

    assert main(["simulate", str(case), "--out", str(out), "--histories", "20000", "--seed", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(each for each in lines if not each.startswith("#")))

    assert [row["kind"] for row in rows] == ["shell", "disc"]
    assert rows[0]["medium"] == "putty + cortical bone"
    assert {"# seed: 3", "# histories: 20000"} <= set(lines)
    assert any("not a medical device" in each for each in lines)
    assert float(rows[1]["dose_to_water_gy_per_photon"]) == pytest.approx(
        document["scores"][1]["dose_to_water_gy_per_photon"], rel=1e-6
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("outer_radius_mm = 150.0", "outer_radius_mm = 12.0", "grow"),
        ('material = "water"', 'material = "watter"', "no material 'watter'"),
        ("energies_kev = [30.0]", "energies_kev = [300.0]", "1 to 60 keV"),
        ("weights = [1.0]", "weights = [1.0, 2.0]", "one length"),
        ("x_max_mm = 8.0", "x_max_mm = 4.0", "must lie below"),
        ("r_max_mm = 10.05", "r_max_mm = 200.0", "where vacuum is"),
        ("r_max_mm = 10.05", "r_maximum_mm = 10.05", "lacks r_max_mm"),
        ('kind = "shell"', 'kind = "cube"', 'must be "shell" or "disc"'),
        ("radius_mm = 1.0\n", "radius_mm = true\n", "finite number"),
        ("density_g_cm3 = 1.1", "density_g_cm3 = -1", "density"),
        ("[[slab]]", "[[wall]]", "unknown section wall"),
        ("weights = [1.0]", "weights = [0.0]", "not all 0"),
    ],
)
def test_a_case_that_cannot_be_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    case = tmp_path / "case.toml"
    assert old in CASE
    case.write_text(CASE.replace(old, new), encoding="utf-8")

    assert main(["simulate", str(case), "--out", str(tmp_path / "t.csv"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"histories": 0}, "1 to"),
        ({"histories": 10, "uncertainty_percent": 1.0}, "not both"),
        ({"uncertainty_percent": 0.0}, "0.01 to 50"),
        ({"threads": 0}, "--threads"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(SimulationError, match=says):
        simulate(in_water(shell(10.0)), **options)  # type: ignore[arg-type]  # wrong on purpose
