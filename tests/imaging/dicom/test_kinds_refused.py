"""Objects, codings and gray scales that are not read are refused by their names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import (
    MPEG4HP41,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from iort_planner.errors import GeometryError, ImageError
from iort_planner.imaging.series import load_series
from iort_planner.imaging.survey import inspect_path
from tests.imaging.dicom_factory import write_scan


def relabel(folder: Path, uid: str) -> None:
    """Write another transfer syntax into the meta headers of explicit little endian files; the pixels stay as they are."""
    explicit = b"1.2.840.10008.1.2.1\0"
    new = (uid + "\0" * (len(uid) % 2)).encode()
    for file in folder.iterdir():
        data = file.read_bytes()
        start = data.index(b"\x02\x00\x10\x00UI") + 6
        data = data[:start] + len(new).to_bytes(2, "little") + new + data[start + 2 + len(explicit) :]
        length = int.from_bytes(data[140:144], "little") + len(new) - len(explicit)
        file.write_bytes(data[:140] + length.to_bytes(4, "little") + data[144:])


@pytest.mark.parametrize("uid", [JPEG2000Lossless, RLELossless, JPEGLosslessSV1, JPEGLSLossless])
def test_pixels_that_are_not_compressed_as_the_label_says_are_refused(tmp_path: Path, uid: str) -> None:
    write_scan(tmp_path)
    relabel(tmp_path, uid)
    with pytest.raises(GeometryError, match=r"s000\.dcm: Pixel Data \(7FE0,0010\) is not encapsulated.*8 such"):
        load_series(tmp_path)


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection"),
        ("1.2.840.10008.1.2.4.55", "JPEG Full Progression"),
        (HTJ2KLossless, "High-Throughput JPEG 2000"),
        (MPEG4HP41, "MPEG-4"),
        (JPEG2000MCLossless, "JPEG 2000 Part 2"),
        ("1.2.840.10008.1.2.7.1", "SMPTE|1.2.840.10008.1.2.7.1"),
        ("1.3.6.1.4.1.9999.77", r"1\.3\.6\.1\.4\.1\.9999\.77"),
    ],
)
def test_other_compressions_are_refused_by_name(tmp_path: Path, uid: str, name: str) -> None:
    write_scan(tmp_path)
    relabel(tmp_path, uid)
    with pytest.raises(ImageError, match=rf"s000\.dcm: .*({name}).* is not supported; store the series uncompressed"):
        load_series(tmp_path)
    (report,) = inspect_path(tmp_path)
    assert (report.plannable, report.hu_calibrated) == (False, False)


OTHER_OBJECTS = {
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT Dose Storage",
    "1.2.840.10008.5.1.4.1.1.481.1": "RT Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.12.2": "X-Ray Radiofluoroscopic Image Storage",
    "1.2.3.4.5": "1.2.3.4.5",
}


@pytest.mark.parametrize("sop_class", OTHER_OBJECTS)
def test_other_kinds_of_image_are_refused_by_name(tmp_path: Path, sop_class: str) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.SOPClassUID = sop_class
        data.NumberOfFrames = "8"

    write_scan(tmp_path, edit=edit)
    for file in sorted(tmp_path.iterdir())[1:]:
        file.unlink()
    name = re.escape(OTHER_OBJECTS[sop_class])
    with pytest.raises(ImageError, match=f"{name} is not supported; give a CT") as refusal:
        load_series(tmp_path)
    assert not isinstance(refusal.value, GeometryError)
    (report,) = inspect_path(tmp_path)
    assert (report.kind, report.plannable, report.size_voxels) == ("other", False, (13, 11, 8))


@pytest.mark.parametrize(
    ("sop_class", "kind"), [("1.2.840.10008.5.1.4.1.1.2.1", "ct-enhanced"), ("1.2.840.10008.5.1.4.1.1.13.1.1", "xa3d")]
)
def test_frames_without_functional_groups_are_refused(tmp_path: Path, sop_class: str, kind: str) -> None:
    """Written like a classic slice with all frames in it: nothing says where they lie."""

    def edit(k: int, data: FileDataset) -> None:
        data.SOPClassUID, data.NumberOfFrames = sop_class, "8"
        data.PixelData = data.PixelData * 8

    write_scan(tmp_path, edit=edit)
    for file in sorted(tmp_path.iterdir())[1:]:
        file.unlink()
    with pytest.raises(GeometryError, match=r"s000\.dcm: 8 frames without functional groups: nothing says where"):
        load_series(tmp_path)
    (report,) = inspect_path(tmp_path)
    assert (report.kind, report.plannable, report.size_voxels) == (kind, False, (13, 11, 8))


@pytest.mark.parametrize("first", [0, 4])
def test_inverted_gray_needs_hu_to_say_what_is_dense(tmp_path: Path, first: int) -> None:
    """MONOCHROME1 turns the display only: HU stay HU. Without HU nothing says which end is dense."""

    def inverted(k: int, data: FileDataset) -> None:
        if k >= first:
            data.PhotometricInterpretation = "MONOCHROME1"

    def inverted_gray(k: int, data: FileDataset) -> None:
        inverted(k, data)
        data.RescaleType = "US"

    scan = write_scan(tmp_path / "hu", edit=inverted)
    image = load_series(tmp_path / "hu")
    assert image.volume.hu_calibrated
    np.testing.assert_array_equal(image.volume.values, scan.hu())
    write_scan(tmp_path / "gray", edit=inverted_gray)
    with pytest.raises(
        ImageError, match=rf"s00{first}\.dcm is MONOCHROME1 and its values are not HU \(Rescale Type is US"
    ):
        load_series(tmp_path / "gray")
    (report,) = inspect_path(tmp_path / "gray")
    assert [(p.id, p.status) for p in report.problems if p.status == "fail"] == [("pixels-unreadable", "fail")]
