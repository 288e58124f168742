"""Spine coordinates: lateral, posterior and cranial along a canal centre line that is an arc of a circle.

A point is (l, p, s): mm to the patient's left, mm posterior of the canal's centre line, mm of arc
length along it towards the head; (0, 0, 0) is the canal centre at the middle of the planned level.
The centre of curvature lies anterior for a positive radius (kyphosis), so a height at the front of a body is
shorter than the same height at the canal: bodies come out wedged, as in life. A negative radius puts it posterior
(lordosis), and ``bend_plane_deg`` turns the plane of the arc about the cranial direction at the origin, which adds
a curve to the side (scoliosis).
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


def rotation_matrix(angles_deg: tuple[float, float, float]) -> FloatArray:
    """Rotation about the fixed LPS axes x, then y, then z (right-handed, degrees), shape (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles_deg):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a], one[a, b], one[b, a], one[b, b] = c, -s, s, c
        matrix = one @ matrix
    return matrix


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpineFrame:
    """Placement of the spine in the patient.

    Parameters
    ----------
    origin_lps_mm : ndarray of shape (3,), mm
        Canal centre at the middle of the planned level.
    rotation : ndarray of shape (3, 3)
        Columns are the directions left, posterior and cranial at the origin.
    radius_mm : float
        Radius of the centre line's arc; its centre lies anterior, of a negative radius posterior.
    bend_plane_deg : float
        Turn of the arc's plane about the cranial direction, from the patient's midplane; at 90 the centre of a
        positive radius lies to the left.
    """

    origin_lps_mm: FloatArray
    rotation: FloatArray
    radius_mm: float
    bend_plane_deg: float = 0.0

    def to_spine(self, points_lps_mm: npt.ArrayLike) -> FloatArray:
        """Patient points to (l, p, s), shape (..., 3) -> (..., 3), mm."""
        local = (np.asarray(points_lps_mm, dtype=np.float64) - self.origin_lps_mm) @ self.rotation
        result: FloatArray = np.stack(self.straightened(*np.moveaxis(local, -1, 0)), axis=-1)
        return result

    def straightened(self, left: Array, posterior: Array, cranial: Array) -> tuple[Array, Array, Array]:
        """Offsets from the origin along ``rotation``'s columns to (l, p, s), mm; keeps the arrays' type."""
        radius, side = float(self.radius_mm), math.copysign(1.0, self.radius_mm)
        across, outward = self._turned(left, posterior, 1.0)
        depth = outward + radius
        outward = side * np.hypot(depth, cranial) - radius
        along = radius * np.arctan2(side * cranial, side * depth)
        return *self._turned(across, outward, -1.0), along

    def _turned(self, left: Array, posterior: Array, sense: float) -> tuple[Array, Array]:
        """Across the arc's plane and away from its centre (``sense`` 1), or back (-1)."""
        if self.bend_plane_deg == 0.0:
            return left, posterior
        angle = math.radians(self.bend_plane_deg)
        c, s = math.cos(angle), sense * math.sin(angle)
        return c * left + s * posterior, c * posterior - s * left

    def to_lps(self, spine_mm: npt.ArrayLike) -> FloatArray:
        """(l, p, s) to patient points, shape (..., 3) -> (..., 3), mm."""
        lateral, posterior, along = np.moveaxis(np.asarray(spine_mm, dtype=np.float64), -1, 0)
        across, outward = self._turned(lateral, posterior, 1.0)
        angle = along / self.radius_mm
        reach = self.radius_mm + outward
        left, back = self._turned(across, reach * np.cos(angle) - self.radius_mm, -1.0)
        local = np.stack([left, back, reach * np.sin(angle)], axis=-1)
        result: FloatArray = local @ self.rotation.T + self.origin_lps_mm
        return result
