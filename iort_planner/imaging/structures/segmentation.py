"""DICOM segmentation objects (PS3.3 A.51, A.105): the frames of one segment as a mask on a grid of their own.

Frames say their position and segment in functional groups; they may come in any order, and empty ones are
left out as a rule. Pixels are bits (BINARY), shares (FRACTIONAL: a half and more counts) or numbers of
segments (LABELMAP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.sop_classes import LABEL_MAP_SEGMENTATION
from iort_planner.imaging.geometry_checks import GAP_TOLERANCE, SIDEWAYS_TOLERANCE_MM
from iort_planner.imaging.structures.contour_planes import MAX_PLANE_SPACING_MM
from iort_planner.imaging.structures.elements import DicomFile, Elements
from iort_planner.imaging.structures.label_layout import grid_from_affine
from iort_planner.imaging.structures.label_maps import MAX_VOXELS
from iort_planner.imaging.structures.rois import Roi
from iort_planner.imaging.structures.segment_pixels import FrameLayout, Kind, pixel_source, segment_pixels
from iort_planner.imaging.volume import COSINE_TOLERANCE, ImageGrid
from iort_planner.units import FloatArray

MAX_SEGMENTS = 2_000  # our own choice; the richest models in use find some hundreds
MAX_FRAMES = 100_000  # our own choice: 100 segments on 1000 slices
# A frame's position against the even grid of all: what positions with two decimals do. Our own choice.
_POSITION_TOLERANCE_MM = 0.02

_ROWS, _COLUMNS, _FRAMES, _ALLOCATED = 0x00280010, 0x00280011, 0x00280008, 0x00280100
_SAMPLES, _PADDING, _FRAME_UID = 0x00280002, 0x00280120, 0x00200052
_TYPE, _SEGMENTS, _NUMBER, _LABEL, _LARGEST = 0x00620001, 0x00620002, 0x00620004, 0x00620005, 0x0062000E
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_POSITION_SEQ, _POSITION = 0x00209113, 0x00200032
_ORIENTATION_SEQ, _ORIENTATION = 0x00209116, 0x00200037
_MEASURES_SEQ, _SPACING = 0x00289110, 0x00280030
_SEGMENT_SEQ, _REFERENCED = 0x0062000A, 0x0062000B


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What a segmentation says of its segments, without pixels; ``frame_uid`` is empty where it has none."""

    rois: tuple[Roi, ...]
    frame_uid: str


def read_segments(file: DicomFile) -> Segments:
    """List the segments.

    Raises
    ------
    ImageError
        If there are none, too many, or their numbers are missing or there twice.
    """
    items = file.items(file.root, _SEGMENTS)
    if not items:
        raise ImageError(f"{file.path} holds no segment (Segment Sequence); export it again")
    if len(items) > MAX_SEGMENTS:
        raise ImageError(
            f"{file.path} holds {len(items)} segments, limit {MAX_SEGMENTS}; export the one that is needed"
        )
    rois = []
    for item in items:
        number = file.unsigned(item, _NUMBER)
        if number is None:
            raise file.damaged("a segment has no Segment Number (0062,0004)")
        rois.append(Roi(number, file.name(item, _LABEL)))
    if len({r.number for r in rois}) < len(rois):
        raise file.damaged("two segments have the same Segment Number (0062,0004)")
    if file.sop_class_uid == LABEL_MAP_SEGMENTATION:
        # PS3.3 C.8.20.2: what stands for no segment is the padding value, and may be described as one.
        background = file.unsigned(file.root, _PADDING) or 0
        rois = [r for r in rois if r.number != background]
    return Segments(rois=tuple(rois), frame_uid=file.text(file.root, _FRAME_UID))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where one frame lies and what it shows; ``segment`` is None in a label map."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    segment: int | None


def read_segment(file: DicomFile, roi: Roi, *, image_voxels: int) -> tuple[npt.NDArray[np.bool_], ImageGrid]:
    """One segment as a mask.

    Parameters
    ----------
    image_voxels : int
        Voxels of the image; the segment's own grid may have as many, and `MAX_VOXELS` in any case.

    Returns
    -------
    mask : ndarray of shape (nk, nj, ni), bool
    grid : ImageGrid
        Its own, of the planes from the segment's first frame to its last.

    Raises
    ------
    ImageError
        If the file is damaged, compressed, larger than it is long, or its frames make no regular grid.
    """
    layout = _layout(file)
    frames = _frames(file, layout)
    chosen = [n for n, frame in enumerate(frames) if frame.segment is None or frame.segment == roi.number]
    if not chosen:
        raise ImageError(f"segment {roi.shown} of {file.path} has no frame: it is empty; choose another one")
    plane_of, spacing_mm, axes = _stack(file, frames)
    planes = plane_of[chosen]
    if np.unique(planes).size < planes.size:
        raise ImageError(
            f"segment {roi.shown} of {file.path} has two frames at one position; export it again as one segmentation"
        )
    first, last = int(planes.min()), int(planes.max())
    voxels = (last - first + 1) * layout.pixels
    if voxels > max(MAX_VOXELS, image_voxels):
        raise ImageError(
            f"{file.path} spans {voxels} voxels, limit {max(MAX_VOXELS, image_voxels)}; crop it to the image"
        )
    start = frames[chosen[int(np.argmin(planes))]]
    between_rows, between_columns = start.spacing
    affine = np.column_stack(
        [axes[0] * between_columns, axes[1] * between_rows, axes[2] * spacing_mm, np.array(start.position)]
    )
    grid = grid_from_affine((layout.columns, layout.rows, last - first + 1), affine, file.path)
    mask = np.zeros(grid.shape, dtype=np.bool_)
    source = pixel_source(file, layout)
    for n, plane in zip(chosen, planes, strict=True):
        mask[int(plane) - first] = segment_pixels(source.frame(n), layout, roi.number)
    if not mask.any():
        raise ImageError(
            f"segment {roi.shown} of {file.path} is empty: no pixel of its frames is set; choose another one"
        )
    return mask, grid


def _layout(file: DicomFile) -> FrameLayout:
    kind = file.text(file.root, _TYPE)
    if file.sop_class_uid == LABEL_MAP_SEGMENTATION:
        kind = kind or "LABELMAP"
    rows, columns = file.unsigned(file.root, _ROWS), file.unsigned(file.root, _COLUMNS)
    frames, bits = file.whole(file.root, _FRAMES), file.unsigned(file.root, _ALLOCATED)
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise ImageError(
            f"{file.path} has the segmentation type {kind or 'none'}; BINARY, FRACTIONAL, LABELMAP are read"
        )
    if bits not in {"BINARY": (1,), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}[kind]:
        raise ImageError(f"{file.path} has {bits} bits a pixel, which is no {kind} segmentation; export it again")
    if not rows or not columns or not frames or frames < 0:
        raise file.damaged("Rows, Columns or Number of Frames are missing or 0")
    if frames > MAX_FRAMES:
        raise ImageError(f"{file.path} has {frames} frames, limit {MAX_FRAMES}; export the segment that is needed")
    if (file.unsigned(file.root, _SAMPLES) or 1) != 1:
        raise ImageError(f"{file.path} is a colour image, no segmentation; export it again")
    largest = file.unsigned(file.root, _LARGEST)
    if kind == "FRACTIONAL" and not largest:
        raise file.damaged("a FRACTIONAL segmentation has no Maximum Fractional Value (0062,000E)")
    return FrameLayout(
        kind=cast(Kind, kind), rows=rows, columns=columns, frames=frames, bits=bits, threshold=0.5 * (largest or 1)
    )


def _frames(file: DicomFile, layout: FrameLayout) -> list[_Frame]:
    """Position, orientation, spacing and segment of each frame, its own or shared."""
    shared = file.first(file.root, _SHARED)
    items = file.items(file.root, _PER_FRAME)
    if len(items) != layout.frames:
        raise file.damaged(f"{len(items)} functional groups for {layout.frames} frames")
    shared_groups = {
        tag: file.first(shared, tag) for tag in (_POSITION_SEQ, _ORIENTATION_SEQ, _MEASURES_SEQ, _SEGMENT_SEQ)
    }

    def group(item: Elements, tag: int) -> Elements:
        return file.first(item, tag) or shared_groups[tag]

    frames = []
    for n, item in enumerate(items, start=1):
        values = [
            file.decimals(group(item, sequence), tag, most=6)
            for sequence, tag in (
                (_POSITION_SEQ, _POSITION),
                (_ORIENTATION_SEQ, _ORIENTATION),
                (_MEASURES_SEQ, _SPACING),
            )
        ]
        if [len(v or ()) for v in values] != [3, 6, 2]:
            raise file.damaged(f"frame {n} has no sound position, orientation or pixel spacing")
        segment = None if layout.kind == "LABELMAP" else file.unsigned(group(item, _SEGMENT_SEQ), _REFERENCED)
        if segment is None and layout.kind != "LABELMAP":
            raise file.damaged(f"frame {n} names no segment (0062,000B)")
        position, orientation, spacing = (tuple(v or ()) for v in values)
        frames.append(_Frame(position=position, orientation=orientation, spacing=spacing, segment=segment))
    return frames


def _stack(file: DicomFile, frames: list[_Frame]) -> tuple[npt.NDArray[np.intp], float, FloatArray]:
    """Plane number of each frame, the planes' spacing in mm, and the axes of i, j, k as rows.

    The spacing comes from positions alone (all frames of the file, whatever they show): each is a whole
    number of the least gap from the next.
    """
    first = frames[0]
    same = [
        np.allclose(f.orientation, first.orientation, rtol=0, atol=COSINE_TOLERANCE)
        and np.allclose(f.spacing, first.spacing, rtol=1e-4, atol=0)
        for f in dict.fromkeys(
            _Frame(position=(), orientation=f.orientation, spacing=f.spacing, segment=None) for f in frames
        )
    ]
    if not all(same):
        raise ImageError(f"{file.path} has frames of different orientation or pixel spacing; export it on one grid")
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose([*lengths, 1 + row @ column], 1, rtol=0, atol=COSINE_TOLERANCE):
        raise ImageError(
            f"{file.path} has row and column directions that are no unit vectors at right angles; export it again"
        )
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    positions = np.array([f.position for f in frames])
    sideways = (positions - positions[0]) @ np.stack([row, column], axis=1)
    if np.max(np.abs(sideways)) > SIDEWAYS_TOLERANCE_MM:
        raise ImageError(
            f"{file.path} has frames that lie {np.max(np.abs(sideways)):.2f} mm aside of each other, limit "
            f"{SIDEWAYS_TOLERANCE_MM:g} mm; export it on one grid"
        )
    depth = (positions - positions[0]) @ normal
    ordered = np.sort(depth)
    gaps = np.diff(ordered)
    gaps = gaps[gaps > _POSITION_TOLERANCE_MM]
    if not gaps.size:
        raise ImageError(
            f"{file.path} has frames at one position only, so their thickness is unknown; export more planes"
        )
    # The least gaps differ by rounding; their mean decides how many spacings the wider ones hold.
    spacing = float(np.mean(gaps[gaps < 1.5 * gaps.min()]))
    plane = np.rint((depth - ordered[0]) / spacing)
    if plane.max() > 0:
        counts = np.maximum(1, np.rint(gaps / spacing))
        spacing = float(np.sum(gaps) / np.sum(counts))
        plane = np.rint((depth - ordered[0]) / spacing)
    away = float(np.max(np.abs(depth - ordered[0] - plane * spacing)))
    if away > max(_POSITION_TOLERANCE_MM, GAP_TOLERANCE * spacing):
        raise ImageError(
            f"{file.path} has frames that do not lie whole multiples of {spacing:.4g} mm apart ({away:.2f} mm off); "
            "export it on an even grid"
        )
    if spacing > MAX_PLANE_SPACING_MM:
        raise ImageError(
            f"{file.path} has its planes {spacing:.1f} mm apart, limit {MAX_PLANE_SPACING_MM:g} mm; export thinner ones"
        )
    return plane.astype(np.intp), spacing, np.stack([row, column, normal])
