"""Closed surfaces of the canal: tube mesh, label mask to surface, surface to label mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import CanalNotFoundError
from iort_planner.geometry.canal import SpinalCanal, is_closed
from iort_planner.geometry.canal_file_trust import LabelledPiece, judge_file
from iort_planner.imaging.volume import ImageGrid
from iort_planner.units import FloatArray

FaceArray = npt.NDArray[np.int64]

# Blur of a label mask before its surface is taken, in voxels: takes the stairs off (their height is half a voxel)
# and moves a wall of 6 mm radius by less than 0.1 voxel. Our own choice; the level is then set to keep the volume.
_MASK_BLUR_VOXELS = 0.8
# A piece smaller than this part of the largest is taken for a slip of the pen, left out and reported. Our own choice.
_SPECK_FRACTION = 0.01
# Columns are cast this far off the voxel centres (in voxels) so that no ray meets an edge of the mesh exactly.
_RAY_OFFSET = np.array([1.2345e-6, 2.3571e-6])


def signed_volume_mm3(vertices_lps_mm: FloatArray, faces: FaceArray) -> float:
    """Volume inside a closed surface, mm3; positive when the triangles face outwards (divergence theorem)."""
    centred = vertices_lps_mm - vertices_lps_mm.mean(axis=0)
    a, b, c = (centred[faces[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def tube_mesh(rings_lps_mm: FloatArray, ends_lps_mm: FloatArray) -> tuple[FloatArray, FaceArray]:
    """Close a stack of rings into a tube.

    Parameters
    ----------
    rings_lps_mm : ndarray of shape (P, A, 3), mm
        P >= 2 rings of A >= 3 points each, the same way round in every ring.
    ends_lps_mm : ndarray of shape (2, 3), mm
        Middle points of the first and the last cap.

    Returns
    -------
    vertices : ndarray of shape (P * A + 2, 3), mm
        The rings' points in order, then the two middle points.
    faces : ndarray of shape (2 * A * P, 3)
        Outward normals.
    """
    planes, angles = rings_lps_mm.shape[:2]
    vertices = np.concatenate([rings_lps_mm.reshape(-1, 3), ends_lps_mm])
    number = np.arange(planes * angles).reshape(planes, angles)
    here, there = number[:-1], number[1:]
    here_next, there_next = np.roll(here, -1, axis=1), np.roll(there, -1, axis=1)
    first, last = number[0], number[-1]
    parts = [
        np.stack([here, here_next, there_next], axis=-1),
        np.stack([here, there_next, there], axis=-1),
        np.stack([np.full(angles, planes * angles), np.roll(first, -1), first], axis=-1),
        np.stack([np.full(angles, planes * angles + 1), last, np.roll(last, -1)], axis=-1),
    ]
    faces = np.concatenate([part.reshape(-1, 3) for part in parts]).astype(np.int64)
    if signed_volume_mm3(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices, np.ascontiguousarray(faces)


def canal_from_mask(
    mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_],
    grid: ImageGrid,
    source_lps_mm: FloatArray,
    *,
    file_spacing_mm: FloatArray | None = None,
    hu_calibrated: bool = True,
) -> SpinalCanal:
    """Surface of a label map of the canal.

    Parameters
    ----------
    mask : ndarray of shape (nk, nj, ni), uint8 or bool
        Non-zero inside the canal. Holes are filled; it may reach the image's border, where it is closed.
    grid : ImageGrid
        Where the mask lies.
    source_lps_mm : ndarray of shape (3,), mm
        Source centre: there the canal must be whole.
    file_spacing_mm : ndarray of shape (3,), mm, optional
        Of the file's own voxels, where the mask was resampled.
    hu_calibrated : bool
        Of the image; False: the confidence is at best low.

    Returns
    -------
    SpinalCanal
        Method ``file``. ``on_bone`` is False throughout: a label map does not tell where bone was seen.
        Confidence and uncertainty: see `iort_planner.geometry.canal_file_trust.judge_file`.

    Raises
    ------
    CanalNotFoundError
        If the mask has another shape than the grid, is empty, or has no closed surface.
    """
    values = np.asarray(mask)
    if values.shape != grid.shape:
        raise CanalNotFoundError(
            f"canal: the given canal has {values.shape} voxels (k, j, i), its image {grid.shape}; give one on that grid"
        )
    solid, reasons = _solid_part(values != 0)
    if solid is None:
        raise CanalNotFoundError("canal: the given canal is empty; give one with the canal in it")
    box, low = solid
    vertices_ijk, faces = _surface_of(box)
    vertices = grid.index_to_lps(vertices_ijk + low)
    if signed_volume_mm3(vertices, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    piece = LabelledPiece(
        voxels_lps_mm=grid.index_to_lps(np.argwhere(box)[:, ::-1] + low),
        spacing_mm=grid.spacing_mm,
        triangles_lps_mm=vertices[faces],
        file_spacing_mm=grid.spacing_mm if file_spacing_mm is None else np.asarray(file_spacing_mm, dtype=np.float64),
    )
    source = np.asarray(source_lps_mm, dtype=np.float64)
    trust = judge_file(piece, source, hu_calibrated=hu_calibrated, remarks=tuple(reasons))
    return SpinalCanal(
        vertices_lps_mm=vertices,
        faces=faces,
        on_bone=np.zeros(vertices.shape[0], dtype=np.bool_),
        method="file",
        confidence=trust.confidence,
        uncertainty_mm=trust.uncertainty_mm,
        reasons=trust.reasons,
    )


def _solid_part(
    inside: npt.NDArray[np.bool_],
) -> tuple[tuple[npt.NDArray[np.bool_], FloatArray] | None, list[str]]:
    """The mask without specks and holes in its padded bounding box, with the box's index offset; and remarks."""
    box = _bounding_box(inside)
    if box is None:
        return None, []
    cut = np.pad(inside[box], 4)  # the blur's reach, so that the surface closes at the image's border too
    low = np.array([box[2].start, box[1].start, box[0].start], dtype=np.float64) - 4.0
    labels, count = ndimage.label(cut, structure=np.ones((3, 3, 3), dtype=bool))
    reasons = []
    if count > 1:
        sizes = np.bincount(labels.ravel())[1:]
        kept = sizes >= _SPECK_FRACTION * sizes.max()
        if not np.all(kept):
            reasons.append(
                f"{np.count_nonzero(~kept)} separate specks of the given canal were left out "
                f"(largest {sizes[~kept].max()} voxels, below {_SPECK_FRACTION:.0%} of the canal)"
            )
            cut = np.concatenate([[False], kept])[labels]
        if np.count_nonzero(kept) > 1:
            reasons.append(f"the given canal has {np.count_nonzero(kept)} separate parts")
    return (ndimage.binary_fill_holes(cut), low), reasons


def _bounding_box(inside: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Smallest index box that holds all True voxels; None if there is none."""
    k = np.flatnonzero(inside.any(axis=(1, 2)))
    if not k.size:
        return None
    part = inside[k[0] : k[-1] + 1]
    j, i = np.flatnonzero(part.any(axis=(0, 2))), np.flatnonzero(part.any(axis=(0, 1)))
    return slice(k[0], k[-1] + 1), slice(j[0], j[-1] + 1), slice(i[0], i[-1] + 1)


def _surface_of(solid: npt.NDArray[np.bool_]) -> tuple[FloatArray, FaceArray]:
    """Vertices (i, j, k) and triangles of a padded mask, at the level that keeps its volume."""
    from skimage.measure import marching_cubes

    target = float(np.count_nonzero(solid))
    blurred = ndimage.gaussian_filter(solid.astype(np.float32), _MASK_BLUR_VOXELS)
    top = float(blurred.max())  # below 1 for a canal thinner than the blur
    level, best = min(0.5, 0.5 * top), None
    low, high = 0.05 * top, 0.95 * top
    for _ in range(6):
        # A level that no voxel has exactly: marching cubes then makes no triangles of no area.
        vertices_kji, faces, _, _ = marching_cubes(blurred, level=np.float32(level) + np.float32(1e-5))
        vertices = np.ascontiguousarray(vertices_kji[:, ::-1], dtype=np.float64)
        faces = faces.astype(np.int64)
        volume = abs(signed_volume_mm3(vertices, faces))
        if is_closed(faces, vertices.shape[0]):
            error = abs(volume / target - 1.0)
            if best is None or error < best[0]:
                best = (error, vertices, faces)
            if error < 0.002:
                break
        low, high = (low, level) if volume < target else (level, high)
        level = 0.5 * (low + high)
    if best is None:
        raise CanalNotFoundError(
            "canal: the given canal has no closed surface; give a filled label map without loose ends"
        )
    return best[1], best[2]


def canal_mask(canal: SpinalCanal, grid: ImageGrid) -> npt.NDArray[np.uint8]:
    """Label map of the canal: 1 where a voxel's centre lies inside the closed surface.

    Parameters
    ----------
    canal : SpinalCanal
        With a closed surface, of any shape and origin.
    grid : ImageGrid

    Returns
    -------
    ndarray of shape (nk, nj, ni), uint8

    Raises
    ------
    CanalNotFoundError
        If the canal is given by points: they have no inside.

    Notes
    -----
    One ray through each row of voxels; the surface's signed crossings are summed along the row (winding number).
    """
    if not canal.faces.size:
        raise CanalNotFoundError("canal: points given by hand have no inside, so there is no label map of them")
    result = np.zeros(grid.shape, dtype=np.uint8)
    vertices = grid.lps_to_index(canal.vertices_lps_mm)
    size = np.array(grid.size_voxels)
    low = np.clip(np.floor(vertices.min(axis=0)).astype(int), 0, size)
    high = np.clip(np.ceil(vertices.max(axis=0)).astype(int) + 1, 0, size)
    if np.any(high <= low):
        return result
    row, place, sign = _crossings(vertices[canal.faces], low, high)
    lengths = high - low
    # a crossing at x counts for every voxel centre i >= x
    start = np.clip(np.ceil(place).astype(int) - low[0], 0, lengths[0])
    steps = np.zeros((lengths[2] * lengths[1], lengths[0] + 1), dtype=np.int32)
    np.add.at(steps, (row, start), sign)
    winding = np.cumsum(steps[:, :-1], axis=1).reshape(lengths[2], lengths[1], lengths[0])
    result[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = winding != 0
    return result


def _crossings(
    triangles: FloatArray, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.int32]]:
    """Where rows of voxels along i meet triangles (N, 3, 3) in index space: row number, place i, sign."""
    flat = triangles[:, :, 1:] - _RAY_OFFSET  # j, k
    first = np.maximum(np.ceil(flat.min(axis=1)).astype(int), low[1:])
    last = np.minimum(np.floor(flat.max(axis=1)).astype(int), high[1:] - 1)
    extent = np.maximum(last - first + 1, 0)
    count = extent[:, 0] * extent[:, 1]
    which = np.repeat(np.arange(triangles.shape[0]), count)
    within = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    j = first[which, 0] + within % extent[which, 0]
    k = first[which, 1] + within // extent[which, 0]
    a, b, c = (flat[which, n] for n in range(3))
    point = np.stack([j, k], axis=-1)
    # twice the signed areas of the three parts: all of one sign inside
    part = np.stack([_cross(b - point, c - point), _cross(c - point, a - point), _cross(a - point, b - point)], axis=-1)
    total = part.sum(axis=-1)
    hit = (np.all(part > 0, axis=-1) | np.all(part < 0, axis=-1)) & (total != 0)
    which, part, total = which[hit], part[hit], total[hit]
    place = np.einsum("ij,ij->i", part, triangles[which, :, 0]) / total
    row = (k[hit] - low[2]) * (high[1] - low[1]) + (j[hit] - low[1])
    return row, place, np.sign(total).astype(np.int32)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """The third component of the cross product of vectors in a plane."""
    result: FloatArray = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return result
