"""Photon coefficients against NIST's, and materials that cannot be."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from iort_planner.dose.attenuation import (
    coherent,
    incoherent,
    mass_attenuation,
    mass_energy_absorption,
    mass_energy_local,
    photoelectric,
    scattering_function,
)
from iort_planner.dose.materials import Material, material_names, read_material
from iort_planner.dose.photon_tables import photon_tables
from iort_planner.errors import TissueError

# Hubbell and Seltzer, NISTIR 5632 (X-ray mass attenuation coefficients), table 4: keV, mu/rho, mu_en/rho, cm2/g
NIST = {
    "water": [
        (10.0, 5.329, 4.944),
        (15.0, 1.673, 1.374),
        (20.0, 0.8096, 0.5503),
        (30.0, 0.3756, 0.1557),
        (40.0, 0.2683, 0.06947),
        (50.0, 0.2269, 0.04223),
    ],
    "cortical bone": [
        (10.0, 28.51, 26.80),
        (15.0, 9.032, 8.388),
        (20.0, 4.001, 3.601),
        (30.0, 1.331, 1.070),
        (40.0, 0.6655, 0.4507),
        (50.0, 0.4242, 0.2336),
    ],
}


@pytest.mark.parametrize("name", NIST)
def test_mass_attenuation_is_nists_within_0_2_percent_and_energy_absorption_within_1(name: str) -> None:
    kev, mu, mu_en = np.array(NIST[name]).T
    material = read_material(name)

    assert np.abs(mass_attenuation(material, kev) / mu - 1.0).max() < 0.002
    assert np.abs(mass_energy_absorption(material, kev) / mu_en - 1.0).max() < 0.01


@pytest.mark.shared
def test_the_coefficients_read_elsewhere_are_met_too(shared_data: Path) -> None:
    path = shared_data.parent / "physics" / "seen_nist_coefficients.csv"
    rows = list(csv.DictReader(line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"))
    kev = np.array([float(row["E_keV"]) for row in rows])
    for material, column in (
        ("cortical bone", "mu_rho_cortical_seen"),
        ("muscle", "mu_rho_muscle_seen"),
        ("water", "mu_rho_water_seen"),
    ):
        seen = np.array([float(row[column]) for row in rows])
        assert np.abs(mass_attenuation(read_material(material), kev) / seen - 1.0).max() < 0.002
    muscle = np.array([float(row["muen_rho_muscle_seen"]) for row in rows])
    assert np.abs(mass_energy_absorption(read_material("muscle"), kev) / muscle - 1.0).max() < 0.01


def test_calciums_fluorescence_stays_with_the_voxel_and_bariums_does_not() -> None:
    kev = np.array([20.0, 45.0])
    bone, cement = read_material("cortical bone"), read_material("bone cement")

    of_bone = mass_energy_local(bone, kev) / mass_energy_absorption(bone, kev)
    assert np.all(of_bone > 1.008)  # a few per cent, which NIST counts as gone
    above_edge = photoelectric(cement, kev)[1] - mass_energy_local(cement, kev)[1]
    assert above_edge > 0.3 * photoelectric(cement, kev)[1]  # the edge is at 37.4 keV, the lines at 32 and 36


def test_the_parts_add_up_and_water_scatters_like_its_electrons() -> None:
    water, kev = read_material("water"), np.array([10.0, 30.0, 50.0])

    total = photoelectric(water, kev) + coherent(water, kev) + incoherent(water, kev)
    assert total == pytest.approx(mass_attenuation(water, kev))
    assert scattering_function(water, np.array([0.0, 5.0])) == pytest.approx([0.0, 1.0], abs=0.02)


def test_the_tables_give_the_coefficients_between_their_steps() -> None:
    names = ["water", "cortical bone", "steel", "bone cement"]
    materials = [read_material(name) for name in names]
    kev = np.random.default_rng(1).uniform(8.5, 50.0, 200)
    edges = np.array([20.0, 37.44])  # molybdenum and barium: a step is linear over an edge; nickel is at 8.33
    kev = kev[np.all(np.abs(kev[:, None] - edges) > 0.05, axis=1)]
    tables = photon_tables(materials)

    for n, material in enumerate(materials):
        assert tables.at(tables.mu, kev)[n] == pytest.approx(mass_attenuation(material, kev), rel=2e-3)
        assert tables.at(tables.mu_en, kev)[n] == pytest.approx(mass_energy_local(material, kev), rel=2e-3)


def test_every_material_of_the_library_can_be_used_and_says_where_it_is_from() -> None:
    assert {"water", "spongiosa", "cortical bone", "vertebra", "PEEK", "bone cement", "titanium"} <= set(
        material_names()
    )
    for name in material_names():
        material = read_material(name.upper())
        assert material.origin
        assert math.fsum(material.mass_fractions.values()) == pytest.approx(1.0)
        assert np.all(mass_attenuation(material, np.array([5.0, 50.0])) > 0.0)


@pytest.mark.parametrize(
    ("fractions", "density", "says"),
    [
        ({"H": 0.1, "Xx": 0.9}, 1.0, "Xx is no element"),
        ({"H": 11.2, "O": 88.8}, 1.0, "percent must be divided by 100"),
        ({"H": 0.1, "O": 0.8}, 1.0, "add up to 0.9"),
        ({"H": 0.1, "O": 0.9}, 0.0, "density 0.0"),
        ({"H": math.nan, "O": 0.9}, 1.0, "from 0 to 1"),
    ],
)
def test_a_material_that_cannot_be_is_refused(fractions: dict[str, float], density: float, says: str) -> None:
    with pytest.raises(TissueError, match=says):
        Material(name="odd", density_g_cm3=density, mass_fractions=fractions)


def test_energies_beyond_the_data_are_refused() -> None:
    with pytest.raises(TissueError, match="1 to 60 keV"):
        mass_attenuation(read_material("water"), np.array([80.0]))
