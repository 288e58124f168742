"""A cubic grid along the canal round the planned vertebra, and the image's values on it read as HU-like ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import LevelError
from iort_planner.geometry.canal_search import METAL_HU
from iort_planner.geometry.canal_surface import canal_mask
from iort_planner.imaging.volume import ImageGrid

if TYPE_CHECKING:
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

BoolArray = npt.NDArray[np.bool_]

STEP_MM = 1.0  # fine enough for a joint space of 1.5 mm after the scanner's blur; a level takes about a second
# Left and right, front and back of the canal's middle, down and up: a lumbar vertebra with its processes, and of the
# neighbours enough to tell them from it (a spinous process of the middle thoracic spine ends a level lower).
REACH_MM = ((-56.0, 56.0), (-54.0, 50.0), (-44.0, 40.0))
_FAR_MM = 10.0  # from the canal's wall: all that is asked lies within
_NEAR_MM = 25.0  # of the canal, up and down, for its direction
_CAP_HU = 1500.0  # nothing is learnt from brighter values, and metal would outweigh all bone
_SYMMETRY_RADIUS_MM = (10.0, 40.0)
_SYMMETRY_SEARCH_DEG = 50  # a source 15 mm beside the midline, 20 mm before the canal's middle, stands at 37 degrees
# Half the needle's width (4.4 mm) and what blur adds; brighter than bone and a margin for cannula and other metal.
NEEDLE_RADIUS_MM = 3.3
_METAL_MARGIN_MM = 1.5
# Where the image has no HU: the canal's content is read as 30 HU, the densest bone beside it as 700 HU.
_SOFT_HU, _DENSE_HU, _DENSE_PERCENTILE = 30.0, 700.0, 93.0
# Of the spread (sigma) in the canal's content: soft tissue alone has its 93rd percentile 1.5 sigma above its middle.
_LEAST_CONTRAST = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """The planned level on a grid of its own: index axes left, posterior, cranial; arrays are [s, p, l].

    Parameters
    ----------
    grid : ImageGrid
    hu : ndarray of shape (ns, np, nl), float32
        Values, HU or read as such, capped; needle and metal are kept. Above and below the image its last values go on.
    inside : ndarray, bool
        Where the image has values.
    canal_mm : ndarray, float32
        Distance from the canal's wall, negative inside.
    needle : ndarray, bool
        Where needle, cannula or other metal hides the bone.
    left_mm, posterior_mm, cranial_mm : ndarray of shapes (1, 1, nl), (1, np, 1), (ns, 1, 1)
        Coordinates from the canal's middle at the source's height.
    """

    grid: ImageGrid
    hu: npt.NDArray[np.float32]
    inside: BoolArray
    canal_mm: npt.NDArray[np.float32]
    needle: BoolArray
    left_mm: FloatArray
    posterior_mm: FloatArray
    cranial_mm: FloatArray

    def frame_mm(self, point_lps_mm: FloatArray) -> FloatArray:
        """Left, posterior, cranial of a patient point."""
        start = np.array([low for low, _ in REACH_MM])
        result: FloatArray = self.grid.lps_to_index(point_lps_mm) * STEP_MM + start
        return result


def surroundings(volume: Volume, source_lps_mm: FloatArray, canal: SpinalCanal, needle: Needle | None) -> Surroundings:
    """Resample the image round the planned level along its canal.

    Raises
    ------
    LevelError
        If the canal has no surface or no direction, or its content is no darker than the bone beside it.
    """
    source = np.asarray(source_lps_mm, dtype=np.float64)
    middle, along = _canal_axis(canal, source)
    posterior = _midline(volume, source, middle, along)
    left = np.cross(posterior, along)
    direction = np.stack([left, posterior, along], axis=-1)
    low = np.array([start for start, _ in REACH_MM])
    size = [round((end - start) / STEP_MM) + 1 for start, end in REACH_MM]
    grid = ImageGrid(
        size_voxels=(size[0], size[1], size[2]),
        spacing_mm=np.full(3, STEP_MM),
        origin_lps_mm=middle + direction @ low,
        direction=direction,
    )
    values = volume.crop_around(grid.corners_lps_mm(), 2.0).sample(grid.voxel_centres_lps_mm())
    inside = np.isfinite(values)
    content = canal_mask(canal, grid) > 0
    canal_mm = _signed_distance_mm(content)
    hidden = _hidden(grid, needle)
    hu = _as_hu(_continued(values, inside), volume, inside, canal_mm, hidden)
    bright = hu > METAL_HU
    if bright.any():
        hidden |= ndimage.distance_transform_edt(~bright, sampling=STEP_MM) <= _METAL_MARGIN_MM
    axes = [start + STEP_MM * np.arange(n, dtype=np.float64) for (start, _), n in zip(REACH_MM, size, strict=True)]
    return Surroundings(
        grid=grid,
        hu=np.minimum(hu, np.float32(_CAP_HU)),
        inside=inside,
        canal_mm=canal_mm,
        needle=hidden,
        left_mm=axes[0][None, None, :],
        posterior_mm=axes[1][None, :, None],
        cranial_mm=axes[2][:, None, None],
    )


def closing(mask: BoolArray, radius_mm: float) -> BoolArray:
    """The mask with every gap filled into which no ball of the radius goes."""
    if not mask.any():
        return mask
    margin = int(np.ceil(radius_mm / STEP_MM)) + 1
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    part = np.pad(mask[box], margin)
    wide = ndimage.distance_transform_edt(~part, sampling=STEP_MM) <= radius_mm
    closed = ndimage.distance_transform_edt(wide, sampling=STEP_MM) > radius_mm
    inner = slice(margin, -margin)
    result = mask.copy()
    result[box] |= closed[inner, inner, inner]
    return result


def _signed_distance_mm(content: BoolArray) -> npt.NDArray[np.float32]:
    """Distance from the border of a mask, negative inside; no farther than it matters."""
    result = np.full(content.shape, _FAR_MM, dtype=np.float32)
    if content.any():
        margin = round(_FAR_MM / STEP_MM)
        box = tuple(
            slice(max(0, one.start - margin), one.stop + margin)
            for one in ndimage.find_objects(content.astype(np.int8))[0]
        )
        part = content[box]
        distance = ndimage.distance_transform_edt(~part) - ndimage.distance_transform_edt(part)
        result[box] = np.minimum(distance * STEP_MM, _FAR_MM)
    return result


def _canal_axis(canal: SpinalCanal, source: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The canal's middle at the source's height and its unit direction there, towards the head."""
    if not canal.faces.size:
        raise LevelError("the vertebra is not told apart: the canal was given by points; give a canal with a surface")
    along = np.array([0.0, 0.0, 1.0])
    points = canal.vertices_lps_mm
    middle = points.mean(axis=0)
    for _ in range(3):
        height = (points - source) @ along
        near = points[np.abs(height) < _NEAR_MM]
        if near.shape[0] < 12 or np.ptp((near - source) @ along) < 12.0:
            raise LevelError("the vertebra is not told apart: too little of the canal lies at the source's height")
        # the line through the middles of thin slabs: a principal axis would follow the canal's uneven ends
        lowest, highest = (float(v) for v in np.percentile((near - source) @ along, [2.0, 98.0]))
        heights = np.linspace(lowest, highest, 9)
        slabs = [near[np.abs((near - source) @ along - h) <= 3.0] for h in heights]
        middles = np.array([0.5 * (slab.min(axis=0) + slab.max(axis=0)) for slab in slabs if slab.shape[0] >= 6])
        if middles.shape[0] < 3:
            raise LevelError("the vertebra is not told apart: the canal's surface is too coarse to give its direction")
        centre = middles.mean(axis=0)
        along = np.linalg.svd(middles - centre, full_matrices=False)[2][0]
        along = along * (1.0 if along[2] >= 0 else -1.0)
        middle = centre + ((source - centre) @ along) * along
    return middle, along


def _midline(volume: Volume, source: FloatArray, middle: FloatArray, along: FloatArray) -> FloatArray:
    """Unit vector to the spinous process: away from the source, turned to where left and right agree best."""
    away = middle - source
    away = away - (away @ along) * along
    if float(np.linalg.norm(away)) < 3.0:
        raise LevelError("the vertebra is not told apart: the source lies in the middle of the canal")
    away /= np.linalg.norm(away)
    aside = np.cross(away, along)
    turns = np.radians(np.arange(0.0, 360.0, 2.0))
    radii = np.arange(*_SYMMETRY_RADIUS_MM, 1.5)
    rays = np.cos(turns)[:, None] * away + np.sin(turns)[:, None] * aside
    heights = np.arange(-10.0, 11.0, 2.5)
    points = middle + heights[:, None, None, None] * along + radii[None, :, None, None] * rays
    values = np.clip(volume.crop_around(points.reshape(-1, 3), 2.0).sample(points, outside=np.nan), -200.0, None)
    finite = np.isfinite(values)
    if not np.any(finite):
        raise LevelError("the vertebra is not told apart: the image ends at the source")
    high = np.percentile(values[finite], 95.0)
    flat = np.nan_to_num(np.minimum(values, high), nan=float(np.median(values[finite]))).mean(axis=0)
    flat = flat - flat.mean()
    reach = _SYMMETRY_SEARCH_DEG // 2
    shifts = np.arange(-reach, reach + 1)
    back = np.flip(flat, axis=1)  # turn n becomes turn -1 - n
    score = np.array([float(np.sum(flat * np.roll(back, 1 + 2 * n, axis=1))) for n in shifts])
    # flat in doubt: a little for the direction away from the source
    best = int(shifts[np.argmax(score * (1.0 - 0.1 * np.abs(shifts) / reach))])
    angle = np.radians(2.0 * best)
    result: FloatArray = np.cos(angle) * away + np.sin(angle) * aside
    return result


def _hidden(grid: ImageGrid, needle: Needle | None) -> BoolArray:
    if needle is None:
        return np.zeros(grid.shape, dtype=np.bool_)
    offset = grid.voxel_centres_lps_mm() - needle.tip_lps_mm
    along = np.maximum(offset @ needle.axis_lps, 0.0)
    result: BoolArray = np.linalg.norm(offset - along[..., None] * needle.axis_lps, axis=-1) < NEEDLE_RADIUS_MM
    return result


def _continued(values: npt.NDArray[np.float32], inside: BoolArray) -> npt.NDArray[np.float32]:
    """Each column's last values carried on above and below the image: its end then makes no edge."""
    first = np.argmax(inside, axis=0)
    last = inside.shape[0] - 1 - np.argmax(inside[::-1], axis=0)
    nearest = np.clip(np.arange(inside.shape[0])[:, None, None], first, last)
    result: npt.NDArray[np.float32] = np.take_along_axis(values, nearest, axis=0)
    return result


def _as_hu(
    values: npt.NDArray[np.float32],
    volume: Volume,
    inside: BoolArray,
    canal_mm: npt.NDArray[np.float32],
    hidden: BoolArray,
) -> npt.NDArray[np.float32]:
    """HU, or grey values scaled so that the canal's content and the bone beside it look like HU."""
    if volume.hu_calibrated:
        known: npt.NDArray[np.float32] = np.nan_to_num(values, nan=-1000.0)
        return known
    content = values[inside & (canal_mm < -2.0) & ~hidden]
    beside = values[inside & (canal_mm > 0.0) & (canal_mm < 8.0) & ~hidden]
    if content.size < 100 or beside.size < 100:
        raise LevelError("the vertebra is not told apart: too little of the canal lies in the image")
    soft, dense = float(np.median(content)), float(np.percentile(beside, _DENSE_PERCENTILE))
    spread = 0.5 * float(np.diff(np.percentile(content, [16.0, 84.0]))[0])
    if dense - soft <= _LEAST_CONTRAST * spread:
        raise LevelError("the vertebra is not told apart: bone is hardly brighter than the canal in this image")
    scaled = _SOFT_HU + (values - soft) * ((_DENSE_HU - _SOFT_HU) / (dense - soft))
    result: npt.NDArray[np.float32] = np.nan_to_num(scaled, nan=-1000.0).astype(np.float32)
    return result
