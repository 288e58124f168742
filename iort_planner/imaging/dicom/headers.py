"""The header of one DICOM file: what it says of itself and of each of its frames, without pixels or the patient's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from pydicom.filereader import read_dataset

from iort_planner.imaging.dicom.frames import Frame, read_frames
from iort_planner.imaging.dicom.pixels import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NATIVE_SYNTAXES,
    PIXEL_DATA,
    PixelLayout,
    uid_name,
)
from iort_planner.imaging.dicom.sop_classes import STRUCTURE_KINDS
from iort_planner.imaging.dicom.sources import (
    MAX_EXPANSION,
    SMALL_BYTES,
    BoundedReader,
    Budget,
    CutOffError,
    InflatingReader,
)
from iort_planner.imaging.dicom.tags import TAG_NAMES, Tags
from iort_planner.imaging.dicom.timestamps import iso_combined, iso_date, iso_datetime

if TYPE_CHECKING:
    from iort_planner.imaging.dicom.sources import Source
    from iort_planner.imaging.geometry_checks import Problem

# (group, element) of the tags that are read; nothing else is decoded.
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IMAGE_TYPE, _MODALITY, _SERIES_TEXT = 0x00080008, 0x00080060, 0x0008103E
_SERIES_DATE, _ACQUISITION_DATE, _CONTENT_DATE = 0x00080021, 0x00080022, 0x00080023
_SERIES_TIME, _ACQUISITION_TIME, _CONTENT_TIME = 0x00080031, 0x00080032, 0x00080033
_ACQUISITION_DATETIME, _OFFSET_FROM_UTC = 0x0008002A, 0x00080201
_PATIENT_ID, _BIRTH_DATE, _SEX, _PATIENT_POSITION = 0x00100020, 0x00100030, 0x00100040, 0x00185100
_STUDY_UID, _SERIES_UID, _FRAME_UID, _ACQUISITION_NUMBER = 0x0020000D, 0x0020000E, 0x00200052, 0x00200012
_POSITION, _ORIENTATION, _PIXEL_SPACING = 0x00200032, 0x00200037, 0x00280030
_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _SIGN, _PADDING = 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120
_INTERCEPT, _SLOPE, _RESCALE_TYPE, _MODALITY_LUT = 0x00281052, 0x00281053, 0x00281054, 0x00283000
_LOSSY = 0x00282110
_KERNEL, _KVP = 0x00181210, 0x00180060
_ORIENTATION_CODE, _ORIENTATION_MODIFIER, _GANTRY_CODE, _CODE_VALUE = 0x00540410, 0x00540412, 0x00540414, 0x00080100
_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_TAGS: list[int] = [value for name, value in sorted(globals().items()) if name.startswith("_") and type(value) is int]
_PIXELS_OF_ANY_KIND = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})
_UNDEFINED_LENGTH = 0xFFFFFFFF
_FRAME_DIGITS = 9  # our own choice: no volume has a billion frames
_TRANSFER_SYNTAX, _MEDIA_SOP_CLASS = 0x00020010, 0x00020002

# DICOM PS3.16 CID 20 (Patient Orientation Modifier) and CID 21 (Patient Gantry Relationship), SNOMED CT and the older SRT
# codes, as the letters of Patient Position: multi-frame objects may give these in its place.
_LYING = {
    "40199007": "S",
    "F-10340": "S",
    "1240000": "P",
    "F-10310": "P",
    "102535000": "DR",
    "F-10317": "DR",
    "102536004": "DL",
    "F-10319": "DL",
}
_ENTERING = {"102540001": "HF", "F-10470": "HF", "102541007": "FF", "102541002": "FF", "F-10480": "FF"}


class NotAnImageError(Exception):
    """The file is not a DICOM image; its text says what it is. Stays inside the package."""

    def __init__(self, what: str, *, damaged: bool = False, structures: bool = False) -> None:
        super().__init__(what)
        self.damaged = damaged
        self.structures = structures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileHeader:
    """What one image file says of itself; ``faults`` lists what a volume needs and is missing or malformed.

    ``technique`` is the acquisition's date, the reconstruction's kernel and the tube voltage, as they are written.
    """

    source: Source
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
    lossy: str
    syntax_assumed: bool
    technique: tuple[str, str, str]
    frames: tuple[Frame, ...]
    faults: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """An opened DICOM file: the elements before its pixels, and the stream stopped right there.

    ``implicit`` is what the data set is, whatever its syntax says: the DICOM library reads it as it is.
    ``start`` is where the data set begins in the file; where it is deflated, the stream inflates it from there.
    """

    tags: Tags
    media_sop_class: str
    syntax: str
    syntax_assumed: bool
    implicit: bool
    start: int
    stream: BinaryIO | InflatingReader


def read_header(source: Source) -> FileHeader:
    """Read one file's header; call inside `tags.quiet_pydicom`.

    Raises
    ------
    NotAnImageError
        If the file is not DICOM, not readable as DICOM, or DICOM without an image.
    OSError
        If it cannot be opened.
    """
    try:
        with source.open() as file:
            return _read(source, file)
    except (NotAnImageError, OSError):
        raise
    except CutOffError as error:
        raise NotAnImageError("DICOM file that is cut off", damaged=True) from error
    except Exception as error:  # pydicom and zipfile raise many kinds on damaged files; none may escape
        raise NotAnImageError(f"damaged DICOM file, {type(error).__name__}", damaged=True) from error


def read_data_set(file: BinaryIO, name: str, tags: list[int], budget: Budget) -> DataSet:
    """The asked-for elements of an open file, up to its pixels; call inside `tags.quiet_pydicom`.

    Raises
    ------
    NotAnImageError
        If it is not DICOM.
    HeaderTooLargeError
        If it asks for more work than any image needs. Damaged files raise many other kinds.
    """
    head = file.read(132)
    if head[:4] == b"PK\x03\x04":
        raise NotAnImageError("zip archive, which is not opened inside another folder or archive")
    has_preamble = head[128:] == b"DICM"
    # Without the preamble, a data set starts with group 2 or 8 in little endian; anything else is no DICOM.
    if not has_preamble and not (head[:1] in (b"\x02", b"\x08") and head[1:2] == b"\0" and head[3:4] == b"\0"):
        raise NotAnImageError("not a DICOM file")
    file.seek(132 if has_preamble else 0)
    meta = read_dataset(
        cast("BinaryIO", BoundedReader(file, budget)),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != 2,
    )
    about = Tags(meta, name, little_endian=True, budget=budget)
    syntax = about.uid(_TRANSFER_SYNTAX)
    start, assumed = file.tell(), not syntax
    if assumed:
        first = file.read(6)
        syntax = EXPLICIT_LITTLE if first[4:].isalpha() and first[4:].isupper() else IMPLICIT_LITTLE
        file.seek(start)
    stream: BinaryIO | InflatingReader = file
    if syntax == DEFLATED_LITTLE:
        stream = InflatingReader(file, keep=True)
    little = syntax != EXPLICIT_BIG
    dataset = read_dataset(
        cast("BinaryIO", BoundedReader(cast("BinaryIO", stream), budget)),
        is_implicit_VR=syntax == IMPLICIT_LITTLE,
        is_little_endian=little,
        stop_when=lambda tag, _vr, _length: tag in _PIXELS_OF_ANY_KIND,
        specific_tags=list(tags),
    )
    return DataSet(
        tags=Tags(dataset, name, little_endian=little, budget=budget),
        media_sop_class=about.uid(_MEDIA_SOP_CLASS),
        syntax=syntax,
        syntax_assumed=assumed,
        implicit=dataset.original_encoding[0] is True,
        start=start,
        stream=stream,
    )


def _read(source: Source, file: BinaryIO) -> FileHeader:
    data_set = read_data_set(file, source.name, _TAGS, Budget.for_image(source.size))
    tags = data_set.tags
    # Some exports leave the SOP class empty in the data set and fill it only in the file's meta header.
    sop_class = tags.uid(_SOP_CLASS) or data_set.media_sop_class
    if sop_class in STRUCTURE_KINDS:
        raise NotAnImageError(uid_name(sop_class), structures=True)
    rows, columns = tags.whole(_ROWS), tags.whole(_COLUMNS)
    if rows is None and columns is None:
        kind = uid_name(sop_class)
        if not kind or "Image Storage" in kind:  # cut off in its header, as a rule
            raise NotAnImageError(f"{kind or 'DICOM file'} without an image", damaged=True)
        raise NotAnImageError(kind)
    for tag in (_ROWS, _COLUMNS, _ALLOCATED, _STORED):
        if not tags.whole(tag):
            tags.fault("missing-tag", f"{TAG_NAMES[tag]} is missing or 0")
    if tags.whole(_SIGN) not in (0, 1):
        tags.fault("missing-tag", f"{TAG_NAMES[_SIGN]} is not 0 or 1: whether values have a sign is not said")
    layout = _layout(tags, data_set)
    _check_size(tags, layout, source)
    frame_uid = tags.uid(_FRAME_UID)
    image_type = tags.codes(_IMAGE_TYPE)
    frames = read_frames(
        tags,
        rows=layout.rows,
        columns=layout.columns,
        count=layout.frames,
        frame_uid=frame_uid,
        image_type=image_type,
        padding=tags.whole(_PADDING, signed=layout.signed),
    )
    return FileHeader(
        source=source,
        name=source.name,
        sop_class_uid=sop_class,
        sop_instance_uid=tags.uid(_SOP_INSTANCE),
        modality=tags.code(_MODALITY),
        image_type=image_type,
        series_uid=tags.uid(_SERIES_UID),
        study_uid=tags.uid(_STUDY_UID),
        description=tags.text(_SERIES_TEXT),
        patient_id=tags.text(_PATIENT_ID),
        birth_date=iso_date(tags.digits(_BIRTH_DATE)) or "",
        sex=tags.code(_SEX),
        patient_position=tags.code(_PATIENT_POSITION) or _coded_position(tags),
        acquired_at=_acquired_at(tags),
        frame_of_reference_uid=frame_uid,
        layout=layout,
        lossy=tags.code(_LOSSY),
        syntax_assumed=data_set.syntax_assumed,
        technique=(
            (tags.digits(_ACQUISITION_DATE) or tags.digits(_ACQUISITION_DATETIME))[:8],
            tags.text(_KERNEL),
            tags.digits(_KVP),
        ),
        frames=frames,
        faults=tuple(tags.faults),
    )


def _layout(tags: Tags, data_set: DataSet) -> PixelLayout:
    """How the pixels are stored. The stream has just stopped in front of the pixel data element's head."""
    offset, length = _pixel_location(tags, data_set)
    frames = tags.digits(_FRAMES)
    valid = frames.isdecimal() and len(frames) <= _FRAME_DIGITS and int(frames) > 0
    if frames and not valid:
        tags.fault(
            "malformed-tag",
            f"{TAG_NAMES[_FRAMES]} is {frames[:20]!r}, not a number above 0 of at most {_FRAME_DIGITS} digits",
        )
    stored, high_bit = tags.whole(_STORED) or 0, tags.whole(_HIGH_BIT)
    return PixelLayout(
        transfer_syntax_uid=data_set.syntax,
        rows=tags.whole(_ROWS) or 0,
        columns=tags.whole(_COLUMNS) or 0,
        bits_allocated=tags.whole(_ALLOCATED) or 0,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=tags.whole(_SIGN) == 1,
        photometric=tags.code(_PHOTOMETRIC),
        samples_per_pixel=tags.whole(_SAMPLES) or 1,
        frames=int(frames) if valid else 1,
        data_set_start=data_set.start,
        offset=offset,
        length=length,
        extended_offsets=(tags.binary(_EXTENDED_OFFSETS) or b"", tags.binary(_EXTENDED_LENGTHS) or b""),
    )


def _pixel_location(tags: Tags, data_set: DataSet) -> tuple[int | None, int | None]:
    """Where the pixels start in the (inflated) stream and how many bytes there are; no length where encapsulated."""
    order: Literal["little", "big"] = "big" if data_set.syntax == EXPLICIT_BIG else "little"
    stream, implicit = data_set.stream, data_set.implicit
    head = stream.read(12)
    if len(head) < 8:
        return None, 0
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag != PIXEL_DATA:
        return None, 0
    if not implicit and head[4:6] not in (b"OB", b"OW", b"UN"):
        tags.fault("malformed-tag", "Pixel Data (7FE0,0010) has a head that makes no sense")
        return None, 0
    length = int.from_bytes(head[4:8] if implicit else head[8:12], order)
    offset = stream.tell() - len(head) + (8 if implicit else 12)
    return offset, None if length == _UNDEFINED_LENGTH else length


def _check_size(tags: Tags, layout: PixelLayout, source: Source) -> None:
    """What the header asks for against what the file can hold; nothing is allocated before."""
    needed = layout.byte_count * layout.frames
    shape = f"{layout.columns} x {layout.rows} pixels x {layout.frames} frame(s) of {layout.bits_allocated} bits"
    if layout.offset is None:
        tags.fault("pixel-data-short", f"no pixel data where {needed} bytes are needed")
    elif layout.transfer_syntax_uid in NATIVE_SYNTAXES and layout.length is None:
        tags.fault(
            "malformed-tag", "Pixel Data (7FE0,0010) is encapsulated although the transfer syntax says it is not"
        )
    elif layout.length is not None and layout.transfer_syntax_uid not in NATIVE_SYNTAXES:
        tags.fault("malformed-tag", "Pixel Data (7FE0,0010) is not encapsulated although the transfer syntax says so")
    elif layout.transfer_syntax_uid in NATIVE_SYNTAXES:
        there = layout.length or 0
        if layout.transfer_syntax_uid != DEFLATED_LITTLE:  # of that, the end shows only when it is inflated
            there = min(there, max(0, source.size - layout.offset))
        if needed > there:
            tags.fault("pixel-data-short", f"{there} bytes of pixels where {needed} are needed")
        elif (layout.length or 0) > needed + needed % 2:
            text = f"{layout.length} bytes of pixels where {needed} are needed: nothing says which they are"
            tags.fault("pixel-data-long", text)
    if needed > max(SMALL_BYTES, MAX_EXPANSION * source.packed_size):
        text = f"{shape} are {needed} bytes, more than {MAX_EXPANSION} times the file's {source.packed_size} bytes"
        tags.fault("absurd-size", text)


def _coded_position(tags: Tags) -> str:
    """Patient Position from the code sequences that multi-frame objects have in its place; empty if not clear."""

    def code(items: list[Tags]) -> str:
        return items[0].code(_CODE_VALUE) if len(items) == 1 else ""

    orientation = tags.items(_ORIENTATION_CODE)
    lying = code(orientation[0].items(_ORIENTATION_MODIFIER)) if len(orientation) == 1 else ""
    entering = code(tags.items(_GANTRY_CODE))
    if lying not in _LYING or entering not in _ENTERING:
        return ""
    return _ENTERING[entering] + _LYING[lying]


def _acquired_at(tags: Tags) -> str | None:
    """Acquisition, else series, else content date and time as ISO 8601; the date alone where no time is given."""
    zone = tags.digits(_OFFSET_FROM_UTC)
    found = iso_combined(tags.digits(_ACQUISITION_DATETIME), zone)
    if found:
        return found
    pairs = (
        (_ACQUISITION_DATE, _ACQUISITION_TIME),
        (_SERIES_DATE, _SERIES_TIME),
        (_CONTENT_DATE, _CONTENT_TIME),
    )
    for date_tag, time_tag in pairs:
        found = iso_datetime(tags.digits(date_tag), tags.digits(time_tag), zone)
        if found:
            return found
    return None
