"""What a polychromatic beam makes wrong round metal: projections slice by slice, and the back projection of their error.

Parallel beams at four energies through an ellipse of water and the metal's cells; scattered photons and counting noise;
the correction for water that every CT makes; then filtered back projection of what is left over the straight line. It also
holds what hardening does to the metal itself: solid steel reads lower, the inside of a tube higher than with one energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import fft

from iort_planner.units import FloatArray

# Share of the detected photons at 120 kV behind 2.5 mm of aluminium: a rough tungsten spectrum, our own choice.
ENERGIES_KEV = (40.0, 60.0, 80.0, 100.0)
_SHARES = np.array([0.22, 0.36, 0.27, 0.15])
# Mass attenuation, cm2/g, at these energies, and density, g/cm3: Hubbell and Seltzer, NIST (doi:10.18434/T4D01F).
_WATER_PER_MM = np.array([0.2683, 0.2059, 0.1837, 0.1707]) * 1.000 / 10.0
_IRON_PER_MM = np.array([3.629, 1.205, 0.5952, 0.3717]) * 7.874 / 10.0
_TITANIUM_PER_MM = np.array([2.214, 0.7661, 0.4052, 0.2721]) * 4.540 / 10.0
_REFERENCE_MM = 250.0  # of water, behind which thin metal reads its nominal value: a trunk


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How strong the errors are.

    Parameters
    ----------
    strength : float
        Scales the error; 1 is no correction for metal at all, 0 a scan without any.
    photons : float
        Counted by one detector element without an object.
    scatter : float
        Scattered photons over the primary ones that no metal stops.
    views : int
        Over half a turn.
    shake_mm : float
        Root mean square of how far the patient is displaced between views: a slow sway and a jitter, zero on the average.
    """

    strength: float
    photons: float
    scatter: float
    views: int
    shake_mm: float = 0.0

    def shifts_mm(self, seed: int) -> FloatArray:
        """Displacement along the detector of each view, (views,)."""
        rng = np.random.default_rng([seed, 33])
        turn = np.linspace(0.0, 2.0 * np.pi, self.views, endpoint=False)
        sway = np.sin(float(rng.uniform(1.0, 3.0)) * turn + float(rng.uniform(0.0, 6.0)))
        shift = sway + 0.7 * rng.standard_normal(self.views)
        shift -= shift.mean()
        result: FloatArray = self.shake_mm * shift / shift.std()
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Water:
    """The patient as an ellipse of water in the planes of the slices: half axes and centre from the middle of the image, mm."""

    half_mm: tuple[float, float]
    centre_mm: tuple[float, float]

    def chord_mm(self, angle: float, offset_mm: FloatArray) -> FloatArray:
        """Length in the ellipse of the rays across (cos, sin) at these offsets from the image's middle."""
        a, b = self.half_mm
        c, s = np.cos(angle), np.sin(angle)
        width = np.hypot(a * c, b * s)
        t = (offset_mm - self.centre_mm[0] * c - self.centre_mm[1] * s) / width
        result: FloatArray = 2.0 * a * b / width * np.sqrt(np.maximum(1.0 - t * t, 0.0))
        return result


def behind_water(length_mm: FloatArray | float) -> FloatArray:
    """-ln of the share of photons that pass that much water; for lengths of any shape."""
    length = np.asarray(length_mm, dtype=np.float64)
    result: FloatArray = -np.log(np.exp(-length[..., None] * _WATER_PER_MM) @ _SHARES)
    return result


def thin_metal_hu(per_mm: FloatArray) -> float:
    """What a thin piece of metal reads behind the reference water, as a scanner corrected for water shows it."""
    weights = _SHARES * np.exp(-_REFERENCE_MM * _WATER_PER_MM)
    return 1000.0 * float(weights @ per_mm / (weights @ _WATER_PER_MM)) - 1000.0


def _scaled(per_mm: FloatArray, hu: float) -> FloatArray:
    """The metal's attenuation thinned so that a thin piece reads ``hu``."""
    result: FloatArray = per_mm * (hu + 1000.0) / (thin_metal_hu(per_mm) + 1000.0)
    return result


def error_sinogram(
    iron_mm: FloatArray, titanium_mm: FloatArray, water_mm: FloatArray, hu: tuple[float, float], beam: Beam, seed: int
) -> FloatArray:
    """Of rays through metal: equivalent mm of water, corrected as for water, minus the straight line; (views, bins).

    ``hu`` is what thin iron and titanium read. 0 where there is no metal.
    """
    result = np.zeros_like(water_mm)
    metal = (iron_mm + titanium_mm) > 0.0
    result[metal] = _error_mm(iron_mm[metal], titanium_mm[metal], water_mm[metal], hu, beam, seed)
    return result


def _error_mm(
    iron_mm: FloatArray, titanium_mm: FloatArray, water_mm: FloatArray, hu: tuple[float, float], beam: Beam, seed: int
) -> FloatArray:
    """The same for the rays that meet metal, (N,)."""
    iron, titanium = _scaled(_IRON_PER_MM, hu[0]), _scaled(_TITANIUM_PER_MM, hu[1])
    inside = np.maximum(water_mm - iron_mm - titanium_mm, 0.0)
    passed = np.zeros_like(water_mm)
    alone = np.zeros_like(water_mm)
    for share, water, fe, ti in zip(_SHARES, _WATER_PER_MM, iron, titanium, strict=True):
        passed += share * np.exp(-water * inside - fe * iron_mm - ti * titanium_mm)
        alone += share * np.exp(-water * water_mm)
    counted = passed + beam.scatter * alone
    # noise beyond what the same ray has without metal; counts of less than one are not told apart
    counts = np.maximum(beam.photons * counted, 1.0)
    excess = np.sqrt(np.maximum(1.0 / counts - 1.0 / np.maximum(beam.photons * alone, 1.0), 0.0))
    noise = np.random.default_rng([seed, 31]).standard_normal(water_mm.shape) * np.minimum(excess, 0.6)
    known = np.arange(0.0, 2500.0, 1.0)
    scattered = -np.log(np.maximum((1.0 + beam.scatter) * np.exp(-behind_water(known)), 1e-300))
    seen = np.interp(-np.log(counted) + noise, scattered, known)
    straight = inside + iron_mm * (1.0 + hu[0] / 1000.0) + titanium_mm * (1.0 + hu[1] / 1000.0)
    result: FloatArray = seen - straight
    return result


def filtered(sinogram: FloatArray, bin_mm: float, transfer: FloatArray | None = None) -> npt.NDArray[np.float32]:
    """Rows convolved with the ramp (of Ram and Lak, band limited in space) and a kernel's transfer at its frequencies.

    ``transfer`` is at `frequencies` of this sinogram; None is 1. Per mm.
    """
    size = padded(sinogram.shape[-1])
    n = np.arange(size) - size // 2
    odd = n % 2 != 0
    ramp = np.where(n == 0, 1.0 / (4.0 * bin_mm**2), 0.0)
    ramp[odd] = -1.0 / (np.pi * n[odd] * bin_mm) ** 2
    response = np.real(fft.rfft(fft.ifftshift(ramp))) * bin_mm
    if transfer is not None:
        response = response * transfer
    rows = fft.irfft(fft.rfft(sinogram, size) * response, size)[..., : sinogram.shape[-1]]
    result: npt.NDArray[np.float32] = rows.astype(np.float32)
    return result


def padded(bins: int) -> int:
    """Length of the rows with the room that the ramp needs."""
    return int(fft.next_fast_len(2 * bins, real=True))


def frequencies_per_mm(bins: int, bin_mm: float) -> FloatArray:
    """At which `filtered` takes a transfer."""
    result: FloatArray = fft.rfftfreq(padded(bins), bin_mm)
    return result


def shifted(rows: FloatArray, shift_bins: FloatArray) -> FloatArray:
    """Rows moved by a fraction of a bin each, linearly; (views, bins)."""
    low = np.floor(shift_bins).astype(int)
    part = (shift_bins - low)[:, None]
    at = np.arange(rows.shape[1])[None, :] - low[:, None]
    last = rows.shape[1] - 1
    near, far = (np.take_along_axis(rows, np.clip(at - n, 0, last), axis=1) for n in (0, 1))
    result: FloatArray = (1.0 - part) * near + part * far
    return result


@njit(cache=True)
def project(
    x_mm: npt.NDArray[np.float32],
    y_mm: npt.NDArray[np.float32],
    area_mm2: npt.NDArray[np.float32],
    cosine: FloatArray,
    sine: FloatArray,
    bins: int,
    bin_mm: float,
) -> FloatArray:
    """Line integrals of cells (their area in the plane times their filling), shared between the two nearest bins, mm."""
    result = np.zeros((cosine.size, bins))
    middle = (bins - 1) / 2.0
    for v in range(cosine.size):
        for n in range(x_mm.size):
            at = (x_mm[n] * cosine[v] + y_mm[n] * sine[v]) / bin_mm + middle
            low = int(np.floor(at))
            if 0 <= low < bins - 1:
                part = at - low
                result[v, low] += (1.0 - part) * area_mm2[n] / bin_mm
                result[v, low + 1] += part * area_mm2[n] / bin_mm
    return result


@njit(cache=True)
def back_project(
    rows: npt.NDArray[np.float32],
    cosine: FloatArray,
    sine: FloatArray,
    bin_mm: float,
    size_ji: tuple[int, int],
    pixel_mm: float,
) -> npt.NDArray[np.float32]:
    """Sum over the views at the pixels of a slice about the same middle, times the angle between views."""
    result = np.zeros(size_ji, np.float32)
    middle = (rows.shape[1] - 1) / 2.0
    for v in range(cosine.size):
        step = np.float32(pixel_mm * cosine[v] / bin_mm)
        for j in range(size_ji[0]):
            y = (j - (size_ji[0] - 1) / 2.0) * pixel_mm
            at = np.float32(y * sine[v] / bin_mm + middle - (size_ji[1] - 1) / 2.0 * pixel_mm * cosine[v] / bin_mm)
            for i in range(size_ji[1]):
                low = int(at)
                part = at - np.float32(low)
                result[j, i] += rows[v, low] + part * (rows[v, low + 1] - rows[v, low])
                at += step
    return result * np.float32(np.pi / cosine.size)
