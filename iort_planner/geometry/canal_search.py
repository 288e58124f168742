"""Where the canal runs: a smooth path of soft tissue enclosed by bone, slice by slice near the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry.canal_intensity import IntensityScale, intensity_scales, needle_distance_mm
from iort_planner.imaging.volume import Volume
from iort_planner.units import FloatArray

# Half size of the searched box round the source, mm, in patient axes: a source in a vertebral body lies within about
# 35 mm of the canal's centre (lumbar bodies are up to 50 mm wide and 35 mm deep); one level up and down is about 30 mm.
_HALF_BOX_MM = np.array([42.0, 46.0, 31.0])
_VOXEL_MM = 1.25  # search grid; thin walls blur over about this much
_STEP = 2  # candidates every second voxel
_REACH_MM = 17.0  # a wall farther from the centre is not a canal's: widths stay under 34 mm
_ANGLES = 24
# HU over soft tissue from which something is bone: between a disc (about 60 above) and blurred cortical bone (250 and
# more). The second is the next try, for osteoporotic bone (thin cortex of 150 to 250 HU after blur).
BONE_ABOVE_CONTENT = (130.0, 75.0)
SOFT_TISSUE_HU = 30.0  # cord, CSF and fat of the canal taken together
METAL_HU = 2000.0  # denser than cortical bone (up to about 1900)
NEEDLE_RADIUS_MM = 2.7  # the widest cannula (5.4 mm outside)
_LOWEST_SCORE = 0.40  # mean score below which there is no canal; real canals reach 0.6 to 0.9, metal streaks take 0.2
_NO_CANDIDATE = -0.25  # score of a place that cannot be a middle: a few layers lost to streaks must not force a detour
_GOOD_SCORE = 0.3  # a layer whose middle is worth using
_SCORED_MM = 22.0  # layers this near to the source's level decide whether there is a canal
_MOVE_COST = 0.03  # for each squared step across: allows 45 degrees, likes straight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanalPath:
    """Rough centre line: points (N, 3) ordered by z, mm, with each one's score, and how clear the choice was.

    ``bone_above_content_hu`` is the level at which bone was told from content; ``best_score`` and ``runner_up_score``
    are mean scores near the source: of the path, and of the best one beside it.
    """

    points_lps_mm: FloatArray
    score: FloatArray
    runner_up_score: float
    best_score: float
    bone_above_content_hu: float


_LocalGrid: TypeAlias = tuple[npt.NDArray[np.float32], list[FloatArray], npt.NDArray[np.bool_]]


def not_found(volume: Volume, source_lps_mm: FloatArray, why: str) -> CanalNotFoundError:
    """The error of a search that failed."""
    place = np.round(source_lps_mm, 1).tolist()
    if not volume.hu_calibrated:
        why += " (the image is not calibrated in HU: bone was told by relative values)"
    return CanalNotFoundError(
        f"no spinal canal found near the source at {place} mm (LPS): {why}; give --canal FILE or --canal-point X Y Z"
    )


def find_path(volume: Volume, source_lps_mm: FloatArray, axis_lps: FloatArray) -> tuple[IntensityScale, CanalPath]:
    """Best path of enclosed soft tissue through the slices near the source, and how the values were read for it.

    Raises
    ------
    CanalNotFoundError
        If there is no bone near the source, or no enclosed path.
    """
    best, failure = None, "the image has too few voxels near it, or none of bone"
    scales = intensity_scales(volume, source_lps_mm, axis_lps)
    for number, scale in enumerate(scales):
        local = _local_grid(volume, scale, source_lps_mm)
        for bone_above_content in BONE_ABOVE_CONTENT:
            path = _find_path_at(bone_above_content, local, source_lps_mm, axis_lps)
            if isinstance(path, CanalPath):
                if best is None or path.best_score > best[1].best_score:
                    best = (scale, path)
                break
            if number == 0 and bone_above_content == BONE_ABOVE_CONTENT[0]:
                failure = path  # of the likeliest reading
    if best is None:
        raise not_found(volume, source_lps_mm, failure)
    return best


def _find_path_at(
    bone_above_content: float, local: _LocalGrid, source_lps_mm: FloatArray, axis_lps: FloatArray
) -> CanalPath | str:
    """Best path at one level of bone, or why there is none."""
    values, axes, inside = local
    if not np.any(inside):
        return "it lies outside the image"
    x, y, z = axes
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    metal = (values > METAL_HU) | (needle_distance_mm(points, source_lps_mm, axis_lps) < NEEDLE_RADIUS_MM + 0.5)
    smooth = ndimage.gaussian_filter(np.minimum(values, 1500.0), 0.8)
    bone = (smooth > SOFT_TISSUE_HU + bone_above_content) & ~metal & inside
    near = np.linalg.norm(points - source_lps_mm, axis=-1) < 30.0
    # a vertebra fills a third of that ball; its shell and arch alone (lytic, osteoporotic) still about a tenth
    if np.count_nonzero(bone & near) < 0.04 * np.count_nonzero(near):
        return "there is hardly any bone within 30 mm"
    score = _scores(bone | metal, smooth, bone_above_content, inside, points, source_lps_mm, axis_lps)
    lattice = points[::_STEP, ::_STEP, ::_STEP]
    path = _best_path(score)
    layers = np.arange(score.shape[0])
    centre = lattice[layers, path[:, 0], path[:, 1]]
    along = score[layers, path[:, 0], path[:, 1]]
    in_image = inside[::_STEP].mean(axis=(1, 2)) > 0.1
    counted = (np.abs(centre[:, 2] - source_lps_mm[2]) <= _SCORED_MM) & in_image
    best_score = float(np.mean(along[counted])) if np.any(counted) else -1.0
    if best_score < _LOWEST_SCORE:
        return "no soft tissue enclosed by bone"
    used = np.flatnonzero(along > _GOOD_SCORE)
    away = np.linalg.norm(lattice - centre[:, None, None], axis=-1) > 14.0
    rival = _best_path(np.where(away, score, _NO_CANDIDATE))
    runner_up = float(np.mean(score[layers, rival[:, 0], rival[:, 1]][counted]))
    return CanalPath(
        points_lps_mm=centre[used],
        score=along[used],
        runner_up_score=runner_up,
        best_score=best_score,
        bone_above_content_hu=bone_above_content,
    )


def _local_grid(volume: Volume, scale: IntensityScale, source_lps_mm: FloatArray) -> _LocalGrid:
    """HU-like values on a patient-aligned grid [z, y, x] round the source, its axes, and what lies in the image."""
    count = np.round(_HALF_BOX_MM / _VOXEL_MM).astype(int)
    axes = [source_lps_mm[n] + _VOXEL_MM * np.arange(-count[n], count[n] + 1) for n in range(3)]
    points = np.stack(np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")[::-1], axis=-1)
    raw = volume.sample(points)
    inside = np.isfinite(raw)
    values = np.where(inside, scale(raw), np.float32(SOFT_TISSUE_HU))
    return values, axes, inside


def _scores(
    wall: npt.NDArray[np.bool_],
    smooth: npt.NDArray[np.float32],
    bone_above_content: float,
    inside: npt.NDArray[np.bool_],
    points: FloatArray,
    source_lps_mm: FloatArray,
    axis_lps: FloatArray,
) -> FloatArray:
    """How much each candidate looks like the middle of a canal: `_NO_CANDIDATE` to 1."""
    pad = int(np.ceil(_REACH_MM / _VOXEL_MM)) + 1
    padded = np.pad(wall, ((0, 0), (pad, pad), (pad, pad)))
    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    radius = np.arange(1, int(_REACH_MM / _VOXEL_MM) + 1)
    step_x = np.round(radius * np.cos(angle)[:, None]).astype(int)
    step_y = np.round(radius * np.sin(angle)[:, None]).astype(int)
    offsets = (step_y * padded.shape[2] + step_x).ravel()

    soft = (smooth > -130.0) & (smooth < SOFT_TISSUE_HU + bone_above_content) & inside & ~wall
    lattice = tuple(slice(None, None, _STEP) for _ in range(3))
    score = np.full(soft[lattice].shape, _NO_CANDIDATE)
    distance = np.linalg.norm(points[lattice] - source_lps_mm, axis=-1)
    k, j, i = np.nonzero(soft[lattice] & (distance > 4.0))
    flat = np.ravel_multi_index((k * _STEP, j * _STEP + pad, i * _STEP + pad), padded.shape)
    hits = padded.ravel()[flat[:, None] + offsets[None, :]].reshape(flat.size, _ANGLES, radius.size)
    found = hits.any(axis=-1)
    reach = np.where(found, (hits.argmax(axis=-1) + 1) * _VOXEL_MM, _REACH_MM)
    opposite = np.roll(reach, _ANGLES // 2, axis=1)
    both = found & np.roll(found, _ANGLES // 2, axis=1)
    imbalance = np.where(both, np.abs(reach - opposite), 0.0).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
    typical = np.median(reach, axis=1)
    # plausible mean radius 6 to 12 mm (widths of real canals 12 to 28 mm)
    size_penalty = 0.08 * (np.maximum(typical - 12.0, 0.0) + np.maximum(5.5 - typical, 0.0))
    narrow_penalty = 0.15 * np.maximum(4.0 - reach.min(axis=1), 0.0)
    value = smooth[lattice][k, j, i]
    content_penalty = 0.004 * (np.maximum(value - 90.0, 0.0) + np.maximum(-60.0 - value, 0.0))
    # the hub is behind the patient, and so is the canal: whatever the scanner took for posterior
    across = axis_lps[:2] / max(float(np.linalg.norm(axis_lps[:2])), 0.3)
    offset = points[lattice][k, j, i] - source_lps_mm
    side_penalty = 0.03 * np.maximum(-(offset[:, :2] @ across), 0.0)
    total = found.mean(axis=1) - 0.04 * imbalance - size_penalty - narrow_penalty - content_penalty - side_penalty
    score[k, j, i] = np.maximum(total, _NO_CANDIDATE)
    return score


def _best_path(score: FloatArray) -> npt.NDArray[np.int64]:
    """Best (j, i) of each layer, one step across a layer at most: dynamic programming."""
    layers, rows, columns = score.shape
    moves = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    came = np.zeros(score.shape, dtype=np.int8)
    total = score[0]
    for layer in range(1, layers):
        padded = np.pad(total, 1, constant_values=-1e9)
        options = np.stack(
            [padded[1 + a : 1 + a + rows, 1 + b : 1 + b + columns] - _MOVE_COST * (a * a + b * b) for a, b in moves]
        )
        came[layer] = options.argmax(axis=0)
        total = options.max(axis=0) + score[layer]
    path = np.zeros((layers, 2), dtype=np.int64)
    path[-1] = np.unravel_index(int(total.argmax()), total.shape)
    for layer in range(layers - 1, 0, -1):
        path[layer - 1] = path[layer] + moves[came[layer, path[layer, 0], path[layer, 1]]]
    return path
