"""The ray trace: its unscattered part against the Monte Carlo engine's exact one, its whole against the Monte Carlo engine."""

from __future__ import annotations

import numpy as np
import pytest

from iort_planner.dose import montecarlo
from iort_planner.dose.montecarlo import run_montecarlo
from iort_planner.dose.raytrace import FEATURES, read_scatter_model, run_raytrace, trace_rays
from iort_planner.dose.spectrum import line, read_spectrum
from iort_planner.dose.voxel_physics import at_energies, tables_of
from iort_planner.errors import TissueError
from tests.dose.voxel_cases import CORTICAL, slab, vertebra, water


def test_water_everywhere_gives_one() -> None:
    found = run_raytrace(water(30), read_spectrum())
    np.testing.assert_allclose(found.to_water, 1.0, atol=2.5e-3)
    np.testing.assert_allclose(found.to_medium, found.to_water, rtol=1e-5)


def test_a_slab_of_cortical_bone_takes_exp_minus_mu_d() -> None:
    tissue = slab(water(20), 5.5, 10.5, CORTICAL)
    rays = trace_rays(tissue, line(30.0))
    tables = tables_of(list(tissue.materials))
    mu = at_energies(tables, tables.mu_total, np.array([30.0]))[:, 0]
    assert rays.primary[20, 20, 35] == pytest.approx(np.exp(-(mu[CORTICAL] * 1.92 - mu[0]) * 0.5), rel=5e-3)


def test_its_unscattered_part_is_that_of_the_exact_one() -> None:
    """Per line and with the voxel's mean there, two basis materials and the voxel's middle here."""
    tissue = vertebra(20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(montecarlo, "BATCH_HISTORIES", 1000)
        exact = run_montecarlo(tissue, read_spectrum(), histories=1, threads=1)
        plain = run_montecarlo(water(20), read_spectrum(), histories=1, threads=1)
    rays = trace_rays(tissue, read_spectrum())
    part = (rays.away_mm > 3) & (rays.away_mm < 20)
    # the scatter's noise is in both denominators; the same seed and cube make it the same
    ratio = exact.primary_to_water[part] / plain.primary_to_water[part]
    difference = np.abs(rays.primary[part] / ratio - 1.0)
    assert float(np.median(difference)) < 0.01
    assert float(np.quantile(difference, 0.9)) < 0.05


def test_it_agrees_with_the_monte_carlo_in_a_vertebra_that_was_not_fitted() -> None:
    """5 to 30 mm: median within 3 %, 95 % within 10 %, the Monte Carlo's own noise included."""
    tissue = vertebra(20, 2.0)
    engine = run_montecarlo(tissue, read_spectrum(), histories=700_000, threads=1)
    found = run_raytrace(tissue, read_spectrum())
    away = tissue.grid.distances_mm(np.zeros(3))
    part = (away >= 5) & (away <= 30)
    difference = np.abs(found.to_water[part] / engine.to_water[part] - 1.0)
    assert float(np.median(difference)) < 0.03
    assert float(np.quantile(difference, 0.95)) < 0.10


def test_bone_takes_several_times_the_dose_of_water_in_it() -> None:
    """facts.md, section 8: 5.4 to 6.6 times by NIST's mu_en from 20 to 50 keV."""
    tissue = slab(water(20), 5.5, 10.5, CORTICAL)
    found = run_raytrace(tissue, read_spectrum())
    assert 5.0 < found.to_medium[20, 20, 28] / found.to_water[20, 20, 28] < 7.2


def test_the_means_hardly_depend_on_the_voxel_size() -> None:
    points = np.array([[12.0, 0.0, 0.0], [0.0, 12.0, 0.0], [-20.0, 4.0, 2.0], [0.0, 3.0, 14.0]])
    fine, coarse = run_raytrace(vertebra(30, 1.0), read_spectrum()), run_raytrace(vertebra(60, 0.5), read_spectrum())
    np.testing.assert_allclose(coarse.ratio_at(points), fine.ratio_at(points), rtol=0.25)


def test_one_and_two_threads_give_the_same_bits() -> None:
    one, two = (run_raytrace(vertebra(20), read_spectrum(), threads=n) for n in (1, 2))
    assert one.to_water.tobytes() == two.to_water.tobytes()


def test_the_shipped_model_says_what_it_was_fitted_to() -> None:
    model = read_scatter_model()
    assert len(model.weights) == len(FEATURES)
    assert 0.0 < model.median_percent <= 3.0
    assert model.p95_percent <= 10.0
    assert "Monte Carlo" in model.origin
    with pytest.raises(TissueError, match="no scatter model was fitted with lines"):
        read_scatter_model(line(30.0))
