"""Simple tissue maps for the tests of the engines that know tissues."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iort_planner.dose.materials import read_material
from iort_planner.dose.tissue import TissueMap
from iort_planner.imaging.volume import ImageGrid

CORTICAL, SPONGIOSA = 1, 2


def cube(half: int, spacing_mm: float = 1.0) -> ImageGrid:
    """A cube of 2 half + 1 voxels a side round the origin."""
    n = 2 * half + 1
    return ImageGrid(
        size_voxels=(n, n, n),
        spacing_mm=np.full(3, spacing_mm),
        origin_lps_mm=np.full(3, -half * spacing_mm),
        direction=np.eye(3),
    )


def water(half: int, spacing_mm: float = 1.0) -> TissueMap:
    """Water in every voxel, with cortical bone and spongiosa at hand."""
    return TissueMap.filled(
        cube(half, spacing_mm), np.zeros(3), read_material("cortical bone"), read_material("spongiosa")
    )


def shell(tissue: TissueMap, low_mm: float, high_mm: float, index: int) -> TissueMap:
    """A material between two distances from the source."""
    away = tissue.grid.distances_mm(np.zeros(3))
    return tissue.with_part((away > low_mm) & (away <= high_mm), index)


def slab(tissue: TissueMap, low_mm: float, high_mm: float, index: int) -> TissueMap:
    """A material in the voxels whose centres lie between two x."""
    x = x_of(tissue.grid)
    return tissue.with_part((x > low_mm) & (x < high_mm), index)


def x_of(grid: ImageGrid) -> npt.NDArray[np.float64]:
    """The x of each voxel centre, [k, j, i]."""
    row = grid.origin_lps_mm[0] + np.arange(grid.size_voxels[0]) * grid.spacing_mm[0]
    return np.broadcast_to(row, grid.shape)


def vertebra(half: int, spacing_mm: float = 1.0) -> TissueMap:
    """Spongiosa with a cortex of 1 mm round a lesion of water with the source in it: in mm, whatever the voxels."""
    tissue = water(half, spacing_mm)
    points = np.abs(tissue.grid.voxel_centres_lps_mm() + np.array([5.0, 0.0, 0.0]))
    body = np.all(points < (20.0, 16.0, 12.0), axis=-1)
    inner = np.all(points < (19.0, 15.0, 11.0), axis=-1)
    lesion = tissue.grid.distances_mm(np.zeros(3)) < 8.0
    return tissue.with_part(body, SPONGIOSA).with_part(body & ~inner, CORTICAL).with_part(lesion, 0)
