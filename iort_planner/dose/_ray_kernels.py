"""Compiled loop of the ray trace: two line integrals from the source to the centre of every voxel."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

_FAR = 1e30


@compiled
def line_integrals(
    found: npt.NDArray[np.float32],
    planes: npt.NDArray[np.int64],
    source: FloatArray,
    spacing_cm: FloatArray,
    basis: npt.NDArray[np.float32],
) -> None:
    """Integrals of both columns of ``basis`` along the straight way to each voxel centre of some planes; written.

    Parameters
    ----------
    found : ndarray of shape (nk, nj, ni, 2), float32, g/cm2
    planes : ndarray of shape (P,)
        The k to fill.
    source : ndarray of shape (3,)
        Index (i, j, k) inside the grid.
    spacing_cm : ndarray of shape (3,)
    basis : ndarray of shape (nk * nj * ni, 2), float32, g/cm3
    """
    _, nj, ni, _ = found.shape
    nk = found.shape[0]
    i0 = min(max(math.floor(source[0] + 0.5), 0), ni - 1)
    j0 = min(max(math.floor(source[1] + 0.5), 0), nj - 1)
    k0 = min(max(math.floor(source[2] + 0.5), 0), nk - 1)
    for k in planes:
        dz = k - source[2]
        step_z = 1 if dz > 0.0 else -1
        each_z = 1.0 / abs(dz) if dz != 0.0 else _FAR
        first_z = (k0 + 0.5 * step_z - source[2]) / dz if dz != 0.0 else _FAR
        for j in range(nj):
            dy = j - source[1]
            step_y = 1 if dy > 0.0 else -1
            each_y = 1.0 / abs(dy) if dy != 0.0 else _FAR
            first_y = (j0 + 0.5 * step_y - source[1]) / dy if dy != 0.0 else _FAR
            for i in range(ni):
                dx = i - source[0]
                step_x = 1 if dx > 0.0 else -1
                each_x = 1.0 / abs(dx) if dx != 0.0 else _FAR
                next_x = (i0 + 0.5 * step_x - source[0]) / dx if dx != 0.0 else _FAR
                next_y, next_z = first_y, first_z
                length = math.sqrt((dx * spacing_cm[0]) ** 2 + (dy * spacing_cm[1]) ** 2 + (dz * spacing_cm[2]) ** 2)
                voxel = i0 + ni * (j0 + nj * k0)
                gone, a, b = 0.0, 0.0, 0.0
                while True:  # fractions of the way, so that it ends at 1
                    if next_x <= next_y and next_x <= next_z:
                        end, move = next_x, step_x
                        next_x += each_x
                    elif next_y <= next_z:
                        end, move = next_y, step_y * ni
                        next_y += each_y
                    else:
                        end, move = next_z, step_z * ni * nj
                        next_z += each_z
                    if end >= 1.0:
                        part = 1.0 - gone
                        a += part * basis[voxel, 0]
                        b += part * basis[voxel, 1]
                        break
                    part = end - gone
                    a += part * basis[voxel, 0]
                    b += part * basis[voxel, 1]
                    gone = end
                    voxel += move
                found[k, j, i, 0] = a * length
                found[k, j, i, 1] = b * length


@compiled
def look_up(
    result: npt.NDArray[np.float32],
    planes: npt.NDArray[np.int64],
    integrals: npt.NDArray[np.float32],
    table: npt.NDArray[np.float64],
    start_a: float,
    per_a: float,
    start_b: float,
    per_b: float,
    offset_b: float,
) -> None:
    """Values of a table over both integrals, bilinear in the first and in ln(second + offset); written.

    Parameters
    ----------
    result : ndarray of shape (nk, nj, ni, Q), float32
    integrals : ndarray of shape (nk, nj, ni, 2), float32, g/cm2
    table : ndarray of shape (NA, NB, Q)
        Natural logarithms of the values.
    """
    _, nj, ni, values = result.shape
    most_a, most_b = table.shape[0] - 1.000001, table.shape[1] - 1.000001
    for k in planes:
        for j in range(nj):
            for i in range(ni):
                a = min(max((integrals[k, j, i, 0] - start_a) * per_a, 0.0), most_a)
                b = (math.log(max(integrals[k, j, i, 1] + offset_b, 1e-6)) - start_b) * per_b
                b = min(max(b, 0.0), most_b)
                la, lb = int(a), int(b)
                fa, fb = a - la, b - lb
                for q in range(values):
                    low = table[la, lb, q] + fb * (table[la, lb + 1, q] - table[la, lb, q])
                    high = table[la + 1, lb, q] + fb * (table[la + 1, lb + 1, q] - table[la + 1, lb, q])
                    result[k, j, i, q] = math.exp(low + fa * (high - low))
