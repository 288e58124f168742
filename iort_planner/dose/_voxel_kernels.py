"""Compiled rays in a grid of voxels, and the exact dose of unscattered photons; `_scatter_kernels` has the others.

Coordinates are voxel indices (i, j, k); a voxel reaches from index - 0.5 to index + 0.5. Lengths along a ray are cm, as
attenuation per mass is cm2/g. Direction vectors are unit vectors in the grid's own axes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iort_planner.compiled import compiled
from iort_planner.units import FloatArray

_FAR = 1e30


@compiled
def trace(
    start: FloatArray,
    direction: FloatArray,
    spacing_cm: FloatArray,
    shape: tuple[int, int, int],
    length_cm: float,
    voxels: npt.NDArray[np.int64],
    steps_cm: FloatArray,
) -> int:
    """Voxels that a ray crosses and the length in each, up to ``length_cm`` or the grid's face; their number.

    ``start`` is an index (i, j, k) inside the grid; ``voxels`` are flat indices of an array [k, j, i]. The border between
    two voxels is crossed axis by axis (Amanatides and Woo 1987, Eurographics, 3).
    """
    nk, nj, ni = shape
    size = (ni, nj, nk)
    stride = (1, ni, ni * nj)
    cell = np.empty(3, np.int64)
    step = np.empty(3, np.int64)
    to_next, between = np.empty(3), np.empty(3)
    flat = 0
    for n in range(3):
        cell[n] = min(max(math.floor(start[n] + 0.5), 0), size[n] - 1)
        flat += cell[n] * stride[n]
        if direction[n] > 0.0:
            step[n] = 1
            to_next[n] = (cell[n] + 0.5 - start[n]) * spacing_cm[n] / direction[n]
            between[n] = spacing_cm[n] / direction[n]
        elif direction[n] < 0.0:
            step[n] = -1
            to_next[n] = (cell[n] - 0.5 - start[n]) * spacing_cm[n] / direction[n]
            between[n] = -spacing_cm[n] / direction[n]
        else:
            step[n] = 0
            to_next[n] = _FAR
            between[n] = _FAR
    at = 0.0
    count = 0
    while True:
        n = 0
        if to_next[1] < to_next[n]:
            n = 1
        if to_next[2] < to_next[n]:
            n = 2
        end = to_next[n]
        voxels[count] = flat
        if end >= length_cm:
            steps_cm[count] = length_cm - at
            return count + 1
        steps_cm[count] = max(end - at, 0.0)
        at = max(at, end)
        count += 1
        cell[n] += step[n]
        if cell[n] < 0 or cell[n] >= size[n]:
            return count
        flat += step[n] * stride[n]
        to_next[n] += between[n]


@compiled
def primary_dose(
    to_water: npt.NDArray[np.float64],
    to_medium: npt.NDArray[np.float64],
    planes: npt.NDArray[np.int64],
    source: FloatArray,
    spacing_cm: FloatArray,
    material: npt.NDArray[np.uint8],
    density: npt.NDArray[np.float32],
    weight_kev: FloatArray,
    mu: FloatArray,
    mu_en: FloatArray,
    sub_points: npt.NDArray[np.int64],
) -> None:
    """Kerma of unscattered photons per emitted photon (keV/g), mean over each voxel of some planes; written.

    Parameters
    ----------
    to_water, to_medium : ndarray of shape (nk, nj, ni)
    planes : ndarray of shape (P,)
        The k to fill.
    source : ndarray of shape (3,)
        Index of the source.
    material, density : ndarray of shape (nk, nj, ni)
    weight_kev : ndarray of shape (E,), keV
        Photons per emitted photon times energy, for each line.
    mu, mu_en : ndarray of shape (M, E), cm2/g
        Row 0 is water.
    sub_points : ndarray of shape (R,)
        Points along each axis of a voxel that lies n voxels from the source, for n = 0 .. R - 1; then one.
    """
    nk, nj, ni = material.shape
    lines = weight_kev.size
    flat_material, flat_density = material.ravel(), density.ravel()
    voxels, steps = np.empty(ni + nj + nk + 3, np.int64), np.empty(ni + nj + nk + 3)
    tau = np.empty(lines)
    offset, direction = np.empty(3), np.empty(3)
    for plane in planes:
        for j in range(nj):
            for i in range(ni):
                away = math.sqrt((i - source[0]) ** 2 + (j - source[1]) ** 2 + (plane - source[2]) ** 2)
                points = sub_points[int(away)] if int(away) < sub_points.size else 1
                own = material[plane, j, i]
                water = 0.0
                medium = 0.0
                for c in range(points):
                    for b in range(points):
                        for a in range(points):
                            offset[0] = i + (a + 0.5) / points - 0.5 - source[0]
                            offset[1] = j + (b + 0.5) / points - 0.5 - source[1]
                            offset[2] = plane + (c + 0.5) / points - 0.5 - source[2]
                            square = 0.0
                            for n in range(3):
                                square += (offset[n] * spacing_cm[n]) ** 2
                            if square == 0.0:  # the source itself: its kerma is infinite
                                continue
                            length = math.sqrt(square)
                            for n in range(3):
                                direction[n] = offset[n] * spacing_cm[n] / length
                            count = trace(source, direction, spacing_cm, material.shape, length, voxels, steps)
                            tau[:] = 0.0
                            mass = 0.0
                            for s in range(count):  # voxels of one material in a row are one step
                                row = flat_material[voxels[s]]
                                mass += steps[s] * flat_density[voxels[s]]
                                if s + 1 == count or flat_material[voxels[s + 1]] != row:
                                    for e in range(lines):
                                        tau[e] += mass * mu[row, e]
                                    mass = 0.0
                            here_water = 0.0
                            here_medium = 0.0
                            for e in range(lines):
                                left = weight_kev[e] * math.exp(-tau[e])
                                here_water += left * mu_en[0, e]
                                here_medium += left * mu_en[own, e]
                            water += here_water / (4.0 * math.pi * square)
                            medium += here_medium / (4.0 * math.pi * square)
                to_water[plane, j, i] = water / points**3
                to_medium[plane, j, i] = medium / points**3
