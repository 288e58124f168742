"""The shipped spectrum gives the shipped table's shape, and the fit that made it finds what it is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from iort_planner.dose.spectrum import Spectrum, read_spectrum
from iort_planner.dose.spectrum_fit import check_by_simulation, dose_kernels, dose_of_bins, fit_spectrum
from iort_planner.dose.spectrum_model import SpectrumModel, SpectrumParameters
from iort_planner.errors import SimulationError
from iort_planner.source.table_file import read_table


def test_the_shipped_spectrum_gives_the_shape_of_the_shipped_table() -> None:
    table = read_table()
    residual, uncertainty = check_by_simulation(read_spectrum("needle-50kv"), table, 1_000_000)

    trusted = (table.distance_mm >= 5.0) & (table.distance_mm <= 30.0)
    assert np.max(uncertainty[trusted]) < 0.4
    assert np.max(np.abs(residual[trusted])) < 1.0  # the bar is 3 %
    assert np.max(np.abs(residual)) < 2.0


def test_the_shipped_spectrum_has_the_beam_quality_that_is_published() -> None:
    spectrum = read_spectrum("needle-50kv")
    model = SpectrumModel()
    ratio = ratio_8_13(spectrum)

    np.testing.assert_allclose(0.5 * (spectrum.energy_low_kev + spectrum.energy_high_kev), model.energy_kev)
    # Sethi et al. 2018, Front Oncol 8:74, table 1: 8 Gy at 8 mm and 2.2 Gy at 13 mm: 3.56 to 3.72 by the rounding of 2.2
    assert 3.56 < ratio < 3.72
    # AAPM TG-292 by a summary: about 0.1 mm Al near the surface, over 1.3 mm Al at 20 mm
    assert 0.07 < model.half_value_layer_mm(spectrum.photons) < 0.15
    assert 1.3 < model.half_value_layer_mm(spectrum.photons, 20.0) < 1.7


def ratio_8_13(spectrum: Spectrum) -> float:
    residual, _ = check_by_simulation(spectrum, read_table(), 200_000)
    table = read_table()
    rate = table.dose_rate_gy_per_min * (1.0 + residual / 100.0)
    return float(rate[table.distance_mm == 8.0][0] / rate[table.distance_mm == 13.0][0])


def test_the_fit_finds_the_parameters_that_made_a_table() -> None:
    table = read_table()
    kernels = dose_kernels(np.asarray(table.distance_mm), histories=20_000)
    truth = SpectrumParameters(thick_share=0.4, line_ratio=0.1, nickel_um=2.0, plastic_mm=0.9)
    made = SpectrumModel().photons(truth) @ dose_of_bins(SpectrumModel(), kernels)
    found = fit_spectrum(dataclasses.replace(table, dose_rate_gy_per_min=7.0 * made / made[7]), kernels)

    assert found.parameters.thick_share == pytest.approx(0.4, abs=0.03)
    assert found.worst_percent(3.0, 50.0) < 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy,photons\n1,2\n", "first row after the comments must be"),
        ("energy_low_kev,energy_high_kev,photons\n20,21\n", "line 2: '20,21' must be three numbers"),
        ("energy_low_kev,energy_high_kev,photons\n21,20,1\n", "21 to 20 keV"),
        ("energy_low_kev,energy_high_kev,photons\n20,21,nan\n", "must be a number of at least 0"),
        ("energy_low_kev,energy_high_kev,photons\n", "lists of one length of at least 1"),
        ("", "first row after the comments must be"),
    ],
)
def test_a_spectrum_with_a_fault_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spectrum.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SimulationError, match=message):
        read_spectrum(tmp_path / "spectrum.csv")


def test_bins_and_lines_of_a_spectrum_stand_for_their_photons() -> None:
    spectrum = Spectrum(
        energy_low_kev=np.array([10.0, 20.0]),
        energy_high_kev=np.array([10.0, 40.0]),
        photons=np.array([1.0, 3.0]),
        name="x",
    )
    energies, weights = spectrum.nodes()

    assert weights.sum() == pytest.approx(1.0)
    assert float(weights @ energies) == pytest.approx(spectrum.mean_kev) == pytest.approx(25.0)
    # Gauss: exact for the square of the energy as well, (10^2 + 3 (40^3 - 20^3) / 60) / 4
    assert float(weights @ energies**2) == pytest.approx((100.0 + 3.0 * 56000.0 / 60.0) / 4.0)
