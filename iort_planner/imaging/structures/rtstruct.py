"""RT Structure Set (DICOM PS3.3 A.19): the contours of one region of interest.

Only closed planar contours enclose anything; the module reads them and leaves geometry to `contours`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.elements import DicomFile, Elements
from iort_planner.imaging.structures.label_layout import FAR_MM
from iort_planner.imaging.structures.rois import Roi
from iort_planner.units import FloatArray

# The largest structure set at hand has 10 structures, 165 contours and 52 000 points in one. Our own choices.
MAX_ROIS = 2_000
MAX_CONTOURS = 10_000
MAX_POINTS = 1_000_000  # of one structure
MAX_CONTOUR_POINTS = 100_000
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")  # PS3.3 C.8.8.6.1; the second since 2021

_FRAMES_SEQUENCE, _FRAME_UID = 0x30060010, 0x00200052
_ROI_SEQUENCE, _ROI_NUMBER, _ROI_FRAME_UID, _ROI_NAME = 0x30060020, 0x30060022, 0x30060024, 0x30060026
_ROI_CONTOURS, _CONTOURS, _OF_NUMBER = 0x30060039, 0x30060040, 0x30060084
_TYPE, _OFFSET_VECTOR, _POINT_COUNT, _POINTS = 0x30060042, 0x30060045, 0x30060046, 0x30060050


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSet:
    """What a structure set says of its structures, without contours.

    Parameters
    ----------
    rois : tuple of Roi
    frame_uids : tuple of str
        Frame of reference each of them is drawn in; empty where the file does not say.
    frame_of_reference_uids : tuple of str
        All that the file names.
    """

    rois: tuple[Roi, ...]
    frame_uids: tuple[str, ...]
    frame_of_reference_uids: tuple[str, ...]


def read_structure_set(file: DicomFile) -> StructureSet:
    """List the structures.

    Raises
    ------
    ImageError
        If there are none, too many, or their numbers are missing or there twice.
    """
    frames = [file.text(item, _FRAME_UID) for item in file.items(file.root, _FRAMES_SEQUENCE)]
    frames = [uid for uid in dict.fromkeys(frames) if uid]
    items = file.items(file.root, _ROI_SEQUENCE)
    if not items:
        raise ImageError(f"{file.path} holds no structure (Structure Set ROI Sequence); export it again")
    if len(items) > MAX_ROIS:
        raise ImageError(f"{file.path} holds {len(items)} structures, limit {MAX_ROIS}; export the one that is needed")
    rois, own_frames = [], []
    for item in items:
        number = file.whole(item, _ROI_NUMBER)
        if number is None:
            raise file.damaged("a structure has no ROI Number (3006,0022)")
        rois.append(Roi(number, file.name(item, _ROI_NAME)))
        # The structure's own frame counts; the file's, where it has one, else.
        own_frames.append(file.text(item, _ROI_FRAME_UID) or (frames[0] if len(frames) == 1 else ""))
    if len({r.number for r in rois}) < len(rois):
        raise file.damaged("two structures have the same ROI Number (3006,0022)")
    return StructureSet(
        rois=tuple(rois),
        frame_uids=tuple(own_frames),
        frame_of_reference_uids=tuple(uid for uid in dict.fromkeys([*frames, *own_frames]) if uid),
    )


def read_contours(file: DicomFile, roi: Roi) -> tuple[list[FloatArray], list[str]]:
    """Closed planar contours of one structure.

    Returns
    -------
    contours : list of ndarrays of shape (n, 3), mm
        In LPS.
    notes : list of str
        What was left out.

    Raises
    ------
    ImageError
        If there is no closed contour, a number is malformed, or a limit is passed.
    """
    where = f"structure {roi.shown} of {file.path}"
    items: list[Elements] = []
    for entry in file.items(file.root, _ROI_CONTOURS):
        if file.whole(entry, _OF_NUMBER) == roi.number:
            items += file.items(entry, _CONTOURS)
    if not items:
        raise ImageError(f"{where} has no contour; draw it, or choose another one")
    if len(items) > MAX_CONTOURS:
        raise ImageError(f"{where} has {len(items)} contours, limit {MAX_CONTOURS}; export it with fewer")
    types = [file.text(item, _TYPE) for item in items]
    closed = [n for n, kind in enumerate(types) if kind in _CLOSED]
    others = sorted({kind or "no type" for kind in types if kind not in _CLOSED})
    if not closed:
        raise ImageError(f"{where} has {', '.join(others[:4])} contours only, which enclose nothing; draw it closed")
    contours, total = [], 0
    for n in closed:
        contours.append(_points(file, items[n], f"contour {n + 1} of {where}"))
        total += len(contours[-1])
        if total > MAX_POINTS:
            raise ImageError(f"{where} has over {MAX_POINTS} contour points; export it with fewer")
    notes = [f"{len(items) - len(closed)} contour(s) that are not closed were left out ({', '.join(others[:4])})"]
    return contours, notes if others else []


def _points(file: DicomFile, item: Elements, where: str) -> FloatArray:
    if _OFFSET_VECTOR in item and file.decimals(item, _OFFSET_VECTOR, most=3) != [0.0, 0.0, 0.0]:
        raise ImageError(f"{where} has a Contour Offset Vector, which is retired and not supported; export it without")
    count = file.whole(item, _POINT_COUNT)
    if count is None or count < 3:
        raise ImageError(
            f"{where} has {'no' if count is None else count} points, a closed one has at least 3; draw it again"
        )
    element = item.get(_POINTS)
    # A number and its separator are 17 bytes at most (PS3.5 6.2, DS), and some writers pad generously.
    if count > MAX_CONTOUR_POINTS or (element is not None and element.stop - element.start > 3 * 32 * count + 2):
        raise ImageError(
            f"{where} says {count} points in {0 if element is None else element.stop - element.start} bytes, limit "
            f"{MAX_CONTOUR_POINTS} points; export it again"
        )
    numbers = file.decimals(item, _POINTS, most=3 * count)
    if numbers is None or len(numbers) != 3 * count:
        found = "no sound numbers" if numbers is None else f"{len(numbers)} numbers"
        raise ImageError(f"{where} has {found} where {count} points need {3 * count}; export it again")
    points = np.array(numbers).reshape(-1, 3)
    if np.max(np.abs(points)) > FAR_MM:
        raise ImageError(f"{where} has a point {np.max(np.abs(points)):.4g} mm from the origin; export it again")
    return points
