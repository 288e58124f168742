"""A canal's surface drawn through wall points that a physicist gives: smoothly, locally, and still a closed surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry._kernels import closest_points_on_triangles, winding_number
from iort_planner.geometry.canal import SpinalCanal
from iort_planner.units import FloatArray

# A point moves the wall within this of the place it belongs to: half a lumbar body's height, so that one point
# corrects one level. Our own choice.
INFLUENCE_MM = 15.0
# Farther from the wall than this it is another structure, or a slip of the hand. Our own choice.
FARTHEST_MM = 10.0
# Inside the canal a point belongs to the near wall within this part of the width there. Deeper it lies between two walls,
# and beyond the middle the opposite one would move. Our own choice.
_DEEPEST_PART = 0.25
_MOST_POINTS = 200  # by hand; bounds the time
_MET_MM = 1e-3
_MOVED_MM = 0.1  # less is no correction of the wall there
_ALONG_MM2 = 1e-9
_EDGE_PART = 1e-6  # of a triangle: a ray through an edge meets one of its sides
_MOST_GROWTH = 1.5  # of the largest displacement over the largest one asked for: more means points that contradict
_LEAST_COSINE = 0.05  # a triangle may turn by less than 90 degrees: beyond that the surface folds over
_INSIDE_MM, _INSIDE_CHECKS = 0.05, 100  # just inside the wall where it moved most, one winds round once
_POINT_UNCERTAINTY_MM = 0.7  # of a wall point set by hand, k=1, as in canal_from_points


def correct_canal(canal: SpinalCanal, wall_points_lps_mm: FloatArray) -> SpinalCanal:
    """Move a canal's surface so that it passes through given wall points.

    Parameters
    ----------
    canal : SpinalCanal
        With a closed surface (``auto`` or ``file``).
    wall_points_lps_mm : ndarray of shape (K, 3), mm
        Points of the true wall, at most `FARTHEST_MM` from the surface.

    Returns
    -------
    SpinalCanal
        The surface passes within 1e-3 mm of every point, is unchanged farther than `INFLUENCE_MM` from the places that
        were moved, and is closed as before. Points already on it change nothing. ``corrected_lps_mm`` holds the points,
        after those of earlier corrections, and ``by_hand`` tells the vertices that moved; the confidence and its reasons
        stay, because one point doesn't prove the rest; the uncertainty is at least that of a point set by hand.

    Raises
    ------
    CanalNotFoundError
        If there is no surface or no point, a point is not finite, too far from the surface or between two walls of it,
        or the surface would fold over or can not be drawn through all points.

    Notes
    -----
    Each point belongs to the nearest place of the surface as it was. Displacements there are spread by Wendland's
    function (1 - d)^4 (4 d + 1) of the distance d in units of `INFLUENCE_MM` (Wendland 1995, Adv Comput Math 4:389,
    doi:10.1007/BF02123482): smooth, zero beyond, and positive definite. The triangles carry them, and the equations
    are set up as they do, so the points are met exactly.
    """
    points = np.asarray(wall_points_lps_mm, dtype=np.float64).reshape(-1, 3)
    _check(canal, points)
    start = canal.vertices_lps_mm
    faces, anchors, shares = _anchors(start, canal.faces, points)
    distance = np.linalg.norm(points - anchors, axis=1)
    worst = int(np.argmax(distance))
    if distance[worst] > FARTHEST_MM:
        raise CanalNotFoundError(
            f"canal: the wall point {np.round(points[worst], 1).tolist()} mm (LPS) lies {distance[worst]:.1f} mm from the "
            f"canal's surface (limit {FARTHEST_MM:.0f} mm); check it, or give the whole canal with --canal FILE"
        )
    for point, anchor in zip(points, anchors, strict=True):
        _check_belongs(point, anchor, start[canal.faces])
    spread = _wendland(np.linalg.norm(start[:, None] - anchors, axis=-1) / INFLUENCE_MM)
    coupling = np.einsum("kc,kcn->kn", shares, spread[faces])  # of the surface at the anchors, as triangles carry it
    target = points - anchors
    vertices = start + spread @ np.linalg.lstsq(coupling, target, rcond=1e-9)[0]
    missed = np.linalg.norm(np.einsum("kc,kcd->kd", shares, vertices[faces]) - points, axis=1)
    moved = np.linalg.norm(vertices - start, axis=1)
    if not (missed.max() <= _MET_MM and moved.max() <= _MOST_GROWTH * distance[worst] + _MET_MM):
        worst = int(np.argmax(missed))
        raise CanalNotFoundError(
            f"canal: no smooth surface passes through the wall point {np.round(points[worst], 1).tolist()} mm (LPS) and "
            "those beside it; leave out points that contradict each other"
        )
    if _folds(start, vertices, canal.faces, moved):
        raise CanalNotFoundError(
            "canal: drawn through the given wall points the surface would fold over; give fewer or other points, or the "
            "whole canal with --canal FILE"
        )
    return replace(
        canal,
        vertices_lps_mm=vertices,
        uncertainty_mm=max(canal.uncertainty_mm, _POINT_UNCERTAINTY_MM),
        corrected_lps_mm=np.concatenate([canal.corrected_lps_mm, points]),
        by_hand=canal.by_hand | (moved > _MOVED_MM),
    )


def _check(canal: SpinalCanal, points: FloatArray) -> None:
    if not canal.faces.size:
        raise CanalNotFoundError("canal: points given by hand have no surface to correct; give all points together")
    if not 1 <= points.shape[0] <= _MOST_POINTS or not np.all(np.isfinite(points)):
        raise CanalNotFoundError(
            f"canal: a correction needs 1 to {_MOST_POINTS} wall points of three finite numbers, got {points.shape[0]}"
        )


def _check_belongs(point: FloatArray, anchor: FloatArray, triangles: FloatArray) -> None:
    """Refuse a point inside the canal that lies between two walls."""
    depth = float(np.linalg.norm(point - anchor))
    if depth <= _MET_MM or winding_number(point, triangles) < 0.5:
        return
    width = depth + _ahead_mm(point, (point - anchor) / depth, triangles)
    if depth > _DEEPEST_PART * width:
        raise CanalNotFoundError(
            f"canal: the wall point {np.round(point, 1).tolist()} mm (LPS) lies {depth:.1f} mm inside the canal, which is "
            f"{width:.1f} mm wide there (limit {_DEEPEST_PART:.0%} of it): it belongs to no one wall; check it, or give the "
            "whole canal with --canal FILE"
        )


def _ahead_mm(point: FloatArray, direction: FloatArray, triangles: FloatArray) -> float:
    """How far the surface is from a point inside it in a unit direction."""
    # point + t direction = corner + u one + v two, solved by Cramer's rule; not for triangles along the ray
    one, two = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    normal = np.cross(direction, two)
    scale = np.sum(one * normal, axis=1)
    crossed = np.abs(scale) > _ALONG_MM2
    one, two, normal, scale = one[crossed], two[crossed], normal[crossed], scale[crossed]
    offset = point - triangles[crossed, 0]
    turned = np.cross(offset, one)
    u, v, t = np.sum(offset * normal, axis=1) / scale, turned @ direction / scale, np.sum(two * turned, axis=1) / scale
    met = (u >= -_EDGE_PART) & (v >= -_EDGE_PART) & (u + v <= 1.0 + _EDGE_PART) & (t > 0.0)
    return float(t[met].min(initial=np.inf))


def _anchors(
    vertices: FloatArray, faces: npt.NDArray[np.int64], points: FloatArray
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Of each point: the nearest triangle's corners (K, 3), the nearest place (K, 3), its barycentric parts (K, 3)."""
    triangles = vertices[faces]
    corners, places, parts = [], [], []
    for point in points:
        nearest = closest_points_on_triangles(point, triangles)
        best = int(np.argmin(np.sum((nearest - point) ** 2, axis=1)))
        corners.append(faces[best])
        places.append(nearest[best])
        a, b, c = triangles[best]
        matrix = np.stack([b - a, c - a], axis=1)
        bc = np.linalg.lstsq(matrix, nearest[best] - a, rcond=None)[0]
        parts.append([1.0 - bc.sum(), *bc])
    return np.array(corners), np.array(places), np.array(parts)


def _wendland(d: FloatArray) -> FloatArray:
    result: FloatArray = np.where(d < 1.0, (1.0 - np.minimum(d, 1.0)) ** 4 * (4.0 * d + 1.0), 0.0)
    return result


def _folds(before: FloatArray, after: FloatArray, faces: npt.NDArray[np.int64], moved_mm: FloatArray) -> bool:
    """Whether a triangle turned over, or the wall went through another part of itself."""
    was, now = _normals(before, faces), _normals(after, faces)
    lengths = np.linalg.norm(was, axis=1) * np.linalg.norm(now, axis=1)
    if np.any(np.sum(was * now, axis=1) < _LEAST_COSINE * lengths):
        return True
    outward = np.zeros_like(after)
    for corner in range(3):
        np.add.at(outward, faces[:, corner], now)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    most = np.argsort(-moved_mm)[:_INSIDE_CHECKS]
    triangles = after[faces]
    return any(abs(winding_number(after[n] - _INSIDE_MM * outward[n], triangles) - 1.0) > 0.5 for n in most)


def _normals(vertices: FloatArray, faces: npt.NDArray[np.int64]) -> FloatArray:
    """Twice the triangles' areas along their normals."""
    a, b, c = (vertices[faces[:, n]] for n in range(3))
    result: FloatArray = np.cross(b - a, c - a)
    return result
