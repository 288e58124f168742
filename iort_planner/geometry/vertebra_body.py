"""The vertebral body between two discs: outline by rays from its middle, endplates by columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.geometry.vertebra_discs import DiscPlane, front_wall_mm
from iort_planner.geometry.vertebra_frame import REACH_MM, STEP_MM, BoolArray

if TYPE_CHECKING:
    from iort_planner.geometry.vertebra_frame import Surroundings
    from iort_planner.units import FloatArray

_CAP_HU = 500.0
_MIDDLE_MM = 14.0  # the rays' origin before the canal's front wall; bodies are 25 to 38 mm deep
_RAY_MM, _RAY_STEP_MM = (6.0, 36.0), 0.75
_RAYS = 72
_EDGE_BIAS_MM = 0.5  # the greatest fall lies outside the edge: its inner side is read over less than its outer one
_HEIGHT_STEP_MM = 2.0
_MOST_BEND = 2  # an outline's radius changes by at most this many ray steps from one ray to the next
_BEND_COST_HU = 25.0  # per ray step of change; own choice, of the size of the noise
_TO_PLATE_MM = 9.0  # from a disc's middle to the endplate: discs are up to 14 mm high, and planes may lie aslant
_EDGE_MM = 2.0
_LEAST_RISE_HU = 90.0  # at the image's end: less is no endplate
_BACK_MM = 4.0  # the hollow back wall's corners beside the canal; what lies further back belongs to the arch


def body_mask(area: Surroundings, discs: tuple[DiscPlane, DiscPlane]) -> BoolArray:
    """Voxels of the planned level's vertebral body, its spongiosa and any lesion in it included."""
    smooth = ndimage.gaussian_filter(np.clip(area.hu, -100.0, _CAP_HU), 0.7 / STEP_MM)
    middle_p = front_wall_mm(area) - _MIDDLE_MM
    cranial = area.cranial_mm.ravel()
    # slices that lie in the body all over, for the outline; towards the discs it goes on from there
    low, high = (disc.middle_mm(middle_p) for disc in discs)
    held = np.flatnonzero(area.inside[:, :, area.inside.shape[2] // 2].any(axis=1))
    low, high = max(low, float(cranial[held[0]])), min(high, float(cranial[held[-1]]))
    heights = np.arange(low + 3.0, high - 2.9, _HEIGHT_STEP_MM)
    if heights.size < 2:
        heights = np.array([0.5 * (low + high) - 1.0, 0.5 * (low + high) + 1.0])
    reward = _edge_reward(area, smooth, middle_p, heights)
    reward = ndimage.gaussian_filter1d(reward, 1.0, axis=0, mode="nearest")
    steps = np.array([_best_ring(one) for one in reward])
    steps = np.pad(steps.astype(np.float64), ((0, 0), (2, 2)), mode="wrap")
    steps = ndimage.median_filter(steps, size=(5, 5), mode="nearest")[:, 2:-2]
    steps = ndimage.gaussian_filter(steps, (0.7, 0.7), mode=("nearest", "wrap"))
    radius = _RAY_MM[0] + _RAY_STEP_MM * steps - _EDGE_BIAS_MM
    left, posterior = np.meshgrid(area.left_mm.ravel(), area.posterior_mm.ravel())
    turn = np.arctan2(posterior - middle_p, left) / (2.0 * np.pi) * _RAYS % _RAYS
    wrapped = np.concatenate([radius, radius[:, :1]], axis=1)
    level = np.clip((cranial - heights[0]) / _HEIGHT_STEP_MM, 0.0, heights.size - 1.0)
    at = np.broadcast_arrays(level[:, None, None], turn[None])
    reach = ndimage.map_coordinates(wrapped, np.stack(at).reshape(3 - 1, -1), order=1, mode="nearest").reshape(
        area.hu.shape
    )
    inside: BoolArray = np.hypot(left, posterior - middle_p)[None] <= reach
    inside &= area.inside & (area.canal_mm > 0.0) & (area.posterior_mm <= front_wall_mm(area) + _BACK_MM)
    footprint: BoolArray = np.any(inside, axis=0)
    for disc, sign in zip(discs, (1.0, -1.0), strict=True):
        plate = _endplate(area, smooth, disc, sign, footprint)
        inside &= sign * area.cranial_mm >= sign * plate[None]
    return inside


def _edge_reward(
    area: Surroundings, smooth: npt.NDArray[np.float32], middle_p: float, heights: FloatArray
) -> FloatArray:
    """Fall from bone to what lies outside it along each ray, shape (heights, rays, steps)."""
    radii = np.arange(_RAY_MM[0] - 3.0, _RAY_MM[1] + 4.0, _RAY_STEP_MM)
    turns = 2.0 * np.pi * np.arange(_RAYS) / _RAYS
    left = np.cos(turns)[:, None] * radii
    posterior = middle_p + np.sin(turns)[:, None] * radii
    at = np.broadcast_arrays(
        (heights[:, None, None] - REACH_MM[2][0]) / STEP_MM,
        (posterior[None] - REACH_MM[1][0]) / STEP_MM,
        (left[None] - REACH_MM[0][0]) / STEP_MM,
    )
    values = ndimage.map_coordinates(smooth, np.stack(at).reshape(3, -1), order=1, mode="nearest").reshape(at[0].shape)
    hidden = ndimage.map_coordinates(
        area.needle.astype(np.float32), np.stack(at).reshape(3, -1), order=0, mode="nearest"
    ).reshape(at[0].shape)
    before = round(3.0 / _RAY_STEP_MM)
    count = round((_RAY_MM[1] - _RAY_MM[0]) / _RAY_STEP_MM) + 1
    windows = np.lib.stride_tricks.sliding_window_view(values, before, axis=-1)
    fall = np.zeros_like(values)
    steps = values.shape[-1] - 2 * before + 1
    fall[..., before : before + steps] = windows[..., 2 : 2 + steps, :-1].mean(axis=-1)
    fall[..., before : before + steps] -= windows[..., before : before + steps, :].mean(axis=-1)
    fall[ndimage.maximum_filter1d(hidden, 2 * before + 1, axis=-1) > 0] = 0.0
    result: FloatArray = np.asarray(fall[..., before : before + count], dtype=np.float64)
    return result


def _best_ring(reward: FloatArray) -> npt.NDArray[np.int64]:
    """Closed ring of the highest total reward, a step for each ray; by dynamic programming, twice round."""
    rays, count = reward.shape
    order = np.concatenate([np.arange(rays), np.arange(rays)])
    changes = list(range(-_MOST_BEND, _MOST_BEND + 1))
    total = reward[0].copy()
    back = np.zeros((order.size, count), dtype=np.int64)
    for n in range(1, order.size):
        shifted = np.full((len(changes), count), -np.inf)
        for m, change in enumerate(changes):
            start, stop = max(0, -change), min(count, count - change)
            shifted[m, start:stop] = total[start + change : stop + change] - _BEND_COST_HU * abs(change)
        choice = np.argmax(shifted, axis=0)
        back[n] = np.arange(count) + np.array(changes)[choice]
        total = shifted[choice, np.arange(count)] + reward[order[n]]
    steps = np.zeros(order.size, dtype=np.int64)
    steps[-1] = int(np.argmax(total))
    for n in range(order.size - 1, 0, -1):
        steps[n - 1] = back[n, steps[n]]
    middle = rays // 2  # of the two rounds the stretch farthest from both loose ends
    return np.roll(steps[middle : middle + rays], middle)


def _endplate(
    area: Surroundings, smooth: npt.NDArray[np.float32], disc: DiscPlane, sign: float, footprint: BoolArray
) -> FloatArray:
    """Height of the body's surface towards a disc at each column; the disc's plane where the image ends before it."""
    left, posterior = area.left_mm[0], area.posterior_mm[0]
    plane = np.broadcast_to(disc.cranial_mm(left, posterior), footprint.shape)
    if not footprint.any():
        return np.array(plane)
    if not disc.seen:  # perhaps a part of the disc was
        plane = _image_end(area, sign)
    depth = np.arange(-_EDGE_MM, _TO_PLATE_MM + _EDGE_MM + 0.1, 0.5)
    rows, columns = np.nonzero(footprint)
    heights = plane[rows, columns][:, None] + sign * depth[None]
    across = ndimage.gaussian_filter(smooth, (0.0, 1.0, 1.0))
    at = np.stack(
        [(heights - REACH_MM[2][0]) / STEP_MM, *(np.broadcast_to(v[:, None], heights.shape) for v in (rows, columns))]
    )
    values = ndimage.map_coordinates(across, at.reshape(3, -1), order=1, mode="nearest").reshape(heights.shape)
    width = round(_EDGE_MM / 0.5)
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    mean = (sums[:, width:] - sums[:, :-width]) / width
    rise = mean[:, width:] - mean[:, :-width]  # at depth 0, 0.5, ...
    best = 0.5 * np.argmax(rise, axis=1)
    if not disc.seen and float(np.median(np.max(rise, axis=1))) < _LEAST_RISE_HU:
        return np.array(plane)
    # columns without an edge (a lesion at the endplate, the outline's rim) follow the others
    weight = np.clip(np.max(rise, axis=1), 5.0, 300.0)
    table, weights = np.zeros(footprint.shape), np.zeros(footprint.shape)
    table[rows, columns], weights[rows, columns] = best * weight, weight
    rough = _smooth(table, weights, 4.0)
    off = np.abs(best - rough[rows, columns]) > 3.0
    weights[rows[off], columns[off]] *= 0.02
    table[rows[off], columns[off]] *= 0.02
    result: FloatArray = plane + sign * _smooth(table, weights, 1.5)
    return result


def _smooth(table: FloatArray, weights: FloatArray, sigma: float) -> FloatArray:
    total = ndimage.gaussian_filter(table, sigma)
    result: FloatArray = total / np.maximum(ndimage.gaussian_filter(weights, sigma), 1e-9)
    return result


def _image_end(area: Surroundings, sign: float) -> FloatArray:
    """Height at which the image ends below (sign 1) or above (sign -1) each column."""
    held = area.inside if sign > 0 else area.inside[::-1]
    first = np.argmax(held, axis=0)
    cranial = area.cranial_mm.ravel()
    result: FloatArray = (cranial if sign > 0 else cranial[::-1])[first]
    return result
