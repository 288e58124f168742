"""The voxels round the distal end of a needle, and what they would show without it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from iort_planner.geometry.needle_model import Frame, Scene

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

BEFORE_MM = 5.0  # distal of the metal: past its blur, and long enough to see a cannula over the plastic
_FIT_RADIUS_MM = 4.4  # cannula radius 2.7 + twice a wide blur of 0.8
_RING_MM = (4.6, 6.6)  # the background is read just outside of that
_BIN_MM = 3.0
_SECTORS = 6
_MOST_VOXELS = 5000  # of 0.36 mm voxels a third; keeps a fit near 0.1 s


def build_scene(volume: Volume, frame: Frame, curvature: FloatArray, reach_mm: float) -> Scene:
    """Voxels within 4.4 mm of the axis from 5 mm distal of the metal to ``reach_mm`` along it.

    The background of a voxel is the median of a ring round the axis at its height and in its sector.
    A scan counts as cut when a tenth of the metal's core has exactly its highest value.
    """
    ends = frame.to_lps(np.array([[0.0, 0.0, -BEFORE_MM], [0.0, 0.0, reach_mm]]))
    box = volume.crop_around(ends, _RING_MM[1] + 0.5)
    k, j, i = np.meshgrid(*(np.arange(n) for n in box.values.shape), indexing="ij")
    local = frame.to_local(box.grid.index_to_lps(np.stack([i, j, k], axis=-1).reshape(-1, 3)))
    values = box.values.reshape(-1).astype(np.float64)
    along = local[:, 2]
    across = local[:, :2] - along[:, None] ** 2 * curvature
    radius = np.hypot(across[:, 0], across[:, 1])
    inside = (along > -BEFORE_MM) & (along < reach_mm)
    core = values[inside & (radius < 1.0) & (along > 3.0)]
    top = float(values[inside].max())
    table = _background(values, along, across, inside & (radius > _RING_MM[0]) & (radius < _RING_MM[1]), reach_mm)
    where = np.flatnonzero(inside & (radius < _FIT_RADIUS_MM))
    if where.size > _MOST_VOXELS:
        keep = np.random.default_rng(0).random(where.size) < _MOST_VOXELS / where.size
        where = where[keep | ((along[where] < 3.0) & (along[where] > -3.0))]
    background = table[_bin(along[where]), _sector(across[where])]
    beyond = (along[where] > -2.5) & (along[where] < -1.2) & (radius[where] > 1.8) & (radius[where] < 3.0)
    excess = (values[where] - background)[beyond]
    scale = abs(float(np.median(core))) if core.size else 1.0
    return Scene(
        local_mm=local[where],
        values=values[where],
        background=background,
        normal=frame.to_local(frame.origin_lps_mm + volume.grid.direction[:, 2]),
        slice_mm=float(volume.grid.spacing_mm[2]),
        ceiling=top if core.size and float(np.mean(core >= top)) > 0.1 else np.inf,
        wall_beyond=float(np.median(excess)) / scale if excess.size else 0.0,
    )


def _sector(across: FloatArray) -> npt.NDArray[np.intp]:
    turn = np.arctan2(across[:, 1], across[:, 0]) / (2.0 * np.pi) + 0.5
    result: npt.NDArray[np.intp] = np.minimum((turn * _SECTORS).astype(np.intp), _SECTORS - 1)
    return result


def _bin(along: FloatArray) -> npt.NDArray[np.intp]:
    result: npt.NDArray[np.intp] = ((along + BEFORE_MM) / _BIN_MM).astype(np.intp)
    return result


def _background(
    values: FloatArray, along: FloatArray, across: FloatArray, ring: npt.NDArray[np.bool_], reach_mm: float
) -> FloatArray:
    """Medians of the ring by height and sector, shape (bins, sectors); empty cells take the median of all."""
    count = int((reach_mm + BEFORE_MM) / _BIN_MM) + 1
    cell = _bin(along[ring]) * _SECTORS + _sector(across[ring])
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(count * _SECTORS + 1))
    picked = values[ring][order]
    overall = float(np.median(picked)) if picked.size else 0.0
    table = np.array([np.median(picked[a:b]) if b - a >= 3 else overall for a, b in pairwise(starts.tolist())])
    return table.reshape(count, _SECTORS)
