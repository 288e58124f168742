"""Coefficients of photons from 1 to 60 keV per mass, of elements from xraylib and of materials by mass fractions.

xraylib (Schoonjans et al. 2011, Spectrochim Acta B 66:776, doi:10.1016/j.sab.2011.09.011) gives photoelectric, coherent and
incoherent cross-sections. Its own energy-absorption coefficients are up to 37 % off in water at these energies and are not
used: what is absorbed is put together here.

- Photoelectric: all of the energy but that of fluorescence photons (K and L lines, with xraylib's yields).
- Incoherent: the mean energy that Klein and Nishina's cross-section gives the electron, weighted by the incoherent scattering
  function, which takes away small angles.
- Electrons stop where they start: 50 keV reach 0.04 mm in water, so kerma is dose (and bremsstrahlung is under 0.1 %).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xraylib
import xraylib_np
from scipy.interpolate import CubicSpline

from iort_planner.errors import TissueError
from iort_planner.units import FloatArray

if TYPE_CHECKING:
    from iort_planner.dose.materials import Material

RANGE_KEV = (1.0, 60.0)
ELECTRON_KEV = 510.99895  # rest energy; CODATA 2018
KEV_ANGSTROM = 12.398419843  # h c; CODATA 2018
LOCAL_KEV = 8.0  # fluorescence up to here is absorbed within 0.15 mm of bone: it stays with the voxel
_LINES = ("KA_LINE", "KB_LINE", "LA_LINE", "LB_LINE", "LG1_LINE", "LL_LINE")
_ANGLES = 201
_TRANSFER_NODES = 60
_Z = npt.NDArray[np.int64]
_OfElement = Callable[[_Z, FloatArray], FloatArray]
_LEAST_X = 0.006  # 1/angstrom; xraylib's scattering functions start a little below


def mass_attenuation(material: Material, energy_kev: FloatArray) -> FloatArray:
    """Total mass attenuation coefficient, coherent scattering included, cm2/g; same shape as the energies.

    Raises
    ------
    TissueError
        If an energy lies outside 1 to 60 keV.
    """
    return photoelectric(material, energy_kev) + coherent(material, energy_kev) + incoherent(material, energy_kev)


def photoelectric(material: Material, energy_kev: FloatArray) -> FloatArray:
    """Photoelectric part, cm2/g."""
    return _mixed(material, energy_kev, xraylib_np.CS_Photo)


def coherent(material: Material, energy_kev: FloatArray) -> FloatArray:
    """Coherent (Rayleigh) part, cm2/g."""
    return _mixed(material, energy_kev, xraylib_np.CS_Rayl)


def incoherent(material: Material, energy_kev: FloatArray) -> FloatArray:
    """Incoherent (Compton) part with electron binding, cm2/g."""
    return _mixed(material, energy_kev, xraylib_np.CS_Compt)


def mass_energy_absorption(material: Material, energy_kev: FloatArray) -> FloatArray:
    """Mass energy-absorption coefficient as NIST defines it: fluorescence counts as gone; cm2/g."""
    return _mixed(material, energy_kev, lambda z, kev: _absorbed(z, kev, 0.0))


def mass_energy_local(material: Material, energy_kev: FloatArray) -> FloatArray:
    """What stays with a voxel, cm2/g: fluorescence up to 8 keV (calcium's 3.7) is absorbed in it, barium's 32 keV is gone."""
    return _mixed(material, energy_kev, lambda z, kev: _absorbed(z, kev, LOCAL_KEV))


def form_factor_squared(material: Material, x_per_angstrom: FloatArray) -> FloatArray:
    """Squared atomic form factors per atomic mass unit, for coherent angles; x = sin(angle/2)/wavelength."""
    return _per_atom(material, x_per_angstrom, lambda z, x: np.asarray(xraylib_np.FF_Rayl(z, x))[0] ** 2)


def scattering_function(material: Material, x_per_angstrom: FloatArray) -> FloatArray:
    """Incoherent scattering function per electron, 0 to 1."""
    bound = _per_atom(material, x_per_angstrom, lambda z, x: np.asarray(xraylib_np.SF_Compt(z, x))[0])
    electrons = _per_atom(material, np.zeros(1), lambda z, _: z.astype(np.float64))
    return np.clip(bound / electrons, 0.0, 1.0)


def _mixed(material: Material, energy_kev: FloatArray, of_element: _OfElement) -> FloatArray:
    energies = np.asarray(energy_kev, dtype=np.float64)
    low, high = RANGE_KEV
    if not np.all((energies >= low) & (energies <= high)):
        raise TissueError(
            f"photon energies must lie from {low:g} to {high:g} keV, got {energies.min():g} to {energies.max():g}"
        )
    total = np.zeros(energies.size)
    for symbol, fraction in material.mass_fractions.items():
        z = np.array([xraylib.SymbolToAtomicNumber(symbol)])
        total += fraction * np.asarray(of_element(z, energies.ravel())).reshape(-1)
    return total.reshape(energies.shape)


def _per_atom(material: Material, x: FloatArray, of_element: _OfElement) -> FloatArray:
    total = np.zeros(x.shape)
    for symbol, fraction in material.mass_fractions.items():
        z = np.array([xraylib.SymbolToAtomicNumber(symbol)])
        total += fraction / float(xraylib.AtomicWeight(int(z[0]))) * of_element(z, x)
    return total


def _absorbed(z: _Z, kev: FloatArray, local_kev: float) -> FloatArray:
    """Photoelectric and Compton energy that stays, over the photon's energy, times the cross-sections; cm2/g."""
    stays = np.asarray(xraylib_np.CS_Photo(z, kev))[0]
    for name in _LINES:
        line = getattr(xraylib, name)
        try:
            line_kev = float(xraylib.LineEnergy(int(z[0]), line))
        except ValueError:  # the element has no such line
            continue
        if line_kev > local_kev:
            stays = stays - np.asarray(xraylib_np.CS_FluorLine(z, np.array([line]), kev))[0, 0] * line_kev / kev
    transferred = _transfer_curve(int(z[0]))(np.log(kev))
    return np.asarray(stays + np.asarray(xraylib_np.CS_Compt(z, kev))[0] * transferred, dtype=np.float64)


@functools.cache
def _transfer_curve(z: int) -> CubicSpline:
    """That share over ln E: smooth, so that 60 energies give it within 1e-5."""
    ln_kev = np.linspace(math.log(RANGE_KEV[0]), math.log(RANGE_KEV[1]), _TRANSFER_NODES)
    cosine = np.linspace(-1.0, 1.0, _ANGLES)
    shares = []
    for kev in np.exp(ln_kev):
        left = 1.0 / (1.0 + kev / ELECTRON_KEV * (1.0 - cosine))
        x = np.maximum(kev / KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine)), _LEAST_X)
        bound = np.asarray(xraylib_np.SF_Compt(np.array([z]), x))[0]
        weight = left**2 * (left + 1.0 / left - 1.0 + cosine**2) * bound
        shares.append(np.sum(weight * (1.0 - left)) / np.sum(weight))
    return CubicSpline(ln_kev, shares)
