"""Stored pixels become the right numbers: sign, unused bits, rescale of each slice, exact types, HU or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.pixels import (
    EXPLICIT_LITTLE,
    PixelLayout,
    Rescale,
    StoredSlice,
    decode_slices,
)
from iort_planner.imaging.dicom.sources import FileSource
from iort_planner.imaging.series import load_series
from tests.imaging.dicom_factory import Scan, ds, store, write_scan


def of(file: Path) -> FileSource:
    return FileSource(path=file, name=file.name, size=file.stat().st_size)


def layout(*, bits: int, signed: bool, columns: int, allocated: int = 16) -> PixelLayout:
    return PixelLayout(
        transfer_syntax_uid=EXPLICIT_LITTLE,
        rows=1,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=bits,
        high_bit=bits - 1,
        signed=signed,
        photometric="MONOCHROME2",
        samples_per_pixel=1,
        frames=1,
        offset=0,
    )


def plain_value(word: int, bits: int, signed: bool) -> int:
    """The oracle: keep the stored bits, read them as two's complement if signed."""
    kept: int = word % (1 << bits)
    return kept - (1 << bits) if signed and kept >= 1 << (bits - 1) else kept


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.integers(0, 65535), min_size=1, max_size=6),
    bits=st.integers(1, 16),
    signed=st.booleans(),
    slope=st.one_of(st.integers(-3, 40).filter(bool).map(float), st.sampled_from([0.5, 1.25, 2.0002442])),
    intercept=st.one_of(st.integers(-70000, 70000).map(float), st.sampled_from([-1024.5, 0.25])),
)
def test_any_bits_sign_and_rescale(
    tmp_path_factory: pytest.TempPathFactory, words: list[int], bits: int, signed: bool, slope: float, intercept: float
) -> None:
    file = tmp_path_factory.getbasetemp() / "words.bin"
    file.write_bytes(np.array(words, dtype="<u2").tobytes())
    stored = StoredSlice(
        source=of(file),
        name="words",
        layout=layout(bits=bits, signed=signed, columns=len(words)),
        rescale=Rescale(slope=slope, intercept=intercept, stated=True),
    )
    values = decode_slices([stored])[0, 0]
    expected = [plain_value(w, bits, signed) * slope + intercept for w in words]
    exact = all(v.is_integer() and -32768 <= v <= 32767 for v in expected) and slope.is_integer()
    assert values.dtype == (np.int16 if exact else np.float32)
    assert values.tolist() == np.array(expected, dtype=np.float32).tolist()


@pytest.mark.parametrize("signed", [False, True])
def test_eight_bit_pixels(tmp_path: Path, signed: bool) -> None:
    (tmp_path / "bytes").write_bytes(bytes([0, 127, 128, 255]))
    stored = StoredSlice(
        source=of(tmp_path / "bytes"),
        name="bytes",
        layout=layout(bits=8, signed=signed, columns=4, allocated=8),
        rescale=Rescale(slope=4.0, intercept=-1000.0, stated=True),
    )
    raw = [0, 127, -128, -1] if signed else [0, 127, 128, 255]
    assert decode_slices([stored])[0, 0].tolist() == [4 * v - 1000 for v in raw]


def test_a_file_that_shrank_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(7))
    stored = StoredSlice(
        source=of(tmp_path / "short"),
        name="short",
        layout=layout(bits=12, signed=False, columns=4),
        rescale=Rescale(),
    )
    with pytest.raises(ImageError, match=r"short holds 7 bytes of pixels where 4 x 1 pixels need 8"):
        decode_slices([stored])


@pytest.mark.parametrize(("bits", "signed"), [(12, False), (12, True), (16, False), (16, True)])
def test_series_of_any_common_coding_has_the_same_hu(tmp_path: Path, bits: int, signed: bool) -> None:
    scan = Scan()
    hu = np.clip(scan.hu(), -1000, 1000)
    offset = 0 if signed else -1024

    def edit(k: int, data: FileDataset) -> None:
        store(data, hu[k] - offset, bits=bits, signed=signed)
        data.RescaleIntercept = str(offset)

    write_scan(tmp_path, scan, edit)
    values = load_series(tmp_path).volume.values
    assert values.dtype == np.int16
    assert np.array_equal(values, hu)


def test_overlay_bits_above_the_stored_ones_are_cut_off(tmp_path: Path) -> None:
    def edit(k: int, data: FileDataset) -> None:
        words = np.frombuffer(data.PixelData, "<u2").astype(float) % 4096
        store(data, words + 0x9000, bits=16)
        data.BitsStored, data.HighBit = 12, 11

    scan = write_scan(tmp_path, edit=edit)
    assert np.array_equal(load_series(tmp_path).volume.values, np.rint(scan.hu()))


def test_every_slice_has_its_own_rescale(tmp_path: Path) -> None:
    scan = Scan()

    def edit(k: int, data: FileDataset) -> None:
        intercept = -1000 - 10 * k
        store(data, (scan.hu()[k] - intercept) / 2)
        data.RescaleSlope, data.RescaleIntercept = "2", str(intercept)

    write_scan(tmp_path, scan, edit, name=lambda k: f"{99 - k}")
    values = load_series(tmp_path).volume.values
    assert values.dtype == np.int16
    assert np.array_equal(values, scan.hu())


def test_one_fractional_slice_makes_the_volume_float_and_changes_nothing_else(tmp_path: Path) -> None:
    scan = Scan()

    def edit(k: int, data: FileDataset) -> None:
        if k == 4:
            store(data, (scan.hu()[k] + 1024) / 0.5)
            data.RescaleSlope = ds(0.5)

    write_scan(tmp_path, scan, edit)
    values = load_series(tmp_path).volume.values
    assert values.dtype == np.float32
    assert np.array_equal(values, scan.hu())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_uncompressed_codings(tmp_path: Path, syntax: UID) -> None:
    def edit(k: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = syntax

    scan = write_scan(tmp_path, edit=edit)
    assert np.array_equal(load_series(tmp_path).volume.values, scan.hu())


@pytest.mark.parametrize(("padding_hu", "warned"), [(-2000, False), (-3024, False), (1500, True)])
def test_padding_is_left_alone_and_named_when_it_is_bright(tmp_path: Path, padding_hu: int, warned: bool) -> None:
    hu = Scan().hu()
    hu[:, 0, :] = padding_hu
    scan = Scan(values=hu, intercept=-4000.0)

    def edit(k: int, data: FileDataset) -> None:
        data.add_new(0x00280120, "US", padding_hu + 4000)

    write_scan(tmp_path, scan, edit)
    image = load_series(tmp_path)
    assert np.array_equal(image.volume.values, hu)
    assert [p.id for p in image.problems] == (["padding-above-air"] if warned else [])
