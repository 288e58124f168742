"""The planned vertebra's surface, told apart from its neighbours, ribs and discs well enough to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import LevelError
from iort_planner.geometry.canal import is_closed
from iort_planner.geometry.vertebra_arch import arch_mask, fill_needle
from iort_planner.geometry.vertebra_body import body_mask
from iort_planner.geometry.vertebra_discs import find_discs
from iort_planner.geometry.vertebra_frame import STEP_MM, BoolArray, closing, surroundings
from iort_planner.imaging.volume import ImageGrid

if TYPE_CHECKING:
    from iort_planner.geometry.canal import SpinalCanal
    from iort_planner.geometry.needle import Needle
    from iort_planner.geometry.vertebra_frame import Surroundings
    from iort_planner.imaging.volume import Volume
    from iort_planner.units import FloatArray

BONE, HIDDEN = 1, 2  # values of `Vertebra.mask`
# Our own bounds: T3 of a small person has about 15 ml, L5 of a large one 90 ml (with all spongiosa).
_LEAST_ML, _MOST_ML = 8.0, 130.0
_MOST_HEIGHT_TO_DEPTH = 1.2  # thoracic and lumbar bodies have 0.6 to 1.0 (0.6 to 0.85 in the tests' real CTs)
_SMOOTH_MM = 0.8  # of the mask before its surface is taken: takes the stairs off
_CLOSE_MM = 2.0
_MIDDLE_MM = 6.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vertebra:
    """One vertebra, its spongiosa and any lesion in it included; for pictures and for HU, not for distances.

    Parameters
    ----------
    vertices_lps_mm : ndarray of shape (N, 3), mm
    faces : ndarray of shape (M, 3), int
        Closed surface, outward normals.
    mask : ndarray of shape (nk, nj, ni), uint8
        On ``grid``: 0 outside, 1 inside, 2 inside where needle, cannula or other metal hides it.
    grid : ImageGrid
        The level's own grid along the canal, not the image's.
    reasons : tuple of str
        What may be wrong with it: the image ends within the level, values that are not HU.
    """

    vertices_lps_mm: FloatArray
    faces: npt.NDArray[np.int64]
    mask: npt.NDArray[np.uint8]
    grid: ImageGrid
    reasons: tuple[str, ...] = field(default=())


def segment_vertebra(volume: Volume, source_lps_mm: FloatArray, canal: SpinalCanal, needle: Needle | None) -> Vertebra:
    """Tell the vertebra with the source from its neighbours, ribs and discs.

    Parameters
    ----------
    volume : Volume
        HU, or relative intensities (scaled by the canal's content and the bone beside it).
    source_lps_mm : ndarray of shape (3,), mm
        In the vertebral body.
    canal : SpinalCanal
        With a surface, about one vertebra up and down from the source.
    needle : Needle or None
        Where the image shows steel and plastic instead of bone.

    Raises
    ------
    LevelError
        If the canal has no surface, no disc is seen where one must be, or what is found is no vertebra.

    Notes
    -----
    Discs are the planes across the bodies that are darkest between two bright endplates; the body is what rays from
    its middle meet before the outer edge of its cortex; the arch is bone that is reached from there through
    bone sooner than from a neighbour or a rib.
    """
    source = np.asarray(source_lps_mm, dtype=np.float64)
    area = surroundings(volume, source, canal, needle)
    discs = find_discs(area, source)
    body = body_mask(area, discs)
    ratio = _height_to_depth(area, body)
    if ratio > _MOST_HEIGHT_TO_DEPTH:
        raise LevelError(
            f"the vertebra is not told apart: the body found is {ratio:.1f} times as high as deep; a disc was missed"
        )
    whole = _tidy(fill_needle(area, body | arch_mask(area, discs, body))) & (area.canal_mm > 0.0)
    millilitres = float(np.count_nonzero(whole)) * STEP_MM**3 / 1000.0
    if not _LEAST_ML <= millilitres <= _MOST_ML:
        raise LevelError(f"the vertebra is not told apart: what was found has {millilitres:.0f} ml, no vertebra's size")
    at = np.rint(area.grid.lps_to_index(source)).astype(int)
    if not whole[tuple(at[::-1])]:
        raise LevelError("the vertebra is not told apart: the source does not lie in the bone that was found")
    vertices, faces = _surface(whole, area.grid)
    reasons = []
    if not (discs[0].seen and discs[1].seen):
        reasons.append("the image ends within the planned level")
    if not volume.hu_calibrated:
        reasons.append("the image's values are not HU: bone by relative grey values")
    return Vertebra(
        vertices_lps_mm=vertices,
        faces=faces,
        mask=np.where(whole, np.where(area.needle, HIDDEN, BONE), 0).astype(np.uint8),
        grid=area.grid,
        reasons=tuple(reasons),
    )


def _height_to_depth(area: Surroundings, body: BoolArray) -> float:
    """Middle height of the body by its depth in the midline."""
    footprint: BoolArray = np.any(body, axis=0)
    middle = np.abs(area.left_mm.ravel()) < _MIDDLE_MM
    depth = float(np.median(footprint[:, middle].sum(axis=0)))
    heights = body.sum(axis=0)[:, middle]
    if depth == 0.0:
        raise LevelError("the vertebra is not told apart: no vertebral body was found before the canal")
    return float(np.median(heights[heights > 0])) / depth


def _tidy(vertebra: BoolArray) -> BoolArray:
    """The largest piece with its holes and narrow gaps (veins, thin spongiosa) filled."""
    opened = ndimage.binary_opening(closing(vertebra, _CLOSE_MM))  # threads of one voxel
    labels, count = ndimage.label(opened)
    if count == 0:
        raise LevelError("the vertebra is not told apart: no bone was found at the source")
    largest: BoolArray = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    result: BoolArray = ndimage.binary_fill_holes(largest)
    return result


def _surface(mask: BoolArray, grid: ImageGrid) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Closed, smooth triangle surface of a mask, LPS mm."""
    from skimage.measure import marching_cubes

    blurred = ndimage.gaussian_filter(np.pad(mask, 3).astype(np.float32), _SMOOTH_MM / STEP_MM)
    # a level that no voxel has exactly: marching cubes then makes no triangles of no area
    corners, faces, _, _ = marching_cubes(blurred, level=np.float32(0.45) + np.float32(1e-5))
    faces = np.ascontiguousarray(faces.astype(np.int64))
    if np.linalg.det(grid.direction) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    if not is_closed(faces, corners.shape[0]):
        raise LevelError("the vertebra is not told apart: its surface does not close")
    return grid.index_to_lps(corners[:, ::-1] - 3.0), faces
