"""Concentric spheres, slabs and scores as arrays, and what lies where, for the compiled loops.

Lengths in mm: ``radii`` (S,) rising and ``sphere_material`` (S,); ``planes`` (P,) rising and ``between`` (P + 1,), the slab
material before, between and after the planes, -1 where the spheres show through. Scores: ``kind`` 0 shell, 1 disc;
``low``, ``high``, ``across`` (radius of a disc), ``volume``; ``near``, the distance from a disc's middle within which
`_disc_kernels.py` forces scatters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

IntArray = npt.NDArray[np.int64]
PER_MM = 0.1  # mu/rho (cm2/g) times density (g/cm3) is in 1/cm


class Geometry(NamedTuple):
    """Spheres, slabs and scores as the module's docstring says; ``density`` (M,) in g/cm3 by material index."""

    radii: FloatArray
    sphere_material: IntArray
    planes: FloatArray
    between: IntArray
    density: FloatArray
    kind: IntArray
    low: FloatArray
    high: FloatArray
    across: FloatArray
    near: FloatArray
    volume: FloatArray


@compiled
def below(rising: FloatArray, value: float) -> int:
    """How many of the rising values lie below ``value``."""
    low, high = 0, rising.size
    while low < high:
        middle = (low + high) // 2
        if rising[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def overlap(a: float, b: float, low: float, high: float) -> float:
    """Length that the intervals [a, b] and [low, high] share."""
    return max(0.0, min(b, high) - max(a, low))


@compiled
def next_border(
    g: Geometry, x: float, y: float, z: float, u: float, v: float, w: float, s: int, b: int
) -> tuple[float, int, int]:
    """Distance to the nearest border of sphere ``s`` and slab interval ``b``, and the two beyond it."""
    along = x * u + y * v + z * w
    r2 = x * x + y * y + z * z
    border = math.sqrt(max(0.0, along * along + g.radii[s] * g.radii[s] - r2)) - along
    next_s, next_b = s + 1, b
    if s > 0 and along < 0.0:
        under = along * along + g.radii[s - 1] * g.radii[s - 1] - r2
        if under > 0.0 and -along - math.sqrt(under) < border:
            border, next_s = -along - math.sqrt(under), s - 1
    if u > 0.0 and b < g.planes.size:
        plane = (g.planes[b] - x) / u
        if plane < border:
            border, next_s, next_b = plane, s, b + 1
    elif u < 0.0 and b > 0:
        plane = (g.planes[b - 1] - x) / u
        if plane < border:
            border, next_s, next_b = plane, s, b - 1
    return max(border, 0.0), next_s, next_b


@compiled
def medium_of(g: Geometry, s: int, b: int) -> int:
    """Material index in sphere ``s`` and slab interval ``b``."""
    return int(g.between[b] if g.between[b] >= 0 else g.sphere_material[s])
