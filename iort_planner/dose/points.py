"""Dose rate at points round a source, polar anisotropy included, and the highest one on a surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iort_planner.errors import DepthDoseRangeError, InputError
from iort_planner.geometry._kernels import closest_point_on_mesh, closest_points_on_triangles

if TYPE_CHECKING:
    from iort_planner.source.depth_dose import DepthDoseTable
    from iort_planner.source.polar import PolarAnisotropy
    from iort_planner.units import FloatArray

_TOLERANCE = 5e-4  # of the highest dose rate on a surface: half of the 0.1 % that is promised
_MOST_TRIANGLES = 2_000_000  # of one round of halving; 8 mm from a wall some thousands are seen


def distal_direction(axis_lps: npt.ArrayLike) -> FloatArray:
    """Unit vector from which polar angles count: forwards, against an ``axis_lps`` from the tip towards the hub."""
    axis = np.asarray(axis_lps, dtype=np.float64)
    length = float(np.linalg.norm(axis))
    if axis.shape != (3,) or not (np.isfinite(length) and length > 0):
        raise InputError(f"axis {axis.tolist()} must be three finite numbers, not all 0")
    result: FloatArray = -axis / length
    return result


def polar_angles_deg(offsets_mm: FloatArray, axis_lps: npt.ArrayLike) -> FloatArray:
    """Angles of offsets from the source (..., 3) to the distal axis: 0 forwards, 180 towards the hub; (...)."""
    distal = distal_direction(axis_lps)
    along = offsets_mm @ distal
    across = np.linalg.norm(offsets_mm - along[..., None] * distal, axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, along)), dtype=np.float64)


def rate_at_points(
    table: DepthDoseTable, source_lps_mm: FloatArray, axis_lps: npt.ArrayLike, points_lps_mm: FloatArray
) -> FloatArray:
    """Dose rate (Gy/min) at points (..., 3) mm; NaN where the table has no distance.

    Raises
    ------
    DepthDoseRangeError
        If a point within the table's distances lies at an angle that its polar anisotropy does not reach.
    """
    offsets = np.asarray(points_lps_mm, dtype=np.float64) - source_lps_mm
    r = np.linalg.norm(offsets, axis=-1)
    rate = np.array(table.rate_gy_per_min(r))
    if table.anisotropy is not None:
        known = np.isfinite(rate)
        rate[known] *= table.anisotropy.factor_at(r[known], polar_angles_deg(offsets[known], axis_lps))
    return rate


def max_rate_on_surface(
    table: DepthDoseTable,
    source_lps_mm: FloatArray,
    axis_lps: npt.ArrayLike,
    vertices_lps_mm: FloatArray,
    faces: npt.NDArray[np.integer],
) -> tuple[FloatArray, float]:
    """Point (3,) mm of a triangle surface with the highest dose rate, and that rate, Gy/min.

    With an isotropic table it is the nearest point. With a polar anisotropy another point can get more, so triangles are
    halved while one may hold a rate more than 0.05 % above the best point seen: the rate is at most that much too low.
    Parts beyond the table's last distance have no value and count for nothing.

    Raises
    ------
    DepthDoseRangeError
        If the surface comes nearer than the table's first distance or stays beyond its last one, or a part that could
        hold the highest rate lies at an angle that the table does not reach.
    """
    triangles = np.asarray(vertices_lps_mm, dtype=np.float64)[faces] - source_lps_mm
    least, nearest = closest_point_on_mesh(np.zeros(3), triangles)
    low, high = table.range_mm
    if not low <= least <= high:
        raise DepthDoseRangeError(
            f"the surface's nearest point is {least:.4g} mm from the source, outside the range {low:g} to {high:g} mm of "
            f"table {table.name!r}; dose is never extrapolated: check the tip and the surface, or give a longer table"
        )
    best, best_rate = nearest, float(rate_at_points(table, np.zeros(3), axis_lps, nearest))
    if table.anisotropy is None:
        return best + source_lps_mm, best_rate
    while len(triangles):
        closest = closest_points_on_triangles(np.zeros(3), triangles)
        r = np.linalg.norm(closest, axis=-1)
        reached = r <= high
        triangles, closest, r = triangles[reached], closest[reached], np.maximum(r[reached], low)
        rates = rate_at_points(table, np.zeros(3), axis_lps, closest)
        if rates.size and np.max(rates) > best_rate:
            best, best_rate = closest[int(np.argmax(rates))], float(np.max(rates))
        # No point of a triangle is nearer than r, farther than r + width, or turned more than `turn` from its closest one.
        width = np.max(np.linalg.norm(triangles - closest[:, None], axis=-1), axis=1, initial=0.0)
        turn = np.degrees(np.arcsin(np.minimum(width / r, 1.0)))
        turn[width >= r] = 180.0
        theta = polar_angles_deg(closest, axis_lps)
        rise = _most_rise(table.anisotropy, r, theta, width, turn)
        bound = table.rate_gy_per_min(r) * (table.anisotropy.factor_at(r, theta) + rise)
        triangles = _halved(triangles[bound > best_rate * (1.0 + _TOLERANCE)])
        if len(triangles) > _MOST_TRIANGLES:
            raise DepthDoseRangeError(
                f"the highest dose rate on the surface cannot be told within {100 * _TOLERANCE:g} %: too much of the "
                f"surface has nearly the same rate"
            )
    return best + source_lps_mm, best_rate


def _most_rise(
    polar: PolarAnisotropy, r: FloatArray, theta: FloatArray, width: FloatArray, turn: FloatArray
) -> FloatArray:
    """Bound on how much the factor can rise within distances r to r + width and angles theta +- turn; shape as r.

    The largest slopes of the cells that are touched, per degree and per mm, times the ways.
    """
    per_deg = np.abs(np.diff(polar.factor, axis=0)) / np.diff(polar.theta_deg)[:, None]
    per_mm = np.zeros_like(polar.factor)
    per_mm[:, :-1] = np.abs(np.diff(polar.factor, axis=1)) / np.diff(polar.distance_mm)
    per_mm = np.maximum(per_mm[:-1], per_mm[1:])  # by cells too
    slopes = np.maximum.accumulate(np.stack([per_deg, per_mm])[..., ::-1], axis=-1)[..., ::-1]  # there and farther out
    column = np.clip(np.searchsorted(polar.distance_mm, r, side="right") - 1, 0, None)
    first, last = (
        np.clip(np.searchsorted(polar.theta_deg, t, side="right") - 1, 0, len(per_deg) - 1)
        for t in (theta - turn, theta + turn)
    )
    steepest = slopes[:, first, column]
    for row in range(1, int(np.max(last - first, initial=0)) + 1):
        steepest = np.maximum(steepest, slopes[:, np.minimum(first + row, last), column])
    return np.asarray(steepest[0] * turn + steepest[1] * width)


def _halved(triangles: FloatArray) -> FloatArray:
    """Each triangle as four of half its size; (M, 3, 3) -> (4 M, 3, 3)."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, bc, ca = (a + b) / 2.0, (b + c) / 2.0, (c + a) / 2.0
    return np.concatenate(
        [np.stack(corners, axis=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    )
