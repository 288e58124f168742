"""The bony wall of the canal: rays across the centre line to the inner edge of cortical bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import make_smoothing_spline

from iort_planner.geometry._polar_fit import PolarSmoother, robust_fit
from iort_planner.geometry.canal_search import (
    METAL_HU,
    NEEDLE_RADIUS_MM,
    SOFT_TISSUE_HU,
    IntensityScale,
    needle_distance_mm,
)
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

PLANE_STEP_MM = 1.25
ANGLES = 72
_RADIUS_STEP_MM = 0.25
_RADIUS_MAX_MM = 19.0
_RADIUS_MIN_MM = 2.0  # nothing nearer to the centre is a wall
_PEAK_OVER_CONTENT = 110.0  # HU: least contrast of a bony edge; a disc has about 60
_METAL_MARGIN_MM = 1.5  # blooming of metal beside its 2000 HU outline
_PEAK_WIDTH_MM = 2.0  # the cortical peak follows its rising edge within this (cortex 0.5 to 3 mm)
# (bend, stretch, scale_mm) from stiff to soft; tuned on the synthetic tubes and the real CTs of the tests
_COARSE_STEPS = ((300.0, 3.0, 4.0), (300.0, 3.0, 3.0), (100.0, 1.0, 2.5), (30.0, 0.3, 2.0))
_FINE_STEPS = ((30.0, 0.3, 2.0), (8.0, 0.1, 1.5), (2.0, 0.05, 1.2), (1.0, 0.05, 1.2))
ON_BONE_RESIDUAL_MM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalWall:
    """The wall as radii in planes across a centre line.

    Parameters
    ----------
    centre_lps_mm : ndarray of shape (P, 3), mm
    across, up : ndarray of shape (P, 3)
        Unit vectors of the plane: angle 0 and angle 90 degrees.
    radius_mm : ndarray of shape (P, A), mm
    seen : ndarray of shape (P, A), bool
        Wall on a bony edge.
    edge_mm : ndarray of shape (P, A), mm
        The edge each ray met; NaN where none.
    weak : ndarray of shape (P, A), bool
        Edge hidden by metal, or outside the image.
    """

    centre_lps_mm: FloatArray
    across: FloatArray
    up: FloatArray
    radius_mm: FloatArray
    seen: npt.NDArray[np.bool_]
    edge_mm: FloatArray
    hidden: npt.NDArray[np.bool_]

    def points_lps_mm(self) -> FloatArray:
        """Wall points, shape (P, A, 3), mm."""
        direction = _directions(self.across, self.up)
        return self.centre_lps_mm[:, None] + self.radius_mm[..., None] * direction


def _directions(across: FloatArray, up: FloatArray) -> FloatArray:
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    result: FloatArray = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * up[:, None]
    return result


def centre_line(points_lps_mm: FloatArray, stiffness: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Smooth line through points ordered along the canal, at equal steps, with a frame that doesn't turn.

    Returns
    -------
    centre, across, up : ndarray of shape (P, 3)
        Points (mm) every `PLANE_STEP_MM`, and unit vectors across the line (towards the patient's left as nearly as
        can be, and at right angles to it).
    """
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_lps_mm, axis=0), axis=1))])
    splines = [make_smoothing_spline(chord, points_lps_mm[:, n], lam=stiffness) for n in range(3)]
    fine = np.linspace(0.0, chord[-1], 20 * points_lps_mm.shape[0])
    dense = np.stack([spline(fine) for spline in splines], axis=-1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    at = np.arange(0.0, length[-1] + 1e-9, PLANE_STEP_MM)
    centre = np.stack([np.interp(at, length, dense[:, n]) for n in range(3)], axis=-1)
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    left = np.array([1.0, 0.0, 0.0])
    across = left - (tangent @ left)[:, None] * tangent
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return centre, across, np.cross(tangent, across)


def find_wall(
    volume: Volume, scale: IntensityScale, path_lps_mm: FloatArray, source_lps_mm: FloatArray, axis_lps: FloatArray
) -> CanalWall:
    """Wall along a rough centre line: twice coarsely, each time moving the line to the middle, then finely."""
    points = path_lps_mm
    for stiffness in (300.0, 100.0):
        centre, across, up = centre_line(points, stiffness)
        edge, weight, _ = _edges(volume, scale, (centre, across, up), source_lps_mm, axis_lps)
        wall, _ = _fit(edge, weight, None, _COARSE_STEPS)
        points = _middles(centre, across, up, wall)
    centre, across, up = centre_line(points, 100.0)
    edge, weight, hidden = _edges(volume, scale, (centre, across, up), source_lps_mm, axis_lps)
    coarse, _ = _fit(edge, weight, None, _COARSE_STEPS)
    wall, _ = _fit(edge, weight, coarse, _FINE_STEPS)
    seen = np.isfinite(edge) & (np.abs(np.nan_to_num(edge) - wall) <= ON_BONE_RESIDUAL_MM)
    return CanalWall(centre_lps_mm=centre, across=across, up=up, radius_mm=wall, seen=seen, edge_mm=edge, hidden=hidden)


def _fit(
    edge: FloatArray, weight: FloatArray, start: FloatArray | None, steps: tuple[tuple[float, float, float], ...]
) -> tuple[FloatArray, FloatArray]:
    smoother = PolarSmoother(*edge.shape)
    filled = np.nan_to_num(edge)
    if start is None:
        # each angle's middle over the planes: foramina and discs are open in some planes only
        typical = np.nanmedian(np.where(np.isfinite(edge), edge, np.nan), axis=0) if np.any(weight) else edge[0]
        typical = np.where(np.isfinite(typical), typical, np.nanmedian(typical))
        start = np.broadcast_to(ndimage.median_filter(typical, 9, mode="wrap"), edge.shape)
    return robust_fit(smoother, filled, weight, start_mm=start, steps=steps)


def _middles(centre: FloatArray, across: FloatArray, up: FloatArray, wall: FloatArray) -> FloatArray:
    """Centroids of the wall's cross sections, (P, 3) mm."""
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    # centroid of a star-shaped section: integral of r^3 / 3 over integral of r^2 / 2
    area = 0.5 * np.sum(wall**2, axis=1)
    x = np.sum(wall**3 * np.cos(angle), axis=1) / 3.0 / area
    y = np.sum(wall**3 * np.sin(angle), axis=1) / 3.0 / area
    result: FloatArray = centre + x[:, None] * across + y[:, None] * up
    return result


def _edges(
    volume: Volume,
    scale: IntensityScale,
    frame: tuple[FloatArray, FloatArray, FloatArray],
    source_lps_mm: FloatArray,
    axis_lps: FloatArray,
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Radius of the bony edge on each ray (NaN: none), its weight, and whether metal or the image's end hides it."""
    centre, across, up = frame
    radius = np.arange(0.0, _RADIUS_MAX_MM + 1e-9, _RADIUS_STEP_MM)
    rays = centre[:, None, None] + radius[:, None] * _directions(across, up)[:, :, None]
    raw = volume.sample(rays)
    outside = ~np.isfinite(raw)
    values = np.where(outside, np.float32(SOFT_TISSUE_HU), scale(np.nan_to_num(raw)))
    metal = values > METAL_HU
    if np.any(metal):
        reach = int(np.ceil(_METAL_MARGIN_MM / _RADIUS_STEP_MM))
        metal = ndimage.maximum_filter(metal, size=(3, 1, 2 * reach + 1))
        metal = ndimage.maximum_filter1d(metal, 5, axis=1, mode="wrap")
    metal |= needle_distance_mm(rays, source_lps_mm, axis_lps) < NEEDLE_RADIUS_MM + _METAL_MARGIN_MM
    values = ndimage.gaussian_filter1d(values, 0.6, axis=0, mode="nearest")
    values = ndimage.gaussian_filter1d(values, 1.0, axis=1, mode="wrap")
    values = ndimage.gaussian_filter1d(values, 1.0, axis=2, mode="nearest")
    inner = np.where((metal | outside)[:, :, radius < 4.0], np.nan, values[:, :, radius < 4.0])
    content = np.full(centre.shape[0], SOFT_TISSUE_HU)
    some = np.isfinite(inner).mean(axis=(1, 2)) > 0.2
    if np.any(some):
        content[some] = np.nanmedian(inner[some], axis=(1, 2))
        content = np.interp(np.arange(content.size), np.flatnonzero(some), content[some])
    content = ndimage.median_filter(content, 9, mode="nearest")
    return _half_maximum(values, content, radius, metal | outside)


def _half_maximum(
    values: npt.NDArray[np.float32], content: FloatArray, radius: FloatArray, blocked: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Inner edge of the first bony peak on each ray, at half height over the content."""
    rise = values - content[:, None, None]
    usable = radius >= _RADIUS_MIN_MM
    blocked_at = np.where(blocked.any(axis=2), blocked.argmax(axis=2), radius.size)
    over = (rise > _PEAK_OVER_CONTENT) & usable
    first = over.argmax(axis=2)
    met = over.any(axis=2) & (first < blocked_at)
    # the peak: highest value until the profile has fallen again, or hasn't risen for a while
    number = np.arange(radius.size)
    after = (number >= first[..., None]) & (number < blocked_at[..., None])
    climb = np.maximum.accumulate(np.where(after, rise, -np.inf), axis=2)
    fell = after & (rise < climb - np.maximum(30.0, 0.1 * climb))
    fell |= number > first[..., None] + int(_PEAK_WIDTH_MM / _RADIUS_STEP_MM)
    end = np.where(fell.any(axis=2), fell.argmax(axis=2), radius.size - 1)
    end = np.minimum(end, np.maximum(blocked_at - 1, 0))
    peak = np.take_along_axis(climb, end[..., None], axis=2)[..., 0]
    peak = np.where(np.isfinite(peak), peak, 0.0)
    rising_into_metal = (end == blocked_at - 1) & (np.take_along_axis(rise, end[..., None], axis=2)[..., 0] >= peak)
    met &= (peak >= _PEAK_OVER_CONTENT) & ~rising_into_metal
    half = 0.5 * peak
    crossed = (rise >= half[..., None]) & usable
    at = np.maximum(crossed.argmax(axis=2), 1)
    high = np.take_along_axis(rise, at[..., None], axis=2)[..., 0]
    low = np.take_along_axis(rise, at[..., None] - 1, axis=2)[..., 0]
    part = np.clip((half - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
    edge = np.where(met, radius[at - 1] + part * _RADIUS_STEP_MM, np.nan)
    hidden = ~met & (blocked_at < radius.size)
    return edge, met.astype(np.float64), hidden
