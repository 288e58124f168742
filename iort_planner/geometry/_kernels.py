"""Distance kernels on plain arrays, mm: exact points on triangles, convex solids against triangles.

The tests hold a slow, obvious oracle beside each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iort_planner.units import FloatArray

_TOLERANCE_MM = 1e-8
_MAX_ITERATIONS = 5000


def closest_points_on_triangles(points: FloatArray, triangles: FloatArray) -> FloatArray:
    """Nearest point of each triangle to each point, row by row.

    Parameters
    ----------
    points : ndarray of shape (M, 3) or (3,), mm
    triangles : ndarray of shape (M, 3, 3), mm
        Corners; a triangle without area is treated as the segment or point it is.

    Returns
    -------
    ndarray of shape (M, 3), mm

    Notes
    -----
    Voronoi regions of a triangle: the projection where it falls inside, else the nearest of three edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    p = np.broadcast_to(points, a.shape)
    best = _on_segment(p, a, b)
    for start, end in ((b, c), (c, a)):
        other = _on_segment(p, start, end)
        nearer = _squared(other - p) < _squared(best - p)
        best = np.where(nearer[:, None], other, best)
    u, v, w = b - a, c - a, p - a
    uu, uv, vv = _dot(u, u), _dot(u, v), _dot(v, v)
    wu, wv = _dot(w, u), _dot(w, v)
    area2 = uu * vv - uv * uv
    sound = area2 > 1e-14 * uu * vv
    safe = np.where(sound, area2, 1.0)
    s, t = (wu * vv - wv * uv) / safe, (wv * uu - wu * uv) / safe
    inside = sound & (s >= 0) & (t >= 0) & (s + t <= 1)
    projected = a + s[:, None] * u + t[:, None] * v
    result: FloatArray = np.where(inside[:, None], projected, best)
    return result


def closest_point_on_mesh(point: FloatArray, triangles: FloatArray) -> tuple[float, FloatArray]:
    """Least distance from a point to a mesh and the nearest point; (3,) and (M, 3, 3) mm."""
    nearest = closest_points_on_triangles(point, triangles)
    squared = _squared(nearest - point)
    best = int(np.argmin(squared))
    return float(np.sqrt(squared[best])), nearest[best]


def winding_number(point: FloatArray, triangles: FloatArray) -> float:
    """How often a closed mesh with outward normals winds round a point: 1 inside, 0 outside.

    Sum of the solid angles of its triangles over 4 pi (van Oosterom and Strackee 1983, IEEE Trans Biomed
    Eng 30:125, doi:10.1109/TBME.1983.325207).
    """
    corners = triangles - point
    lengths = np.linalg.norm(corners, axis=2)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    la, lb, lc = lengths[:, 0], lengths[:, 1], lengths[:, 2]
    numerator = _dot(a, np.cross(b, c))
    denominator = la * lb * lc + _dot(a, b) * lc + _dot(b, c) * la + _dot(c, a) * lb
    return float(np.sum(2.0 * np.arctan2(numerator, denominator)) / (4.0 * np.pi))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rod:
    """A convex rod: a cylinder from ``start`` along the unit vector ``axis``, flat at its far end.

    With ``round_start`` the first ``radius`` of its length is a half ball (the applicator's plastic tip),
    else that end is flat too (the cannula).
    """

    start_mm: FloatArray
    axis: FloatArray
    radius_mm: float
    length_mm: float
    round_start: bool

    def project(self, points: FloatArray) -> FloatArray:
        """Nearest point of the rod (inside included) to each point; (M, 3) -> (M, 3) mm."""
        offset = points - self.start_mm
        z = offset @ self.axis
        radial = offset - z[:, None] * self.axis
        rho = np.linalg.norm(radial, axis=1)
        z_near = np.clip(z, 0.0, self.length_mm)
        shrink = np.minimum(1.0, self.radius_mm / np.maximum(rho, 1e-300))
        result: FloatArray = self.start_mm + z_near[:, None] * self.axis + radial * shrink[:, None]
        if self.round_start:
            centre = self.start_mm + self.radius_mm * self.axis
            from_centre = points - centre
            length = np.linalg.norm(from_centre, axis=1)
            ball = centre + from_centre * np.minimum(1.0, self.radius_mm / np.maximum(length, 1e-300))[:, None]
            result = np.where((z < self.radius_mm)[:, None], ball, result)
        return result

    def core(self) -> Rod:
        """Its middle line from one radius behind the start, as a rod of no radius."""
        skipped = min(self.radius_mm, self.length_mm)
        return Rod(
            start_mm=self.start_mm + skipped * self.axis,
            axis=self.axis,
            radius_mm=0.0,
            length_mm=self.length_mm - skipped,
            round_start=False,
        )

    def points(self, step_mm: float = 0.5) -> FloatArray:
        """Points along its axis, shape (N, 3) mm."""
        z = np.linspace(0.0, self.length_mm, max(2, int(np.ceil(self.length_mm / step_mm)) + 1))
        return self.start_mm + z[:, None] * self.axis


def rod_to_triangles(rod: Rod, triangles: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Least distance between a rod and triangles, with the nearest point on each; 0 where they touch.

    Half the squared distance to a convex body is convex, with the way to its projection as gradient. It is minimised
    over each triangle by projected gradients with momentum and restarts (O'Donoghue and Candes 2015, Found Comput Math
    15:715, doi:10.1007/s10208-013-9150-3): plain alternating projections stop short of the end where a rod runs nearly
    along a triangle. Convexity also gives a lower bound (the gap to the tangent plane at the corners): triangles that
    cannot hold the minimum drop out, and the bound says when to stop.

    Returns
    -------
    distance_mm, point_on_rod (3,), point_on_triangles (3,)
    """
    centres = triangles.mean(axis=1)
    reach = np.sqrt(np.max(np.sum((triangles - centres[:, None]) ** 2, axis=2), axis=1))
    to_rod = np.linalg.norm(rod.project(centres) - centres, axis=1)
    left = triangles[to_rod - reach <= np.min(to_rod)]
    ahead = at = left.mean(axis=1)
    momentum = np.ones(len(left))
    least, on_rod, on_triangle = math.inf, at[0], at[0]
    for _ in range(_MAX_ITERATIONS):
        before, at = at, closest_points_on_triangles(rod.project(ahead), left)
        nearest = rod.project(at)
        way = at - nearest
        squared = _squared(way)
        best = int(np.argmin(squared))
        if squared[best] < least**2:
            least, on_rod, on_triangle = math.sqrt(squared[best]), nearest[best], at[best]
        gap = np.max(np.einsum("mcd,md->mc", at[:, None] - left, way), axis=1)
        bound = np.sqrt(np.maximum(squared - 2.0 * gap, 0.0))
        open_ = bound < least - _TOLERANCE_MM
        if least <= _TOLERANCE_MM or not np.any(open_):
            break
        turned = _dot(ahead - at, at - before) > 0.0
        following = np.where(turned, 1.0, 0.5 + np.sqrt(0.25 + momentum**2))
        push = np.where(turned, 0.0, (momentum - 1.0) / following)
        ahead = (at + push[:, None] * (at - before))[open_]
        at, left, momentum = at[open_], left[open_], following[open_]
    return least, on_rod, on_triangle


def _on_segment(p: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    along = end - start
    t = _dot(p - start, along) / np.maximum(_dot(along, along), 1e-300)
    result: FloatArray = start + np.clip(t, 0.0, 1.0)[:, None] * along
    return result


def _dot(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = np.einsum("ij,ij->i", a, b)
    return result


def _squared(a: FloatArray) -> npt.NDArray[np.float64]:
    return _dot(a, a)
