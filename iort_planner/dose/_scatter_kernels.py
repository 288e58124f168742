"""Compiled transport of scattered photons in a grid of voxels by Monte Carlo; coordinates as in `_voxel_kernels`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.dose._photon_kernels import compton, grid_place, rayleigh, rotated, seed_state, uniform
from iort_planner.dose.photon_tables import KernelTables
from iort_planner.units import FloatArray

_FAR = 1e30
# Additive recurrence of 4 dimensions: powers of the root of x^5 = x + 1
# (the golden ratio's like in 4 dimensions; Roberts 2018, The unreasonable effectiveness of quasirandom sequences)
_ROOT = 1.1673039782614187  # of x^5 = x + 1
_RECURRENCE = (1.0 / _ROOT, 1.0 / _ROOT**2, 1.0 / _ROOT**3, 1.0 / _ROOT**4)
_THIN = 0.3  # optical thickness up to which the Pade approximant of exp(-x) is right within 4e-6


@compiled
def _to_sphere(
    at: FloatArray, direction: FloatArray, centre: FloatArray, spacing_cm: FloatArray, radius_cm: float
) -> float:
    """Way along a ray to where it leaves a sphere, cm; below 0 where it does not meet it."""
    along, square = 0.0, 0.0
    for n in range(3):
        offset = (at[n] - centre[n]) * spacing_cm[n]
        along += offset * direction[n]
        square += offset * offset
    inside = along * along - square + radius_cm * radius_cm
    return math.sqrt(inside) - along if inside > 0.0 else -1.0


@compiled
def add(cells: npt.NDArray[np.float32], voxel: int, column: int, value: float) -> None:
    """Add to a score; a GPU has its own way, as many threads add to one cell (`_gpu_kernels`)."""
    cells[voxel, column] += value


@compiled
def _fly(
    cells: npt.NDArray[np.float32],
    at: FloatArray,
    direction: FloatArray,
    spacing_cm: FloatArray,
    shape: tuple[int, int, int],
    mu: FloatArray,
    mu_en: FloatArray,
    carried: float,
    target: float,
    fence_cm: float,
    beyond: float,
) -> int:
    """Follow a ray to the grid's face and score it; put ``at`` where the optical depth reaches ``target``.

    Returns the voxel of that point, or -1 where the ray leaves the grid first. ``cells`` is that of `scatter_batch`. With
    ``carried`` (weight times keV) of 0 nothing is scored and the ray ends at the point. ``carried`` is multiplied by
    ``beyond`` in the first voxel whose end lies ``fence_cm`` along the ray or farther.
    """
    nk, nj, ni = shape
    i = min(max(int(at[0] + 0.5), 0), ni - 1)
    j = min(max(int(at[1] + 0.5), 0), nj - 1)
    k = min(max(int(at[2] + 0.5), 0), nk - 1)
    dx, dy, dz = direction[0] / spacing_cm[0], direction[1] / spacing_cm[1], direction[2] / spacing_cm[2]
    step_x, step_y, step_z = 1 if dx > 0.0 else -1, 1 if dy > 0.0 else -1, 1 if dz > 0.0 else -1
    each_x = abs(1.0 / dx) if dx != 0.0 else _FAR
    each_y = abs(1.0 / dy) if dy != 0.0 else _FAR
    each_z = abs(1.0 / dz) if dz != 0.0 else _FAR
    next_x = (i + 0.5 * step_x - at[0]) / dx if dx != 0.0 else _FAR
    next_y = (j + 0.5 * step_y - at[1]) / dy if dy != 0.0 else _FAR
    next_z = (k + 0.5 * step_z - at[2]) / dz if dz != 0.0 else _FAR
    left_x = ni - 1 - i if step_x > 0 else i
    left_y = nj - 1 - j if step_y > 0 else j
    left_z = nk - 1 - k if step_z > 0 else k
    stride_x, stride_y, stride_z = step_x, step_y * ni, step_z * ni * nj
    voxel = i + ni * (j + nj * k)
    gone, depth = 0.0, 0.0
    hit, hit_at = -1, 0.0
    scoring = carried > 0.0
    water = mu_en[0]
    while True:
        end = min(next_x, next_y, next_z)
        length = max(end - gone, 0.0)
        row = int(cells[voxel, 3])
        per_cm = cells[voxel, 2] * mu[row]
        thick = length * per_cm
        if depth <= target and target < depth + thick:
            hit, hit_at = voxel, gone + (target - depth) / per_cm
            if not scoring:
                break
        depth += thick
        if scoring:
            if thick < _THIN:
                up = 1.0 + thick * thick / 12.0
                after = carried * (up - 0.5 * thick) / (up + 0.5 * thick)
                mean = carried * (1.0 - thick * (0.5 - thick * (1.0 / 6.0 - thick / 24.0))) * length
            else:
                after = carried * math.exp(-thick)
                mean = (carried - after) / per_cm
            add(cells, voxel, 0, mean * water)
            add(cells, voxel, 1, mean * mu_en[row])
            carried = after
            if gone >= fence_cm:
                fence_cm = _FAR
                carried *= beyond
                scoring = carried > 0.0
                if depth > target and not scoring:
                    break
        gone = max(gone, end)
        if next_x <= end:
            if left_x == 0:
                break
            left_x -= 1
            next_x += each_x
            voxel += stride_x
        elif next_y <= end:
            if left_y == 0:
                break
            left_y -= 1
            next_y += each_y
            voxel += stride_y
        else:
            if left_z == 0:
                break
            left_z -= 1
            next_z += each_z
            voxel += stride_z
    if hit >= 0:
        at[0] += hit_at * dx
        at[1] += hit_at * dy
        at[2] += hit_at * dz
    return hit


class Scratch(NamedTuple):
    """Room that one history needs at a time, for M materials: state (4,) uint64, the others float64."""

    state: npt.NDArray[np.uint64]
    at: FloatArray  # (3,) index (i, j, k)
    direction: FloatArray  # (3,)
    mu: FloatArray  # (M,)
    mu_en: FloatArray  # (M,)


@compiled
def drawn_line(cumulative: FloatArray, share: float) -> int:
    """The line in whose part of the cumulative share a number from 0 to 1 falls."""
    low, high = 0, cumulative.size - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] <= share:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def one_history(
    cells: npt.NDArray[np.float32],
    history: int,
    own: Scratch,
    shift: FloatArray,
    source: FloatArray,
    spacing_cm: FloatArray,
    shape: tuple[int, int, int],
    lines: tuple[FloatArray, FloatArray, FloatArray],
    t: KernelTables,
    stretch: float,
    roulette: float,
    outer: tuple[float, float],
) -> None:
    """History number ``history`` of a batch; the others as in `scatter_batch`. Runs on the CPU and on a GPU."""
    state, at, direction, mu, mu_en = own
    line_kev, line_cdf, line_weight = lines
    materials = t.mu_total.shape[0]
    turn = history + 1.0
    cosine = 2.0 * ((shift[0] + turn * _RECURRENCE[0]) % 1.0) - 1.0
    phi = 2.0 * math.pi * ((shift[1] + turn * _RECURRENCE[1]) % 1.0)
    line = drawn_line(line_cdf, (shift[2] + turn * _RECURRENCE[2]) % 1.0)
    where = (shift[3] + turn * _RECURRENCE[3]) % 1.0
    sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
    direction[0], direction[1], direction[2] = sine * math.cos(phi), sine * math.sin(phi), cosine
    for n in range(3):
        at[n] = source[n]
    energy, weight, carried = line_kev[line], line_weight[line], 0.0
    while True:
        low, part = grid_place(t, energy)
        for m in range(materials):
            mu[m] = t.mu_total[m, low] + part * (t.mu_total[m, low + 1] - t.mu_total[m, low])
            mu_en[m] = t.mu_en[m, low] + part * (t.mu_en[m, low + 1] - t.mu_en[m, low])
        fence_cm, beyond = _FAR, 1.0
        if carried > 0.0:
            fence_cm = _to_sphere(at, direction, source, spacing_cm, outer[0])
            beyond = 1.0 / outer[1] if uniform(state) < outer[1] else 0.0
        target = -math.log1p(-where) / stretch
        voxel = _fly(cells, at, direction, spacing_cm, shape, mu, mu_en, carried, target, fence_cm, beyond)
        if voxel < 0:
            break
        row = int(cells[voxel, 3])
        coherent = t.mu_coherent[row, low] + part * (t.mu_coherent[row, low + 1] - t.mu_coherent[row, low])
        incoherent = t.mu_incoherent[row, low] + part * (t.mu_incoherent[row, low + 1] - t.mu_incoherent[row, low])
        weight *= math.exp((stretch - 1.0) * target) / stretch * (coherent + incoherent) / mu[row]
        if weight < roulette:
            if uniform(state) * roulette * 2.0 > weight:
                break
            weight = roulette * 2.0
        if uniform(state) * (coherent + incoherent) < coherent:
            cosine = rayleigh(state, t, row, energy)
        else:
            cosine, energy = compton(state, t, row, energy)
        if energy < t.least_kev:
            break
        turned = rotated(direction[0], direction[1], direction[2], cosine, 2.0 * math.pi * uniform(state))
        direction[0], direction[1], direction[2] = turned
        where = uniform(state)
        carried = weight * energy


@compiled
def scatter_batch(
    cells: npt.NDArray[np.float32],
    histories: int,
    seed: int,
    shift: FloatArray,
    source: FloatArray,
    spacing_cm: FloatArray,
    shape: tuple[int, int, int],
    lines: tuple[FloatArray, FloatArray, FloatArray],
    t: KernelTables,
    stretch: float,
    roulette: float,
    outer: tuple[float, float],
) -> None:
    """Kerma of scattered photons, summed over one batch of histories.

    A photon is never absorbed: its weight carries the chance of being scattered. From each collision the whole ray on
    to the grid's face is scored by its expected track length (Williamson 1987, Med Phys 14:567,
    doi:10.1118/1.596069). The next collision is drawn on that same ray from a fall slower by ``stretch`` than the
    true one, and the weight makes up for it; a photon of little weight plays Russian roulette. The first four random
    numbers of the histories are points of an additive recurrence (Kronecker sequence) with a random shift for each
    batch: each history is as random as before, and together they fill the space more evenly.

    Parameters
    ----------
    cells : ndarray of shape (voxels, 4), float32
        Score of water and of the voxel's medium (keV cm2/g times cm; added to), density (g/cm3), material; flat indices of
        [k, j, i]. One row, because a ray then touches one place in memory a voxel.
    shape : tuple of 3 int
        (nk, nj, ni).
    shift : ndarray of shape (4,)
        Random shift of the recurrence, 0 to 1.
    lines : tuple of ndarrays of shape (E,)
        Energies (keV), the cumulative share they are drawn from, and the weight of a photon drawn.
    t : KernelTables
    stretch : float
        0 to 1; 1 draws collisions as they are.
    roulette : float
        Weight below which it is played.
    outer : tuple of 2 float
        A ray that leaves a sphere of this radius round the source (cm) is scored beyond it with this chance, and then more.
    """
    materials = t.mu_total.shape[0]
    own = Scratch(np.empty(4, np.uint64), np.empty(3), np.empty(3), np.empty(materials), np.empty(materials))
    seed_state(own.state, seed, 0)
    for history in range(histories):
        one_history(cells, history, own, shift, source, spacing_cm, shape, lines, t, stretch, roulette, outer)
