"""Metal streaks from first principles, on those slices that hold metal.

Each such slice is projected in parallel beams. The measured signal is that of three photon energies through tissue
(as water) and steel, plus a scatter floor and counting noise; the scanner linearises it for water, as scanners do.
What then differs from a straight line integral on the rays through metal (beam hardening, starvation, noise) is
back-projected: dark bands along the needle's long shadow, bright ones beside it, fine radial lines from noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.phantom.shapes import Array
    from iort_planner.units import FloatArray

_COARSE = 2  # back-projection on every second pixel, then linear: streaks are smooth beside pixels
# Three energies for a filtered 120 kV beam: 60, 80, 100 keV with weights of our own choice (mean 78 keV).
_WEIGHTS = np.array([0.35, 0.40, 0.25])
# Mass attenuation of water and iron at those energies, cm2/g (NIST XCOM tables, Hubbell and Seltzer 1996),
# times 1.00 and 7.9 g/cm3 (stainless steel as iron), in 1/mm.
_WATER_PER_MM = np.array([0.2059, 0.1837, 0.1707]) * 0.100
_STEEL_PER_MM = np.array([1.205, 0.5952, 0.3717]) * 0.790
_FLOOR = 1e-4  # scatter and dark signal as part of the open beam: our own choice; sets how dark starved rays can get
_PHOTONS = 2e5  # a detector element in the open beam: our own choice, a usual order in simulations of CT
_TISSUE_STEP = 3  # tissue is projected on every third pixel: it only offsets the nonlinearity


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSet:
    """How a scanner looks at a slice.

    Parameters
    ----------
    views : int
        Projections over 180 degrees.
    shake_mm : float
        Standard deviation of unknown shifts of the detector from view to view, as on a C-arm: lines across the image.
    """

    views: int
    shake_mm: float = 0.0


CT_BEAMS = BeamSet(views=240)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beams:
    """Parallel beams through an image of ``shape`` (rows, columns) with pixel sizes (x, y)."""

    shape: tuple[int, int]
    size_mm: tuple[float, float]
    views: int

    @property
    def angles(self) -> FloatArray:
        """Directions of the views, radians."""
        result: FloatArray = np.linspace(0.0, np.pi, self.views, endpoint=False, dtype=np.float64)
        return result

    @property
    def bin_mm(self) -> float:
        return float(np.mean(self.size_mm))

    @property
    def count(self) -> int:
        height, width = self.shape[0] * self.size_mm[1], self.shape[1] * self.size_mm[0]
        return (math.ceil(math.hypot(height, width) / self.bin_mm)) + 4

    def bins(self, angle: float, row: Array, column: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Lower detector bin of pixel centres and the weight of the bin above it."""
        x = (column - (self.shape[1] - 1) / 2.0) * self.size_mm[0]
        y = (row - (self.shape[0] - 1) / 2.0) * self.size_mm[1]
        position = (x * np.cos(angle) + y * np.sin(angle)) / self.bin_mm + self.count / 2.0
        lower = np.floor(position)
        return lower.astype(np.intp), (position - lower).astype(np.float32)

    def project(self, slice_: Array, row: Array, column: Array, area_mm2: Array, slices: int) -> FloatArray:
        """Line integrals, mm, shape (angles, slices, bins), of pixels with a filled area each."""
        result = np.empty((self.views, slices, self.count))
        length = area_mm2 / self.bin_mm
        for n, angle in enumerate(self.angles):
            lower, weight = self.bins(angle, row, column)
            flat = slice_ * self.count + lower
            total = np.bincount(flat, length * (1.0 - weight), slices * self.count)
            total += np.bincount(flat + 1, length * weight, slices * self.count)
            result[n] = total.reshape(slices, self.count)
        return result


def streaks_hu(
    tissue_hu: npt.NDArray[np.float32],
    steel: npt.NDArray[np.float32],
    pixel_mm: tuple[float, float],
    generator: np.random.Generator,
    beam_set: BeamSet = CT_BEAMS,
) -> npt.NDArray[np.float32]:
    """Streaks of the metal in a stack of slices.

    Parameters
    ----------
    tissue_hu : ndarray of shape (slices, rows, columns)
        The object without metal.
    steel : ndarray of the same shape
        Volume fraction of steel.
    pixel_mm : tuple of 2 float
        Size along columns (x) and rows (y), mm.
    generator : numpy.random.Generator
        For the counting noise and the shifts.
    beam_set : BeamSet

    Returns
    -------
    ndarray of the same shape, float32
        HU to add; zero-mean in the sense that steel keeps its best-fitting linear attenuation.
    """
    slices, rows, columns = steel.shape
    beams = _Beams(shape=(rows, columns), size_mm=pixel_mm, views=beam_set.views)
    index = np.nonzero(steel > 0.0)
    area = pixel_mm[0] * pixel_mm[1]
    metal_mm = beams.project(index[0], index[1], index[2], steel[index] * area, slices)
    tissue_mm = _tissue_lengths_mm(beams, tissue_hu, area)
    error_mm, water_per_steel = _measured_error_mm(metal_mm, tissue_mm, generator)
    if beam_set.shake_mm > 0.0:
        shift = generator.normal(0.0, beam_set.shake_mm, (beam_set.views, 1, 1))
        error_mm += water_per_steel * shift * np.gradient(metal_mm, beams.bin_mm, axis=2)
    return _back_project(beams, error_mm)


def _tissue_lengths_mm(beams: _Beams, tissue_hu: npt.NDArray[np.float32], area: float) -> FloatArray:
    """Water-equivalent lengths of the slices' mean; shape (angles, 1, bins)."""
    water = np.maximum(1.0 + tissue_hu[:, ::_TISSUE_STEP, ::_TISSUE_STEP].mean(axis=0) / 1000.0, 0.0)
    row, column = np.meshgrid(*(np.arange(n) * _TISSUE_STEP for n in water.shape), indexing="ij")
    zero = np.zeros(water.size, np.intp)
    lengths = beams.project(zero, row.ravel(), column.ravel(), water.ravel() * area * _TISSUE_STEP**2, 1)
    kernel = np.ones(5) / 5.0  # closes the gaps that the coarse pixels leave between bins
    result: FloatArray = np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="same"), 2, lengths)
    return result


def _signal(tissue_mm: FloatArray, metal_mm: FloatArray) -> FloatArray:
    """Part of the open beam that is measured, scatter floor included."""
    total = np.zeros(np.broadcast_shapes(tissue_mm.shape, metal_mm.shape))
    for weight, water, steel in zip(_WEIGHTS, _WATER_PER_MM, _STEEL_PER_MM, strict=True):
        total += weight * np.exp(-water * tissue_mm - steel * metal_mm)
    result: FloatArray = total * (1.0 - _FLOOR) + _FLOOR
    return result


def _measured_error_mm(
    metal_mm: FloatArray, tissue_mm: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, float]:
    """Water-equivalent length as the scanner has it, minus the straight line integral; zero off the metal.

    And how many millimetres of water one of steel looks like.
    """
    signal = _signal(tissue_mm, metal_mm)
    counts = _PHOTONS * signal
    noisy = np.maximum(counts + np.sqrt(counts) * generator.standard_normal(counts.shape), 1.0) / _PHOTONS
    water = np.arange(0.0, 3000.0)
    water_signal = np.exp(-np.outer(_WATER_PER_MM, water)).T @ _WEIGHTS
    length = np.interp(-np.log(noisy), -np.log(water_signal), water)
    without = np.interp(-np.log(_signal(tissue_mm, np.zeros(1))), -np.log(water_signal), water)
    excess = length - without
    # What the image shows as steel is what most rays, the short ones across the needle, make of it.
    seen = metal_mm > 1.0
    slope = float(np.mean(excess[seen] / metal_mm[seen])) if seen.any() else 0.0
    # fades in over the first half millimetre of steel, so that the trace has no hard edge
    result: FloatArray = (excess - slope * metal_mm) * np.clip(metal_mm / 0.5, 0.0, 1.0)
    return result, slope


def _back_project(beams: _Beams, error_mm: FloatArray) -> npt.NDArray[np.float32]:
    """Filtered back-projection (ramp with a Hann window) to HU."""
    padded = 2 ** int(np.ceil(np.log2(2 * beams.count)))
    frequency = np.fft.rfftfreq(padded, beams.bin_mm)
    window = frequency * (0.5 + 0.5 * np.cos(np.pi * frequency / frequency[-1]))
    filtered = np.fft.irfft(np.fft.rfft(error_mm, padded, axis=-1) * window, padded, axis=-1)[..., : beams.count]
    lines = np.ascontiguousarray(np.swapaxes(filtered, 1, 2), dtype=np.float32)  # (angle, bin, slice)
    rows, columns = (np.arange(0, n + _COARSE, _COARSE) for n in beams.shape)
    row, column = np.meshgrid(rows, columns, indexing="ij")
    total = np.zeros((row.size, lines.shape[2]), np.float32)
    for n, angle in enumerate(beams.angles):
        lower, weight = beams.bins(angle, row.ravel(), column.ravel())
        lower = np.clip(lower, 0, beams.count - 2)
        start = lines[n][lower]
        total += start
        total += (lines[n][lower + 1] - start) * weight[:, None]
    coarse = (total * np.float32(1000.0 * np.pi / beams.views)).T.reshape(-1, rows.size, columns.size)
    result: npt.NDArray[np.float32] = (
        _linear(beams.shape[0], rows.size) @ coarse @ _linear(beams.shape[1], columns.size).T
    )
    return result


def _linear(fine: int, coarse: int) -> npt.NDArray[np.float32]:
    """Matrix of linear interpolation from every ``_COARSE``-th point to all."""
    position = np.arange(fine) / _COARSE
    lower = np.minimum(position.astype(np.intp), coarse - 2)
    matrix = np.zeros((fine, coarse), np.float32)
    matrix[np.arange(fine), lower] = 1.0 - (position - lower)
    matrix[np.arange(fine), lower + 1] = position - lower
    return matrix
