"""Rays from the canal's centre line outwards, and where each meets the inner edge of cortical bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtr

from iort_planner.geometry.canal_intensity import IntensityScale, needle_distance_mm
from iort_planner.geometry.canal_search import METAL_HU, NEEDLE_RADIUS_MM, SOFT_TISSUE_HU
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

ANGLES = 72
PLANE_STEP_MM = 1.25  # about a voxel; the wall between planes is straight
_RADIUS_STEP_MM = 0.25
_RADIUS_MAX_MM = 19.0
_RADIUS_MIN_MM = 2.0  # nothing nearer to the centre is a wall
_CORE_MM = 4.0  # surely content within this of the centre line
_PEAK_PART = 0.85  # least height of a bony peak, of the level at which the search told bone from content
_METAL_MARGIN_MM = 1.5  # blooming of metal beside its 2000 HU outline
_LEAST_EDGES = 50  # too few to say what dense bone is
_DENSE_PERCENTILE, _DENSE_PART = 90.0, 0.8  # the densest tenth of the walls: laminae and facets
_DENSE_PLATE_MM = 2.0  # thickness of their cortex (about 1.5 to 3 mm)
_MOST_BLUR_MM = 1.0  # no scanner in question is blurrier in plane; guards against slopes spoilt by streaks
_GLARE_MM = 6.0  # how far the glare of steel reaches in CT with streaks
# Standard deviations in planes (1.25 mm), angles (5 degrees) and steps along the ray; the second for planes with streaks
NOISY_HU = 60.0
_SMOOTHING, _SMOOTHING_NOISY = (0.6, 1.0, 1.0), (1.5, 2.0, 1.5)
_RADIUS_MM = np.arange(0.0, _RADIUS_MAX_MM + 1e-9, _RADIUS_STEP_MM)
_PEAK_WIDTH_MM = 2.0  # the cortical peak follows its rising edge within this (cortex 0.5 to 3 mm)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Planes across a line: centres (P, 3) in mm and two unit vectors (P, 3) each, at angle 0 and 90 degrees."""

    centre_lps_mm: FloatArray
    across: FloatArray
    up: FloatArray

    @classmethod
    def across_line(cls, centre_lps_mm: FloatArray, tangent: FloatArray) -> Frame:
        """Planes across a line's unit tangents (P, 3); angle 0 is the patient's left as nearly as the plane allows."""
        left = np.array([1.0, 0.0, 0.0])
        across = left - (tangent @ left)[:, None] * tangent
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        return cls(centre_lps_mm=centre_lps_mm, across=across, up=np.cross(tangent, across))

    def directions(self) -> FloatArray:
        """Unit vectors of the rays, (P, A, 3)."""
        angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
        result: FloatArray = np.cos(angle)[:, None] * self.across[:, None] + np.sin(angle)[:, None] * self.up[:, None]
        return result

    def points_lps_mm(self, radius_mm: FloatArray) -> FloatArray:
        """Points at radii (P, A) on the rays, (P, A, 3) mm."""
        result: FloatArray = self.centre_lps_mm[:, None] + radius_mm[..., None] * self.directions()
        return result

    def middles_lps_mm(self, radius_mm: FloatArray) -> FloatArray:
        """Centroids of the cross sections that radii (P, A) draw, (P, 3) mm."""
        angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
        # centroid of a star-shaped section: integral of r^3 / 3 over integral of r^2 / 2
        area = 0.5 * np.sum(radius_mm**2, axis=1)
        x = np.sum(radius_mm**3 * np.cos(angle), axis=1) / 3.0 / area
        y = np.sum(radius_mm**3 * np.sin(angle), axis=1) / 3.0 / area
        result: FloatArray = self.centre_lps_mm + x[:, None] * self.across + y[:, None] * self.up
        return result

    def part(self, span: slice) -> Frame:
        """Some of the planes."""
        return Frame(centre_lps_mm=self.centre_lps_mm[span], across=self.across[span], up=self.up[span])


def cross_section_mm2(radius_mm: FloatArray) -> FloatArray:
    """Area of the polygons that radii (..., A) draw, shape (...), mm2."""
    area: FloatArray = 0.5 * np.sin(2 * np.pi / ANGLES) * np.sum(radius_mm * np.roll(radius_mm, 1, axis=-1), axis=-1)
    return area


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RayEdges:
    """What the rays met.

    Parameters
    ----------
    radius_mm : ndarray of shape (P, A), mm
        Radius of the bony edge; 0 where there is none.
    weight : ndarray of shape (P, A)
        1 on an edge, 0 where there is none.
    blocked_mm : ndarray of shape (P, A), mm
        Radius at which metal or the image's end stops the ray; infinite where nothing does.
    noise_hu : ndarray of shape (P,), HU
        Spread of the content's values round the centre (robust standard deviation); streaks count.
    """

    radius_mm: FloatArray
    weight: FloatArray
    blocked_mm: FloatArray
    noise_hu: FloatArray

    def part(self, span: slice) -> RayEdges:
        """Some of the planes."""
        return RayEdges(
            radius_mm=self.radius_mm[span],
            weight=self.weight[span],
            blocked_mm=self.blocked_mm[span],
            noise_hu=self.noise_hu[span],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RayProfiles:
    """Values along all rays, ready for the search for edges.

    Parameters
    ----------
    rise : ndarray of shape (P, A, R), HU
        Over the canal's content, smoothed along the wall and a little along the ray.
    blocked : ndarray of shape (P, A, R), bool
        In metal or outside the image.
    noise_hu : ndarray of shape (P,), HU
        Spread of the content's values round the centre.
    """

    rise: npt.NDArray[np.float32]
    blocked: npt.NDArray[np.bool_]
    noise_hu: FloatArray

    def edges(self, bone_above_content_hu: float, from_mm: FloatArray | None = None) -> RayEdges:
        """First bony edge on each ray; ``from_mm`` (P, A): no wall lies nearer to the centre than that."""
        usable = np.broadcast_to(_RADIUS_MM >= _RADIUS_MIN_MM, self.rise.shape)
        if from_mm is not None:
            usable = usable & (from_mm[..., None] <= _RADIUS_MM)
        edge, met, peak, slope = _half_maximum(self.rise, _PEAK_PART * bone_above_content_hu, usable, self.blocked)
        edge = edge + _thin_cortex_shift_mm(met, peak, slope)
        return RayEdges(
            radius_mm=np.where(met, edge, 0.0),
            weight=met.astype(np.float64),
            blocked_mm=np.where(self.blocked.any(axis=2), _RADIUS_MM[self.blocked.argmax(axis=2)], np.inf),
            noise_hu=self.noise_hu,
        )


def cast_rays(
    volume: Volume, scale: IntensityScale, frame: Frame, source_lps_mm: FloatArray, axis_lps: FloatArray
) -> RayProfiles:
    """Sample the image along all rays."""
    rays = frame.centre_lps_mm[:, None, None] + _RADIUS_MM[:, None] * frame.directions()[:, :, None]
    raw = volume.sample(rays)
    outside = ~np.isfinite(raw)
    values = np.where(outside, np.float32(SOFT_TISSUE_HU), scale(np.nan_to_num(raw)))
    blocked = outside | _metal(values, rays, source_lps_mm, axis_lps)
    core = np.where(blocked[:, :, _RADIUS_MM < _CORE_MM], np.nan, values[:, :, _RADIUS_MM < _CORE_MM])
    content, noise = _content(core.reshape(core.shape[0], -1))
    noisy = noise > NOISY_HU
    smooth = _smooth(values, _SMOOTHING)
    if np.any(noisy):
        smooth = np.where(noisy[:, None, None], _smooth(values, _SMOOTHING_NOISY), smooth)
    return RayProfiles(rise=smooth - content[:, None, None].astype(np.float32), blocked=blocked, noise_hu=noise)


def _smooth(values: npt.NDArray[np.float32], sigma: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Along the wall (planes, angles), where it costs little sharpness, and a little along the ray against noise."""
    for axis, mode in enumerate(("nearest", "wrap", "nearest")):
        values = ndimage.gaussian_filter1d(values, sigma[axis], axis=axis, mode=mode)
    return values


def _metal(
    values: npt.NDArray[np.float32], rays: FloatArray, source_lps_mm: FloatArray, axis_lps: FloatArray
) -> npt.NDArray[np.bool_]:
    """Samples in metal, in its blooming, or in the needle as it was located."""
    metal = values > METAL_HU
    if np.any(metal):
        reach = int(np.ceil(_METAL_MARGIN_MM / _RADIUS_STEP_MM))
        metal = ndimage.maximum_filter1d(metal, 3, axis=0)
        metal = ndimage.maximum_filter1d(metal, 5, axis=1, mode="wrap")
        metal = ndimage.maximum_filter1d(metal, 2 * reach + 1, axis=2)
    needle = needle_distance_mm(rays, source_lps_mm, axis_lps) < NEEDLE_RADIUS_MM + _METAL_MARGIN_MM
    result: npt.NDArray[np.bool_] = metal | needle
    return result


def _content(core: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Typical value and spread of the canal's content in each plane, from its core samples (P, n) with NaN gaps."""
    content = np.full(core.shape[0], SOFT_TISSUE_HU)
    noise = np.zeros(core.shape[0])
    some = np.flatnonzero(np.isfinite(core).mean(axis=1) > 0.2)
    if some.size:
        low, middle, high = np.nanpercentile(core[some], [15.9, 50.0, 84.1], axis=1)
        planes = np.arange(core.shape[0])
        content = np.interp(planes, some, middle)
        noise = np.interp(planes, some, 0.5 * (high - low))
    return ndimage.median_filter(content, 9, mode="nearest"), noise


def _half_maximum(
    rise: npt.NDArray[np.float32], least: float, usable: npt.NDArray[np.bool_], blocked: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray, FloatArray]:
    """First bony peak on each ray: where its inner flank has half its height, whether there is one, height, slope."""
    radius = _RADIUS_MM
    number = np.arange(radius.size)
    blocked_at = np.where(blocked.any(axis=2), blocked.argmax(axis=2), radius.size)
    over = rise > least
    over[..., 1:] &= usable[..., 1:] & (usable[..., :-1] | ~over[..., :-1])  # from below, not from within something
    over[..., 0] = False
    first = over.argmax(axis=2)
    met = over.any(axis=2) & (first < blocked_at)
    # the peak: the highest value until the profile has fallen again, or for a cortex' width
    after = (number >= first[..., None]) & (number < blocked_at[..., None])
    climb = np.maximum.accumulate(np.where(after, rise, np.float32(0.0)), axis=2)
    fallen = after & (rise < climb - np.maximum(30.0, 0.1 * climb))
    past = fallen | (number > first[..., None] + int(_PEAK_WIDTH_MM / _RADIUS_STEP_MM))
    end = np.where(past.any(axis=2), past.argmax(axis=2), radius.size - 1)
    end = np.minimum(end, np.maximum(blocked_at - 1, 0))[..., None]
    peak = np.take_along_axis(climb, end, axis=2)
    # metal soon behind without a dip before it: that is the metal's glare, not a cortex
    glare = ~fallen.any(axis=2) & (blocked_at < first + int(_GLARE_MM / _RADIUS_STEP_MM))
    met &= (peak[..., 0] >= least) & ~glare
    half = 0.5 * peak
    below = (rise < half) & (number < end)
    at = np.clip(radius.size - below[..., ::-1].argmax(axis=2), 1, radius.size - 1)[..., None]
    high, low = np.take_along_axis(rise, at, axis=2), np.take_along_axis(rise, at - 1, axis=2)
    part = np.clip((half - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
    edge: FloatArray = (radius[at - 1] + part * _RADIUS_STEP_MM)[..., 0]
    slope: FloatArray = ((high - low)[..., 0] / _RADIUS_STEP_MM).astype(np.float64)
    return edge, np.asarray(met, dtype=np.bool_), peak[..., 0].astype(np.float64), slope


def _thin_cortex_shift_mm(met: npt.NDArray[np.bool_], peak: FloatArray, slope: FloatArray) -> FloatArray:
    """How far the half-maximum lies inside the true edge, because blur lowers the peak of a thin cortex.

    Notes
    -----
    A plate of height A and thickness 2 u s, blurred by a Gaussian of standard deviation s, peaks at
    P = A erf(u / sqrt 2) and has its half maximum at x s from its middle with
    Phi(x + u) - Phi(x - u) = P / 2 A; its edge is at u s. So the half maximum is (x - u) s off: nothing for a thick
    plate, up to 1.18 s for a thin one. s is taken from the flanks of the densest walls in reach, whose slope at half
    height is A / (s sqrt(2 pi)), and A from their height as plates of `_DENSE_PLATE_MM`. A wall that is really less
    dense is moved outwards a little too far: towards the source, the careful side.
    """
    if np.count_nonzero(met) < _LEAST_EDGES:
        return np.zeros(peak.shape)
    full = float(np.percentile(peak[met], _DENSE_PERCENTILE))
    dense = met & (peak > _DENSE_PART * full) & (slope > 0)
    blur_mm = float(np.median(peak[dense] / slope[dense])) / np.sqrt(2.0 * np.pi)
    blur_mm = min(blur_mm, _MOST_BLUR_MM)
    height = peak / full * (2.0 * ndtr(0.5 * _DENSE_PLATE_MM / blur_mm) - 1.0)
    shift: FloatArray = np.interp(np.minimum(height, 1.0), _PLATE_HEIGHT, _PLATE_SHIFT) * blur_mm
    return np.where(met, shift, 0.0)


def _plate_table() -> tuple[FloatArray, FloatArray]:
    """Relative height of a blurred plate, and the shift of its half maximum in standard deviations of the blur."""
    half_width = np.linspace(0.05, 4.0, 80)
    height = 2.0 * ndtr(half_width) - 1.0
    low, high = np.zeros(half_width.size), np.full(half_width.size, 10.0)
    for _ in range(50):  # bisection: the plate falls steadily outwards
        middle = 0.5 * (low + high)
        above = ndtr(middle + half_width) - ndtr(middle - half_width) > 0.5 * height
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return height, low - half_width


_PLATE_HEIGHT, _PLATE_SHIFT = _plate_table()
