"""The phantom's spinal canal as an exact object: a superellipse swept along the centre line.

The centre line is an arc of a circle and the cross-section stays at right angles to it, so the tube is
a surface of revolution, and the wall point nearest to any point lies in that point's own cross-section.
That holds for kyphosis, lordosis and a turned plane of the arc alike: the section may be any curve beside the axis.
The distance in space is therefore the distance to a plane curve, which one angle describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.phantom.frame import SpineFrame
    from iort_planner.units import FloatArray

_COARSE = 33  # angles per quadrant that bracket the minimum; the curve's curvature changes slowly beside that
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_STEPS = 44  # 2 * 0.05 rad * 0.618**44 = 6e-11 rad; the distance is stationary there


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalTube:
    """Canal of cross-section |l/a|**n + |p/b|**n = 1 in spine coordinates.

    Parameters
    ----------
    frame : SpineFrame
    half_width_mm, half_depth_mm : float
        a (left-right) and b (antero-posterior).
    exponent : float
        n, 2 (ellipse) or more.
    """

    frame: SpineFrame
    half_width_mm: float
    half_depth_mm: float
    exponent: float

    def wall_spine_mm(self, angle: npt.ArrayLike, along_mm: npt.ArrayLike) -> FloatArray:
        """Wall points in spine coordinates from polar angle (0 is left, pi/2 posterior) and s; (..., 3) mm."""
        angle, along = np.broadcast_arrays(np.asarray(angle, dtype=np.float64), np.asarray(along_mm, dtype=np.float64))
        radius = self._radius_mm(angle)
        result: FloatArray = np.stack([radius * np.cos(angle), radius * np.sin(angle), along], axis=-1)
        return result

    def wall_lps_mm(self, angle: npt.ArrayLike, along_mm: npt.ArrayLike) -> FloatArray:
        """Wall points in patient coordinates, (..., 3) mm."""
        return self.frame.to_lps(self.wall_spine_mm(angle, along_mm))

    def centre_line_lps_mm(self, along_mm: npt.ArrayLike) -> FloatArray:
        """Points of the centre line, (..., 3) mm."""
        along = np.asarray(along_mm, dtype=np.float64)
        return self.frame.to_lps(np.stack([np.zeros_like(along), np.zeros_like(along), along], axis=-1))

    def signed_distance_mm(self, points_lps_mm: npt.ArrayLike) -> FloatArray:
        """Exact distance to the wall, negative inside the canal; (..., 3) mm -> (...) mm."""
        spine = self.frame.to_spine(points_lps_mm)
        lateral, posterior = spine[..., 0], spine[..., 1]
        angle = self._nearest_angle(np.abs(lateral), np.abs(posterior))
        radius = self._radius_mm(angle)
        distance = np.hypot(np.abs(lateral) - radius * np.cos(angle), np.abs(posterior) - radius * np.sin(angle))
        result: FloatArray = np.where(self._level_function(lateral, posterior) < 1.0, -distance, distance)
        return result

    def nearest_point_lps_mm(self, points_lps_mm: npt.ArrayLike) -> FloatArray:
        """The wall point nearest to each point, (..., 3) -> (..., 3) mm."""
        spine = self.frame.to_spine(points_lps_mm)
        lateral, posterior = spine[..., 0], spine[..., 1]
        angle = self._nearest_angle(np.abs(lateral), np.abs(posterior))
        wall = self.wall_spine_mm(angle, spine[..., 2])
        wall[..., 0] = np.copysign(wall[..., 0], lateral)
        wall[..., 1] = np.copysign(wall[..., 1], posterior)
        return self.frame.to_lps(wall)

    def _level_function(self, lateral: FloatArray, posterior: FloatArray) -> FloatArray:
        n = self.exponent
        result: FloatArray = np.abs(lateral / self.half_width_mm) ** n + np.abs(posterior / self.half_depth_mm) ** n
        return result

    def _radius_mm(self, angle: FloatArray) -> FloatArray:
        result: FloatArray = self._level_function(np.cos(angle), np.sin(angle)) ** (-1.0 / self.exponent)
        return result

    def _nearest_angle(self, lateral: FloatArray, posterior: FloatArray) -> FloatArray:
        """Angle in the first quadrant of the nearest wall point: bracketed by samples, then golden section."""

        def squared(angle: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
            radius = self._radius_mm(angle)
            result: FloatArray = (radius * np.cos(angle) - x) ** 2 + (radius * np.sin(angle) - y) ** 2
            return result

        samples = np.linspace(0.0, np.pi / 2, _COARSE)
        best = np.argmin(squared(samples, lateral[..., None], posterior[..., None]), axis=-1)
        step = samples[1]
        # symmetric about both axes, so the bracket may reach over the quadrant's ends
        low, high = samples[best] - step, samples[best] + step
        inner_low, inner_high = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        value_low, value_high = squared(inner_low, lateral, posterior), squared(inner_high, lateral, posterior)
        for _ in range(_STEPS):
            left = value_low < value_high
            low, high = np.where(left, low, inner_low), np.where(left, inner_high, high)
            fresh = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
            value = squared(fresh, lateral, posterior)
            inner_low, inner_high = np.where(left, fresh, inner_high), np.where(left, inner_low, fresh)
            value_low, value_high = np.where(left, value, value_high), np.where(left, value_low, value)
        result: FloatArray = (low + high) / 2.0
        return result
