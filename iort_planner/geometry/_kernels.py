"""Distance kernels on plain arrays, mm: exact points on triangles, convex solids against triangles.

The tests hold a slow, obvious oracle beside each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iort_planner.units import FloatArray

_TOLERANCE_MM = 1e-10
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

    def core_points(self, step_mm: float = 0.5) -> FloatArray:
        """Points along its axis, shape (N, 3) mm."""
        z = np.linspace(0.0, self.length_mm, max(2, int(np.ceil(self.length_mm / step_mm)) + 1))
        return self.start_mm + z[:, None] * self.axis


def rod_to_triangles(rod: Rod, triangles: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Least distance between a rod and triangles, with the nearest point on each; 0 where they touch.

    Alternating projections between two convex sets converge to their nearest pair (Cheney and Goldstein
    1959, Proc AMS 10:448, doi:10.1090/S0002-9939-1959-0105008-8). Only triangles that can hold the minimum
    take part: their lower bound is the distance of their centre less their reach.

    Returns
    -------
    distance_mm, point_on_rod (3,), point_on_triangles (3,)
    """
    centres = triangles.mean(axis=1)
    reach = np.sqrt(np.max(np.sum((triangles - centres[:, None]) ** 2, axis=2), axis=1))
    to_rod = np.linalg.norm(rod.project(centres) - centres, axis=1)
    candidates = triangles[to_rod - reach <= np.min(to_rod)]
    on_triangle = candidates.mean(axis=1)
    on_rod = rod.project(on_triangle)
    for _ in range(_MAX_ITERATIONS):
        on_triangle = closest_points_on_triangles(on_rod, candidates)
        moved = rod.project(on_triangle)
        step = float(np.max(np.abs(moved - on_rod)))
        on_rod = moved
        if step < _TOLERANCE_MM:
            break
    distance = np.linalg.norm(on_rod - on_triangle, axis=1)
    best = int(np.argmin(distance))
    return float(distance[best]), on_rod[best], on_triangle[best]


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
