"""A mask on its own grid, carried over to the grid of the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import ImageError
from iort_planner.imaging.volume import ImageGrid

Mask = npt.NDArray[np.bool_]
# Share of the voxels outside the image that is said; less is rounding at the image's faces. Our own choice.
_SAID_SHARE = 0.001


def place_mask(mask: Mask, grid: ImageGrid, target: ImageGrid, what: str) -> tuple[Mask, list[str]]:
    """The mask on another grid by nearest neighbour, and what was done on the way.

    Parameters
    ----------
    mask : ndarray of shape (nk, nj, ni), bool
        On ``grid``; at least one voxel is set.
    what : str
        What to call the structure in messages.

    Raises
    ------
    ImageError
        If no voxel of the result is set.
    """
    if grid.same_as(target):
        return mask, []
    box, first = _filled_part(mask, grid)
    part = mask[tuple(slice(f, f + n) for f, n in zip(first[::-1], box.shape, strict=True))]
    share_inside = _share_inside(part, box, target)
    placed = _nearest(part, box, target) if share_inside > 0 or _overlap(box, target) else None
    if placed is None or not placed.any():
        raise ImageError(
            f"{what} lies outside the image: it spans {extent_text(box)}, the image {extent_text(target)}; "
            "give a file of this scan"
        )
    notes = ["resampled to the image's grid (nearest neighbour)"]
    if share_inside < 1 - _SAID_SHARE:
        notes.append(f"{100 * (1 - share_inside):.1f} % of its voxels lie outside the image")
    return placed, notes


def extent_text(grid: ImageGrid) -> str:
    """The span of a grid's corners in patient coordinates, for messages."""
    corners = grid.corners_lps_mm()
    low, high = np.round(corners.min(axis=0)).astype(int).tolist(), np.round(corners.max(axis=0)).astype(int).tolist()
    return f"LPS {low} to {high} mm"


def _filled_part(mask: Mask, grid: ImageGrid) -> tuple[ImageGrid, tuple[int, int, int]]:
    """The part of the grid that just holds all voxels of the mask, and its first index (i, j, k)."""
    spans = []
    for axis in (2, 1, 0):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append((int(filled[0]), int(filled[-1]) + 1))
    (i0, i1), (j0, j1), (k0, k1) = spans
    return grid.crop((i0, j0, k0), (i1, j1, k1)), (i0, j0, k0)


def _steps(grid: ImageGrid, target: ImageGrid) -> npt.NDArray[np.float64]:
    """Index on ``target`` of index (0, 0, 0) of ``grid`` and its change along i, j, k; rows of shape (4, 3)."""
    landed = target.lps_to_index(grid.index_to_lps(np.vstack([np.zeros(3), np.eye(3)])))
    landed[1:] -= landed[0]
    return landed


def _share_inside(mask: Mask, grid: ImageGrid, target: ImageGrid) -> float:
    """Share of the set voxels whose centres lie inside the target; slice by slice, so that memory stays small."""
    if bool(np.all(target.contains(grid.corners_lps_mm()))):
        return 1.0
    start, along_i, along_j, along_k = _steps(grid, target)
    nk, nj, ni = mask.shape
    inside = 0
    for k in range(nk):
        fits = mask[k].copy()
        for axis in range(3):
            first = start[axis] + k * along_k[axis]
            index = (first + np.arange(nj) * along_j[axis])[:, None] + (np.arange(ni) * along_i[axis])[None, :]
            fits &= (index >= -0.5) & (index <= target.size_voxels[axis] - 0.5)
        inside += int(np.count_nonzero(fits))
    return inside / int(np.count_nonzero(mask))


def _overlap(grid: ImageGrid, target: ImageGrid) -> bool:
    """Whether the boxes round the two may meet, in the target's index."""
    corners = target.lps_to_index(grid.corners_lps_mm())
    size = np.array(target.size_voxels)
    return bool(np.all((corners.max(axis=0) >= -0.5) & (corners.min(axis=0) <= size - 0.5)))


def _nearest(mask: Mask, grid: ImageGrid, target: ImageGrid) -> Mask:
    result = np.zeros(target.shape, dtype=np.bool_)
    first, end = target.box_around(grid.corners_lps_mm(), 0.0)
    part = target.crop(first, end)
    steps = _steps(part, grid)
    moved = ndimage.affine_transform(
        np.ascontiguousarray(mask).view(np.uint8),
        steps[1:].T[::-1, ::-1],  # arrays have their axes in the order k, j, i
        steps[0][::-1],
        part.shape,
        order=0,
        mode="grid-constant",
        cval=0,
    )
    result[first[2] : end[2], first[1] : end[1], first[0] : end[0]] = moved.view(np.bool_)
    return result
