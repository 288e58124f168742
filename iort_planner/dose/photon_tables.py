"""Interaction coefficients and sampling tables of several materials on one energy grid, for the transport kernels.

Electrons are absorbed where they start (collision kerma is the dose): up to 50 keV their range in water is under
0.05 mm (NIST ESTAR: 0.043 mm at 50 keV).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xraylib

from iort_planner.dose.attenuation import (
    KEV_ANGSTROM,
    FluorescenceLine,
    coherent,
    compton_transfer_fraction,
    electrons_seen,
    fluorescence_lines,
    form_factor_squared,
    incoherent,
    line_emission,
    photoelectric,
)
from iort_planner.errors import MaterialError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.dose.materials import Material
    from iort_planner.units import FloatArray

LEAST_KEV = 1.0
MOST_KEV = 50.0
STEP_KEV = 0.05  # linear between grid points: 0.02 % at 4 keV, 0.002 % at 20 keV (the curve of E^-3)
LEAST_LINE_KEV = 5.0  # characteristic photons below it stay where they are: calcium's reach 0.03 mm of bone
X_STEP_PER_ANGSTROM = 0.002  # of momentum transfer x = E sin(theta/2) / hc


class KernelTables(NamedTuple):
    """The arrays as numba takes them; M materials, N energies, L lines, K momentum transfers.

    Coefficients are per mass (cm2/g). Fields are those of `PhotonTables`; ``least_kev`` and ``per_kev`` place an energy
    on the grid: (E - least_kev) * per_kev. ``per_x`` is 1 / x_step, in Angstrom.
    """

    least_kev: float
    per_kev: float
    mu_total: FloatArray
    mu_photo: FloatArray
    mu_incoherent: FloatArray
    mu_coherent: FloatArray
    mu_en: FloatArray
    mu_stay: FloatArray
    per_x: float
    coherent_cumulative: FloatArray
    seen: FloatArray
    electrons: FloatArray
    line_kev: FloatArray
    line_cumulative: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotonTables:
    """Coefficients and sampling tables of a list of materials.

    Parameters
    ----------
    materials : tuple of Material, M of them
        Their order is the material index of every array and kernel.
    density_g_cm3 : ndarray of shape (M,)
        Nominal densities; a voxel code puts its own in their place.
    energy_kev : ndarray of shape (N,), keV
        Equal steps from `LEAST_KEV` on.
    mu_total, mu_photo, mu_incoherent, mu_coherent : ndarray of shape (M, N), cm2/g
        Mass attenuation; total is the sum of the three.
    mu_en : ndarray of shape (M, N), cm2/g
        Mass energy-absorption. Only lines that are transported (``line_kev``) count as carried away, so that fluence
        times energy times mu_en of all photons adds up to the energy that they lose.
    mu_stay : ndarray of shape (M, N), cm2/g
        The part of ``mu_en`` that is characteristic photons absorbed on the spot; mu_en - mu_stay is the coefficient of
        the literature (NIST), which has all of them leave.
    coherent_cumulative : ndarray of shape (M, K)
        Integral of the squared coherent form factor over x^2, from 0 to column k's x, per mass.
    seen : ndarray of shape (M, K)
        Incoherent scattering function S(x), as a part of all electrons (0 to 1).
    electrons : ndarray of shape (M,), mol/g
        Electrons per mass.
    x_step : float, 1/Angstrom
        Column k of the two is at x = k * x_step, x = E sin(theta/2) / hc.
    line_kev : ndarray of shape (M, L), keV
        Energies of the characteristic lines; 0 where a material has fewer.
    line_cumulative : ndarray of shape (M, L, N)
        Chance that a photoelectric absorption emits line 0 to l.

    Notes
    -----
    An absorption edge within a step is drawn out over that step (0.05 keV).
    """

    materials: tuple[Material, ...]
    density_g_cm3: FloatArray
    energy_kev: FloatArray
    mu_total: FloatArray
    mu_photo: FloatArray
    mu_incoherent: FloatArray
    mu_coherent: FloatArray
    mu_en: FloatArray
    mu_stay: FloatArray
    x_step: float
    coherent_cumulative: FloatArray
    seen: FloatArray
    electrons: FloatArray
    line_kev: FloatArray
    line_cumulative: FloatArray

    def kernel(self) -> KernelTables:
        """The arrays in the form that the kernels take."""
        return KernelTables(
            least_kev=float(self.energy_kev[0]),
            per_kev=1.0 / STEP_KEV,
            mu_total=self.mu_total,
            mu_photo=self.mu_photo,
            mu_incoherent=self.mu_incoherent,
            mu_coherent=self.mu_coherent,
            mu_en=self.mu_en,
            mu_stay=self.mu_stay,
            per_x=1.0 / self.x_step,
            coherent_cumulative=self.coherent_cumulative,
            seen=self.seen,
            electrons=self.electrons,
            line_kev=self.line_kev,
            line_cumulative=self.line_cumulative,
        )

    def index(self, name: str) -> int:
        """Index of a material by its name.

        Raises
        ------
        MaterialError
            If these tables do not hold it.
        """
        for n, material in enumerate(self.materials):
            if material.name == name:
                return n
        raise MaterialError(f"the photon tables hold no material {name!r}")


def photon_tables(materials: Sequence[Material], least_line_kev: float = LEAST_LINE_KEV) -> PhotonTables:
    """Tables of these materials from `LEAST_KEV` to `MOST_KEV`.

    Parameters
    ----------
    materials : sequence of Material
        Distinct names.
    least_line_kev : float, keV
        Characteristic photons below it are absorbed on the spot. At 10 only those of barium and heavier ones travel.

    Raises
    ------
    MaterialError
        If there is no material, or two have one name.
    """
    names = [material.name for material in materials]
    if not names or len(set(names)) != len(names):
        raise MaterialError(f"photon tables need materials with distinct names, got {names}")
    energies = np.linspace(LEAST_KEV, MOST_KEV, round((MOST_KEV - LEAST_KEV) / STEP_KEV) + 1)
    photo = np.array([photoelectric(each, energies) for each in materials])
    compton = np.array([incoherent(each, energies) for each in materials])
    rayleigh = np.array([coherent(each, energies) for each in materials])
    # the transfer fraction is smooth: computed at fewer energies, it costs a tenth
    coarse = np.linspace(LEAST_KEV, MOST_KEV, 99)
    handed_over = np.array([np.interp(energies, coarse, compton_transfer_fraction(m, coarse)) for m in materials])

    lines = [fluorescence_lines(each, least_line_kev, MOST_KEV) for each in materials]
    stay = [
        [line for line in fluorescence_lines(each, LEAST_KEV, MOST_KEV) if line.energy_kev < least_line_kev]
        for each in materials
    ]
    emitted, line_kev = _emission(materials, lines, energies)
    stayed = np.einsum("mln,ml->mn", *_emission(materials, stay, energies))
    carried = np.einsum("mln,ml->mn", emitted, line_kev)

    steps = int(MOST_KEV / KEV_ANGSTROM / X_STEP_PER_ANGSTROM) + 2
    x = X_STEP_PER_ANGSTROM * np.arange(steps, dtype=np.float64)
    squared = np.array([form_factor_squared(each, x) for each in materials])
    between = 0.5 * (squared[:, 1:] + squared[:, :-1]) * np.diff(x**2)
    seen = np.array([electrons_seen(each, x) for each in materials])
    electrons = np.array([sum(part * z / _atomic_weight(z) for z, part in each.elements) for each in materials])
    return PhotonTables(
        materials=tuple(materials),
        density_g_cm3=np.array([each.density_g_cm3 for each in materials]),
        energy_kev=energies,
        mu_total=photo + compton + rayleigh,
        mu_photo=photo,
        mu_incoherent=compton,
        mu_coherent=rayleigh,
        mu_en=photo - carried / energies + compton * handed_over,
        mu_stay=stayed / energies,
        x_step=X_STEP_PER_ANGSTROM,
        coherent_cumulative=np.concatenate([np.zeros((len(names), 1)), np.cumsum(between, axis=1)], axis=1),
        seen=np.minimum(seen / electrons[:, None], 1.0),
        electrons=electrons,
        line_kev=line_kev,
        line_cumulative=np.cumsum(emitted, axis=1) / photo[:, None, :],
    )


def _emission(
    materials: Sequence[Material], lines: Sequence[Sequence[FluorescenceLine]], energies: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Cross-section per mass of emission of each line, (M, L, N), cm2/g, and the lines' energies, (M, L), keV."""
    most = max(1, *(len(own) for own in lines))
    emitted, line_kev = np.zeros((len(materials), most, energies.size)), np.zeros((len(materials), most))
    for m, material in enumerate(materials):
        for n, line in enumerate(lines[m]):
            emitted[m, n] = line_emission(material, line, energies)
            line_kev[m, n] = line.energy_kev
    return emitted, line_kev


def _atomic_weight(atomic_number: int) -> float:
    return float(xraylib.AtomicWeight(atomic_number))
