"""The header of one DICOM file, read without its pixels and without the patient's name.

Values are parsed here from the stored bytes: a malformed value becomes a fault with the file's name and
the tag, never an exception or a warning of the DICOM library.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import pydicom
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.multival import MultiValue

from iort_planner.imaging.geometry_checks import Problem, SlicePlane
from iort_planner.imaging.pixels import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    PixelLayout,
    Rescale,
    StoredSlice,
    uid_name,
)
from iort_planner.imaging.timestamps import iso_combined, iso_date, iso_datetime

# (group, element) and the name of the tags that are read; nothing else is decoded.
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IMAGE_TYPE, _MODALITY, _SERIES_TEXT = 0x00080008, 0x00080060, 0x0008103E
_STUDY_DATE, _SERIES_DATE, _ACQUISITION_DATE, _CONTENT_DATE = 0x00080020, 0x00080021, 0x00080022, 0x00080023
_SERIES_TIME, _ACQUISITION_TIME, _CONTENT_TIME = 0x00080031, 0x00080032, 0x00080033
_ACQUISITION_DATETIME, _OFFSET_FROM_UTC = 0x0008002A, 0x00080201
_PATIENT_ID, _BIRTH_DATE, _SEX, _PATIENT_POSITION = 0x00100020, 0x00100030, 0x00100040, 0x00185100
_STUDY_UID, _SERIES_UID, _FRAME_UID = 0x0020000D, 0x0020000E, 0x00200052
_POSITION, _ORIENTATION, _PIXEL_SPACING = 0x00200032, 0x00200037, 0x00280030
_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _SIGN, _PADDING = 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120
_INTERCEPT, _SLOPE, _RESCALE_TYPE, _MODALITY_LUT = 0x00281052, 0x00281053, 0x00281054, 0x00283000
_TAGS: list[int] = [value for name, value in sorted(globals().items()) if name.startswith("_") and type(value) is int]
_NAMES = {
    _POSITION: "Image Position (Patient) (0020,0032)",
    _ORIENTATION: "Image Orientation (Patient) (0020,0037)",
    _PIXEL_SPACING: "Pixel Spacing (0028,0030)",
    _ROWS: "Rows (0028,0010)",
    _COLUMNS: "Columns (0028,0011)",
    _SLOPE: "Rescale Slope (0028,1053)",
    _INTERCEPT: "Rescale Intercept (0028,1052)",
    _ALLOCATED: "Bits Allocated (0028,0100)",
    _STORED: "Bits Stored (0028,0101)",
}
_PIXEL_TAG = (0x7FE0, 0x0010)
_UNDEFINED_LENGTH = 0xFFFFFFFF


class NotAnImageError(Exception):
    """The file is not a DICOM image; its text says what it is. Stays inside the package."""

    def __init__(self, what: str, *, damaged: bool = False) -> None:
        super().__init__(what)
        self.damaged = damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """What one image file says of itself; ``faults`` lists what a volume needs and is missing or malformed."""

    path: Path
    name: str
    sop_class_uid: str
    sop_instance_uid: str
    modality: str
    image_type: tuple[str, ...]
    series_uid: str
    study_uid: str
    description: str
    patient_id: str
    birth_date: str
    sex: str
    patient_position: str
    acquired_at: str | None
    frame_of_reference_uid: str
    layout: PixelLayout
    plane: SlicePlane | None
    rescale: Rescale
    padding: int | None
    faults: tuple[Problem, ...]

    @property
    def stored(self) -> StoredSlice:
        """What decoding the pixels needs."""
        return StoredSlice(
            path=self.path, name=self.name, layout=self.layout, rescale=self.rescale, padding=self.padding
        )


def printable(text: str) -> str:
    """Text from a file or a file's name for messages of one line: control characters become ``?``."""
    text = text.strip()
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from writing warnings about odd values; they are judged here instead."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = mode


def read_header(path: Path, name: str) -> SliceHeader:
    """Read one file's header; call inside `quiet_pydicom`.

    Raises
    ------
    NotAnImageError
        If the file is not DICOM, not readable as DICOM, or DICOM without an image.
    OSError
        If it cannot be opened.
    """
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            raise NotAnImageError("not a DICOM file")
        file.seek(0)
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            return _header(path, name, dataset, file)
        except (NotAnImageError, OSError):
            raise
        except Exception as error:  # pydicom raises many kinds on damaged files; none may escape
            raise NotAnImageError(f"damaged DICOM file, {type(error).__name__}", damaged=True) from error


def _header(path: Path, name: str, dataset: FileDataset, file: BinaryIO) -> SliceHeader:
    tags = _Tags(dataset, name)
    meta = dataset.file_meta
    syntax = printable(str(meta.get("TransferSyntaxUID", "")))
    # Some exports leave the SOP class empty in the data set and fill it only in the file's meta header.
    sop_class = tags.text(_SOP_CLASS) or printable(str(meta.get("MediaStorageSOPClassUID", "")))
    rows, columns = tags.whole(_ROWS), tags.whole(_COLUMNS)
    if rows is None and columns is None:
        kind = uid_name(sop_class)
        if not kind or "Image Storage" in kind:  # cut off in its header, as a rule
            raise NotAnImageError(f"{kind or 'DICOM file'} without an image", damaged=True)
        raise NotAnImageError(kind)
    allocated, stored = tags.whole(_ALLOCATED) or 0, tags.whole(_STORED) or 0
    high_bit = tags.whole(_HIGH_BIT)
    signed = tags.whole(_SIGN) == 1
    offset, length = _pixel_location(file, syntax)
    layout = PixelLayout(
        transfer_syntax_uid=syntax,
        rows=rows or 0,
        columns=columns or 0,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=signed,
        photometric=tags.text(_PHOTOMETRIC),
        samples_per_pixel=tags.whole(_SAMPLES) or 1,
        frames=_frames(tags.text(_FRAMES)),
        offset=offset,
    )
    for tag, value in ((_ROWS, rows), (_COLUMNS, columns), (_ALLOCATED, allocated), (_STORED, stored)):
        if not value:
            tags.fault("missing-tag", f"{_NAMES[tag]} is missing or 0")
    if length is not None and layout.byte_count > length:
        tags.fault("pixel-data-short", f"{length} bytes of pixels where {layout.byte_count} are needed")
    frame_uid = tags.text(_FRAME_UID)
    return SliceHeader(
        path=path,
        name=name,
        sop_class_uid=sop_class,
        sop_instance_uid=tags.text(_SOP_INSTANCE),
        modality=tags.text(_MODALITY),
        image_type=tuple(part.strip() for part in tags.text(_IMAGE_TYPE).split("\\")),
        series_uid=tags.text(_SERIES_UID),
        study_uid=tags.text(_STUDY_UID),
        description=tags.text(_SERIES_TEXT),
        patient_id=tags.text(_PATIENT_ID),
        birth_date=iso_date(tags.text(_BIRTH_DATE)) or "",
        sex=tags.text(_SEX),
        patient_position=tags.text(_PATIENT_POSITION),
        acquired_at=_acquired_at(tags),
        frame_of_reference_uid=frame_uid,
        layout=layout,
        plane=_plane(tags, rows or 0, columns or 0, frame_uid),
        rescale=_rescale(tags),
        padding=tags.whole(_PADDING, signed=signed),
        faults=tuple(tags.faults),
    )


class _Tags:
    """Access to stored bytes of one data set; collects faults."""

    def __init__(self, dataset: FileDataset, name: str) -> None:
        self._dataset = dataset
        self.name = name
        self._byteorder: Literal["little", "big"] = "big" if dataset.original_encoding[1] is False else "little"
        self.faults: list[Problem] = []

    def fault(self, problem_id: str, what: str) -> None:
        self.faults.append(
            Problem(id=problem_id, status="fail", message=f"{self.name}: {what}; export the series again")
        )

    def has(self, tag: int) -> bool:
        return tag in self._dataset

    def _bytes(self, tag: int) -> bytes:
        if tag not in self._dataset:
            return b""
        value = self._dataset.get_item(tag).value
        return value if isinstance(value, bytes) else str(value or "").encode()

    def text(self, tag: int) -> str:
        raw = self._bytes(tag)
        if not raw.isascii() or b"\x1b" in raw:
            value = self._dataset[tag].value  # pydicom knows the character sets
            return printable("\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value))
        return printable(raw.decode("ascii").strip("\0"))

    def whole(self, tag: int, *, signed: bool = False) -> int | None:
        """A US or SS value."""
        raw = self._bytes(tag)
        if len(raw) < 2:
            return None
        return int.from_bytes(raw[:2], self._byteorder, signed=signed)

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """A DS value of ``count`` finite numbers; a fault and None otherwise."""
        text = self.text(tag)
        if not text:
            self.fault("missing-tag", f"{_NAMES[tag]} is missing")
            return None
        try:
            values = tuple(float(part) for part in text.replace("_", "?").split("\\"))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            self.fault("malformed-tag", f"{_NAMES[tag]} is {text[:60]!r}, not {count} finite numbers")
            return None
        return values


def _plane(tags: _Tags, rows: int, columns: int, frame_uid: str) -> SlicePlane | None:
    position, orientation = tags.numbers(_POSITION, 3), tags.numbers(_ORIENTATION, 6)
    spacing = tags.numbers(_PIXEL_SPACING, 2)
    if spacing is not None and min(spacing) <= 0:
        tags.fault("malformed-tag", f"{_NAMES[_PIXEL_SPACING]} is {spacing[0]:g}, {spacing[1]:g} mm, not above 0")
        spacing = None
    if position is None or orientation is None or spacing is None:
        return None
    between_rows, between_columns = spacing  # DICOM PS3.3 10.7.1.3: row spacing comes first
    return SlicePlane(
        name=tags.name,
        rows=rows,
        columns=columns,
        spacing_ij_mm=(between_columns, between_rows),
        row_lps=(orientation[0], orientation[1], orientation[2]),
        column_lps=(orientation[3], orientation[4], orientation[5]),
        position_lps_mm=(position[0], position[1], position[2]),
        frame_of_reference_uid=frame_uid,
    )


def _rescale(tags: _Tags) -> Rescale:
    if tags.has(_MODALITY_LUT):
        tags.fault("not-supported", "a Modality LUT Sequence instead of a linear rescale is not supported")
        return Rescale()
    if not (tags.has(_SLOPE) or tags.has(_INTERCEPT)):
        return Rescale(type=tags.text(_RESCALE_TYPE))
    slope, intercept = tags.numbers(_SLOPE, 1), tags.numbers(_INTERCEPT, 1)
    if slope is None or intercept is None:
        return Rescale()
    if slope[0] == 0:
        tags.fault("malformed-tag", f"{_NAMES[_SLOPE]} is 0: every pixel would be the same")
    return Rescale(slope=slope[0], intercept=intercept[0], type=tags.text(_RESCALE_TYPE), stated=True)


def _frames(text: str) -> int:
    return int(text) if text.isdecimal() else 1


def _pixel_location(file: BinaryIO, syntax: str) -> tuple[int | None, int | None]:
    """Where the pixels start and how many bytes there are, for files whose pixels can be read in place.

    pydicom has just stopped in front of the pixel data element, so the element's head comes next.
    """
    if syntax == DEFLATED_LITTLE:
        return None, None
    start = file.tell()
    order: Literal["little", "big"] = "big" if syntax == EXPLICIT_BIG else "little"
    head = file.read(12)
    if len(head) < 8:
        return None, 0
    tag = (int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order))
    skip = 4 if syntax == IMPLICIT_LITTLE else 8
    length = int.from_bytes(head[skip : skip + 4], order)
    if tag != _PIXEL_TAG or length == _UNDEFINED_LENGTH:
        return None, None
    offset = start + skip + 4
    return offset, min(length, max(0, os.fstat(file.fileno()).st_size - offset))


def _acquired_at(tags: _Tags) -> str | None:
    """Acquisition, else series, else content date and time as ISO 8601; the date alone where no time is given."""
    zone = tags.text(_OFFSET_FROM_UTC)
    found = iso_combined(tags.text(_ACQUISITION_DATETIME), zone)
    if found:
        return found
    pairs = (
        (_ACQUISITION_DATE, _ACQUISITION_TIME),
        (_SERIES_DATE, _SERIES_TIME),
        (_CONTENT_DATE, _CONTENT_TIME),
    )
    for date_tag, time_tag in pairs:
        found = iso_datetime(tags.text(date_tag), tags.text(time_tag), zone)
        if found:
            return found
    return None
