"""Zip archives and folders: what lies in them is read in place, and nothing reaches out of them.

Archives are damaged by hand here, in the bytes; positions are those of APPNOTE.TXT 4.3.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from iort_planner.errors import ImageError, IortError
from iort_planner.imaging.dicom import containers
from iort_planner.imaging.series import load_series
from tests.imaging.dicom_factory import OBLIQUE, Scan, slice_dataset, write_scan
from tests.imaging.reading import SCAN, ignored, problems, read, refused, stays_empty

# Reported, not mended here: a test that fails on purpose until the loader is mended.


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from stays_empty(tmp_path, monkeypatch)


def pack(
    archive: Path,
    scan: Scan = SCAN,
    *,
    method: int = zipfile.ZIP_DEFLATED,
    name: Callable[[int], str] = lambda k: f"s{k:03d}.dcm",
    more: dict[str, bytes] | None = None,
) -> Path:
    """One member a slice; ``more`` are further members."""
    folder = archive.with_suffix(".folder")
    write_scan(folder, scan)
    with zipfile.ZipFile(archive, "w", method) as made:
        for k in range(scan.size[2]):
            made.writestr(zipfile.ZipInfo(name(k)), (folder / f"s{k:03d}.dcm").read_bytes(), method)
        for other, data in (more or {}).items():
            made.writestr(zipfile.ZipInfo(other), data, method)
    return archive


def central(data: bytes, number: int) -> int:
    """Where the entry of a member stands in the central directory (APPNOTE.TXT 4.3.12)."""
    (position,) = struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)
    for _ in range(number):
        position += 46 + sum(struct.unpack_from("<HHH", data, position + 28))
    return int(position)


def local(data: bytes, number: int) -> int:
    """Where the local header of a member stands (APPNOTE.TXT 4.3.7)."""
    return int(struct.unpack_from("<I", data, central(data, number) + 42)[0])


def damage(archive: Path, where: Callable[[bytes, int], int], offset: int, value: bytes, number: int = 3) -> Path:
    """Overwrite bytes of one member's central entry or local header."""
    data = bytearray(archive.read_bytes())
    start = where(bytes(data), number) + offset
    data[start : start + len(value)] = value
    archive.write_bytes(data)
    return archive


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "name",
    [
        lambda k: f"s{k}.dcm",
        lambda k: f"a/b c/{k % 3}/IM{k}",
        lambda k: f"Müller Straße/脊柱 {k}.dcm",
        lambda k: f"windows\\of old\\{k}.dcm",
        lambda k: f"./{k}.dcm",
    ],
    ids=["flat", "nested", "umlaut and Chinese", "backslashes", "dot"],
)
def test_zip_is_read_in_place(tmp_path: Path, method: int, name: Callable[[int], str]) -> None:
    read(pack(tmp_path / "scan of Jürgen 王.zip", method=method, name=name))


def test_zip_with_names_in_an_old_character_set_is_read(tmp_path: Path) -> None:
    """Old Windows tools write their code page without saying so: names look odd, slices are right."""
    archive = pack(tmp_path / "a.zip", name=lambda k: f"M~ller {k}.dcm")
    archive.write_bytes(archive.read_bytes().replace(b"M~ller", "Müller".encode("latin-1")))
    read(archive)


def test_zip_without_the_end_in_dcm_and_with_other_files_is_read(tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner.zip").read_bytes()
    more = {
        "README.TXT": b"viewer",
        "VIEWER/run.exe": b"MZ" + bytes(300),
        "inner.zip": inner,
        "empty": b"",
        "line\nbreak": b"x",
    }
    archive = pack(tmp_path / "a.zip", name=lambda k: f"DICOM/{k:08X}", more=more)
    read(archive)
    nested = "zip archive, which is not opened inside another folder or archive"
    assert ignored(archive) == {"not a DICOM file": 4, nested: 1}


def test_folder_of_archives_is_not_opened(tmp_path: Path) -> None:
    pack(tmp_path / "in" / "a.zip")
    for file in (tmp_path / "in" / "a.folder").iterdir():
        file.unlink()
    refused(tmp_path / "in", "1 x zip archive, which is not opened inside another folder or archive")


def test_empty_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.mkdir("only a folder")
    refused(tmp_path / "a.zip", "no DICOM image in", "found: no file")
    zipfile.ZipFile(tmp_path / "b.zip", "w").close()
    refused(tmp_path / "b.zip", "no DICOM image in", "found: no file")


def test_damaged_member_is_named(tmp_path: Path) -> None:
    """A small one is read whole with its header; of a large one the checksum is compared before its pixels are used."""
    crc = struct.pack("<I", 0x12345678)
    small = damage(pack(tmp_path / "small.zip"), central, 16, crc)
    refused(small, "1 slice missing between s002.dcm", "and s004.dcm")
    assert "s003.dcm (damaged DICOM file" in problems(small)["unreadable-file"]
    rng = np.random.default_rng(3)
    large = Scan(size=(130, 120, 8), axes=OBLIQUE, values=rng.integers(-1000, 1000, (8, 120, 130)).astype(float))
    archive = damage(pack(tmp_path / "large.zip", large, method=zipfile.ZIP_STORED), central, 16, crc)
    refused(archive, "cannot read s003.dcm: Bad CRC-32")
    assert "s003.dcm" in problems(archive)["pixels-unreadable"]
    archive = pack(tmp_path / "bit.zip", large, method=zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[local(bytes(data), 5) + 20_000] ^= 1  # one bit of one pixel
    archive.write_bytes(data)
    refused(archive, "cannot read s005.dcm: Bad CRC-32")


@pytest.mark.parametrize(
    ("where", "offset", "value"),
    [
        pytest.param(local, 0, b"XX", id="no local header"),
        pytest.param(local, 30, b"x", id="another name"),
        pytest.param(central, 42, struct.pack("<I", 0x7FFFFFFF), id="beyond the end"),
        pytest.param(central, 8, b"\x20", id="patched"),
        pytest.param(central, 8, b"\x40", id="strong encryption"),
        pytest.param(central, 20, struct.pack("<I", 40), id="packed size"),
        pytest.param(central, 24, struct.pack("<I", 500), id="unpacked size"),
        pytest.param(central, 10, b"\x00\x00", id="stored, it says"),
    ],
)
def test_member_that_cannot_be_opened_is_named(
    tmp_path: Path, where: Callable[[bytes, int], int], offset: int, value: bytes
) -> None:
    archive = damage(pack(tmp_path / "a.zip"), where, offset, value)
    refused(archive, "s002.dcm", "s004.dcm")
    assert "s003.dcm" in problems(archive)["unreadable-file"]


def test_member_larger_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """The directory says 1000 bytes, the packed data hold 200 MB."""
    archive = pack(tmp_path / "a.zip", more={"slice.dcm": bytes(200 * 2**20)})
    damage(archive, central, 24, struct.pack("<I", 1000), number=8)
    read(archive)


def test_cut_off_zip_is_refused(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.zip").read_bytes()
    for length in (4, 10, 40, 300, len(whole) // 2, len(whole) - 100, len(whole) - 23, len(whole) - 22, len(whole) - 1):
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        refused(tmp_path / "cut.zip", "cut.zip is a damaged zip archive")


@pytest.mark.parametrize("offset", [0, 56, 2**32, 2**62, 2**63, 2**64 - 1])
def test_zip64_directory_that_is_nowhere_is_refused(tmp_path: Path, offset: int) -> None:
    archive = pack(tmp_path / "a.zip")
    data = archive.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    archive.write_bytes(data[:end] + b"PK\x06\x07" + struct.pack("<IQI", 0, offset, 1) + data[end:])
    refused(archive, "a.zip is a damaged zip archive")


def test_zip_with_one_wrong_byte_is_read_or_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "whole.zip")
    whole = archive.read_bytes()
    places = [local(whole, n) + offset for n in range(8) for offset in range(40)]
    places += list(range(central(whole, 0), len(whole)))
    rng = random.Random(11)
    escaped = []
    for place in rng.sample(places, 150):
        data = bytearray(whole)
        data[place] ^= rng.randrange(1, 256)
        (tmp_path / "wrong.zip").write_bytes(data)
        try:
            load_series(tmp_path / "wrong.zip")
        except IortError:
            pass
        except Exception as error:  # noqa: BLE001 - this is what the test looks for
            escaped.append((place, data[place], error))
    assert not escaped


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip")
    damage(damage(archive, local, 6, b"\x01"), central, 8, b"\x01")
    refused(archive, "a.zip is encrypted (s003.dcm)", "unpack it with its password")


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_other_packing_methods_are_refused(tmp_path: Path, method: int, number: int) -> None:
    archive = pack(tmp_path / "a.zip", method=method)
    refused(archive, f"8 x archive member packed by method {number}, which is not supported")


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", more={"bomb.dcm": bytes(80 * 2**20)})
    refused(archive, "unpacks from", "limit 200 times: no scan does that")


def test_large_member_of_nothing_is_left_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(600_000)
    archive = pack(tmp_path / "a.zip", more={"bomb.dcm": bytes(80 * 2**20), "noise": noise})
    read(archive)
    assert ignored(archive)["archive member that unpacks to more than 200 times its size"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "../x.dcm",
        "a/../../x.dcm",
        "a/..",
        "/etc/passwd",
        "..\\x.dcm",
        "a\\..\\..\\x",
        "\\x.dcm",
        "\\\\server\\share\\x",
        "C:\\x.dcm",
        "C:x.dcm",
        "c:/x",
    ],
)
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "a.zip", more={name: slice_dataset(SCAN, 3).PixelData})
    refused(archive, f"names the file {name!r}, which lies outside the archive")


def test_link_in_the_archive_is_left_out(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip")
    link = zipfile.ZipInfo("s999.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(link, "/etc/passwd")
    read(archive)
    assert ignored(archive) == {"link in the archive": 1}


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 46 * (containers.MAX_FILES + 1))
    (tmp_path / "claims.zip").write_bytes(data)
    refused(tmp_path / "claims.zip", f"lists up to {containers.MAX_FILES + 1} files, limit {containers.MAX_FILES}")
    monkeypatch.setattr(containers, "MAX_FILES", 7)
    refused(archive, "files, limit 7")
    refused(tmp_path / "a.folder", "holds more than 7 files")


def test_one_name_twice_in_the_archive(tmp_path: Path) -> None:
    """Equal ones are one; of different ones nobody knows which was meant."""
    for text, verdict in ((None, "copies-ignored"), ("other", "duplicate-position")):
        archive = pack(tmp_path / f"{verdict}.zip")
        data = (tmp_path / f"{verdict}.folder" / "s004.dcm").read_bytes()
        if text is not None:
            data = data.replace(b"made for tests", b"made for other")
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(archive, "a") as made:
            made.writestr("s004.dcm", data)
        if text is None:
            read(archive)
        else:
            refused(archive, "s004.dcm and s004.dcm lie at one position")
        assert verdict in problems(archive)


# --- folders ---


def test_links_inside_the_folder_are_copies(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    (tmp_path / "in" / "link.dcm").symlink_to("s003.dcm")
    (tmp_path / "in" / "dangling").symlink_to("nowhere")
    (tmp_path / "in" / "loop").symlink_to("loop")
    (tmp_path / "in" / "up").symlink_to("..")
    (tmp_path / "in" / "here").symlink_to(".")
    (tmp_path / "in" / "passwd").symlink_to("/etc/passwd")
    image = read(tmp_path / "in")
    assert [(p.id, p.status) for p in image.problems] == [("copies-ignored", "warn")]
    assert ignored(tmp_path / "in") == {"link out of the folder or to a folder": 5}


def test_slice_behind_a_link_out_of_the_folder_is_missing(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    (tmp_path / "in" / "s004.dcm").rename(tmp_path / "s004.dcm")
    (tmp_path / "in" / "s004.dcm").symlink_to("../s004.dcm")
    refused(tmp_path / "in", "1 slice missing between s003.dcm", "and s005.dcm")
    assert ignored(tmp_path / "in") == {"link out of the folder or to a folder": 1}


def test_given_path_may_itself_be_a_link(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", SCAN)
    (tmp_path / "link").symlink_to("in")
    read(tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_sockets_do_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    write_scan(folder, SCAN)
    os.mkfifo(folder / "pipe.dcm")
    (folder / "to a pipe.dcm").symlink_to("pipe.dcm")
    monkeypatch.chdir(folder)  # names of sockets may have 108 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s.sock")
        read(folder)
        assert ignored(folder) == {"neither file nor folder": 2, "link out of the folder or to a folder": 1}
        refused(folder / "pipe.dcm", "neither a file nor a folder")
        refused(folder / "s.sock", "neither a file nor a folder")
    refused(Path("/dev/zero"), "neither a file nor a folder")


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the functions that open, as the system would: root may read everything."""
    write_scan(tmp_path / "in", SCAN)
    write_scan(tmp_path / "in" / "locked", Scan(series_uid="1.2.3"))
    scandir, path_open = os.scandir, cast("Callable[..., object]", Path.open)

    def no_folder(path: str | Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def no_file(path: Path, *args: str) -> object:
        if path.name == "s007.dcm":
            raise PermissionError(13, "Permission denied")
        return path_open(path, *args)

    monkeypatch.setattr(os, "scandir", no_folder)
    monkeypatch.setattr(Path, "open", no_file)
    image = load_series(tmp_path / "in")
    assert image.volume.grid.size_voxels == (13, 11, 7)
    (problem,) = image.problems
    assert (problem.id, problem.status) == ("unreadable-file", "warn")
    assert "2 file(s) could not be read, first locked (Permission denied)" in problem.message
    with pytest.raises(ImageError, match=r"cannot read .*s007\.dcm: Permission denied"):
        load_series(tmp_path / "in" / "s007.dcm")
