"""Coefficients against NIST, sampled physics against quadrature, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.compiled import compiled
from iort_planner.dose import _photon_kernels as kernels
from iort_planner.dose.attenuation import (
    ELECTRON_REST_KEV,
    KEV_ANGSTROM,
    attenuation,
    coherent,
    compton_transfer_fraction,
    electrons_seen,
    energy_absorption,
    form_factor_squared,
    incoherent,
    photoelectric,
)
from iort_planner.dose.materials import Material, material_names, read_material
from iort_planner.dose.photon_tables import LEAST_LINE_KEV, KernelTables, photon_tables
from iort_planner.errors import MaterialError
from iort_planner.units import FloatArray

# Hubbell JH, Seltzer SM. NISTIR 5632 (1995, web version 1.4), tables 3 and 4: liquid water, cortical bone (ICRU-44),
# skeletal muscle (ICRU-44). mu/rho and mu_en/rho in cm2/g at 10, 15, 20, 30, 40 and 50 keV, four printed digits.
NIST_KEV = np.array([10.0, 15.0, 20.0, 30.0, 40.0, 50.0])
NIST = {
    "water": (
        [5.329, 1.673, 0.8096, 0.3756, 0.2683, 0.2269],
        [4.944, 1.374, 0.5503, 0.1557, 0.06947, 0.04223],
    ),
    "cortical bone": (
        [28.51, 9.032, 4.001, 1.331, 0.6655, 0.4242],
        [26.80, 8.388, 3.601, 1.070, 0.4507, 0.2336],
    ),
    "muscle": (
        [5.356, 1.693, 0.8205, 0.3783, 0.2685, 0.2262],
        [4.964, 1.396, 0.5638, 0.1610, 0.07192, 0.04349],
    ),
}


@pytest.mark.parametrize("name", NIST)
def test_mass_attenuation_is_that_of_nist_within_a_fifth_of_a_percent(name: str) -> None:
    ours = attenuation(read_material(name), NIST_KEV)

    np.testing.assert_allclose(ours, NIST[name][0], rtol=0.002)


@pytest.mark.parametrize("name", NIST)
def test_mass_energy_absorption_is_that_of_nist_within_a_percent(name: str) -> None:
    ours = energy_absorption(read_material(name), NIST_KEV)

    np.testing.assert_allclose(ours, NIST[name][1], rtol=0.01)


def test_attenuation_is_the_sum_of_its_parts_and_keeps_the_shape_of_the_energies() -> None:
    energies = np.array([[5.0, 20.0], [30.0, 50.0]])
    bone = read_material("cortical bone")

    parts = photoelectric(bone, energies) + incoherent(bone, energies) + coherent(bone, energies)

    assert attenuation(bone, energies).shape == (2, 2)
    np.testing.assert_allclose(attenuation(bone, energies), parts, rtol=1e-14)
    assert np.all(energy_absorption(bone, energies) < attenuation(bone, energies))


def test_above_its_k_edge_barium_hands_energy_on_instead_of_absorbing_it() -> None:
    cement = read_material("bone cement")
    below, above = energy_absorption(cement, np.array([37.4, 37.5]))
    photo = photoelectric(cement, np.array([37.4, 37.5]))

    # the edge multiplies photoelectric absorption by 5 in barium; most of the jump leaves again as K photons
    assert photo[1] / photo[0] > 3.0
    assert above / below < 0.45 * photo[1] / photo[0]


@pytest.mark.parametrize("energy_kev", [0.5, -1.0, float("nan"), 1e6])
def test_energies_without_data_are_refused(energy_kev: float) -> None:
    with pytest.raises(MaterialError, match="must lie within 1 and 100 keV"):
        attenuation(read_material("water"), energy_kev)


def test_every_material_of_the_library_has_a_source_and_normalised_fractions() -> None:
    assert {"water", "air", "cortical bone", "spongiosa", "vertebra", "polyetherimide", "gold"} <= set(material_names())
    for name in material_names():
        material = read_material(name)
        assert len(material.source) > 10
        assert sum(material.mass_fractions.values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("density", "fractions", "message"),
    [
        (0.0, {"H": 1.0}, "density_g_cm3 = 0.0 must be over 0"),
        (float("nan"), {"H": 1.0}, "density_g_cm3 = nan"),
        (1.0, {}, "mass_fractions is empty"),
        (1.0, {"Xx": 1.0}, "'Xx' is no chemical element"),
        (1.0, {"H": 0.5, "O": 0.4}, "add up to 0.9000"),
        (1.0, {"H": -0.1, "O": 1.1}, "mass fraction H = -0.1"),
        (1.0, {"H": True}, "mass fraction H = True"),
    ],
)
def test_an_impossible_material_is_refused(density: float, fractions: dict[str, float], message: str) -> None:
    with pytest.raises(MaterialError, match=message):
        Material(name="x", density_g_cm3=density, mass_fractions=fractions, source="test")


def test_an_unknown_material_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MaterialError, match=r"no material 'bones'.*cortical bone"):
        read_material("bones")


SAMPLES = 400_000


@compiled
def sampled(t: KernelTables, m: int, energy: float) -> tuple[FloatArray, FloatArray, float]:
    state = np.empty(4, np.uint64)
    kernels.seed_state(state, 7, 3)
    counts, cosines, lost = np.zeros(3), np.zeros(3), 0.0
    i, f = kernels.grid_place(t, energy)
    for _ in range(SAMPLES):
        kind, after, cosine = kernels.interact(state, t, m, energy, i, f)
        counts[kind] += 1
        cosines[kind] += cosine
        lost += energy - after
    return counts, cosines, lost


TABLES = photon_tables([read_material(name) for name in ("water", "cortical bone", "bone cement")])


@pytest.mark.parametrize("energy_kev", [8.0, 20.0, 38.0, 50.0])
@pytest.mark.parametrize("m", range(3))
def test_sampled_interactions_have_the_shares_angles_and_losses_of_the_cross_sections(
    m: int, energy_kev: float
) -> None:
    material = TABLES.materials[m]
    counts, cosines, lost = sampled(TABLES.kernel(), m, energy_kev)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = energy_kev / KEV_ANGSTROM * np.sqrt((1.0 - nodes) / 2.0)
    ratio = 1.0 / (1.0 + energy_kev / ELECTRON_REST_KEV * (1.0 - nodes))
    compton = weights * ratio**2 * (ratio + 1.0 / ratio - 1.0 + nodes**2) * electrons_seen(material, x)
    rayleigh = weights * (1.0 + nodes**2) * form_factor_squared(material, x)
    parts = np.array([float(f(material, energy_kev)) for f in (photoelectric, incoherent, coherent)])
    expected = parts / parts.sum()

    # five standard deviations of SAMPLES draws
    np.testing.assert_array_less(np.abs(counts / SAMPLES - expected), 5.0 * np.sqrt(expected / SAMPLES))
    for kind, shape in ((kernels.INCOHERENT, compton), (kernels.COHERENT, rayleigh)):
        mean = float(np.sum(shape * nodes) / np.sum(shape))
        assert cosines[kind] / counts[kind] == pytest.approx(mean, abs=5.0 * 0.75 / np.sqrt(counts[kind]))
    absorbed = float(energy_absorption(material, energy_kev, LEAST_LINE_KEV)) / parts.sum()
    assert lost / SAMPLES / energy_kev == pytest.approx(absorbed, abs=5.0 * 0.5 / np.sqrt(SAMPLES))
    assert float(compton_transfer_fraction(material, energy_kev)) < energy_kev / ELECTRON_REST_KEV * 2.0
