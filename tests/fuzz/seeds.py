"""The good cases that are mutated: small, of every kind the loader reads; built by the factories, once a run."""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.imaging.dicom_factory import OBLIQUE, PRONE, Scan, slice_dataset
from tests.imaging.multiframe_factory import (
    ENCAPSULATED,
    Frames,
    multiframe_dataset,
    save_as,
    stored_frames,
    write_concatenation,
)

FAMILIES = ("classic", "multiframe", "compressed", "container", "structure")
SIZE = (16, 16, 4)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One good case: its files, and which of them (or, if empty, the folder) is given to the loader."""

    name: str
    family: str
    files: dict[str, bytes]
    entry: str = ""


@dataclass(frozen=True, kw_only=True)
class SeedSet:
    """All seeds; ``planes`` has the stored pixels of each compressed frame by the hash of its stream."""

    seeds: tuple[Seed, ...]
    planes: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def stream_hash(stream: bytes) -> str:
    return hashlib.sha1(stream, usedforsecurity=False).hexdigest()


def build() -> SeedSet:
    """Every seed; takes about a second."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        planes: dict[str, npt.NDArray[Any]] = {}
        seeds = [
            *_classic(work),
            *_multiframe(work),
            *_compressed(work, planes),
            *_containers(work),
            *_structures(work),
        ]
        return SeedSet(seeds=tuple(seeds), planes=planes)


def _scan(axes: Any = OBLIQUE, **values: Any) -> Scan:
    """Every slice, row and column differs from every other, so that none can be taken for another."""
    k, j, i = np.indices(SIZE[::-1])
    hu = Scan(size=SIZE).hu() + 16 * k + (i + 3 * j) % 13
    return Scan(size=SIZE, axes=axes, values=hu, **values)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _made(work: Path, name: str, family: str, write: Callable[[Path], object]) -> Seed:
    folder = work / name
    folder.mkdir()
    write(folder)
    return Seed(name=name, family=family, files=_files(folder))


def _series(syntax: UID, scan: Scan, *, undefined: bool = False) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        for k in range(scan.size[2]):
            data = slice_dataset(scan, k, instance=k)
            from tests.imaging.multiframe_factory import code, item

            data.AnatomicRegionSequence = [code("421060004", "Vertebral column")]
            data.ReferencedImageSequence = [
                item(ReferencedSOPInstanceUID="1.2.3"),
                item(ReferencedSOPInstanceUID="1.2.4"),
            ]
            if undefined:
                data["ReferencedImageSequence"].is_undefined_length = True
                for entry in data.ReferencedImageSequence:
                    entry.is_undefined_length_sequence_item = True
            save_as(data, folder / f"s{k}.dcm", syntax)

    return write


def _classic(work: Path) -> list[Seed]:
    kinds = {
        "explicit": _series(ExplicitVRLittleEndian, _scan()),
        "explicit-undefined": _series(ExplicitVRLittleEndian, _scan(PRONE), undefined=True),
        "implicit": _series(ImplicitVRLittleEndian, _scan(PRONE, slope=0.5)),
        "big-endian": _series(ExplicitVRBigEndian, _scan()),
        "deflated": _series(DeflatedExplicitVRLittleEndian, _scan()),
    }
    return [_made(work, name, "classic", write) for name, write in kinds.items()]


def _frames(how: Frames, syntax: UID, scan: Scan, **options: Any) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        save_as(multiframe_dataset(scan, how), folder / "image.dcm", syntax, **options)

    return write


def _multiframe(work: Path) -> list[Seed]:
    scan = _scan()
    kinds = {
        "enhanced": _frames(Frames(order=(2, 0, 3, 1)), ExplicitVRLittleEndian, scan),
        "enhanced-frame": _frames(
            Frames(orientation="frame", measures="frame", transformation="frame", nested=3),
            ExplicitVRLittleEndian,
            scan,
        ),
        "enhanced-undefined": _frames(Frames(defined_lengths=False), ExplicitVRLittleEndian, scan),
        "enhanced-implicit": _frames(Frames(transformation="frame"), ImplicitVRLittleEndian, scan),
        "enhanced-big": _frames(Frames(), ExplicitVRBigEndian, scan),
        "enhanced-deflated": _frames(Frames(), DeflatedExplicitVRLittleEndian, scan),
        "xa3d": _frames(
            Frames(kind="xa3d", rescale_type="US", patient_position="code", bits=12),
            ExplicitVRLittleEndian,
            _scan(PRONE),
        ),
        "legacy": _frames(Frames(kind="ct-legacy"), ExplicitVRLittleEndian, scan),
        "concatenation": lambda folder: write_concatenation(folder, scan, Frames(), 2),
    }
    return [_made(work, name, "multiframe", write) for name, write in kinds.items()]


def _compressed(work: Path, planes: dict[str, npt.NDArray[Any]]) -> list[Seed]:
    seeds = []
    for syntax, name in zip(ENCAPSULATED, ("rle", "jpeg", "jpegls", "j2k"), strict=True):
        seeds.append(_made(work, name, "compressed", _series(syntax, _scan())))
        for fragments, table in ((1, "basic"), (3, "empty" if name == "j2k" else "basic"), (1, "extended")):
            if fragments > 1 and name == "rle":
                continue
            write = _frames(Frames(), syntax, _scan(), fragments=fragments, offset_table=table)
            seeds.append(_made(work, f"{name}-frames-{fragments}-{table}", "compressed", write))
    # What each stream decodes to, by the encoder's side: a second reading without a decoder.
    scan = _scan()
    whole = stored_frames(multiframe_dataset(scan, Frames()))
    for seed in seeds:
        import pydicom

        for name in sorted(seed.files):
            data = pydicom.dcmread(work / seed.name / name)
            count = int(data.get("NumberOfFrames", 1))
            offsets = data.get("ExtendedOffsetTable"), data.get("ExtendedOffsetTableLengths")
            extended = offsets if all(offsets) else None
            streams = list(generate_frames(data.PixelData, number_of_frames=count, extended_offsets=extended))
            first = int(data.InstanceNumber) if count == 1 else 0
            for n, stream in enumerate(streams):
                planes[stream_hash(stream)] = whole[first + n]
    return seeds


def _containers(work: Path) -> list[Seed]:
    from pydicom.fileset import FileSet

    loose = {f"scan/{name}": data for name, data in _files(work / "explicit").items()}
    junk = {"readme.txt": b"not an image\n", "scan/Thumbs.db": b"\0" * 40}
    seeds = [
        Seed(name="zip", family="container", files={**loose, **junk}, entry="scan.zip"),
        Seed(name="zip-enhanced", family="container", files=_files(work / "enhanced"), entry="scan.zip"),
        Seed(name="zip-deflated", family="container", files=_files(work / "deflated"), entry="scan.zip"),
        Seed(name="folder", family="container", files={**loose, **junk}),
    ]
    for source in ("explicit", "enhanced"):
        folder = work / f"dicomdir-{source}"
        file_set = FileSet()
        file_set.UID = UID(
            "1.2.826.0.1.3680043.8.498.1"
        )  # else drawn at random: the same seeds must give the same bytes
        for path in sorted((work / source).iterdir()):
            import pydicom

            data = pydicom.dcmread(path)
            data.StudyDate, data.StudyTime, data.StudyID, data.SeriesNumber = "20260101", "000000", "1", "1"
            data.AccessionNumber, data.ContentDate, data.ContentTime = "1", "20260101", "000000"
            file_set.add(data)
        file_set.write(folder)
        files = _files(folder)
        seeds.append(Seed(name=f"dicomdir-{source}", family="container", files=files, entry="DICOMDIR"))
        seeds.append(Seed(name=f"dicomdir-{source}-folder", family="container", files=files))
        shutil.rmtree(folder)
    return seeds


def structure_scan() -> Scan:
    """The image that structure files are read onto."""
    return _scan()


def _structures(work: Path) -> list[Seed]:
    scan = structure_scan()
    return [
        Seed(name="nifti", family="structure", files={"map.nii": _nifti(scan)}, entry="map.nii"),
        Seed(name="nifti-gz", family="structure", files={"map.nii.gz": _gzip(_nifti(scan))}, entry="map.nii.gz"),
        Seed(name="nrrd", family="structure", files={"map.nrrd": _nrrd(scan, "raw")}, entry="map.nrrd"),
        Seed(name="nrrd-gz", family="structure", files={"map.nrrd": _nrrd(scan, "gzip")}, entry="map.nrrd"),
        Seed(name="rtstruct", family="structure", files={"rs.dcm": _rtstruct(scan, work)}, entry="rs.dcm"),
        Seed(name="seg", family="structure", files={"seg.dcm": _seg(scan, work)}, entry="seg.dcm"),
    ]


def _labels(scan: Scan) -> npt.NDArray[np.uint8]:
    labels = np.zeros(scan.size[::-1], dtype=np.uint8)
    labels[1:3, 4:9, 5:12] = 1
    return labels


def _gzip(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, mtime=0)


def _affine(scan: Scan) -> npt.NDArray[np.float64]:
    axes = np.column_stack([scan.axes[0], scan.axes[1], scan.normal])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * np.array(scan.spacing_mm), scan.origin_mm
    return matrix


def _nifti(scan: Scan) -> bytes:
    """NIfTI-1 with an sform only; RAS, so the first two rows change sign."""
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ _affine(scan)
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *scan.size, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 2, 8)  # unsigned bytes
    struct.pack_into("<8f", head, 76, 1.0, *scan.spacing_mm, 0, 0, 0, 0)
    struct.pack_into("<f", head, 108, 352.0)
    head[123] = 2  # mm
    struct.pack_into("<2h", head, 252, 0, 1)
    struct.pack_into("<12f", head, 280, *matrix[:3].ravel())
    head[344:348] = b"n+1\0"
    return bytes(head) + _labels(scan).tobytes()


def _nrrd(scan: Scan, encoding: str) -> bytes:
    matrix = _affine(scan)
    columns = " ".join("({:.9f},{:.9f},{:.9f})".format(*matrix[:3, n]) for n in range(3))
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {scan.size[0]} {scan.size[1]} {scan.size[2]}\nspace directions: {columns}\n"
        "kinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: ({','.join(f'{v:.9f}' for v in scan.origin_mm)})\n\n"
    )
    data = _labels(scan).tobytes()
    return head.encode() + (_gzip(data) if encoding == "gzip" else data)


def _rtstruct(scan: Scan, work: Path) -> bytes:
    from tests.imaging.multiframe_factory import item

    data = slice_dataset(scan, 0)
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.481.3")
    data.Modality, data.StructureSetLabel = "RTSTRUCT", "made"
    data.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=scan.frame_uid)]
    data.StructureSetROISequence = [
        item(
            ROINumber=1, ROIName="spinal canal", ReferencedFrameOfReferenceUID=scan.frame_uid, ROIGenerationAlgorithm=""
        )
    ]
    contours = []
    for k in range(1, 3):
        corners = [scan.point(i, j, k) for i, j in ((4, 3), (12, 3), (12, 10), (4, 10))]
        text = [f"{v:.6f}"[:16] for corner in corners for v in corner]
        contours.append(item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=text))
    data.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=contours)]
    data.RTROIObservationsSequence = [item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN")]
    data.save_as(work / "rs.dcm", enforce_file_format=True)
    return (work / "rs.dcm").read_bytes()


def _seg(scan: Scan, work: Path) -> bytes:
    from pydicom.pixels.utils import pack_bits

    from tests.imaging.multiframe_factory import code, item

    data = multiframe_dataset(scan, Frames(), slices=[1, 2])
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.66.4")
    data.Modality, data.SegmentationType = "SEG", "BINARY"
    data.SegmentSequence = [
        item(
            SegmentNumber=1,
            SegmentLabel="spinal canal",
            SegmentAlgorithmType="MANUAL",
            SegmentedPropertyCategoryCodeSequence=[code("123037004", "Anatomical Structure")],
            SegmentedPropertyTypeCodeSequence=[code("61853006", "Spinal canal")],
        )
    ]
    for group in data.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=1)]
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = 0
    data.PixelData = pack_bits(_labels(scan)[1:3])
    data["PixelData"].VR = "OB"
    data.save_as(work / "seg.dcm", enforce_file_format=True)
    return (work / "seg.dcm").read_bytes()
