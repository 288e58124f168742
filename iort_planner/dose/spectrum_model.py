"""A model of the spectrum of a 50 kV source with a thin gold target, with free parameters for what is not published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq

from iort_planner.dose.attenuation import attenuation, energy_absorption
from iort_planner.dose.materials import read_material
from iort_planner.dose.spectrum import Spectrum

if TYPE_CHECKING:
    from iort_planner.units import FloatArray

TUBE_KV = 50.0
LEAST_KEV = 4.0  # below it the window lets nothing through that reaches 3 mm of water
BIN_KEV = 0.5
# Gold L alpha, L beta, L gamma: energies and intensities (L alpha 1 = 100) of the X-ray Data Booklet (LBNL), table 1-3,
# summed: alpha 1 + 2, beta 1 + 2, gamma 1
GOLD_LINES_KEV = np.array([9.70, 11.48, 13.38])
GOLD_LINES = np.array([111.0, 90.0, 13.0]) / 214.0
# Assumed and fixed (facts are not published; a change is taken up by the fitted ones): half a target of 1 um, and the window
GOLD_UM = 0.5
BERYLLIUM_MM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumParameters:
    """What is not published of the source.

    Parameters
    ----------
    thick_share : float
        0: bremsstrahlung of a thin target, photons as 1/E up to the tube voltage. 1: of a thick one, (E0 - E)/E
        (Kramers 1923, Phil Mag 46:836).
    line_ratio : float
        Photons in the gold L lines over those in the bremsstrahlung from 4 to 50 keV, before any filter.
    nickel_um : float, um
        Coatings, as nickel. Held in the fit: it and the gold lines stand for each other.
    plastic_mm : float, mm
        Applicator's tip, as polyetherimide; what else the source has in the beam is in it too.
    """

    thick_share: float
    line_ratio: float
    nickel_um: float
    plastic_mm: float


def transmission(energy_kev: FloatArray, layers: dict[str, float]) -> FloatArray:
    """Part of the photons that passes layers, material name to thickness in mm, without interaction."""
    depth = np.zeros(np.shape(energy_kev))
    for name, thickness_mm in layers.items():
        material = read_material(name)
        depth += attenuation(material, energy_kev) * material.density_g_cm3 * thickness_mm * 0.1
    return np.exp(-depth)


class SpectrumModel:
    """Spectra by parameters; holds the attenuation of the layers, so that a spectrum costs microseconds."""

    def __init__(self) -> None:
        self.low = np.arange(LEAST_KEV, TUBE_KV, BIN_KEV)
        middle = self.low + 0.5 * BIN_KEV
        self.energy_kev = np.concatenate([middle, GOLD_LINES_KEV])
        self._fixed = transmission(self.energy_kev, {"gold": GOLD_UM * 1e-3, "beryllium": BERYLLIUM_MM})
        self._nickel = -np.log(transmission(self.energy_kev, {"nickel": 1e-3}))
        self._plastic = -np.log(transmission(self.energy_kev, {"polyetherimide": 1.0}))
        self._thin = (1.0 / middle) / np.sum(1.0 / middle)
        thick = (TUBE_KV - middle) / middle
        self._thick = thick / np.sum(thick)
        self._water = -np.log(transmission(self.energy_kev, {"water": 1.0}))
        self._aluminium = -np.log(transmission(self.energy_kev, {"aluminium": 1.0}))
        self._air_kerma = self.energy_kev * energy_absorption(read_material("air"), self.energy_kev)

    def photons(self, p: SpectrumParameters) -> FloatArray:
        """Photons at ``energy_kev`` (bins by their middle, then the lines), sum 1."""
        continuum = p.thick_share * self._thick + (1.0 - p.thick_share) * self._thin
        born = np.concatenate([continuum, p.line_ratio * GOLD_LINES])
        left = born * self._fixed * np.exp(-self._nickel * p.nickel_um - self._plastic * p.plastic_mm)
        return np.asarray(left / left.sum(), dtype=np.float64)

    def spectrum(self, p: SpectrumParameters, name: str) -> Spectrum:
        """The same as a `Spectrum`."""
        return Spectrum(
            energy_low_kev=np.concatenate([self.low, GOLD_LINES_KEV]),
            energy_high_kev=np.concatenate([self.low + BIN_KEV, GOLD_LINES_KEV]),
            photons=self.photons(p),
            name=name,
        )

    def half_value_layer_mm(self, photons: FloatArray, water_mm: float = 0.0) -> float:
        """Aluminium (mm) that halves the air kerma of the primary photons behind ``water_mm`` of water, narrow beam."""
        kerma = photons * np.exp(-self._water * water_mm) * self._air_kerma
        kerma = kerma / np.sum(kerma)
        return float(brentq(lambda mm: np.sum(kerma * np.exp(-self._aluminium * mm)) - 0.5, 0.0, 100.0, xtol=1e-9))

    def mean_kev(self, photons: FloatArray, water_mm: float = 0.0) -> float:
        """Mean energy of the primary photons behind ``water_mm`` of water, keV."""
        left = photons * np.exp(-self._water * water_mm)
        return float(np.sum(left * self.energy_kev) / np.sum(left))
