"""Multi-frame DICOM objects and stored forms with known geometry: written with pydicom, formulas of their own.

The geometry and its oracle are `tests.imaging.dicom_factory.Scan`. Slice Thickness, Spacing Between Slices and the
dimension indices are wrong on purpose: nobody may read geometry from them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.imaging.dicom_factory import ROOT, Scan, ds, slice_dataset

Place: TypeAlias = Literal["shared", "frame", "both", "absent"]
Kind: TypeAlias = Literal["ct-enhanced", "ct-legacy", "xa3d", "xa-enhanced"]

SOP_CLASSES: dict[Kind, tuple[str, str]] = {
    "ct-enhanced": ("1.2.840.10008.5.1.4.1.1.2.1", "CT"),
    "ct-legacy": ("1.2.840.10008.5.1.4.1.1.2.2", "CT"),
    "xa3d": ("1.2.840.10008.5.1.4.1.1.13.1.1", "XA"),
    "xa-enhanced": ("1.2.840.10008.5.1.4.1.1.12.1.1", "XA"),
}
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
ENCAPSULATED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)

# DICOM PS3.16 CID 19 (recumbent), CID 20 (modifiers) and CID 21 (gantry): SNOMED CT codes, and the old SRT ones.
_RECUMBENT = {"SCT": "102538003", "SRT": "F-10450"}
_MODIFIERS = {
    "S": ({"SCT": "40199007", "SRT": "F-10340"}, "supine"),
    "P": ({"SCT": "1240000", "SRT": "F-10310"}, "prone"),
    "DR": ({"SCT": "102535000", "SRT": "F-10317"}, "right lateral decubitus"),
    "DL": ({"SCT": "102536004", "SRT": "F-10319"}, "left lateral decubitus"),
}
_GANTRY = {
    "HF": ({"SCT": "102540001", "SRT": "F-10470"}, "headfirst"),
    "FF": ({"SCT": "102541002", "SRT": "F-10480"}, "feet-first"),
}

_CT_GROUPS = {"ct-enhanced", "ct-legacy"}


@dataclass(frozen=True, kw_only=True)
class Frames:
    """How one multi-frame object is written; slices are those of the `Scan`."""

    kind: Kind = "ct-enhanced"
    order: Sequence[int] | None = None  # frame n holds slice order[n]; None: as they lie
    phases: int = 1  # each position this often, as a perfusion scan has it
    position: Literal["frame", "absent"] = "frame"
    orientation: Place = "shared"
    measures: Place = "shared"
    transformation: Place = "shared"
    rescale: Callable[[int], tuple[float, float]] | None = None  # of slice k, where it stands in each frame
    rescale_type: str = "HU"
    patient_position: Literal["tag", "code", "code-srt", "absent"] = "tag"
    position_name: str = "HFS"
    nested: int = 0  # private sequences inside one another, in the first frame
    stacks: int = 1  # Stack ID changes this often along the frames
    defined_lengths: bool = True  # of sequences and items
    bits: int = 16
    signed: bool = False


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def code_position(data: Dataset, name: str, scheme: str = "SCT") -> None:
    """Patient position as code sequences (DICOM PS3.3 C.8.11.5): prone, supine, decubitus; head or feet first."""
    (modifier, meaning), (gantry, relation) = _MODIFIERS[name[2:]], _GANTRY[name[:2]]
    lying = code(_RECUMBENT[scheme], "recumbent", scheme)
    lying.PatientOrientationModifierCodeSequence = [code(modifier[scheme], meaning, scheme)]
    data.PatientOrientationCodeSequence = [lying]
    data.PatientGantryRelationshipCodeSequence = [code(gantry[scheme], relation, scheme)]


def multiframe_dataset(scan: Scan, how: Frames | None = None, slices: Sequence[int] | None = None) -> FileDataset:
    """One multi-frame object of ``scan`` (of ``slices`` of it), not compressed, little endian."""
    how = how or Frames()
    chosen = list(slices if slices is not None else (how.order or range(scan.size[2])))
    frames = [k for _ in range(how.phases) for k in chosen]
    data = slice_dataset(scan, 0)
    sop_class, modality = SOP_CLASSES[how.kind]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"{scan.series_uid}.{700 + frames[0]}")
    data.Modality = modality
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
        "SliceLocation",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
        "PatientPosition",
        "AcquisitionDate",
        "AcquisitionTime",
    ):
        delattr(data, keyword)
    data.AcquisitionDateTime = "20260102030405"
    data.NumberOfFrames = str(len(frames))
    if how.patient_position == "tag":
        data.PatientPosition = how.position_name
    elif how.patient_position != "absent":
        code_position(data, how.position_name, "SRT" if how.patient_position == "code-srt" else "SCT")
    organization = f"{ROOT}.8"
    data.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    data.DimensionIndexSequence = [
        item(DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111)
    ]
    shared = _groups(scan, how, frames[0], "shared")
    data.SharedFunctionalGroupsSequence = [shared]
    per_frame = []
    for n, k in enumerate(frames):
        group = _groups(scan, how, k, "frame")
        group.FrameContentSequence = [
            item(
                StackID=str(1 + n * how.stacks // len(frames)),
                InStackPositionNumber=1 + (n * 7) % len(frames),  # rubbish: order comes from positions
                DimensionIndexValues=[1 + (n * 7) % len(frames)],
                FrameAcquisitionDateTime=f"202601020304{5 + n % 50:02d}",
            )
        ]
        if how.position == "frame":
            group.PlanePositionSequence = [item(ImagePositionPatient=[ds(v) for v in scan.point(0, 0, k)])]
        per_frame.append(group)
    if how.nested:
        _nest(per_frame[0], how.nested)
    data.PerFrameFunctionalGroupsSequence = per_frame
    planes = []
    for k in frames:
        slope, intercept = how.rescale(k) if how.rescale else (scan.slope, scan.intercept)
        planes.append(np.rint((scan.hu()[k] - intercept) / slope))
    stored = np.stack(planes)
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, how.bits, how.bits - 1
    data.PixelRepresentation = int(how.signed)
    data.PixelData = stored.astype("<i2" if how.signed else "<u2").tobytes()
    data["PixelData"].VR = "OW"
    if not how.defined_lengths:
        _undefine(data)
    return data


def _groups(scan: Scan, how: Frames, k: int, place: str) -> Dataset:
    """The functional groups of one place; those that stand in both agree."""
    group = Dataset()
    if how.orientation in (place, "both"):
        group.PlaneOrientationSequence = [item(ImageOrientationPatient=[ds(v) for axis in scan.axes for v in axis])]
    if how.measures in (place, "both"):
        i, j, _ = scan.spacing_mm
        group.PixelMeasuresSequence = [
            item(PixelSpacing=[ds(j), ds(i)], SliceThickness="7", SpacingBetweenSlices="-9")  # wrong on purpose
        ]
    if how.transformation in (place, "both"):
        slope, intercept = how.rescale(k) if how.rescale else (scan.slope, scan.intercept)
        group.PixelValueTransformationSequence = [
            item(RescaleSlope=ds(slope), RescaleIntercept=ds(intercept), RescaleType=how.rescale_type)
        ]
    if place == "shared":
        group.FrameAnatomySequence = [
            item(FrameLaterality="U", AnatomicRegionSequence=[code("421060004", "Vertebral column")])
        ]
        frame_type = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], VolumetricProperties="VOLUME")
        if how.kind in _CT_GROUPS:
            group.CTImageFrameTypeSequence = [frame_type]
        else:
            group.XRay3DFrameTypeSequence = [frame_type]
    return group


def _nest(group: Dataset, depth: int) -> None:
    """Private sequences inside one another: a reader has to step over them."""
    innermost: Dataset = item(
        RescaleSlope="77", ImagePositionPatient=["1", "2", "3"]
    )  # must not be taken for the frame's
    for _ in range(depth):
        outer = Dataset()
        outer.private_block(0x0099, "NESTED", create=True).add_new(0x01, "SQ", [innermost])
        innermost = outer
    group.private_block(0x0099, "NESTED", create=True).add_new(0x01, "SQ", [innermost])


def _undefine(data: Dataset) -> None:
    """Write every sequence and item of ``data`` with undefined length and delimiters."""
    for element in data:
        if element.VR == "SQ":
            element.is_undefined_length = True
            sequence: DicomSequence = element.value
            for entry in sequence:
                entry.is_undefined_length_sequence_item = True
                _undefine(entry)


def write_frames(
    path: Path,
    scan: Scan | None = None,
    how: Frames | None = None,
    *,
    slices: Sequence[int] | None = None,
    edit: Callable[[FileDataset], None] | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    fragments: int = 1,
) -> Scan:
    """Write one multi-frame file; ``edit`` changes the data set before it is compressed and written."""
    scan = scan or Scan()
    data = multiframe_dataset(scan, how, slices)
    if edit is not None:
        edit(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_as(data, path, syntax, fragments=fragments)
    return scan


def write_concatenation(folder: Path, scan: Scan, how: Frames | None = None, parts: int = 2) -> None:
    """One multi-frame image cut into files of one series (a concatenation, DICOM PS3.3 C.7.6.16.2.2)."""
    cuts = np.array_split(np.arange(scan.size[2]), parts)
    for n, slices in enumerate(cuts):

        def edit(data: FileDataset, n: int = n, first: int = int(slices[0])) -> None:
            data.SOPInstanceUIDOfConcatenationSource = f"{scan.series_uid}.600"
            data.ConcatenationUID = f"{scan.series_uid}.601"
            data.InConcatenationNumber, data.InConcatenationTotalNumber = n + 1, parts
            data.ConcatenationFrameOffsetNumber = first

        write_frames(folder / f"part{n}.dcm", scan, how, slices=[int(k) for k in slices], edit=edit)


def save_as(
    data: FileDataset,
    path: Path,
    syntax: UID,
    *,
    fragments: int = 1,
    offset_table: Literal["basic", "empty", "extended"] = "basic",
) -> None:
    """Write an uncompressed little-endian data set in another transfer syntax."""
    data.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        words = np.frombuffer(data.PixelData, "<u2")
        data.PixelData = words.astype(">u2").tobytes()
    elif syntax in ENCAPSULATED:
        frames = compress_frames(data, syntax)
        if offset_table == "extended":
            encoded, table, lengths = encapsulate_extended(frames)
            data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths = table, lengths
            data.PixelData = encoded
        else:
            data.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=offset_table == "basic")
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    data.set_original_encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)  # allows any target
    data.save_as(path, enforce_file_format=True)


def stored_frames(data: Dataset) -> npt.NDArray[Any]:
    """Stored pixels of an uncompressed little-endian data set, (frames, rows, columns)."""
    kind = "<i2" if data.PixelRepresentation else "<u2"
    return np.frombuffer(data.PixelData, kind).reshape(-1, data.Rows, data.Columns)


def compress_frames(data: Dataset, syntax: UID) -> list[bytes]:
    """Each frame's encoded stream: RLE by pydicom, the JPEG family by GDCM."""
    planes = stored_frames(data)
    if syntax == RLELossless:
        from pydicom.pixels.encoders.base import RLELosslessEncoder

        described: dict[str, Any] = {
            "rows": int(data.Rows),
            "columns": int(data.Columns),
            "samples_per_pixel": 1,
            "photometric_interpretation": "MONOCHROME2",
            "bits_allocated": 16,
            "bits_stored": int(data.BitsStored),
            "pixel_representation": int(data.PixelRepresentation),
            "number_of_frames": 1,
        }
        return [RLELosslessEncoder.encode(plane.tobytes(), encoding_plugin="pydicom", **described) for plane in planes]
    return [_by_gdcm(data, plane, syntax) for plane in planes]


def _by_gdcm(data: Dataset, plane: npt.NDArray[Any], syntax: UID) -> bytes:
    """Encode one frame in a classic file of its own: GDCM rewrites the headers of multi-frame files."""
    import gdcm

    names = {
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    alone = slice_dataset(Scan(size=(plane.shape[1], plane.shape[0], 1)), 0)
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        setattr(alone, keyword, getattr(data, keyword))
    alone.PixelData = plane.tobytes()
    with tempfile.TemporaryDirectory() as name:
        native, encoded = Path(name) / "native.dcm", Path(name) / "encoded.dcm"
        alone.save_as(native, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(native))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(names[syntax]))
        if not reader.Read():
            raise RuntimeError("GDCM cannot read what the factory wrote")
        change.SetInput(reader.GetImage())
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(encoded))
        writer.SetFile(reader.GetFile())
        if not change.Change():
            raise RuntimeError(f"GDCM cannot encode {syntax.name}")
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise RuntimeError("GDCM cannot write")
        found = pydicom.dcmread(encoded)
        return next(generate_frames(found.PixelData, number_of_frames=1))
