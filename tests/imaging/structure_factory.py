"""RT Structure Sets and segmentations with known geometry, written with pydicom and formulas of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from iort_planner.errors import ImageError
from iort_planner.imaging.structures.read import Structure, read_structure
from iort_planner.imaging.volume import ImageGrid

from .dicom_factory import ROOT, Scan, ds

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEG = "1.2.840.10008.5.1.4.1.1.66.7"
FRAME = f"{ROOT}.9"
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Contour = tuple[str, Array]
Edit = Callable[[FileDataset], None]
Write = Callable[[FileDataset, Path], None]
KNOWN = frozenset({FRAME})
X, Y, Z = np.eye(3).tolist()


def grid_of(scan: Scan) -> ImageGrid:
    """The image's grid from the scan's own numbers."""
    return ImageGrid(
        size_voxels=scan.size,
        spacing_mm=np.array(scan.spacing_mm),
        origin_lps_mm=np.array(scan.origin_mm),
        direction=np.column_stack([scan.axes[0], scan.axes[1], scan.normal]),
    )


def read(path: Path, grid: ImageGrid, roi: str | None = None, frames: frozenset[str] = KNOWN) -> Structure:
    """`read_structure` with the frame of reference that the structures are written in."""
    return read_structure(path, grid, frames_of_reference=frames, roi=roi)


def lopsided(scan: Scan) -> Mask:
    """A shape without any symmetry, with a hole, a second part and a part at the edge of some slices."""
    ni, nj, nk = scan.size
    mask = np.zeros((nk, nj, ni), dtype=np.bool_)
    mask[1:-1, 2 : nj - 2, 2 : ni - 4] = True
    mask[2:, 3, 5 : ni - 1] = True
    mask[2:-2, 4:6, 4:6] = False
    mask[1, 2:4, 2:7] = False
    mask[3:5, nj - 2 :, 0:2] = True
    return mask


def outlines(cells: Mask) -> list[Array]:
    """Closed lines round the cells of a flat mask, along cell edges; (n, 2) in index, cell centres at whole numbers.

    ``cells`` has its first axis along the second coordinate, as masks have. Each side between a cell that is
    in and one that is out is an edge, and edges are chained end to start.
    """
    nj, ni = cells.shape
    framed = np.pad(cells, 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for j in range(nj):
        for i in range(ni):
            if not cells[j, i]:
                continue
            for (dj, di), a, b in (
                ((-1, 0), (i, j), (i + 1, j)),
                ((0, 1), (i + 1, j), (i + 1, j + 1)),
                ((1, 0), (i + 1, j + 1), (i, j + 1)),
                ((0, -1), (i, j + 1), (i, j)),
            ):
                if not framed[j + 1 + dj, i + 1 + di]:
                    following.setdefault(a, []).append(b)
    loops = []
    while following:
        start = at = next(iter(following))
        loop = []
        while True:
            loop.append(at)
            ends = following[at]
            at_next = ends.pop()
            if not ends:
                del following[at]
            at = at_next
            if at == start:
                break
        loops.append(np.array(loop, dtype=np.float64) - 0.5)
    return loops


def mask_contours(mask: Mask, scan: Scan, axis: str = "k") -> list[Contour]:
    """Outlines of a mask in each of its planes across one index axis, as points in LPS."""
    found: list[Contour] = []
    place = "ijk".index(axis)
    others = [n for n in range(3) if n != place]  # of i, j, k
    for n in range(scan.size[place]):
        flat = np.take(mask, n, axis=2 - place)  # rows: the later index axis
        for loop in outlines(flat):
            index = np.zeros((len(loop), 3))
            index[:, place] = n
            index[:, others[0]], index[:, others[1]] = loop[:, 0], loop[:, 1]
            found.append(("CLOSED_PLANAR", np.array([scan.point(*p) for p in index])))
    return found


def ring(centre: npt.ArrayLike, radius: float, u: npt.ArrayLike, v: npt.ArrayLike, count: int = 200) -> Array:
    """Points of a circle in the plane of two unit vectors."""
    angle = np.arange(count)[:, None] * (2 * np.pi / count)
    circle: Array = np.asarray(centre) + radius * (np.cos(angle) * np.asarray(u) + np.sin(angle) * np.asarray(v))
    return circle


@dataclass(frozen=True, kw_only=True)
class DrawnRoi:
    """One structure to write."""

    number: int
    name: str
    contours: list[Contour]
    frame_uid: str = FRAME


def write_rtstruct(
    path: Path,
    rois: Sequence[DrawnRoi],
    *,
    edit: Edit | None = None,
    write: Write | None = None,
) -> Path:
    """Write a structure set; ``edit`` changes it before."""
    data = _file(RTSTRUCT)
    data.Modality, data.StructureSetLabel = "RTSTRUCT", "made for tests"
    frame = Dataset()
    frame.FrameOfReferenceUID = rois[0].frame_uid if rois else FRAME
    data.ReferencedFrameOfReferenceSequence = Items([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Items(), Items()
    for roi in rois:
        entry, drawn = Dataset(), Dataset()
        entry.ROINumber, entry.ROIName, entry.ReferencedFrameOfReferenceUID = roi.number, roi.name, roi.frame_uid
        drawn.ReferencedROINumber, drawn.ContourSequence = roi.number, Items()
        for kind, points in roi.contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [ds(float(x)) for x in np.asarray(points).ravel()]
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(entry)
        data.ROIContourSequence.append(drawn)
    return _written(data, path, edit, write)


@dataclass(frozen=True, kw_only=True)
class SegFrame:
    """One frame to write: its segment, where its first pixel lies, and its pixels."""

    segment: int
    position_mm: Array
    pixels: npt.NDArray[Any]


def frames_of(mask: Mask, scan: Scan, segment: int = 1, *, sparse: bool = False) -> list[SegFrame]:
    """A frame for each slice of a mask; ``sparse`` leaves the empty ones out."""
    return [
        SegFrame(segment=segment, position_mm=scan.point(0, 0, k), pixels=mask[k])
        for k in range(scan.size[2])
        if mask[k].any() or not sparse
    ]


def write_seg(
    path: Path,
    frames: Sequence[SegFrame],
    scan: Scan,
    *,
    kind: str = "BINARY",
    names: Sequence[str] = ("canal",),
    largest: int = 100,
    edit: Edit | None = None,
    write: Write | None = None,
) -> Path:
    """Write a segmentation on the scan's pixel grid; ``edit`` changes it before."""
    data = _file(LABEL_MAP_SEG if kind == "LABELMAP" else SEG)
    data.Modality, data.SegmentationType, data.FrameOfReferenceUID = "SEG", kind, scan.frame_uid
    data.SegmentSequence = Items()
    for n, name in enumerate(names, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = n, name
        data.SegmentSequence.append(segment)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [ds(scan.spacing_mm[1]), ds(scan.spacing_mm[0])]
    measures.SliceThickness, measures.SpacingBetweenSlices = "7", "9"  # wrong on purpose: nobody may read them
    orientation.ImageOrientationPatient = [ds(float(v)) for axis in scan.axes for v in axis]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    data.SharedFunctionalGroupsSequence = Items([shared])
    data.PerFrameFunctionalGroupsSequence = Items()
    for frame in frames:
        group, place, meant = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [ds(float(v)) for v in frame.position_mm]
        group.PlanePositionSequence = Items([place])
        if kind != "LABELMAP":
            meant.ReferencedSegmentNumber = frame.segment
            group.SegmentIdentificationSequence = Items([meant])
        data.PerFrameFunctionalGroupsSequence.append(group)
    data.Rows, data.Columns, data.NumberOfFrames = scan.size[1], scan.size[0], len(frames)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    flat = np.concatenate([np.asarray(f.pixels, dtype=np.uint8).ravel() for f in frames])
    if kind == "BINARY":
        flat = np.packbits(flat, bitorder="little")
    elif kind == "FRACTIONAL":
        data.MaximumFractionalValue, data.SegmentationFractionalType = largest, "PROBABILITY"
    data.PixelData = flat.tobytes() + b"\0" * (flat.size % 2)
    data["PixelData"].VR = "OB"
    return _written(data, path, edit, write)


def _written(data: FileDataset, path: Path, edit: Edit | None, write: Write | None) -> Path:
    if edit is not None:
        edit(data)
    if write is not None:
        write(data, path)
    else:
        data.save_as(path, enforce_file_format=True)
    return path


def _file(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(f"{ROOT}.77.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = UID(sop_class), UID(f"{ROOT}.77.1")
    data.PatientName, data.PatientID, data.StudyInstanceUID = "Secret^Name", "ID7", f"{ROOT}.2"
    data.SeriesInstanceUID = f"{ROOT}.78"
    return data


def drawn(contours: list[Contour], name: str = "canal", number: int = 3) -> list[DrawnRoi]:
    return [DrawnRoi(number=number, name=name, contours=contours)]


def closed(*contours: Array) -> list[Contour]:
    return [("CLOSED_PLANAR", c) for c in contours]


def axial_grid(spacing: tuple[float, float, float] = (0.7, 0.9, 1.0), reach_mm: float = 15.0) -> ImageGrid:
    """An axial image round the origin; no voxel centre lies on a round number."""
    size = [int(2 * reach_mm / s) for s in spacing]
    origin = [-reach_mm + 0.137, -reach_mm + 0.211, -reach_mm]
    return ImageGrid(
        size_voxels=(size[0], size[1], size[2]),
        spacing_mm=np.array(spacing),
        origin_lps_mm=np.array(origin),
        direction=np.eye(3),
    )


def square(half: float, z: float) -> Array:
    return np.array([(-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)])


def mutations(whole: bytes, count: int, seed: int) -> list[bytes]:
    """Damaged copies: bytes changed, parts cut out, doubled, the end cut off."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            at, length = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 16))
            match int(rng.integers(0, 5)):
                case 0:
                    data[at : at + length] = rng.bytes(length)
                case 1:
                    del data[at : at + length]
                case 2:
                    data[at:at] = data[at : at + length]
                case 3:
                    data[at : at + 1] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x5C, 0x65]))])
                case _:
                    if rng.random() < 0.1:
                        del data[at:]
        made.append(bytes(data))
    return made


def survive(path: Path, grid: ImageGrid, damaged: list[bytes]) -> dict[str, int]:
    """Each damaged file ends in a mask or in one line; anything else fails the test."""
    ends = {"mask": 0, "refused": 0}
    said = []
    for data in damaged:
        path.write_bytes(data)
        try:
            found: Any = read_structure(path, grid, frames_of_reference=frozenset(), roi="1")
        except ImageError as error:
            ends["refused"] += 1
            said.append(str(error))
        else:
            ends["mask"] += 1
            assert found.mask.shape == grid.shape
    assert not any("\n" in line or "Secret" in line for line in said)
    return ends
