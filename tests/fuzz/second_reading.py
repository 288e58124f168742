"""A reading of its own of what a volume must hold: pydicom's values, formulas written out here, no code of the package."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from iort_planner.imaging.dicom.tags import quiet_pydicom
from tests.fuzz.seeds import SeedSet, stream_hash

if TYPE_CHECKING:
    from iort_planner.imaging.series import ScanImage

Array = npt.NDArray[np.float64]
# The loader lets slices lie this far from the regular grid: 1 % of the spacing or 0.01 mm along the normal,
# 0.05 mm sideways (geometry_checks.py). Beyond the sum of both it is silently wrong.
PLACE_TOLERANCE_MM = 0.1
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One frame as read here: three corner pixels in LPS mm, and its values where they can be known."""

    corners: Array
    size: tuple[int, int]
    values: Array | None


def compare(image: ScanImage, root: Path, seeds: SeedSet) -> str:
    """``same``, ``not judged: why``, or ``wrong: what`` of a loaded volume against the files under ``root``."""
    planes, unread = [], 0
    with quiet_pydicom():
        for data in _all_files(root):
            try:
                planes += _planes(data, image.series_uid, seeds)
            except Exception:  # noqa: BLE001  # pydicom raises every kind; such a file cannot be judged
                unread += 1
    grid, values = image.volume.grid, image.volume.values
    by_slice: dict[int, list[Plane]] = {}
    for plane in planes:
        index = grid.lps_to_index(plane.corners)
        k = round(float(index[0, 2])) if np.all(np.isfinite(index)) else -1
        columns, rows = plane.size
        wanted = np.array([(0, 0, k), (columns - 1, 0, k), (0, rows - 1, k)])
        off = float(np.max(np.abs((index - wanted) * grid.spacing_mm))) if k >= 0 else np.inf
        if (
            off <= max(PLACE_TOLERANCE_MM, 0.011 * float(grid.spacing_mm[2]))
            and (columns, rows) == grid.size_voxels[:2]
        ):
            by_slice.setdefault(k, []).append(plane)
    valued = True
    for k in range(grid.size_voxels[2]):
        found = by_slice.get(k, [])
        if not found:
            return f"not judged: {unread} file(s) unread" if unread else f"wrong: no frame lies at slice {k}"
        known = [p.values for p in found if p.values is not None]
        if len(known) < len(found):
            valued = False
        elif not any(np.allclose(values[k], v, rtol=1e-5, atol=1e-2, equal_nan=False) for v in known):
            worst = min(float(np.max(np.abs(values[k] - v))) for v in known)
            return f"wrong: values of slice {k} differ by {worst:g}"
    return "same" if valued else "same place"


def _all_files(root: Path) -> Iterator[bytes]:
    """Bytes of all regular files, and of the members of archives among them."""
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            if data[:2] != b"PK":
                yield data
                continue
            try:
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    for member in archive.infolist():
                        with archive.open(member) as file:
                            yield file.read(10 << 20)
            except Exception:  # noqa: BLE001  # a damaged archive: what can be read of it was
                yield b"DICM" * 40  # counts as unread


def _planes(data: bytes, series_uid: str, seeds: SeedSet) -> list[Plane]:
    if data[128:132] != b"DICM":
        if len(data) > 200:  # the loader reads data sets without a preamble; here they are not judged
            raise ValueError("no DICM")
        return []
    dataset = pydicom.dcmread(io.BytesIO(data))
    _ends_with_pixels(dataset, data)
    _standard(dataset)
    if "Rows" not in dataset or str(dataset.get("SeriesInstanceUID", "") or "").strip("\0 ") != series_uid:
        if "DirectoryRecordSequence" in dataset:
            return []
        raise ValueError("not of this series, as pydicom reads it")
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    frames: list[Dataset | None] = list(groups) if groups else [None]
    stored = _stored(dataset, len(frames), seeds)
    return [_plane(dataset, shared, group, stored[n]) for n, group in enumerate(frames)]


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


_USED = frozenset(
    {
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"),
        *(
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "PixelRepresentation",
            "NumberOfFrames",
            "SeriesInstanceUID",
        ),
    }
)


def _standard(dataset: Dataset) -> None:
    """A value under a VR that is not its own can be read in two ways: nothing to judge."""
    for tag in dataset.keys():  # noqa: SIM118  # a Dataset iterates over elements and would convert them
        keyword = keyword_for_tag(tag)
        vr = dataset.get_item(tag).VR
        if keyword in _USED and vr not in (None, dictionary_VR(tag)):
            raise ValueError(f"{keyword} as {vr}")
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(name) or ():
            for element in group:
                if element.VR == "SQ" and element.value:
                    _standard(element.value[0])


def _ends_with_pixels(dataset: Dataset, data: bytes) -> None:
    """Pixels somewhere in the file, or twice: which of them are meant is nobody's to say."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    element = dataset.get_item(0x7FE00010) if 0x7FE00010 in dataset else None
    if element is None or syntax not in NATIVE:
        return
    place = getattr(element, "value_tell", None)
    if syntax == NATIVE[2] or place is None:  # places count in the inflated stream
        return
    if place + len(element.value or b"") != len(data):
        raise ValueError("pixels do not end the file")


def _plane(dataset: Dataset, shared: Dataset | None, group: Dataset | None, stored: Array | None) -> Plane:
    def macro(name: str) -> Dataset:
        if group is None:
            return dataset
        return _first(group, name) or _first(shared, name) or Dataset()

    position = np.array([float(v) for v in macro("PlanePositionSequence").ImagePositionPatient])
    cosines = np.array([float(v) for v in macro("PlaneOrientationSequence").ImageOrientationPatient])
    between_rows, between_columns = (float(v) for v in macro("PixelMeasuresSequence").PixelSpacing)
    columns, rows = int(dataset.Columns), int(dataset.Rows)
    corners = np.stack(
        [
            position,
            position + cosines[:3] * between_columns * (columns - 1),
            position + cosines[3:] * between_rows * (rows - 1),
        ]
    )
    if position.shape != (3,) or cosines.shape != (6,):
        raise ValueError("not three and six numbers")
    values = None
    if stored is not None:
        rescale = macro("PixelValueTransformationSequence")
        slope, intercept = rescale.get("RescaleSlope"), rescale.get("RescaleIntercept")
        values = stored * (1.0 if slope is None else float(slope)) + (0.0 if intercept is None else float(intercept))
    return Plane(corners=corners, size=(columns, rows), values=values)


def _stored(dataset: Dataset, count: int, seeds: SeedSet) -> list[Array | None]:
    """Stored pixels of each frame: native ones by arithmetic, compressed ones where the stream is an unchanged one."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    data: Any = dataset.get("PixelData")
    if syntax not in NATIVE:
        offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
        extended = offsets if all(offsets) else None
        streams = list(generate_frames(data, number_of_frames=count, extended_offsets=extended))
        known = [seeds.planes.get(stream_hash(stream)) for stream in streams]
        bits = (int(dataset.BitsStored), int(dataset.PixelRepresentation), int(dataset.get("HighBit", 15)))
        if bits != (16, 0, 15):
            return [None] * count
        found = [None if plane is None else plane.astype(np.float64) for plane in known]
        return found + [None] * (count - len(found))
    allocated, bits_stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not isinstance(data, bytes):
        return [None] * count
    order = ">" if syntax == NATIVE[3] else "<"
    size = rows * columns * allocated // 8
    frames: list[Array | None] = []
    for n in range(count):
        words = np.frombuffer(data[n * size : (n + 1) * size], f"{order}u{allocated // 8}").astype(np.int64)
        if words.size != rows * columns:
            raise ValueError("pixels end early")
        words &= (1 << bits_stored) - 1
        if int(dataset.PixelRepresentation) == 1:
            words = np.where(words >= 1 << (bits_stored - 1), words - (1 << bits_stored), words)
        frames.append(words.reshape(rows, columns).astype(np.float64))
    return frames
