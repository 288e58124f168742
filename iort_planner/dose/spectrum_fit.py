"""Fit of the source's spectrum to the shipped depth-dose table: ``python -m iort_planner.dose.spectrum_fit FILE.csv``.

Dose of single energies in water is simulated once; the dose of a spectrum is then a sum, and the fit takes a second.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from iort_planner import INTENDED_USE, library
from iort_planner.dose.attenuation import attenuation, energy_absorption
from iort_planner.dose.materials import read_material
from iort_planner.dose.simulate import GY_PER_KEV_PER_G, simulate
from iort_planner.dose.simulation_case import Score, SimulationCase, Sphere
from iort_planner.dose.spectrum import COLUMNS, Spectrum
from iort_planner.dose.spectrum_model import (
    BERYLLIUM_MM,
    BIN_KEV,
    GOLD_UM,
    SpectrumModel,
    SpectrumParameters,
)
from iort_planner.output import whole_file
from iort_planner.source.table_file import read_table

if TYPE_CHECKING:
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.units import FloatArray

WATER_RADIUS_MM = 300.0
KERNEL_KEV = (8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 24.0, 28.0, 33.0, 38.0, 44.0, 50.0)
HISTORIES = 2_000_000  # an energy
_HALF_SHELL = 0.02  # of the radius; wide, because only the smooth ratio to the primary is taken from it
_TRUSTED_MM = (5.0, 30.0)
# what is published of the beam quality, as aims with their width: half-value layers behind 0 and 20 mm of water, mm Al
_HVL_AIMS = ((0.0, 0.11, 0.02), (20.0, 1.47, 0.10))
NICKEL_UM = 2.0  # assumed; `main` shows what 0 and 4 do
_BOUNDS = ((0.0, 0.0, 0.0), (1.0, 3.0, 5.0))  # thick share, line ratio, plastic in mm
_START = (0.5, 0.2, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DoseKernels:
    """Dose of single energies in water at the table's distances.

    Parameters
    ----------
    distance_mm : ndarray of shape (R,), mm
    ln_buildup : ndarray of shape (K, R)
        ln of total over primary dose at the energies `KERNEL_KEV`.
    """

    distance_mm: FloatArray
    ln_buildup: FloatArray

    def dose_gy(self, energy_kev: FloatArray) -> FloatArray:
        """Dose per photon, Gy, of shape (energies, R): the primary in closed form times the simulated build-up."""
        water = read_material("water")
        mu_per_mm = attenuation(water, energy_kev) * 0.1
        r = self.distance_mm
        primary = np.exp(-mu_per_mm[:, None] * r) / (4.0 * np.pi * r**2)
        primary = primary * (energy_absorption(water, energy_kev) * energy_kev * 100.0 * GY_PER_KEV_PER_G)[:, None]
        place = np.log(np.clip(energy_kev, KERNEL_KEV[0], KERNEL_KEV[-1]))
        return np.asarray(primary * np.exp(PchipInterpolator(np.log(KERNEL_KEV), self.ln_buildup, axis=0)(place)))


def water_case(source: Spectrum, distance_mm: FloatArray, half_shell: float) -> SimulationCase:
    """The source in water, with shells at these distances (half their thickness as a part of the distance)."""
    return SimulationCase(
        source=source,
        materials=(read_material("water"),),
        spheres=(Sphere(WATER_RADIUS_MM, "water"),),
        slabs=(),
        scores=tuple(Score("shell", float(r * (1.0 - half_shell)), float(r * (1.0 + half_shell))) for r in distance_mm),
    )


def dose_kernels(distance_mm: FloatArray, histories: int = HISTORIES, threads: int = 1) -> DoseKernels:
    """Simulate each energy of `KERNEL_KEV` in water."""
    rows = []
    for n, energy in enumerate(KERNEL_KEV):
        line = np.array([energy])
        source = Spectrum(energy_low_kev=line, energy_high_kev=line, photons=np.ones(1), name=f"{energy:g} keV")
        case = water_case(source, distance_mm, _HALF_SHELL)
        result = simulate(case, histories=histories, seed=1 + n, threads=threads)
        fraction = np.array([each.primary_fraction for each in result.scores])
        known = np.array([each.uncertainty_percent < 5.0 for each in result.scores])
        # far beyond the reach of an energy the ratio is unknown and the dose nothing: hold the last known value
        r = np.asarray(distance_mm)
        rows.append(np.interp(r, r[known], -np.log(fraction[known])))
    return DoseKernels(distance_mm=np.asarray(distance_mm), ln_buildup=np.array(rows))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumFit:
    """A fitted spectrum and how well it does.

    Parameters
    ----------
    parameters, spread : SpectrumParameters
        Values, and their standard uncertainties by the fit's own curvature.
    residual_percent : ndarray of shape (R,)
        Dose of the spectrum over the table's, less 1, both normalised by the fit's common scale.
    photons_per_s : float
        That give the table's dose rates.
    photons : ndarray
        The spectrum at `SpectrumModel.energy_kev`, sum 1.
    d8_over_d13 : float
    hvl_0_mm, hvl_20_mm : float, mm Al
        Behind 0 and 20 mm of water.
    """

    parameters: SpectrumParameters
    spread: SpectrumParameters
    distance_mm: FloatArray
    residual_percent: FloatArray
    photons_per_s: float
    photons: FloatArray
    d8_over_d13: float
    hvl_0_mm: float
    hvl_20_mm: float

    def worst_percent(self, low_mm: float, high_mm: float) -> float:
        """Largest residual between two distances, without its sign."""
        within = (self.distance_mm >= low_mm) & (self.distance_mm <= high_mm)
        return float(np.max(np.abs(self.residual_percent[within])))


def fit_spectrum(table: DepthDoseTable, kernels: DoseKernels, nickel_um: float = NICKEL_UM) -> SpectrumFit:
    """Fit the model's parameters to a table's shape, with the half-value layers as weak aims.

    Parameters
    ----------
    table : DepthDoseTable
    kernels : DoseKernels
        At the table's distances.
    nickel_um : float, um
        Coating, held.
    """
    model = SpectrumModel()
    single = dose_of_bins(model, kernels)
    r = np.asarray(table.distance_mm)
    wanted = np.log(np.asarray(table.dose_rate_gy_per_min))
    sigma = np.where((r >= _TRUSTED_MM[0]) & (r <= _TRUSTED_MM[1]), 0.003, 0.006)

    def parameters(x: FloatArray) -> SpectrumParameters:
        share, lines, plastic = (float(value) for value in x)
        return SpectrumParameters(thick_share=share, line_ratio=lines, nickel_um=nickel_um, plastic_mm=plastic)

    def log_ratio(x: FloatArray) -> FloatArray:
        difference = np.log(model.photons(parameters(x)) @ single) - wanted
        return np.asarray(difference - np.average(difference, weights=sigma**-2))

    def residuals(x: FloatArray) -> FloatArray:
        photons = model.photons(parameters(x))
        quality = [(model.half_value_layer_mm(photons, w) - aim) / width for w, aim, width in _HVL_AIMS]
        return np.concatenate([log_ratio(x) / sigma, quality])

    found = least_squares(residuals, _START, bounds=_BOUNDS, x_scale=[0.1, 0.1, 0.1])
    spread = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    photons = model.photons(parameters(found.x))
    dose = photons @ single
    scale = float(np.exp(np.average(wanted - np.log(dose), weights=sigma**-2)))
    return SpectrumFit(
        parameters=parameters(found.x),
        spread=dataclasses.replace(parameters(spread), nickel_um=0.0),
        distance_mm=r,
        residual_percent=100.0 * np.expm1(log_ratio(found.x)),
        photons_per_s=scale / 60.0,
        photons=photons,
        d8_over_d13=float(np.exp(np.interp(8.0, r, np.log(dose)) - np.interp(13.0, r, np.log(dose)))),
        hvl_0_mm=model.half_value_layer_mm(photons),
        hvl_20_mm=model.half_value_layer_mm(photons, 20.0),
    )


def dose_of_bins(model: SpectrumModel, kernels: DoseKernels) -> FloatArray:
    """Dose per photon of each bin and line; within a bin photons are spread evenly, and low energies fall steeply."""
    dose = kernels.dose_gy(model.energy_kev)
    bins = model.low.size
    nodes, weights = np.polynomial.legendre.leggauss(3)
    dose[:bins] = sum(
        0.5 * weight * kernels.dose_gy(model.low + 0.5 * BIN_KEV * (1.0 + node))
        for node, weight in zip(nodes, weights, strict=True)
    )
    return dose


def check_by_simulation(
    spectrum: Spectrum, table: DepthDoseTable, histories: int, threads: int = 1
) -> tuple[FloatArray, FloatArray]:
    """The table's shape once more, by `simulate` with the spectrum itself: residual and uncertainty in percent.

    Both are normalised at 8 mm.
    """
    r = np.asarray(table.distance_mm)
    result = simulate(water_case(spectrum, r, 0.005), histories=histories, threads=threads)
    dose = np.array([each.dose_to_water_gy_per_photon for each in result.scores])
    ratio = dose / np.asarray(table.dose_rate_gy_per_min)
    return 100.0 * (ratio / ratio[r == 8.0] - 1.0), np.array([each.uncertainty_percent for each in result.scores])


def csv_text(fit: SpectrumFit, spectrum: Spectrum, remarks: list[str]) -> str:
    """The spectrum's CSV: what it is, how it was made and how well it fits, then a row a bin or line."""
    p, s = fit.parameters, fit.spread
    head = [
        "50 kV source with a thin gold target behind the needle applicator's tip; photons in each bin, sum 1.",
        f"derived, not measured. {INTENDED_USE}",
        "made by: python -m iort_planner.dose.spectrum_fit FILE.csv",
        f"fitted to: the shape of {library.DEFAULT_TABLE}.csv from 3 to 50 mm; weak aims: half-value layers "
        "0.11 +- 0.02 and 1.47 +- 0.10 mm Al behind 0 and 20 mm of water (model of the same table)",
        f"assumed: beryllium {BERYLLIUM_MM:g} mm, gold {GOLD_UM:g} um, coating {p.nickel_um:g} um nickel; Kramers thick and "
        "1/E thin bremsstrahlung; Au L lines 111 : 90 : 13",
        f"fitted (k=1 of the fit alone): thick share {p.thick_share:.3f} +- {s.thick_share:.3f}, L lines over "
        f"bremsstrahlung {p.line_ratio:.3f} +- {s.line_ratio:.3f}, plastic {p.plastic_mm:.2f} +- {s.plastic_mm:.2f} mm",
        f"residual: within {fit.worst_percent(5.0, 30.0):.2f} % from 5 to 30 mm, {fit.worst_percent(3.0, 50.0):.2f} % from 3 "
        "to 50 mm",
        f"D8/D13: {fit.d8_over_d13:.3f} (published 3.64 +- 0.08); half-value layers {fit.hvl_0_mm:.3f} and "
        f"{fit.hvl_20_mm:.2f} mm Al behind 0 and 20 mm of water (published about 0.1, over 1.3)",
        f"photons per second for the table's rates: {fit.photons_per_s:.3e}",
        *remarks,
    ]
    rows = [f"# {line}" for line in head] + [",".join(COLUMNS)]
    rows += [
        f"{low:g},{high:g},{photons:.6e}"
        for low, high, photons in zip(spectrum.energy_low_kev, spectrum.energy_high_kev, spectrum.photons, strict=True)
    ]
    return "\n".join(rows) + "\n"


def main(target: Path) -> None:
    """Fit, look how much the held coating matters, check by simulation, and write the CSV."""
    table = read_table()
    kernels = dose_kernels(np.asarray(table.distance_mm))
    fit = fit_spectrum(table, kernels)
    model = SpectrumModel()
    spectrum = model.spectrum(fit.parameters, "fitted spectrum")
    others = [fit_spectrum(table, kernels, nickel_um) for nickel_um in (0.0, 4.0)]
    span = [
        f"{min(values):.1f} to {max(values):.1f} keV behind {depth:g} mm"
        for depth in (0.0, 10.0, 20.0)
        for values in [[model.mean_kev(each.photons, depth) for each in (fit, *others)]]
    ]
    worst = max(each.worst_percent(3.0, 50.0) for each in others)
    residual, uncertainty = check_by_simulation(spectrum, table, 4 * HISTORIES)
    remarks = [
        f"spread: a coating of 0 to 4 um nickel fits within {worst:.2f} % too; mean energy of the primary "
        f"{', '.join(span)} of water",
        f"checked by simulate with this spectrum: the table's shape (8 mm = 1) within {np.max(np.abs(residual)):.2f} %, "
        f"statistical uncertainty up to {np.max(uncertainty):.2f} %",
    ]
    with whole_file(target) as file:
        file.write_text(csv_text(fit, spectrum, remarks), encoding="utf-8")
    sys.stdout.write("\n".join(remarks) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give one file to write: python -m iort_planner.dose.spectrum_fit FILE.csv")
    main(Path(sys.argv[1]))
