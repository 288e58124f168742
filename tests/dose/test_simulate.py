"""The transport against closed forms and an integral of its own; energy, chance, threads; what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from iort_planner.cli.main import main
from iort_planner.dose.attenuation import (
    ELECTRON_REST_KEV,
    attenuation,
    electrons_seen,
    energy_absorption,
    form_factor_squared,
)
from iort_planner.dose.materials import read_material
from iort_planner.dose.photon_tables import photon_tables
from iort_planner.dose.simulate import GY_PER_KEV_PER_G, primary_tally, simulate
from iort_planner.dose.simulation_case import Score, SimulationCase, Slab, Sphere, read_case
from iort_planner.dose.spectrum import Spectrum
from iort_planner.errors import IortError, SimulationError

KEV_ANGSTROM = 12.398419843


def line(energy_kev: float) -> Spectrum:
    ends = np.array([energy_kev])
    return Spectrum(energy_low_kev=ends, energy_high_kev=ends, photons=np.ones(1), name="line")


def case(
    energy_kev: float,
    scores: list[Score],
    spheres: tuple[Sphere, ...] = (Sphere(300.0, "water"),),
    slabs: tuple[Slab, ...] = (),
) -> SimulationCase:
    names = dict.fromkeys(["water", *(each.material for each in spheres), *(each.material for each in slabs)])
    return SimulationCase(
        source=line(energy_kev),
        materials=tuple(read_material(name) for name in names),
        spheres=spheres,
        slabs=slabs,
        scores=tuple(scores),
    )


def primary_gy(of: SimulationCase) -> list[float]:
    """Primary dose to the medium of each score, Gy, without characteristic photons."""
    tally = primary_tally(of, photon_tables(of.materials))
    return [100.0 * GY_PER_KEV_PER_G * t[2] / score.volume_mm3 for t, score in zip(tally, of.scores, strict=True)]


@pytest.mark.parametrize("energy_kev", [10.0, 20.0, 30.0, 50.0])
def test_primary_in_water_is_the_closed_form(energy_kev: float) -> None:
    water = read_material("water")
    mu, absorption = float(attenuation(water, energy_kev)) / 10.0, float(energy_absorption(water, energy_kev))
    radii = [3.0, 10.0, 20.0]
    found = primary_gy(case(energy_kev, [Score("shell", r - 0.001, r + 0.001) for r in radii]))

    # exp(-mu r) / (4 pi r^2) photons per mm2, E mu_en/rho each; 0.1602 nGy g/keV
    expected = [math.exp(-mu * r) / (4 * math.pi * r * r) * energy_kev * absorption * 1.602176634e-11 for r in radii]
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_primary_behind_spheres_and_a_slab_is_the_closed_form() -> None:
    spheres = (Sphere(4.0, "spongiosa"), Sphere(100.0, "water"))
    slab = Slab(6.0, 8.0, "cortical bone")
    small = Score("disc", 14.99, 15.01, 0.02)
    found = primary_gy(case(30.0, [small], spheres, (slab,)))[0]

    depth = 0.0
    for name, thickness_mm in (("spongiosa", 4.0), ("cortical bone", 2.0), ("water", 9.0)):
        material = read_material(name)
        depth += float(attenuation(material, 30.0)) * material.density_g_cm3 * thickness_mm / 10.0
    absorption = float(energy_absorption(read_material("water"), 30.0))
    expected = math.exp(-depth) / (4 * math.pi * 15.0**2) * 30.0 * absorption * 1.602176634e-11
    assert found == pytest.approx(expected, rel=2e-4)


def test_primary_of_a_wide_disc_behind_a_slab_is_the_integral_over_it() -> None:
    slab = Slab(6.0, 8.0, "cortical bone")
    disc = Score("disc", 11.99, 12.01, 9.0)
    found = primary_gy(case(30.0, [disc], slabs=(slab,)))[0]
    water, bone = read_material("water"), read_material("cortical bone")
    mu = float(attenuation(water, 30.0)) / 10.0
    extra = float(attenuation(bone, 30.0)) * bone.density_g_cm3 / 10.0 - mu

    def at(across: float) -> float:
        r = math.hypot(12.0, across)
        return math.exp(-mu * r - extra * 2.0 * r / 12.0) / (4 * math.pi * r * r) * 2.0 * across / 81.0

    expected = quad(at, 0.0, 9.0)[0] * 30.0 * float(energy_absorption(water, 30.0)) * 1.602176634e-11
    assert found == pytest.approx(expected, rel=3e-4)


def first_scatter_gy(energy_kev: float, radius_mm: float) -> float:
    """Dose at a distance in endless water by photons scattered once, by quadrature over the place of the scatter.

    With s from the source to the place and d from there to the point, s + d = R cosh u and s - d = R cos v, the volume
    element cancels both 1/s^2 and 1/d^2. The cross-sections are absolute: Klein-Nishina times S, Thomson times F^2.
    """
    water = read_material("water")
    half_area = 0.5 * 0.07940787 * 0.602214076  # r_e^2/2 (barn, CODATA) times Avogadro's number: cm2/mol
    grid = np.linspace(-1.0, 1.0, 801)
    x = np.maximum(energy_kev / KEV_ANGSTROM * np.sqrt((1.0 - grid) / 2.0), 1e-9)
    ratio = 1.0 / (1.0 + energy_kev / ELECTRON_REST_KEV * (1.0 - grid))
    compton = half_area * ratio**2 * (ratio + 1.0 / ratio - 1.0 + grid**2) * electrons_seen(water, x)
    rayleigh = half_area * (1.0 + grid**2) * form_factor_squared(water, x)
    u_nodes, u_weights = np.polynomial.legendre.leggauss(300)
    u_most = math.acosh(200.0 / radius_mm)
    u, v = 0.5 * u_most * (u_nodes + 1.0), 0.5 * math.pi * (u_nodes + 1.0)
    weight = 0.25 * u_most * math.pi * u_weights[:, None] * u_weights
    plus, minus = np.cosh(u)[:, None], np.cos(v)[None, :]
    s, d = 0.5 * radius_mm * (plus + minus), 0.5 * radius_mm * (plus - minus)
    turn = np.clip((radius_mm**2 - s**2 - d**2) / (2.0 * s * d), -1.0, 1.0)
    volume = np.sinh(u)[:, None] * np.sin(v) / (np.sinh(u)[:, None] ** 2 + np.sin(v) ** 2) / radius_mm
    mu = float(attenuation(water, energy_kev)) / 10.0
    total = 0.0
    for shape, after in ((compton, energy_kev * ratio), (rayleigh, np.full(grid.size, energy_kev))):
        later_mu = attenuation(water, after) / 10.0
        kerma = shape / 10.0 * after * energy_absorption(water, after)
        value = np.interp(turn, grid, kerma) * np.exp(-mu * s - np.interp(turn, grid, later_mu) * d)
        total += float(np.sum(weight * volume * value))
    return total * 1.602176634e-11


@pytest.mark.parametrize("energy_kev", [20.0, 40.0])
def test_dose_by_first_scatter_is_that_of_an_integral_of_its_own(energy_kev: float) -> None:
    scores = [Score("shell", 0.98 * r, 1.02 * r) for r in (5.0, 15.0, 30.0)]
    of = case(energy_kev, scores)
    result = simulate(of, histories=400_000, most_scatters=1)

    for each, score in zip(result.scores, scores, strict=True):
        scattered = each.dose_to_water_gy_per_photon * (1.0 - each.primary_fraction)
        assert scattered == pytest.approx(first_scatter_gy(energy_kev, score.position_mm), rel=0.02)


def test_a_small_disc_gets_what_the_shell_at_its_distance_gets() -> None:
    """Discs by expected values, shells by track length: two estimates of one dose, all orders and the first alone."""
    of = case(30.0, [Score("disc", 14.9, 15.1, 0.5), Score("shell", 14.9, 15.1)])
    for orders in (1, 1000):
        disc, shell = simulate(of, histories=400_000, most_scatters=orders).scores
        bound = 4.0 * math.hypot(disc.uncertainty_percent, shell.uncertainty_percent) / 100.0
        assert disc.uncertainty_percent < 2.0
        assert disc.dose_to_water_gy_per_photon == pytest.approx(shell.dose_to_water_gy_per_photon, rel=bound)


def test_a_disc_behind_cement_gets_its_characteristic_photons() -> None:
    """By expected values from wherever they start, as the shell gets them by track length."""
    spheres = (Sphere(10.0, "bone cement"), Sphere(100.0, "water"))
    of = case(45.0, [Score("disc", 10.9, 11.1, 1.0), Score("shell", 10.9, 11.1)], spheres)
    disc, shell = simulate(of, histories=400_000).scores
    bound = 4.0 * math.hypot(disc.uncertainty_percent, shell.uncertainty_percent) / 100.0

    assert disc.dose_to_water_gy_per_photon == pytest.approx(shell.dose_to_water_gy_per_photon, rel=bound)
    assert bound < 0.1


def test_all_energy_is_absorbed_or_escapes_and_kerma_finds_what_is_absorbed() -> None:
    small = (Sphere(8.0, "cortical bone"), Sphere(20.0, "bone cement"), Sphere(60.0, "water"))
    of = case(45.0, [Score("shell", 0.0, 8.0), Score("shell", 8.0, 20.0), Score("shell", 20.0, 60.0)], small)
    result = simulate(of, histories=200_000)

    assert abs(result.balance_error) < 1e-6
    assert result.escaped_kev > 0.1
    mass_g = [
        each.score.volume_mm3 * 1e-3 * read_material(sphere.material).density_g_cm3
        for each, sphere in zip(result.scores, small, strict=True)
    ]
    kerma_kev = sum(
        each.dose_to_medium_gy_per_photon / GY_PER_KEV_PER_G * mass
        for each, mass in zip(result.scores, mass_g, strict=True)
    )
    # two estimates of one energy, track length and interactions: 0.1 % and the chance of 200 000 photons
    assert kerma_kev == pytest.approx(result.absorbed_kev, rel=0.003)


def test_uncertainty_falls_as_one_over_the_root_of_the_histories_and_is_true() -> None:
    of = case(30.0, [Score("shell", 14.0, 16.0)])
    doses, stated = [], []
    for seed in range(40):
        each = simulate(of, histories=4_000, seed=seed).scores[0]
        doses.append(each.dose_to_water_gy_per_photon)
        stated.append(each.uncertainty_percent)
    truth = simulate(of, histories=640_000, seed=99).scores[0]
    spread = 100.0 * float(np.std(doses, ddof=1) / np.mean(doses))

    assert float(np.mean(stated)) == pytest.approx(spread, rel=0.35)  # 40 runs know their spread to 11 %
    assert float(np.mean(stated)) / truth.uncertainty_percent == pytest.approx(math.sqrt(160.0), rel=0.35)
    assert float(np.mean(doses)) == pytest.approx(truth.dose_to_water_gy_per_photon, rel=5e-2 * spread)


def test_one_seed_gives_identical_bits_on_one_and_two_threads_and_another_seed_does_not() -> None:
    of = case(30.0, [Score("shell", 9.0, 11.0)], slabs=(Slab(5.0, 10.0, "cortical bone"),))
    one, two, other = (simulate(of, histories=150_001, seed=s, threads=t) for s, t in ((5, 1), (5, 2), (6, 1)))

    assert one.histories == two.histories == 150_001
    assert one.scores == two.scores
    assert one.absorbed_kev == two.absorbed_kev
    assert one.scores != other.scores


def test_a_slab_of_what_is_there_anyway_changes_nothing_but_chance() -> None:
    scores = [Score("shell", 8.0, 9.0), Score("disc", 11.0, 12.0, 5.0)]
    plain = simulate(case(30.0, scores), histories=200_000)
    sliced = simulate(
        case(30.0, scores, slabs=(Slab(-3.0, 10.0, "water"), Slab(10.0, 11.5, "water"))), histories=200_000
    )

    for a, b in zip(plain.scores, sliced.scores, strict=True):
        bound = 5.0 * math.hypot(a.uncertainty_percent, b.uncertainty_percent) / 100.0
        assert a.dose_to_water_gy_per_photon == pytest.approx(b.dose_to_water_gy_per_photon, rel=bound)
        assert a.dose_to_water_gy_per_photon * a.primary_fraction == pytest.approx(
            b.dose_to_water_gy_per_photon * b.primary_fraction, rel=1e-5
        )


def test_cortical_bone_gets_seven_times_the_dose_to_water_at_30_kev() -> None:
    # ratio of mu_en/rho at 30 keV, NIST: 1.070 / 0.1557; with calcium's K photons absorbed on the spot it is 1 % more
    result = simulate(case(30.0, [Score("shell", 2.9, 3.1)], (Sphere(50.0, "cortical bone"),)), histories=50_000)
    each = result.scores[0]

    primary = each.dose_to_medium_gy_per_photon * each.primary_fraction
    bone = read_material("cortical bone")
    depth = float(attenuation(bone, 30.0)) * bone.density_g_cm3 * 0.3
    # mu_en/rho of NIST, 1.070 cm2/g; 0.1 % for the shell's width
    expected = math.exp(-depth) / (4 * math.pi * 9.0) * 30.0 * 1.070 * 1.602176634e-11
    assert primary == pytest.approx(expected, rel=0.005)
    assert each.dose_to_medium_gy_per_photon / each.dose_to_water_gy_per_photon == pytest.approx(6.87, rel=0.03)


def test_the_run_goes_on_until_every_score_is_as_certain_as_asked() -> None:
    of = case(30.0, [Score("shell", 14.0, 16.0), Score("shell", 28.0, 30.0)])
    steps: list[tuple[int, int]] = []
    result = simulate(of, uncertainty_percent=0.5, progress=lambda done, total: steps.append((done, total)))

    assert max(each.uncertainty_percent for each in result.scores) <= 0.5
    assert result.histories < 3_000_000
    assert all(done < total for done, total in steps)


def test_a_score_that_hardly_a_photon_reached_says_so() -> None:
    result = simulate(case(10.0, [Score("shell", 60.0, 60.1)]), histories=2_000)

    assert result.scores[0].uncertainty_percent == 100.0
    with pytest.raises(SimulationError, match=r"hardly a scattered photon .* came to score 2"):
        simulate(case(10.0, [Score("shell", 2.0, 3.0), Score("shell", 90.0, 90.1)]), uncertainty_percent=1.0)


CASE = """
[source]
energies_kev = [30.0]
weights = [1.0]
[[sphere]]
outer_radius_mm = 13.0
material = "spongiosa"
[[sphere]]
outer_radius_mm = 300.0
material = "peek of ours"
[[material]]
name = "peek of ours"
density_g_cm3 = 1.3
mass_fractions = {H = 0.042, C = 0.791, O = 0.167}
[[slab]]
x_min_mm = 5.0
x_max_mm = 10.0
material = "cortical bone"
[[score]]
kind = "shell"
r_min_mm = 12.95
r_max_mm = 13.05
[[score]]
kind = "disc"
x_min_mm = 14.75
x_max_mm = 15.25
radius_mm = 1.0
"""


def test_a_case_file_is_read_and_the_table_has_the_form_that_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "case.toml").write_text(CASE, encoding="utf-8")
    out = tmp_path / "dose.csv"
    status = main(
        [
            "simulate",
            str(tmp_path / "case.toml"),
            "--out",
            str(out),
            "--histories",
            "20000",
            "--seed",
            "3",
            "--threads",
            "1",
        ]
    )

    assert status == 0
    assert "disc 14.75-15.25 mm" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    head = dict(re.findall(r"^# (\w+): (.*)$", text, flags=re.MULTILINE))
    assert head["histories"] == "20000"
    assert head["seed"] == "3"
    assert head["threads"] == "1"
    assert float(head["seconds"]) > 0.0
    rows = [row for row in text.splitlines() if not row.startswith("#")]
    assert rows[0] == (
        "kind,position_mm,medium,dose_to_medium_gy_per_photon,dose_to_water_gy_per_photon,uncertainty_percent,primary_fraction"
    )
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["shell", "13", "spongiosa+cortical bone+peek of ours"],
        ["disc", "15", "peek of ours"],
    ]
    assert all(float(cell) > 0.0 for row in rows[1:] for cell in row.split(",")[3:])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[30.0]", "[80.0]", "80 to 80 keV"),
        ("[30.0]", '["a"]', "must be a list of numbers"),
        ("weights = [1.0]", "weights = [1.0, 2.0]", "lists of one length"),
        ("weights = [1.0]", "weights = [-1.0]", "must be a number of at least 0"),
        ("weights = [1.0]", "weights = [0.0]", "no photon"),
        ("weights = [1.0]", "", "lacks weights"),
        ("weights = [1.0]", 'weights = [1.0]\nspectrum = "needle-50kv"', "not both"),
        ("weights = [1.0]", "wheights = [1.0]", "wheights|lacks weights"),
        ("[source]\nenergies_kev = [30.0]\nweights = [1.0]", "", r"\[source\] is missing"),
        ("[source]\nenergies_kev = [30.0]\nweights = [1.0]", '[source]\nspectrum = "none.csv"', "cannot be read"),
        ("outer_radius_mm = 300.0", "outer_radius_mm = 3.0", "must be over the one before"),
        ("outer_radius_mm = 300.0", "outer_radius_mm = nan", "must be a number over 0"),
        ("outer_radius_mm = 300.0", "outer_radius_mm = true", "must be a number over 0"),
        ("outer_radius_mm = 300.0", "outer_radius_mm = 14.0", "beyond the last sphere"),
        ('"spongiosa"', '"spongyosa"', "no material 'spongyosa'"),
        ("H = 0.042", "H = 0.42", "add up to 1.378"),
        ("H = 0.042", "Hh = 0.042", "'Hh' is no chemical element"),
        ("x_min_mm = 5.0", "x_min_mm = 11.0", "must be under x_max_mm"),
        ("r_min_mm = 12.95", "r_min_mm = -1.0", "must be at least 0"),
        ("r_min_mm = 12.95", "radius = 1", "lacks r_min_mm"),
        ('kind = "disc"', 'kind = "ring"', "must be 'shell' or 'disc'"),
        ("radius_mm = 1.0", "radius_mm = 0.0", "must be a number over 0"),
        ("radius_mm = 1.0", "radius_mm = 1.0\ncolour = 1", "unknown keys colour"),
        ("[[slab]]", "[slabs]", "unknown slabs"),
        ("[[slab]]", "[slab]", r"write each slab as \[\[slab\]\]"),
        ("[[slab]]", '[[slab]]\nx_min_mm = 9.0\nx_max_mm = 12.0\nmaterial = "water"\n[[slab]]', "slabs overlap"),
        ("[source]", "[source", "not valid TOML"),
    ],
)
def test_a_case_with_a_fault_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert old in CASE
    (tmp_path / "case.toml").write_text(CASE.replace(old, new), encoding="utf-8")
    status = main(["simulate", str(tmp_path / "case.toml"), "--out", str(tmp_path / "dose.csv")])

    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert re.search(message, captured.err)
    assert not (tmp_path / "dose.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"histories": 0}, "histories = 0"),
        ({"uncertainty_percent": 0.0}, "uncertainty = 0 %"),
        ({"uncertainty_percent": math.nan}, "uncertainty = nan %"),
        ({"seed": -1}, "seed = -1"),
        ({"threads": 0}, "threads = 0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        simulate(case(30.0, [Score("shell", 9.0, 11.0)]), **options)  # type: ignore[arg-type]


def test_a_case_without_scores_or_spheres_is_refused(tmp_path: Path) -> None:
    for cut in ("[[score]]", "[[sphere]]"):
        (tmp_path / "case.toml").write_text(CASE[: CASE.index(cut)], encoding="utf-8")
        with pytest.raises(IortError, match=r"there (is|are)"):
            read_case(tmp_path / "case.toml")
