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
_ENERGIES = RANGE_KEV[0] + np.arange(round((RANGE_KEV[1] - RANGE_KEV[0]) / _STEP_KEV) + 1) * _STEP_KEV
_X = np.linspace(0.0, 5.0, 501)  # 1/angstrom; 60 keV turned back have 4.84


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
    rows = [_mixed(material, _coefficients) for material in materials]
    mu, mu_en, coherent, incoherent = (np.ascontiguousarray(column) for column in np.stack(rows, axis=1))
    squared, scatter, electrons = np.stack([_mixed(material, _factors) for material in materials], axis=1)
    area = np.zeros_like(squared)
    area[:, 1:] = np.cumsum((squared[:, 1:] + squared[:, :-1]) / 2.0 * np.diff(_X**2), axis=1)
    return PhotonTables(
        first_kev=RANGE_KEV[0],
        per_kev=1.0 / _STEP_KEV,
        mu=mu,
        mu_en=mu_en,
        coherent=coherent,
        incoherent=incoherent,
        x_step=float(_X[1]),
        ff_cum=area,
        sf=np.clip(scatter / electrons, 0.0, 1.0),
    )


def _mixed(material: Material, of_element: Callable[[str], FloatArray]) -> FloatArray:
    parts = [fraction * of_element(element) for element, fraction in material.mass_fractions.items()]
    if not parts:
        raise TissueError(f"material {material.name!r} has no elements")
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


@functools.cache
def _coefficients(element: str) -> FloatArray:
    """Attenuation, energy absorption, coherent, incoherent (4, N) of an element on the tables' energies; log-log."""
    table = _rows(_attenuation(), element)
    ln_e = np.log(table[:, 0])
    return np.array([np.exp(np.interp(np.log(_ENERGIES), ln_e, np.log(table[:, n]))) for n in range(1, 5)])


@functools.cache
def _factors(element: str) -> FloatArray:
    """F^2, S and number of electrons of an element, each over the atomic weight, (3, X)."""
    table = _rows(_form_factors(), element)  # weight, z, x, F, S
    weight, z = table[0, 0], table[0, 1]
    form = CubicSpline(table[:, 2], table[:, 3])(_X)
    scatter = np.clip(CubicSpline(table[:, 2], table[:, 4])(_X), 0.0, z)
    return np.asarray(np.array([form**2, scatter, np.full(_X.shape, z)]) / weight, dtype=np.float64)


def _rows(data: Mapping[str, FloatArray], element: str) -> FloatArray:
    if element not in data:
        raise TissueError(f"no photon data for element {element}; there are {', '.join(sorted(data))}")
    return data[element]


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
