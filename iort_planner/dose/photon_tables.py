"""Interaction of photons with materials from 5 to 60 keV, as arrays for compiled loops."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from iort_planner import library
from iort_planner.errors import TissueError

if TYPE_CHECKING:
    from iort_planner.dose.materials import Material
    from iort_planner.units import FloatArray

RANGE_KEV = (5.0, 60.0)
_STEP_KEV = 0.1
_FEWEST_X = 501
_MOST_X = 5.0  # 1/angstrom: of 60 keV turned back, 4.84


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotonTables:
    """Coefficients per mass on equal steps of energy, and what angles are drawn from; one row a material.

    Parameters
    ----------
    first_kev, per_kev : float
        First energy, and steps per keV.
    mu, mu_en, coherent, incoherent : ndarray of shape (M, N), cm2/g
        Attenuation, energy absorption, coherent and incoherent scattering.
    x_step : float, 1/angstrom
        Of x = sin(angle/2)/wavelength in the next two.
    ff_cum : ndarray of shape (M, X)
        Integral of the squared form factor over x^2, for coherent angles.
    sf : ndarray of shape (M, X)
        Incoherent scattering function per electron, 0 to 1.
    """

    first_kev: float
    per_kev: float
    mu: FloatArray
    mu_en: FloatArray
    coherent: FloatArray
    incoherent: FloatArray
    x_step: float
    ff_cum: FloatArray
    sf: FloatArray

    def at(self, table: FloatArray, energy_kev: FloatArray) -> FloatArray:
        """One of the tables (M, N) at energies (E,), (M, E); linear between steps, as the compiled loops do it."""
        grid = self.first_kev + np.arange(table.shape[1]) / self.per_kev
        return np.array([np.interp(energy_kev, grid, row) for row in table])


def photon_tables(materials: Sequence[Material]) -> PhotonTables:
    """Tables of materials; of a mixture each coefficient is the mean by mass.

    Raises
    ------
    TissueError
        If an element has no data.
    """
    low, high = RANGE_KEV
    energies: FloatArray = low + np.arange(round((high - low) / _STEP_KEV) + 1) * _STEP_KEV
    x = np.linspace(0.0, _MOST_X, _FEWEST_X)
    rows = [_mixed(_attenuation(), m, lambda table: _log_log(table, energies)) for m in materials]
    mu, mu_en, coherent, incoherent = (np.ascontiguousarray(column) for column in np.stack(rows, axis=1))
    factors = [_mixed(_form_factors(), m, lambda table: _per_mass(table, x)) for m in materials]
    squared, scatter, electrons = np.stack(factors, axis=1)
    area = np.zeros_like(squared)
    area[:, 1:] = np.cumsum((squared[:, 1:] + squared[:, :-1]) / 2.0 * np.diff(x**2), axis=1)
    return PhotonTables(
        first_kev=low,
        per_kev=1.0 / _STEP_KEV,
        mu=mu,
        mu_en=mu_en,
        coherent=coherent,
        incoherent=incoherent,
        x_step=float(x[1]),
        ff_cum=area,
        sf=np.clip(scatter / electrons, 0.0, 1.0),
    )


def _mixed(
    data: Mapping[str, FloatArray], material: Material, of_element: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    total: FloatArray | None = None
    for element, fraction in material.mass_fractions.items():
        if element not in data:
            raise TissueError(f"material {material.name!r}: no photon data for element {element}")
        part = fraction * of_element(data[element])
        total = part if total is None else total + part
    if total is None:
        raise TissueError(f"material {material.name!r} has no elements")
    return total


def _log_log(table: FloatArray, energies: FloatArray) -> FloatArray:
    """Coefficients (4, N) of an element's rows (energy, 4 coefficients)."""
    ln_e = np.log(table[:, 0])
    return np.array([np.exp(np.interp(np.log(energies), ln_e, np.log(table[:, n]))) for n in range(1, 5)])


def _per_mass(table: FloatArray, x: FloatArray) -> FloatArray:
    """F^2, S and number of electrons, each over the atomic weight, (3, X), of rows (weight, z, x, F, S)."""
    weight, z = table[0, 0], table[0, 1]
    form = CubicSpline(table[:, 2], table[:, 3])(x)
    scatter = np.clip(CubicSpline(table[:, 2], table[:, 4])(x), 0.0, z)
    return np.asarray(np.array([form**2, scatter, np.full(x.shape, z)]) / weight, dtype=np.float64)


@functools.cache
def _attenuation() -> Mapping[str, FloatArray]:
    return _by_element("attenuation")


@functools.cache
def _form_factors() -> Mapping[str, FloatArray]:
    return _by_element("form_factors")


def _by_element(name: str) -> Mapping[str, FloatArray]:
    text = library.find("photons", name).read_text(encoding="utf-8")
    lines = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    next(lines)
    found: dict[str, list[list[float]]] = {}
    for element, *numbers in lines:
        found.setdefault(element, []).append([float(n) for n in numbers])
    return {element: np.array(rows) for element, rows in found.items()}
