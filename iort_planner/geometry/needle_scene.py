"""The voxels round the distal end of a needle, and what they would show without it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from iort_planner.errors import NeedleNotFoundError
from iort_planner.geometry.needle_model import Frame, Scene, bowed

if TYPE_CHECKING:
    import numpy.typing as npt

    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

_BEYOND_TIP_MM = 2.5  # distal of the plastic: past its blur
BEFORE_MM = 5.0  # without plastic: past the metal's blur, and long enough to see a cannula over it
_FIT_RADIUS_MM = 4.4  # cannula radius 2.7 + twice a wide blur of 0.8
_RING_MM = (4.6, 6.6)  # the background is read just outside of that
_HALO_RINGS_MM = ((4.2, 5.2), (5.8, 8.0))  # two rings off the metal's blur that show how streaks fall off
_HALO_LIMITS = (-0.15, 0.33)  # of the metal: brighter halos are seen, and what looks darker is mostly the bone round it
_WALL_MM = 2.4  # as in needle_profile
_CORE_MM = 2.0  # nothing but metal further in
_BIN_MM = 3.0
_SECTORS = 6
_AIR_HU = -1050.0  # blur hides what a narrow bore really holds: never less than air and some noise
_SOFT_SHARE = 0.2  # of the way from the surroundings to metal: 700 HU, where plastics read up to 300. Our own choice
_FEWEST_VOXELS = 50  # of a shaft in 3 mm slices there are over 500
MOST_VOXELS = 3000  # of 0.36 mm voxels a fifth; keeps a fit near 0.1 s


def build_scene(
    volume: Volume,
    frame: Frame,
    curvature: FloatArray,
    reach_mm: float,
    most: int = MOST_VOXELS,
    plastic_mm: float = BEFORE_MM - _BEYOND_TIP_MM,
) -> Scene:
    """Voxels within 4.4 mm of the axis from the tip of ``plastic_mm`` to ``reach_mm`` along it, about ``most`` of them.

    The background of a voxel is the median of a ring round the axis at its height and in its sector, and the halo
    of streaks on top: what falls as one over the distance from the axis between two rings is continued inwards.
    A scan counts as cut when a tenth of the metal has exactly its highest value.

    Raises
    ------
    NeedleNotFoundError
        If hardly any voxels of the image lie there.
    """
    before_mm = plastic_mm + _BEYOND_TIP_MM
    ends = frame.to_lps(np.array([[0.0, 0.0, -before_mm], [0.0, 0.0, reach_mm]]))
    box = volume.crop_around(ends, _HALO_RINGS_MM[1][1] + 0.5)
    k, j, i = np.meshgrid(*(np.arange(n) for n in box.values.shape), indexing="ij")
    local = frame.to_local(box.grid.index_to_lps(np.stack([i, j, k], axis=-1).reshape(-1, 3)))
    values = box.values.reshape(-1).astype(np.float64)
    along = local[:, 2]
    across = local[:, :2] - bowed(along, float(np.hypot(*curvature)))[:, None] * curvature
    radius = np.hypot(across[:, 0], across[:, 1])
    inside = (along > -before_mm) & (along < reach_mm)
    if np.count_nonzero(inside & (radius < _FIT_RADIUS_MM)) < _FEWEST_VOXELS:
        raise NeedleNotFoundError("too few voxels of the image lie round this piece of metal to measure it")
    core = values[inside & (radius < _WALL_MM) & (along > 3.0)]
    top = float(values[inside].max())
    table = _background(
        values, along, across, inside & (radius > _RING_MM[0]) & (radius < _RING_MM[1]), reach_mm, before_mm
    )
    around = float(np.median(table))
    where = np.flatnonzero(inside & (radius < _FIT_RADIUS_MM))
    if where.size > most:
        keep = np.random.default_rng(0).random(where.size) < most / where.size
        where = where[keep | (np.abs(along[where]) < 2.0)] if most >= MOST_VOXELS else where[keep]
    background = table[_bin(along[where], before_mm), _sector(across[where])]
    steep = _halo(values, along, across, radius, inside, reach_mm, before_mm)
    near = 1.0 / np.maximum(radius[where], _CORE_MM) - 1.0 / float(np.mean(_RING_MM))
    halo = steep[_bin(along[where], before_mm), _sector(across[where])] * near
    scale = abs(float(np.quantile(core, 0.75))) if core.size else 1.0
    background += np.clip(halo, _HALO_LIMITS[0] * scale, _HALO_LIMITS[1] * scale)
    return Scene(
        local_mm=local[where],
        values=values[where],
        background=background,
        normal=frame.to_local(frame.origin_lps_mm + volume.grid.direction[:, 2]),
        slice_mm=float(volume.grid.spacing_mm[2]),
        lowest=min(float(values.min()), _AIR_HU) if volume.hu_calibrated else float(volume.values.min()),
        metal=scale,
        soft_max=around + _SOFT_SHARE * (scale - around),
        ceiling=top if core.size and float(np.mean(core >= top)) > 0.1 else np.inf,
    )


def _sector(across: FloatArray) -> npt.NDArray[np.intp]:
    turn = np.arctan2(across[:, 1], across[:, 0]) / (2.0 * np.pi) + 0.5
    result: npt.NDArray[np.intp] = np.minimum((turn * _SECTORS).astype(np.intp), _SECTORS - 1)
    return result


def _bin(along: FloatArray, before_mm: float) -> npt.NDArray[np.intp]:
    result: npt.NDArray[np.intp] = ((along + before_mm) / _BIN_MM).astype(np.intp)
    return result


def _background(
    values: FloatArray,
    along: FloatArray,
    across: FloatArray,
    ring: npt.NDArray[np.bool_],
    reach_mm: float,
    before_mm: float,
) -> FloatArray:
    """Medians of the ring by height and sector, shape (bins, sectors); empty cells take the median of all."""
    count = int((reach_mm + before_mm) / _BIN_MM) + 1
    cell = _bin(along[ring], before_mm) * _SECTORS + _sector(across[ring])
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(count * _SECTORS + 1))
    picked = values[ring][order]
    overall = float(np.median(picked)) if picked.size else 0.0
    table = np.array([np.median(picked[a:b]) if b - a >= 3 else overall for a, b in pairwise(starts.tolist())])
    return table.reshape(count, _SECTORS)


def _halo(
    values: FloatArray,
    along: FloatArray,
    across: FloatArray,
    radius: FloatArray,
    inside: npt.NDArray[np.bool_],
    reach_mm: float,
    before_mm: float,
) -> FloatArray:
    """How the background changes with one over the radius, by height and sector; shape (bins, sectors).

    A running median along the needle keeps streaks, which follow it, and drops the edges of bone, which do not.
    """
    tables, places = [], []
    for low, high in _HALO_RINGS_MM:
        tables.append(
            _background(values, along, across, inside & (radius > low) & (radius < high), reach_mm, before_mm)
        )
        places.append(2.0 / (low + high))
    result: FloatArray = ndimage.median_filter(
        (tables[0] - tables[1]) / (places[0] - places[1]), (5, 1), mode="nearest"
    )
    return result
