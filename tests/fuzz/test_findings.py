"""What fuzzing has found, each as its smallest input: read right, or refused in one line."""

from __future__ import annotations

import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iort_planner.errors import IortError
from iort_planner.imaging.series import load_series
from iort_planner.imaging.survey import survey_path
from tests.fuzz import elements as dicom
from tests.fuzz.mutate_containers import Member, write_zip
from tests.imaging.dicom_factory import Scan, write_scan
from tests.imaging.multiframe_factory import write_frames

SCAN = Scan()
LONGEST_LINE = 3000


def read_or_refused(path: Path) -> bool:
    """Whether the scan was read (and right); else it was refused in one short line without the patient's name."""
    texts: list[str] = []
    read = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            survey = survey_path(path)
            texts += [p.message for r in survey.series for p in r.problems] + [what for what, _ in survey.ignored]
        except IortError as error:
            texts.append(str(error))
        try:
            image = load_series(path)
        except IortError as error:
            texts.append(str(error))
        else:
            read = True
            texts += [p.message for p in image.problems]
            np.testing.assert_array_equal(image.volume.values, SCAN.hu())
            assert image.volume.grid.index_to_lps((12, 10, 7)) == pytest.approx(SCAN.point(12, 10, 7), abs=1e-4)
    for text in texts:
        assert text.isprintable(), text
        assert len(text) < LONGEST_LINE
        assert "Secret" not in text
    return read


def change(folder: Path, edit: Callable[[bytes], bytes], first: int = 0) -> None:
    """Edit the bytes of every file from the n-th on."""
    for path in sorted(folder.iterdir())[first:]:
        path.write_bytes(edit(path.read_bytes()))


def value(tag: int, new: bytes) -> Callable[[bytes], bytes]:
    """Put another value for every element of a tag."""

    def edit(data: bytes) -> bytes:
        count = sum(e.tag == tag for e in dicom.layout(data).elements)
        assert count
        for n in range(count):
            element = [e for e in dicom.layout(data).elements if e.tag == tag][n]
            data = dicom.put(data, element, new + b" " * (len(new) % 2), big=False)
        return data

    return edit


@pytest.mark.parametrize("shape", ["classic", "enhanced"])
@pytest.mark.parametrize("said", [b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"])
def test_a_transfer_syntax_that_is_not_the_one_written(tmp_path: Path, shape: str, said: bytes) -> None:
    """Explicit little endian, named as another: pixels must not shift by the four bytes between the two heads."""
    if shape == "classic":
        write_scan(tmp_path, SCAN)
    else:
        write_frames(tmp_path / "image.dcm", SCAN)
    change(tmp_path, value(dicom.TRANSFER_SYNTAX, said + b"\0" * (len(said) % 2)))
    read_or_refused(tmp_path)


@pytest.mark.parametrize("number", [b"1e39", b"1e38", b"-1e38", b"3.5e34"])
@pytest.mark.parametrize("tag", [0x00281053, 0x00281052])
def test_values_beyond_single_precision_are_refused(tmp_path: Path, tag: int, number: bytes) -> None:
    write_scan(tmp_path, SCAN)
    change(tmp_path, value(tag, number))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = load_series(tmp_path)
        except IortError as error:
            assert str(error).isprintable()  # noqa: PT017  # a refusal is one of the two good ends
        else:
            assert np.all(np.isfinite(image.volume.values))
            assert not image.volume.hu_calibrated


@pytest.mark.parametrize("position", [b"0\\0\\1e308", b"-1e308\\0\\1e308", b"1e16\\1e16\\1e16", b"1e200\\1e200\\1e200"])
def test_absurd_positions_are_refused_in_a_short_line(tmp_path: Path, position: bytes) -> None:
    write_scan(tmp_path, SCAN)
    change(tmp_path, value(0x00200032, position), first=5)
    assert not read_or_refused(tmp_path)


@pytest.mark.parametrize("spacing", [b"5e-324\\5e-324", b"1e-308\\1e-308", b"1e308\\1e308", b"1e-20\\1"])
def test_absurd_pixel_spacings_are_refused(tmp_path: Path, spacing: bytes) -> None:
    write_scan(tmp_path, SCAN)
    change(tmp_path, value(0x00280030, spacing))
    assert not read_or_refused(tmp_path)


@pytest.mark.parametrize("tag", [0x00080016, 0x0020000E])
def test_a_uid_that_swallows_the_header_is_not_shown(tmp_path: Path, tag: int) -> None:
    """A damaged length makes the SOP Class UID hold all that follows, the patient's name too."""
    write_scan(tmp_path, SCAN)

    def edit(data: bytes) -> bytes:
        element = next(e for e in dicom.layout(data).elements if e.tag == tag)
        return dicom.set_length(data, element, 900, big=False)

    change(tmp_path, edit)
    assert not read_or_refused(tmp_path)


@pytest.mark.parametrize("tag", [0x00080060, 0x00281054, 0x00185100, 0x00280004])
def test_long_values_do_not_fill_a_message(tmp_path: Path, tag: int) -> None:
    write_scan(tmp_path, SCAN)
    change(tmp_path, value(tag, b"X" * 65000))
    read_or_refused(tmp_path)


def test_many_files_of_endless_sequences_end_in_time(tmp_path: Path) -> None:
    """Each file alone costs a second or so; ten of one megabyte must not cost ten."""
    write_scan(tmp_path, Scan(size=(13, 11, 10)))
    items = dicom.make(dicom.ITEM, b"", b"", implicit=True, big=False) * 118_000
    sequence = dicom.make(0x00081140, b"SQ", items, implicit=False, big=False, length=dicom.UNDEFINED)
    sequence += dicom.make(dicom.SEQUENCE_END, b"", b"", implicit=True, big=False)
    change(tmp_path, lambda data: dicom.insert(data, sequence, 0x00081140, dicom.layout(data)))
    start = time.process_time()
    with pytest.raises(IortError):
        load_series(tmp_path)
    assert time.process_time() - start < 5


def test_bytes_after_the_pixels_are_noticed(tmp_path: Path) -> None:
    """Two bytes too many inside the pixels of one slice shift all that follow; the file is then longer than it says."""
    write_scan(tmp_path, SCAN)

    def edit(data: bytes) -> bytes:
        pixels = dicom.layout(data).elements[-1]
        return data[: pixels.value_at + 40] + b"\0\0" + data[pixels.value_at + 40 :]

    change(tmp_path, edit, first=7)
    read_or_refused(tmp_path)


def test_pixel_data_twice_or_too_long_is_not_guessed(tmp_path: Path) -> None:
    write_scan(tmp_path, SCAN)

    def edit(data: bytes) -> bytes:
        pixels = dicom.layout(data).elements[-1]
        return data + dicom.make(dicom.PIXEL_DATA, b"OW", bytes(pixels.length), implicit=False, big=False)

    change(tmp_path, edit)
    assert not read_or_refused(tmp_path)


@pytest.mark.parametrize(
    "member",
    [
        {"local_name": b"another name\x1b[31m\n" + b"x" * 60000},
        {"offset": 3},
        {"offset": 10_000_000},
        {"name": b""},
        {"flags": 0x20},
        {"flags": 0x41},
        {"flags": 1},
        {"method": 99},
        {"crc": 1},
        {"size": 5},
        {"packed_size": 5},
    ],
)
def test_zip_members_that_cannot_be_read_are_named(tmp_path: Path, member: dict[str, bytes | int]) -> None:
    write_scan(tmp_path / "scan", SCAN)
    members = [Member(name=p.name.encode(), data=p.read_bytes()) for p in sorted((tmp_path / "scan").iterdir())]
    good = tmp_path / "good.zip"
    good.write_bytes(write_zip(members))
    with zipfile.ZipFile(good) as archive:
        assert archive.testzip() is None
    assert read_or_refused(good)
    bad = Member(**{"name": members[3].name, "data": members[3].data, **member})  # type: ignore[arg-type]  # by name
    (tmp_path / "bad.zip").write_bytes(write_zip([*members[:3], bad, *members[4:]]))
    assert not read_or_refused(tmp_path / "bad.zip")
