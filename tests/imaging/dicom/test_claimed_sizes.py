"""Lengths and sizes that a file claims are compared with what it holds before anything is believed or allocated."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from iort_planner.errors import ImageError
from iort_planner.imaging.series import load_series
from tests.imaging.dicom_factory import slice_dataset, write_scan
from tests.imaging.multiframe_factory import save_as
from tests.imaging.reading import SCAN, problems, read, refused, stays_empty

# Reported, not mended here: a test that fails on purpose until the loader is mended.


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from stays_empty(tmp_path, monkeypatch)


def set_at(k: int, **values: object) -> Callable[[int, FileDataset], None]:
    def edit(n: int, data: FileDataset) -> None:
        for keyword, value in values.items() if n == k else ():
            setattr(data, keyword, value)

    return edit


def test_size_beyond_the_file_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    edit = set_at(3, Rows=65535, Columns=65535, NumberOfFrames="99999")
    write_scan(tmp_path / "in", SCAN, edit)
    refused(tmp_path / "in", "s003.dcm")
    found = problems(tmp_path / "in")
    assert "286 bytes of pixels where 858958655327550" in found["pixel-data-short"]
    assert "65535 x 65535 pixels x 99999 frame(s) of 16 bits" in found["absurd-size"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on values that are wrong on purpose
@pytest.mark.parametrize(
    "frames",
    [
        "4294967297",
        "9" * 20,
        "9" * 400,
        "-1",
        "1e9",
        "1_0",
        "٣",
    ],
)
def test_absurd_numbers_of_frames_are_refused(tmp_path: Path, frames: str) -> None:
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    data = dcmread(file)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.add_new(0x00280008, "LO", frames)  # IS cannot hold some of them
    data.save_as(file)
    refused(tmp_path / "in", "s003.dcm")


@pytest.mark.parametrize(("rows", "columns", "id_"), [(40000, 40000, "absurd-size"), (5000, 13, "pixels-unreadable")])
def test_compressed_size_beyond_the_file_is_refused(tmp_path: Path, rows: int, columns: int, id_: str) -> None:
    """Up to 64 MB the decoder may say it: then it is asked for one frame, in a process of its own."""
    folder = tmp_path / "in"
    write_scan(folder, SCAN)
    for file in folder.iterdir():
        data = dcmread(file)
        save_as(data, file, RLELossless)
        claims = dcmread(file)
        claims.Rows, claims.Columns = rows, columns
        claims.save_as(file)
    refused(folder, ".dcm: ")
    assert re.search(r"s00\d\.dcm: ", problems(folder)[id_])


def deflated_bomb(path: Path, *, before: bytes, gigabytes: int = 10) -> None:
    """Slice 3, deflated: elements up to ``before``, there one that fills gigabytes; the block of zeros repeats."""
    save_as(slice_dataset(SCAN, 3), path, DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    start = 144 + int(struct.unpack_from("<I", data, 140)[0])
    inflated = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    place = len(inflated) if before == b"" else inflated.index(before)
    group = b"\xfc\xff\xfc\xff" if before == b"" else before[:2] + b"\x01\x00"
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(inflated[:place] + group + b"OB\0\0" + struct.pack("<I", 0xFFFFFFF0))
    head += packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    with path.open("wb") as out:
        out.write(data[:start] + head)
        for _ in range(gigabytes * 1024):
            out.write(block)
        out.write(packer.flush(zlib.Z_FINISH))


def test_deflated_bomb_after_the_pixels_is_never_inflated(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    deflated_bomb(tmp_path / "in" / "s003.dcm", before=b"")
    read(tmp_path / "in")


@pytest.mark.parametrize("before", [b"\x28\x00\x02\x00", b"\x20\x00\x0e\x00"], ids=["pixel module", "series"])
def test_deflated_bomb_before_the_pixels_is_refused(tmp_path: Path, before: bytes) -> None:
    write_scan(tmp_path / "in", SCAN)
    deflated_bomb(tmp_path / "in" / "s003.dcm", before=before)
    refused(tmp_path / "in", "s002.dcm", "s004.dcm")
    assert "s003.dcm (damaged DICOM file" in problems(tmp_path / "in")["unreadable-file"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_pixel_data_missing(tmp_path: Path, syntax: UID) -> None:
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    data = dcmread(file)
    del data.PixelData
    save_as(data, file, syntax)
    refused(tmp_path / "in", "s003.dcm: no pixel data where 286 bytes are needed")


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    ],
    ids=["native", "deflated"],
)
def test_pixel_data_short_with_more_behind_it(tmp_path: Path, syntax: UID) -> None:
    """What follows the pixels is no pixel."""
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    data = dcmread(file)
    data.PixelData = data.PixelData[:100]
    data.add_new(0xFFFCFFFC, "OB", b"\x33" * 4000)
    save_as(data, file, syntax)
    refused(tmp_path / "in", "s003.dcm", "100 bytes of pixels where 286 are needed")


def test_pixel_data_longer_than_the_file(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    data = file.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    file.write_bytes(data[:at] + struct.pack("<I", 0xFFFFFFF0) + data[at + 4 : at + 104])
    refused(tmp_path / "in", "s003.dcm: 100 bytes of pixels where 286 are needed")


def test_encapsulated_pixels_under_a_native_label(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    save_as(dcmread(file), file, RLELossless)
    data = file.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0")
    file.write_bytes(data)
    refused(tmp_path / "in", "s003.dcm: Pixel Data (7FE0,0010) is encapsulated although the transfer syntax says")


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    file = tmp_path / "in" / "s003.dcm"
    data = dcmread(file)
    del data.PixelData
    data.add_new(0x7FE00008, "OF", bytes(572))
    data.save_as(file)
    refused(tmp_path / "in", "s003.dcm: no pixel data where 286 bytes are needed")


def test_series_is_refused_when_files_vanish_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc taken out, a share that is gone: between the headers and the pixels."""
    write_scan(tmp_path / "in", SCAN)
    seen: dict[str, int] = {}
    path_open = cast("Callable[..., object]", Path.open)

    def once(path: Path, *args: str) -> object:
        seen[path.name] = seen.get(path.name, 0) + 1
        if path.name == "s005.dcm" and seen[path.name] > 1:
            raise OSError(5, "Input/output error")
        return path_open(path, *args)

    monkeypatch.setattr(Path, "open", once)
    with pytest.raises(ImageError, match=r"cannot read s005\.dcm: Input/output error"):
        load_series(tmp_path / "in")
