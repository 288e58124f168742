"""Compiled photon transport in concentric spheres and slabs: the primary along rays, scatter by Monte Carlo.

The geometry is a list of spheres about the origin, innermost first, and planes of constant x between which a slab's material
replaces the spheres'. The surfaces of the scores are among the spheres and planes, so that a step lies in one score or in none;
only a disc's rim is cut apart. Lengths are cm; attenuation is 1/cm (densities are in it), energies keV.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.dose._kernels import compiled
from iort_planner.dose._photon_kernels import next_uniform, scatter_photon, seeded, turn
from iort_planner.units import FloatArray

_FAR = 1e30
_NUDGE = 1e-10  # past a surface, so that the next step does not find it again
_LEAST_KEV = 1.0  # below, what is left stays where it is

Ints = npt.NDArray[np.int64]
Geometry = tuple[FloatArray, FloatArray, Ints, Ints]  # radii, planes, material of [layer between planes, sphere]
Scores = tuple[
    Ints, FloatArray, FloatArray, FloatArray
]  # kind (0 shell, 1 disc), lower and upper bound, radius of the disc
Tables = tuple[float, float, FloatArray, FloatArray, FloatArray, FloatArray]


@compiled
def _cell(at: FloatArray, radii: FloatArray, planes: FloatArray) -> tuple[int, int]:
    """Which sphere's shell and which layer between planes a point lies in; a shell of radii.size is outside."""
    r = math.sqrt(at[0] ** 2 + at[1] ** 2 + at[2] ** 2)
    return int(np.searchsorted(radii, r, side="right")), int(np.searchsorted(planes, at[0], side="right"))


@compiled
def _to_surface(
    at: FloatArray, direction: FloatArray, shell: int, radii: FloatArray, planes: FloatArray, layer: int
) -> float:
    """Way to the next sphere or plane, cm."""
    along = at[0] * direction[0] + at[1] * direction[1] + at[2] * direction[2]
    square = at[0] ** 2 + at[1] ** 2 + at[2] ** 2
    best = _FAR
    if shell < radii.size:
        inside = along * along - square + radii[shell] ** 2
        best = max(-along + math.sqrt(max(inside, 0.0)), 0.0)
    if shell > 0 and along < 0.0:
        inside = along * along - square + radii[shell - 1] ** 2
        if inside > 0.0:
            best = min(best, max(-along - math.sqrt(inside), 0.0))
    if direction[0] > 0.0 and layer < planes.size:
        best = min(best, max((planes[layer] - at[0]) / direction[0], 0.0))
    elif direction[0] < 0.0 and layer > 0:
        best = min(best, max((planes[layer - 1] - at[0]) / direction[0], 0.0))
    return best


@compiled
def _in_disc(at: FloatArray, direction: FloatArray, length: float, radius: float) -> tuple[float, float]:
    """From where to where (cm along the step) a step lies within the cylinder round the x axis."""
    a = direction[1] ** 2 + direction[2] ** 2
    b = at[1] * direction[1] + at[2] * direction[2]
    c = at[1] ** 2 + at[2] ** 2 - radius**2
    if a < 1e-18:
        return (0.0, length) if c <= 0.0 else (0.0, 0.0)
    inside = b * b - a * c
    if inside <= 0.0:
        return 0.0, 0.0
    root = math.sqrt(inside)
    first, last = max((-b - root) / a, 0.0), min((-b + root) / a, length)
    return (first, last) if last > first else (0.0, 0.0)


@compiled
def _score(
    out: FloatArray,
    scores: Scores,
    at: FloatArray,
    direction: FloatArray,
    length: float,
    carried: float,
    per_cm: float,
    to_medium: float,
    to_water: float,
    once: float,
) -> None:
    """Add a step's collision kerma to the scores that it lies in: mean of ``carried`` (keV) along it.

    ``once`` is 1 for a photon that has scattered once, whose kerma to water is kept apart too, else 0.
    """
    kind, low, high, rim = scores
    x = at[0] + 0.5 * length * direction[0]
    y = at[1] + 0.5 * length * direction[1]
    z = at[2] + 0.5 * length * direction[2]
    r = math.sqrt(x * x + y * y + z * z)
    for n in range(kind.size):
        first, last = 0.0, length
        if kind[n] == 0:
            if not low[n] < r < high[n]:
                continue
        else:
            if not low[n] < x < high[n]:
                continue
            first, last = _in_disc(at, direction, length, rim[n])
            if last <= first:
                continue
        if per_cm > 0.0:
            mean = carried * (math.exp(-per_cm * first) - math.exp(-per_cm * last)) / per_cm
        else:
            mean = carried * (last - first)
        out[n, 0] += mean * to_medium
        out[n, 1] += mean * to_water
        out[n, 2] += mean * to_water * once


@compiled
def primary_rays(
    out: FloatArray,
    directions: FloatArray,
    weights_kev: FloatArray,
    geometry: Geometry,
    scores: Scores,
    mu: FloatArray,
    local: FloatArray,
) -> None:
    """Kerma of unscattered photons along rays from the origin, summed over the rays, keV/g cm3.

    Parameters
    ----------
    out : ndarray of shape (S, 3)
        To medium and to water, and a column that rays leave alone; added to.
    directions : ndarray of shape (R, 3)
    weights_kev : ndarray of shape (E,)
        Photons times keV of each energy.
    mu, local : ndarray of shape (M, E)
        1/cm (row -1 is vacuum, all 0), and energy that stays per mass, cm2/g; row 0 is water.
    """
    radii, planes, materials, _ = geometry
    layers = planes.size + 1
    at, here = np.zeros(3), np.zeros(3)
    left = np.empty(weights_kev.size)
    for ray in range(directions.shape[0]):
        direction = directions[ray]
        at[:] = 0.0
        left[:] = weights_kev
        for n in range(3):
            at[n] = direction[n] * _NUDGE
        while True:
            shell, layer = _cell(at, radii, planes)
            if shell >= radii.size:
                break
            material = materials[shell * layers + layer]
            length = _to_surface(at, direction, shell, radii, planes, layer) + _NUDGE
            for e in range(left.size):
                per_cm = mu[material, e]
                _score(out, scores, at, direction, length, left[e], per_cm, local[material, e], local[0, e], 0.0)
                left[e] *= math.exp(-per_cm * length)
            for n in range(3):
                here[n] = at[n] + direction[n] * length
            at[:] = here


@compiled
def scatter_histories(
    out: FloatArray,
    balance: FloatArray,
    histories: int,
    seed: int,
    energies_kev: FloatArray,
    cumulative: FloatArray,
    geometry: Geometry,
    scores: Scores,
    density: FloatArray,
    tables: Tables,
    scatter_tables: tuple[float, FloatArray, FloatArray],
) -> None:
    """Follow photons from the origin until they are absorbed or leave; score what flies after a scattering.

    Parameters
    ----------
    out : ndarray of shape (S, 3)
        Kerma to medium, to water, and to water of photons that have scattered once; summed, keV/g cm3; added to.
    balance : ndarray of shape (3,)
        Energy emitted, absorbed and escaped, keV; added to. Absorption is played out, so that they balance.
    density : ndarray of shape (M,)
        g/cm3; that of vacuum is 0.
    """
    radii, planes, materials, rows = geometry
    layers = planes.size + 1
    first_kev, per_kev, mu, local, coherent, incoherent = tables
    state = seeded(seed)
    at, direction = np.zeros(3), np.zeros(3)
    for _ in range(histories):
        kev = energies_kev[
            min(int(np.searchsorted(cumulative, next_uniform(state), side="right")), energies_kev.size - 1)
        ]
        balance[0] += kev
        direction[0], direction[1], direction[2] = 0.0, 0.0, 1.0
        turn(direction, 2.0 * next_uniform(state) - 1.0, 2.0 * math.pi * next_uniform(state))
        for n in range(3):
            at[n] = direction[n] * _NUDGE
        times = 0
        depth = -math.log(1.0 - next_uniform(state))
        while True:
            shell, layer = _cell(at, radii, planes)
            if shell >= radii.size:
                balance[2] += kev
                break
            material = materials[shell * layers + layer]
            row = rows[material]
            place = min((kev - first_kev) * per_kev, mu.shape[1] - 1.000001)
            low = int(place)
            part = place - low
            total = mu[row, low] + part * (mu[row, low + 1] - mu[row, low])
            per_cm = total * density[material]
            length = _to_surface(at, direction, shell, radii, planes, layer)
            hit = per_cm * length > depth
            step = depth / per_cm if hit else length + _NUDGE
            if times > 0:
                to_medium = local[row, low] + part * (local[row, low + 1] - local[row, low])
                to_water = local[0, low] + part * (local[0, low + 1] - local[0, low])
                _score(out, scores, at, direction, step, kev, 0.0, to_medium, to_water, 1.0 if times == 1 else 0.0)
            for n in range(3):
                at[n] += direction[n] * step
            if not hit:
                depth -= per_cm * step
                if depth < 0.0:
                    depth = 0.0
                continue
            drawn = next_uniform(state) * total
            of_coherent = coherent[row, low] + part * (coherent[row, low + 1] - coherent[row, low])
            of_incoherent = incoherent[row, low] + part * (incoherent[row, low + 1] - incoherent[row, low])
            if drawn >= of_coherent + of_incoherent:
                balance[1] += kev
                break
            kept, cosine = scatter_photon(state, kev, row, drawn < of_coherent, scatter_tables)
            balance[1] += kev - kept
            kev = kept
            if kev < _LEAST_KEV:
                balance[1] += kev
                break
            turn(direction, cosine, 2.0 * math.pi * next_uniform(state))
            times += 1
            depth = -math.log(1.0 - next_uniform(state))
