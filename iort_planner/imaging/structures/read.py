"""Structures that come as files, on the grid of the image they are meant for.

RT Structure Sets, DICOM segmentations, NIfTI and NRRD label maps; the kind is told by the content. Where a
file's own position in the patient is not stated (or stated twice, differently), or is stated in another
frame of reference than the image's, it is refused: a canal in the wrong place is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.pixels import uid_name
from iort_planner.imaging.dicom.sop_classes import STRUCTURE_KINDS
from iort_planner.imaging.structures import rtstruct, segmentation
from iort_planner.imaging.structures.contour_planes import sort_contours
from iort_planner.imaging.structures.contours import contour_mask
from iort_planner.imaging.structures.elements import DicomFile, looks_like_dicom
from iort_planner.imaging.structures.label_maps import is_label_map, read_labels, take_mask
from iort_planner.imaging.structures.placing import extent_text, place_mask
from iort_planner.imaging.structures.rois import choose_roi
from iort_planner.imaging.volume import ImageGrid
from iort_planner.inputs import require_regular
from iort_planner.units import FloatArray

# Contours along the image's outer faces are not outside it; two decimals round by less. Our own choice.
_FACE_SLACK_MM = 0.01

StructureKind: TypeAlias = Literal["rtstruct", "seg", "label-map"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """One structure as voxels of the image.

    Parameters
    ----------
    mask : ndarray of shape (nk, nj, ni), bool
        On the image's own grid; at least one voxel is set. Read-only.
    roi : str
        Number and name of the structure that was chosen; the number alone where it has no name.
    kind : str
        ``rtstruct``, ``seg`` or ``label-map``.
    spacing_mm : ndarray of shape (3,), mm
        The file's own sampling: voxel spacing in the order of its axes; for contours the median distance
        of neighbouring points (twice) and the usual distance of planes.
    frame_verified : bool
        Whether the file names a frame of reference and it is the image's only one.
    notes : tuple of str
        What was done on the way: resampled, partly outside the image, gaps between planes.
    """

    mask: npt.NDArray[np.bool_]
    roi: str
    kind: StructureKind
    spacing_mm: FloatArray
    frame_verified: bool
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 3 or not self.mask.any():
            raise ImageError(f"structure {self.roi} has no voxel in the image")
        mask = self.mask.view()
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureListing:
    """What a structure file holds: its kind, frames of reference, and structures as (number, name)."""

    kind: StructureKind
    frame_of_reference_uids: tuple[str, ...]
    rois: tuple[tuple[int, str], ...]


def read_structure(
    path: Path,
    image_grid: ImageGrid,
    *,
    frames_of_reference: frozenset[str],
    roi: str | None = None,
    preferred: str = "canal",
) -> Structure:
    """Read one structure onto the image's grid.

    Parameters
    ----------
    path : Path
    image_grid : ImageGrid
        Of the image that is planned on.
    frames_of_reference : frozenset of str
        Frame of Reference UIDs of the image; none if it has none, several if its slices differ in it.
    roi : str or None
        Number or name; without it the only structure, else the only one whose name contains ``preferred``.

    Returns
    -------
    Structure
        A voxel is set when its centre lies inside the contours, or in a set voxel of the file.

    Raises
    ------
    ImageError
        If the file cannot be read, is of another kind, says no position or another frame of reference, has
        no such structure or several and none named, or the structure lies outside the image.
    """
    kind, file = _opened(path)
    if kind == "label-map" or file is None:
        return _from_labels(path, image_grid, roi, preferred)
    if kind == "seg":
        return _from_segmentation(file, image_grid, frames_of_reference, roi, preferred)
    return _from_contours(file, image_grid, frames_of_reference, roi, preferred)


def list_structures(path: Path) -> StructureListing:
    """What a structure file holds, without placing it.

    Raises
    ------
    ImageError
        If it is no structure file, or is damaged.
    """
    kind, file = _opened(path)
    if kind == "label-map" or file is None:
        frames: tuple[str, ...] = ()
        rois = read_labels(path).rois
    elif kind == "seg":
        segments = segmentation.read_segments(file)
        frames, rois = ((segments.frame_uid,) if segments.frame_uid else ()), segments.rois
    else:
        found = rtstruct.read_structure_set(file)
        frames, rois = found.frame_of_reference_uids, found.rois
    return StructureListing(kind=kind, frame_of_reference_uids=frames, rois=tuple((r.number, r.name) for r in rois))


def read_label_map(path: Path, volume_grid: ImageGrid, roi: str | None = None) -> Structure:
    """`read_structure` for an image whose frame of reference is not known."""
    return read_structure(path, volume_grid, frames_of_reference=frozenset(), roi=roi)


def _opened(path: Path) -> tuple[StructureKind, DicomFile | None]:
    """The kind of file by its content, and the file taken apart if it is DICOM."""
    try:
        require_regular(path)
        with path.open("rb") as stream:
            head = stream.read(4096)
        if is_label_map(head):
            return "label-map", None
        if b"ElementDataFile" in head:
            raise ImageError(f"{path} is MetaImage, which is not supported; store it as NIfTI or NRRD")
        if not looks_like_dicom(head):
            raise ImageError(f"{path} is no structure file; give an RTSTRUCT, DICOM SEG, NIfTI or NRRD file")
        file = DicomFile(path)
    except FileNotFoundError as error:
        raise ImageError(f"no such file: {path}; check the path") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}; check the file") from error
    kind = STRUCTURE_KINDS.get(file.sop_class_uid)
    if kind is None:
        name = uid_name(file.sop_class_uid) or "no SOP class"
        raise ImageError(f"{path} is a DICOM file ({name}) without structures; give an RTSTRUCT or DICOM SEG")
    return kind, file


def _from_labels(path: Path, grid: ImageGrid, roi: str | None, preferred: str) -> Structure:
    labels = read_labels(path, image_voxels=int(np.prod(grid.size_voxels)))
    chosen = choose_roi(labels.rois, roi, preferred=preferred, path=path)
    mask, notes = place_mask(take_mask(labels, chosen), labels.grid, grid, f"label {chosen.shown} of {path}")
    return Structure(
        mask=mask,
        roi=chosen.shown,
        kind="label-map",
        spacing_mm=labels.grid.spacing_mm,
        frame_verified=False,
        notes=tuple(notes),
    )


def _from_segmentation(
    file: DicomFile, grid: ImageGrid, frames: frozenset[str], roi: str | None, preferred: str
) -> Structure:
    segments = segmentation.read_segments(file)
    chosen = choose_roi(segments.rois, roi, preferred=preferred, path=file.path)
    verified = _frame_verified(segments.frame_uid, frames, file.path)
    own_mask, own_grid = segmentation.read_segment(file, chosen, image_voxels=int(np.prod(grid.size_voxels)))
    mask, notes = place_mask(own_mask, own_grid, grid, f"segment {chosen.shown} of {file.path}")
    return Structure(
        mask=mask,
        roi=chosen.shown,
        kind="seg",
        spacing_mm=own_grid.spacing_mm,
        frame_verified=verified,
        notes=tuple(notes),
    )


def _from_contours(
    file: DicomFile, grid: ImageGrid, frames: frozenset[str], roi: str | None, preferred: str
) -> Structure:
    found = rtstruct.read_structure_set(file)
    chosen = choose_roi(found.rois, roi, preferred=preferred, path=file.path)
    verified = _frame_verified(found.frame_uids[found.rois.index(chosen)], frames, file.path)
    contours, left_out = rtstruct.read_contours(file, chosen)
    what = f"structure {chosen.shown} of {file.path}"
    planes = sort_contours(contours, grid, what)
    mask, gaps = contour_mask(planes, grid, what)
    points = np.concatenate(contours)
    inside = _share_inside(points, grid)
    if not mask.any():
        if inside > 0:
            raise ImageError(f"{what} is so small that no voxel centre lies inside it; draw it larger")
        low, high = (np.round(edge).astype(int).tolist() for edge in (points.min(axis=0), points.max(axis=0)))
        raise ImageError(
            f"{what} lies outside the image: it spans LPS {low} to {high} mm, the image {extent_text(grid)}; "
            "give a file of this scan"
        )
    notes = [*left_out, *planes.notes, *gaps]
    if inside < 1:
        notes.append(f"{100 * (1 - inside):.1f} % of its contour points lie outside the image")
    return Structure(
        mask=mask,
        roi=chosen.shown,
        kind="rtstruct",
        spacing_mm=np.array([planes.point_spacing_mm, planes.point_spacing_mm, planes.spacing_mm]),
        frame_verified=verified,
        notes=tuple(notes),
    )


def _share_inside(points: FloatArray, grid: ImageGrid) -> float:
    """Share of points in the image; one that lies on an outer face is in it, whatever rounding says."""
    index = grid.lps_to_index(points)
    slack = _FACE_SLACK_MM / grid.spacing_mm
    last = np.array(grid.size_voxels) - 0.5
    return float(np.mean(np.all((index >= -0.5 - slack) & (index <= last + slack), axis=-1)))


def _frame_verified(frame_uid: str, image_frames: frozenset[str], path: Path) -> bool:
    """Whether the frame of reference is known to be the image's; another one is a stop."""
    if not frame_uid or not image_frames:
        return False
    if frame_uid not in image_frames:
        raise ImageError(
            f"{path} is drawn in another frame of reference than the image (UID {frame_uid}, image "
            f"{', '.join(sorted(image_frames)[:2])}): its coordinates mean another place; give structures of this scan"
        )
    return len(image_frames) == 1
