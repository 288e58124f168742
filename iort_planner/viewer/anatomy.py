"""Surfaces of bone and canal near the source, for pictures only: nothing is measured on them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import CanalNotFoundError, LevelError
from iort_planner.geometry.canal_surface import canal_from_mask
from iort_planner.geometry.needle import Confidence, Needle
from iort_planner.geometry.vertebra import Vertebra, segment_vertebra
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.units import FloatArray
from iort_planner.viewer.meshes import Mesh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iort_planner.planning.plan import PlanNeedle

# All our own choices for a clear picture. 80 mm across hold a vertebra with its processes; 25 mm up and down
# the planned level (20 to 30 mm high) and the neighbours' near halves.
_REACH_ACROSS_MM = 40.0
_REACH_ALONG_MM = 25.0
_FINEST_STEP_MM = 0.7
# Spongiosa begins near 150 HU and cortical bone lies above 300: a surface at 225 HU is closed and still hollow.
_BONE_LEVEL_HU = 225.0
# Metal widens in the image by partial volume and blooming; this margin round the drawn needle takes it away.
_METAL_MARGIN_MM = 1.8
# Pieces of bone smaller than this are noise and streaks.
_SMALLEST_PIECE_MM3 = 150.0
_CANAL_BLUR_MM = 0.7
_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bone:
    """Bone surface with the words for the legend."""

    mesh: Mesh
    label: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metal:
    """A needle as a tube along its course (K, 3), from the tip outwards: LPS mm, mm."""

    course_lps_mm: FloatArray
    radius_mm: float

    def distance_mm(self, points_lps_mm: FloatArray) -> FloatArray:
        """Of points (..., 3) from the course."""
        nearest = np.full(points_lps_mm.shape[:-1], np.inf)
        for start, end in itertools.pairwise(self.course_lps_mm):
            step = end - start
            part = np.clip((points_lps_mm - start) @ step / (step @ step), 0.0, 1.0)
            nearest = np.minimum(nearest, np.linalg.norm(points_lps_mm - start - part[..., None] * step, axis=-1))
        return nearest


def bone_surface(
    volume: Volume,
    source_lps_mm: FloatArray,
    metal: Sequence[Metal],
    canal: Mesh | None,
    vertebra: Vertebra | None = None,
) -> Bone | None:
    """Bone round the source without the needles' metal and the planned vertebra; None where the image holds no other.

    The image is first resampled on axes parallel to the
    patient's, so that the surface is the same however the image was stored.
    """
    grid = _patient_grid(volume, source_lps_mm)
    points = grid.voxel_centres_lps_mm()
    values = np.asarray(volume.sample(points, outside=np.nan), dtype=np.float64)
    inside = np.isfinite(values)
    if not inside.any():
        return None
    low = float(values[inside].min())
    level, label = _bone_level(values[inside], hu_calibrated=volume.hu_calibrated)
    values[~inside] = low
    for each in metal:
        values[each.distance_mm(points) < each.radius_mm + _METAL_MARGIN_MM] = low
    if vertebra is not None:
        values[_inside(vertebra, points)] = low
    values = ndimage.gaussian_filter(values, 0.6)
    values = _without_specks(values, level, low, float(np.prod(grid.spacing_mm)))
    mesh = _contour(values, level, grid, ~_beyond_reach(points, source_lps_mm, canal))
    return None if mesh is None else Bone(mesh=mesh, label=label)


def planned_vertebra(
    volume: Volume, needle: PlanNeedle, canal_mask: npt.NDArray[np.uint8] | None
) -> tuple[Vertebra | None, str]:
    """The planned vertebra told from its surroundings, or why it is not."""
    if canal_mask is None:
        return None, "the vertebra is not told apart: the canal was given by points"
    source = np.array(needle.source_lps_mm)
    pose = Needle(
        label=needle.label,
        tip_lps_mm=np.array(needle.tip_lps_mm),
        axis_lps=np.array(needle.axis_lps),
        source_lps_mm=source,
        method=needle.method,
        confidence=Confidence(needle.confidence),
        tip_uncertainty_mm=needle.tip_uncertainty_mm,
    )
    try:
        canal = canal_from_mask(canal_mask, volume.grid, source, hu_calibrated=volume.hu_calibrated)
        return segment_vertebra(volume, source, canal, pose), ""
    except (LevelError, CanalNotFoundError) as error:
        return None, str(error)


def _inside(vertebra: Vertebra, points_lps_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether points lie in the vertebra or at most about a voxel beside it."""
    wide = ndimage.binary_dilation(vertebra.mask > 0, iterations=2).astype(np.float32)
    index = np.moveaxis(vertebra.grid.lps_to_index(points_lps_mm)[..., ::-1], -1, 0)
    result: npt.NDArray[np.bool_] = ndimage.map_coordinates(wide, index.reshape(3, -1), order=0, cval=0.0) > 0.5
    return result.reshape(points_lps_mm.shape[:-1])


def canal_surface(grid: ImageGrid, mask: npt.NDArray[np.uint8], source_lps_mm: FloatArray) -> Mesh | None:
    """Smoothed surface of the canal mask near the source; None where the mask is empty there."""
    reach = np.array([_REACH_ACROSS_MM, _REACH_ACROSS_MM, _REACH_ALONG_MM + 5.0])
    low, high = grid.box_around(source_lps_mm + reach * _SIGNS, 0.0)
    part = np.pad(mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]] > 0, 2).astype(np.float64)
    part = ndimage.gaussian_filter(part, _CANAL_BLUR_MM / grid.spacing_mm[::-1])
    padded = ImageGrid(
        size_voxels=(part.shape[2], part.shape[1], part.shape[0]),
        spacing_mm=grid.spacing_mm,
        origin_lps_mm=grid.index_to_lps(np.array(low) - 2.0),
        direction=grid.direction,
    )
    return _contour(part, 0.5, padded)


def _patient_grid(volume: Volume, source_lps_mm: FloatArray) -> ImageGrid:
    """Cubic grid parallel to the patient's axes round the source, its size the image's own finest step."""
    step = max(float(volume.grid.spacing_mm.min()), _FINEST_STEP_MM)
    reach = np.array([_REACH_ACROSS_MM, _REACH_ACROSS_MM, _REACH_ALONG_MM + 10.0])
    count = np.ceil(reach / step).astype(int)
    return ImageGrid(
        size_voxels=(int(2 * count[0] + 1), int(2 * count[1] + 1), int(2 * count[2] + 1)),
        spacing_mm=np.full(3, step),
        origin_lps_mm=source_lps_mm - count * step,
        direction=np.eye(3),
    )


def _bone_level(values: FloatArray, *, hu_calibrated: bool) -> tuple[float, str]:
    if hu_calibrated:
        return _BONE_LEVEL_HU, f"bone (surface at {_BONE_LEVEL_HU:.0f} HU)"
    from skimage.filters import threshold_multiotsu

    # without HU: the upper limit of three classes (dark, soft tissue, bone), metal's few brightest values left out
    body = values[(values > np.percentile(values, 5)) & (values < np.percentile(values, 99))]
    if body.size == 0 or body.min() == body.max():
        return float(values.max()), "bone (grey values, not HU)"
    try:
        level = float(threshold_multiotsu(body, classes=3)[-1])
    except ValueError:  # fewer than three different values
        level = float(body.max())
    return level, f"bone (surface at grey value {level:.0f}, not HU)"


def _without_specks(values: FloatArray, level: float, low: float, voxel_mm3: float) -> FloatArray:
    labels, count = ndimage.label(values > level)
    if count:
        sizes = np.bincount(labels.ravel())
        small = sizes * voxel_mm3 < _SMALLEST_PIECE_MM3
        small[0] = False
        values = np.where(small[labels], min(low, level - 1.0), values)
    return values


def _beyond_reach(points: FloatArray, source_lps_mm: FloatArray, canal: Mesh | None) -> npt.NDArray[np.bool_]:
    """What is cut away: above and below the level, square to the canal, and beyond a circle across it."""
    along = np.array([0.0, 0.0, 1.0])
    if canal is not None:
        near = canal.vertices_lps_mm[np.abs(canal.vertices_lps_mm[:, 2] - source_lps_mm[2]) < _REACH_ALONG_MM]
        if near.shape[0] > 3:
            direction = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][0]
            # a canal seen over less than its width has no direction of its own
            along = direction if abs(direction[2]) > 0.8 else along
    offset = points - source_lps_mm
    height = offset @ along
    result: npt.NDArray[np.bool_] = np.abs(height) > _REACH_ALONG_MM
    return result


def _contour(
    values: FloatArray, level: float, grid: ImageGrid, where: npt.NDArray[np.bool_] | None = None
) -> Mesh | None:
    """Surface at a level by marching cubes, in patient coordinates, open where ``where`` ends; None if there is none."""
    from skimage.measure import marching_cubes

    if not values.min() < level < values.max():
        return None
    try:
        corners, faces, _, _ = marching_cubes(values, level, mask=where)
    except RuntimeError:  # its way to say that no cube holds the level
        return None
    if np.linalg.det(grid.direction) < 0:  # a left-handed grid mirrors the triangles
        faces = faces[:, ::-1]
    return Mesh(vertices_lps_mm=grid.index_to_lps(corners[:, ::-1]), faces=faces)
