"""Signed distances of simple shapes (mm, negative inside), exact or exact to first order at the surface.

All functions take float arrays of one shape and keep their type.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def smooth_min(a: Array, b: Array, blend_mm: float) -> Array:
    """Union of two signed distances with a fillet of about ``blend_mm``."""
    h = np.maximum(blend_mm - np.abs(a - b), 0.0)
    result: Array = np.minimum(a, b) - h * h * (0.25 / blend_mm)
    return result


def smooth_max(a: Array, b: Array, blend_mm: float) -> Array:
    """Intersection of two signed distances with a rounded edge of about ``blend_mm``."""
    return -smooth_min(-a, -b, blend_mm)


def superellipse(x: Array, y: Array, half_x: Array | float, half_y: Array | float, exponent: float) -> Array:
    """Distance to |x/half_x|**n + |y/half_y|**n = 1, exact to first order at the curve."""
    u, v = np.abs(x / half_x), np.abs(y / half_y)
    if exponent == 2.0:
        level = np.sqrt(u * u + v * v)
        gradient = np.sqrt((u / half_x) ** 2 + (v / half_y) ** 2)
        result: Array = (level - 1.0) * level / np.maximum(gradient, 1e-6)
        return result
    level = (u**exponent + v**exponent) ** (1.0 / exponent)
    safe = np.maximum(level, 1e-6)
    gradient = np.sqrt(((u / safe) ** (exponent - 1) / half_x) ** 2 + ((v / safe) ** (exponent - 1) / half_y) ** 2)
    general: Array = (level - 1.0) / np.maximum(gradient, 1e-6)
    return general


def ellipsoid(x: Array, y: Array, z: Array, radii: tuple[float, float, float]) -> Array:
    """Distance to an ellipsoid, exact to first order at its surface."""
    a, b, c = radii
    level = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    gradient = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    result: Array = level * (level - 1.0) / np.maximum(gradient, 1e-6)
    return result


def segment(point: tuple[Array, ...], start: tuple[float, ...], end: tuple[float, ...]) -> tuple[Array, Array]:
    """Exact distance to a straight segment in 2-D or 3-D, and where along it (0-1) the nearest point lies."""
    direction = [e - s for s, e in zip(start, end, strict=True)]
    offsets = [p - s for p, s in zip(point, start, strict=True)]
    length2 = sum(d * d for d in direction)
    along = sum((o * d for o, d in zip(offsets, direction, strict=True)), start=np.zeros_like(offsets[0]))
    t = np.clip(along / length2, 0.0, 1.0)
    squared = sum(((o - t * d) ** 2 for o, d in zip(offsets, direction, strict=True)), start=np.zeros_like(offsets[0]))
    return np.sqrt(squared), t


def capsule(
    point: tuple[Array, ...], start: tuple[float, ...], end: tuple[float, ...], radius: float, radius_end: float
) -> Array:
    """Distance to a capsule whose radius goes from ``radius`` to ``radius_end``."""
    distance, t = segment(point, start, end)
    result: Array = distance - (radius + t * (radius_end - radius))
    return result


def stretched(distance_mm: Array, other: Array, half_other: float, radius: float) -> Array:
    """A 2-D distance extended by ``half_other`` to both sides of a third axis, rounded with ``radius``."""
    result: Array = np.hypot(np.maximum(distance_mm, 0.0), np.maximum(np.abs(other) - half_other, 0.0)) - radius
    return result
