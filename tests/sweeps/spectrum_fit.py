"""Fits the shipped spectrum to the shipped table's shape in water: python -m tests.sweeps.spectrum_fit [--write] (2 minutes).

The model: Kramers' bremsstrahlung with a free exponent and gold's L lines leave the target through an effective thickness of
gold, 0.5 mm of beryllium, an effective thickness of nickel and 0.6 mm of polyetherimide. Exponent, strength of the lines and
the two thicknesses are fitted to ln of the dose rate from 3 to 50 mm; dose by energy comes from `simulate`. The spread of
the fit comes from the table's own copies with 1 % smooth changes of shape.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

from iort_planner import library
from iort_planner.dose.attenuation import mass_attenuation, mass_energy_local
from iort_planner.dose.materials import read_material
from iort_planner.dose.simulate import simulate
from iort_planner.dose.simulation_case import Score, SimulationCase, Sphere
from iort_planner.dose.spectrum import line
from iort_planner.source.table_file import read_table

RADII_MM = np.array([3.0, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 18, 20, 22.5, 25, 27.5, 30, 35, 40, 45, 50])
NODES_KEV = np.array([5.0, 7, 9, 11, 13, 16, 19, 22, 26, 30, 34, 38, 42, 46, 50])
BINS_KEV = np.arange(5.25, 50.0, 0.5)
# Lines of gold: energies of xraylib, strengths those of Bearden and Burr as printed in the X-ray Data Booklet (2009), table 1-3
L_LINES = ((9.713, 100.0), (9.628, 11.0), (11.442, 67.0), (11.585, 23.0), (13.382, 13.0))
FIXED_MM = {"beryllium": 0.5, "polyetherimide": 0.6}  # the project's facts, 2.5 and 2.7
FREE_UM = ("gold", "nickel")
START = np.array([1.0, np.log(0.2), np.log(1.0), np.log(2.0)])
HALF_SHELL_MM = 0.1


@dataclass(frozen=True)
class Kernels:
    """Dose in water by energy and radius, of one photon."""

    energies_kev: Any
    dose: Any  # (E, R)


def kernels(histories: int) -> Kernels:
    """Unscattered photons in closed form, scatter over them from `simulate`, a spline over energy between."""
    water = read_material("water")
    energies = np.concatenate([BINS_KEV, [e for e, _ in L_LINES]])
    ratios = []
    for kev in NODES_KEV:
        scores = tuple(Score(kind="shell", low_mm=r - HALF_SHELL_MM, high_mm=r + HALF_SHELL_MM) for r in RADII_MM)
        case = SimulationCase(
            spectrum=line(float(kev)), spheres=(Sphere(outer_radius_mm=300.0, material=water),), scores=scores
        )
        found = simulate(case, histories=histories, seed=1)
        ratios.append([1.0 / max(dose.primary_fraction, 1e-6) - 1.0 for dose in found.doses])
        sys.stderr.write(f"{kev:g} keV: {found.seconds:.0f} s\n")
    scatter = np.exp(CubicSpline(NODES_KEV, np.log1p(np.array(ratios)))(energies))
    r = RADII_MM / 10.0
    mu, local = mass_attenuation(water, energies), mass_energy_local(water, energies)
    primary = (energies * local)[:, None] * np.exp(-np.outer(mu, r)) / (4.0 * np.pi * r**2)
    return Kernels(energies, primary * scatter)


def photons(theta: Any) -> Any:
    """Photons of each bin, then of each line."""
    power, ln_lines = theta[0], theta[1]
    energies = np.concatenate([BINS_KEV, [e for e, _ in L_LINES]])
    brems = (50.0 / BINS_KEV - 1.0) ** power
    lines = np.exp(ln_lines) * brems.sum() * np.array([s for _, s in L_LINES]) / sum(s for _, s in L_LINES)
    depth = np.zeros(energies.size)
    for name, mm in FIXED_MM.items():
        material = read_material(name)
        depth += mass_attenuation(material, energies) * material.density_g_cm3 * mm / 10.0
    for name, ln_um in zip(FREE_UM, theta[2:], strict=True):
        material = read_material(name)
        depth += mass_attenuation(material, energies) * material.density_g_cm3 * np.exp(ln_um) / 1e4
    return np.concatenate([brems, lines]) * np.exp(-depth)


def residual(theta: Any, found: Kernels, ln_rate: Any) -> Any:
    """ln of the dose over the table's, without its mean: only the shape counts."""
    off = np.log(photons(theta) @ found.dose) - ln_rate
    return off - off.mean()


def fit(found: Kernels, ln_rate: Any) -> Any:
    """The parameters: exponent, ln of the lines' share, ln of the thicknesses in um."""
    weak = 1e-3  # keeps a parameter near its start that the shape does not decide

    def both(theta: Any) -> Any:
        return np.append(residual(theta, found, ln_rate), weak * (theta - START))

    return least_squares(both, START).x


def anchors(theta: Any) -> dict[str, float]:
    """What is published of the beam's quality, as the fitted spectrum gives it."""
    energies = np.concatenate([BINS_KEV, [e for e, _ in L_LINES]])
    air, water, aluminium = (read_material(name) for name in ("air", "water", "aluminium"))
    number, kerma = photons(theta), energies * mass_energy_local(air, energies)
    values = {"mean energy, keV": float((number * energies).sum() / number.sum())}
    al = mass_attenuation(aluminium, energies) * aluminium.density_g_cm3
    for behind in (0.0, 5.0, 10.0, 20.0):
        here = number * np.exp(-mass_attenuation(water, energies) * behind / 10.0)
        thick = np.linspace(0.0, 6.0, 6001)
        left = (here * kerma) @ np.exp(-np.outer(al, thick / 10.0))
        hvl = float(np.interp(-0.5, -left / left[0], thick))
        values[f"half-value layer behind {behind:g} mm, mm Al"] = hvl
        grid = np.arange(5.0, 50.0, 0.01)
        values[f"equivalent energy behind {behind:g} mm, keV"] = float(
            np.interp(-np.log(2.0) / hvl * 10.0, -mass_attenuation(aluminium, grid) * aluminium.density_g_cm3, grid)
        )
    return values


def main() -> int:
    """Fit, print, and with --write replace the shipped spectrum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=400_000, help="of each energy (default 400000)")
    parser.add_argument("--write", action="store_true", help="write library/spectra/needle-50kv.csv")
    args = parser.parse_args()
    table = read_table()
    ln_rate = np.log(table.rate_gy_per_min(RADII_MM))
    found = kernels(args.histories)
    theta = fit(found, ln_rate)
    off = 100.0 * residual(theta, found, ln_rate)
    spread = []
    random = np.random.default_rng(1)
    ln_r = np.log(RADII_MM / 10.0)
    for _ in range(50):
        bent = ln_rate + 0.01 * (random.normal() * ln_r + random.normal() * ln_r**2)
        spread.append(photons(fit(found, bent)))
    shares = np.array([each / each.sum() for each in spread])
    number = photons(theta) / photons(theta).sum()
    mean_kev = shares @ found.energies_kev
    lines = [
        f"exponent {theta[0]:.3f}, lines {np.exp(theta[1]):.3f} of the bremsstrahlung before filters, "
        + ", ".join(f"{name} {np.exp(v):.2f} um" for name, v in zip(FREE_UM, theta[2:], strict=True)),
        f"shape in water against the table, 3 to 50 mm: largest {np.abs(off).max():.2f} %, rms {np.sqrt(np.mean(off**2)):.2f} %",
        f"mean energy of 50 fits to tables bent by 1 % (k=1): {mean_kev.mean():.2f} +- {mean_kev.std():.2f} keV",
        *(f"{name}: {value:.2f}" for name, value in anchors(theta).items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if args.write:
        head = [
            "Photons of the reference needle by energy, iort_planner. NOT FOR CLINICAL USE: derived, not measured.",
            "Made by python -m tests.sweeps.spectrum_fit --write; the model stands there.",
            *lines,
        ]
        width = 0.25
        rows = [f"{e - width:g},{e + width:g},{n:.5g}" for e, n in zip(BINS_KEV, number, strict=False)]
        rows += [f"{e:g},{e:g},{n:.5g}" for (e, _), n in zip(L_LINES, number[BINS_KEV.size :], strict=True)]
        path = Path(library.__file__).parent / "spectra" / "needle-50kv.csv"
        text = [*(f"# {each}" for each in head), "energy_low_kev,energy_high_kev,photons", *rows]
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
