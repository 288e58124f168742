"""What a given path is: one file, a folder with folders below it, a zip archive, or a DICOMDIR that lists files.

Nothing is unpacked, no link is followed out of what was given, and no name in an archive or a DICOMDIR reaches beyond it.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.headers import NotAnImageError, read_data_set
from iort_planner.imaging.dicom.sources import (
    MAX_EXPANSION,
    MAX_HEADER_READS,
    READ_ERRORS,
    SMALL_BYTES,
    Budget,
    FileSource,
    HeaderTooLargeError,
    Source,
    ZipSource,
)
from iort_planner.imaging.dicom.tags import printable, quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Iterator

# More files than this are no export of one patient. Our own choice; large hospital folders have some ten thousand.
MAX_FILES = 200_000
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # the others may ask for any amount of memory
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4, general purpose bit 0
_MIN_ENTRY = 46  # bytes of an entry of the central directory, APPNOTE.TXT 4.3.12
_LONGEST_NAME = 150
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
_RECORDS, _FILE_ID = 0x00041220, 0x00041500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input:
    """Files to look at, in a fixed order.

    Parameters
    ----------
    sources : tuple of Source
    ignored : dict of str to int
        What was left out on the way, and how often.
    missing : tuple of str
        Files that are named and not there, or that cannot be read, with the reason.
    """

    sources: tuple[Source, ...]
    ignored: dict[str, int]
    missing: tuple[str, ...] = ()


@contextmanager
def open_input(path: Path) -> Iterator[Input]:
    """Files under a path; they can be read as long as the context is open.

    Raises
    ------
    ImageError
        If there is no such path, it is neither file nor folder, or an archive or DICOMDIR is damaged or reaches outside.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ImageError(f"no such file or folder: {path}; check the path") from error
    if stat.S_ISDIR(mode):
        yield _folder(path)
        return
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path} is neither a file nor a folder; give the folder with the DICOM slices")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}; check the file") from error
    if head not in _ZIP_HEADS:
        yield _listed(path) or Input(sources=(_file(path, path.name),), ignored={})
        return
    with _archive(path) as archive:
        yield _members(path, archive)


def _file(path: Path, name: str) -> FileSource:
    return FileSource(path=path, name=_shown(name), size=path.stat().st_size)


def _shown(name: str) -> str:
    """A file's name for messages of one line; of a very long one, the end."""
    text = printable(name)
    return text if len(text) <= _LONGEST_NAME else f"...{text[-_LONGEST_NAME:]}"


def _folder(root: Path) -> Input:
    """Regular files below a folder; links only where they stay inside it."""
    inside = root.resolve()
    sources: list[Source] = []
    ignored: Counter[str] = Counter()
    missing: list[str] = []
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            missing.append(f"{_below(root, folder)} ({error.strerror or error})")
            continue
        folders = []
        for entry in found:
            path = Path(entry.path)
            if entry.is_symlink():
                target = Path(os.path.realpath(path))
                if target.is_file() and target.is_relative_to(inside):
                    sources.append(_file(path, _below(root, path)))
                else:
                    ignored["link out of the folder or to a folder"] += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                sources.append(FileSource(path=path, name=_below(root, path), size=size))
            else:
                ignored["neither file nor folder"] += 1
        waiting += reversed(folders)
        if len(sources) > MAX_FILES:
            raise ImageError(f"{root} holds more than {MAX_FILES} files; give the folder of one patient's scan")
    if not sources and not missing and not ignored:
        raise ImageError(f"the folder {root} is empty; give the folder with the DICOM slices")
    return Input(sources=tuple(sources), ignored=dict(ignored), missing=tuple(missing))


def _below(root: Path, path: Path) -> str:
    return _shown(path.relative_to(root).as_posix())


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        entries = _directory_bytes(path) // _MIN_ENTRY
        if entries > MAX_FILES:
            raise ImageError(f"{path} lists up to {entries} files, limit {MAX_FILES}; give one patient's scan")
        return zipfile.ZipFile(path)
    except (*READ_ERRORS, ValueError, struct.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is a damaged zip archive ({error}); pack it again, or give a folder") from error


def _directory_bytes(path: Path) -> int:
    """Size of the archive's central directory as its end records say it (APPNOTE.TXT 4.3.14 to 4.3.16)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 65_536 - 22 - 20))
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            raise zipfile.BadZipFile("no end of central directory")
        if tail[end - 20 : end - 16] == b"PK\x06\x07":
            file.seek(struct.unpack_from("<Q", tail, end - 12)[0])
            record = file.read(56)
            return int(struct.unpack_from("<Q", record, 40)[0]) if record[:4] == b"PK\x06\x06" else size
    return int(struct.unpack_from("<I", tail, end + 12)[0])


def _members(path: Path, archive: zipfile.ZipFile) -> Input:
    sources: list[Source] = []
    ignored: Counter[str] = Counter()
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    for info in infos:
        name = _shown(info.filename)
        parts = info.filename.replace("\\", "/").split("/")
        if not info.filename:
            ignored["archive member without a name"] += 1
            continue
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise ImageError(
                f"{path} names the file {name!r}, which lies outside the archive; do not trust this archive"
            )
        if info.flag_bits & _ENCRYPTED:
            raise ImageError(f"{path} is encrypted ({name}); unpack it with its password and give the folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            ignored["link in the archive"] += 1
        elif info.compress_type not in _ZIP_METHODS:
            ignored[f"archive member packed by method {info.compress_type}, which is not supported"] += 1
        elif info.file_size > max(SMALL_BYTES, MAX_EXPANSION * info.compress_size):
            ignored[f"archive member that unpacks to more than {MAX_EXPANSION} times its size"] += 1
        else:
            sources.append(ZipSource(archive=archive, member=info, name=name))
    unpacked, packed = sum(i.file_size for i in infos), path.stat().st_size
    if unpacked > max(SMALL_BYTES, MAX_EXPANSION * packed):
        raise ImageError(
            f"{path} unpacks from {packed} to {unpacked} bytes, limit {MAX_EXPANSION} times: no scan does that"
        )
    return Input(sources=tuple(sorted(sources, key=lambda s: s.name)), ignored=dict(ignored))


def _listed(path: Path) -> Input | None:
    """The files that a DICOMDIR names, by its records of any kind; None if the file is no DICOMDIR."""
    with quiet_pydicom(), path.open("rb") as file:
        try:
            # A record is some 250 bytes and takes 30 reads.
            budget = Budget(reads=min(MAX_HEADER_READS, path.stat().st_size))
            found = read_data_set(file, printable(path.name), [_RECORDS], budget)
            if found.media_sop_class != _DICOMDIR_CLASS:
                return None
            named = [name for record in found.tags.items(_RECORDS) if (name := record.file_id(_FILE_ID)) is not None]
        except (NotAnImageError, OSError):
            return None
        except HeaderTooLargeError:
            raise ImageError(f"{path} lists more than a DICOMDIR can; give the folder with the DICOM slices") from None
        except Exception:  # noqa: BLE001 - pydicom raises many kinds on damaged files; read_header will name them
            return None
    root = path.parent
    inside = Path(os.path.realpath(root))
    names: dict[Path, dict[str, str]] = {}
    sources: list[Source] = []
    missing = []
    for file_id in dict.fromkeys(named):
        if not file_id:
            missing.append("a file whose name in the DICOMDIR cannot be read")
            continue
        parts = file_id.split("\\")
        if any(part in {"", ".", ".."} or set(part) & set("/:\0") for part in parts):
            text = f"{path} names the file {file_id[:80]!r}, which is no file below it; give the folder with the slices"
            raise ImageError(text)
        place = _as_named(root, parts, names)
        shown = _shown("/".join(parts))
        if place is None:
            missing.append(f"{shown} (named by the DICOMDIR, not there)")
        elif not Path(os.path.realpath(place)).is_relative_to(inside):
            missing.append(f"{shown} (a link out of the DICOMDIR's folder)")
        else:
            sources.append(_file(place, shown))
    return Input(sources=tuple(sources), ignored={}, missing=tuple(missing))


def _as_named(root: Path, parts: list[str], names: dict[Path, dict[str, str]]) -> Path | None:
    """A file below a folder, its names compared without case: disks of other systems show them in lower case."""
    here = root
    for part in parts:
        if here not in names:
            try:
                names[here] = {entry.name.casefold(): entry.name for entry in sorted(here.iterdir())}
            except OSError:
                return None
        exact = names[here].get(part.casefold())
        if exact is None:
            return None
        here /= exact
    return here if here.is_file() else None
