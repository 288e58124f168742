"""Intensities read as HU-like values where the image is not calibrated: which peak of the histogram is soft tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

_AROUND_MM = 30.0  # the source's vertebra, the canal and the muscles beside them
_SAMPLE_MM = 1.5
_NEEDLE_MARGIN_MM = 6.0  # steel and the worst of its streaks
_LEAST_SAMPLES = 1000
_BINS, _SMOOTH_BINS = 80, 1.5
# Fat, muscle and spongiosa each make a peak, and any of them may be the highest. A peak under a tenth of the highest
# is a ripple: that of soft tissue had 70 % or more in all phantoms and real CTs of the tests. Our own choice.
_LEAST_PEAK = 0.1
_PEAK_BINS = 3  # peaks nearer than this are one
# Typical CT values, HU: muscle and the canal's content; the 97th percentile near a source (dense bone, some metal).
_SOFT_HU, _DENSE_HU, _DENSE_PERCENTILE = 40.0, 700.0, 97.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntensityScale:
    """How to read intensities as HU-like values: value * slope + intercept; identity when calibrated."""

    slope: float
    intercept: float

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """HU-like values."""
        return values * np.float32(self.slope) + np.float32(self.intercept)


def needle_distance_mm(points_lps_mm: FloatArray, source_lps_mm: FloatArray, axis_lps: FloatArray) -> FloatArray:
    """Distance of points (..., 3) from the needle's half line, which starts at the source and runs to the hub."""
    offset = points_lps_mm - source_lps_mm
    along = np.maximum(offset @ axis_lps, 0.0)
    result: FloatArray = np.linalg.norm(offset - along[..., None] * axis_lps, axis=-1)
    return result


def intensity_scales(volume: Volume, source_lps_mm: FloatArray, axis_lps: FloatArray) -> tuple[IntensityScale, ...]:
    """Ways to read the image's values as HU, the likeliest first.

    Parameters
    ----------
    volume : Volume
    source_lps_mm : ndarray of shape (3,), mm
    axis_lps : ndarray of shape (3,)
        Unit vector from the tip towards the hub.

    Returns
    -------
    tuple of IntensityScale
        The identity for calibrated images. Else one for each peak of the histogram near the source, highest first,
        as if that peak were soft tissue; the search for the canal then tells which one was. Empty if there are too
        few values, or no denser ones than soft tissue's.
    """
    if volume.hu_calibrated:
        return (IntensityScale(slope=1.0, intercept=0.0),)
    steps = np.arange(-_AROUND_MM, _AROUND_MM + 1.0, _SAMPLE_MM)
    offsets = np.stack(np.meshgrid(*[steps] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = source_lps_mm + offsets[np.linalg.norm(offsets, axis=1) < _AROUND_MM]
    points = points[needle_distance_mm(points, source_lps_mm, axis_lps) > _NEEDLE_MARGIN_MM]
    values = volume.sample(points)
    values = values[np.isfinite(values)]
    values = values[values > values.min()] if values.size else values  # padding outside a round field of view
    if values.size < _LEAST_SAMPLES:
        return ()
    low, high = (float(v) for v in np.percentile(values, [1.0, _DENSE_PERCENTILE]))
    if not high > low:
        return ()
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTH_BINS)
    tops = (smooth == ndimage.maximum_filter1d(smooth, 2 * _PEAK_BINS + 1)) & (smooth >= _LEAST_PEAK * smooth.max())
    peaks = np.flatnonzero(tops)
    peaks = peaks[np.argsort(-smooth[peaks], kind="stable")]
    scales = []
    for soft in 0.5 * (edges[peaks] + edges[peaks + 1]):
        slope = (_DENSE_HU - _SOFT_HU) / (high - float(soft))  # the middle of a bin lies below `high`
        scales.append(IntensityScale(slope=slope, intercept=_SOFT_HU - slope * float(soft)))
    return tuple(scales)
