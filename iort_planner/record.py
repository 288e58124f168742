"""An append-only record: JSON lines chained by hashes, which survives a crash and notices what was changed.

Each line holds the hash of the line before it and its own; beside the record a small head file holds number and hash of
the last line. An entry that was edited, removed or moved breaks the chain or misses the head. A line that a crash cut
off fits no hash: it is left out with a warning, and the entry after it proves by its chain that nothing is missing.
This notices accidents and edits by hand; whoever computes all hashes again is not stopped. It is no signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iort_planner.errors import RecordError

try:
    import fcntl
except ImportError:  # Windows: there each line is still one append
    fcntl = None  # type: ignore[assignment]  # mypy knows the module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST = "0" * 64  # what the first line names as the line before it
_LARGEST_BYTES = 20 * 2**20  # some hundred bytes a line: more is no record of ours
_REMEDY = "put record and head back from a backup, or move both away and begin anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a record holds, oldest first, and what was remarked on reading it.

    Parameters
    ----------
    entries : tuple of dict
        What `append` was given.
    warnings : tuple of str
        Lines that were left out: cut off by a crash.
    last_hash : str
        Hash of the last entry.
    ends_whole : bool
        Whether the file ends with a line's end.
    """

    entries: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    last_hash: str
    ends_whole: bool


def head_of(path: Path) -> Path:
    """The file beside a record that holds number and hash of its last line."""
    return path.with_suffix(".head")


def read(path: Path) -> Record:
    """Read a record; one that does not exist is empty.

    Raises
    ------
    RecordError
        If it cannot be read, or was changed after it was written.
    """
    try:
        with _opened(path, os.O_RDONLY) as descriptor:
            return _checked(path, _content(descriptor))[0]
    except FileNotFoundError:
        return _checked(path, b"")[0]
    except OSError as error:
        raise RecordError(f"record {path} cannot be read ({error.strerror}); see its permissions") from error


def append(path: Path, entry: dict[str, Any]) -> Record:
    """Append an entry, on the disk when this returns; the record as it then is.

    Raises
    ------
    RecordError
        If the record was changed after it was written, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as descriptor:
            record, head_is_behind = _checked(path, _content(descriptor))
            if head_is_behind:  # a crash came between line and head: one entry at most is ever without
                _write_head(path, len(record.entries), record.last_hash)
            content = {**entry, "previous": record.last_hash}
            digest = _hash(content)
            line = json.dumps({**content, "hash": digest}, ensure_ascii=True).encode("ascii")
            data = (b"" if record.ends_whole else b"\n") + line + b"\n"
            if os.write(descriptor, data) != len(data):
                raise OSError(28, "the disk is full")
            os.fsync(descriptor)
            _sync_folder(path.parent)
            _write_head(path, len(record.entries) + 1, digest)
    except OSError as error:
        raise RecordError(
            f"record {path} cannot be written ({error.strerror}); nothing is certain to be kept"
        ) from error
    return Record(entries=(*record.entries, entry), warnings=record.warnings, last_hash=digest, ends_whole=True)


def _checked(path: Path, data: bytes) -> tuple[Record, bool]:
    """The record in ``data``, and whether the head is one entry behind.

    Raises
    ------
    RecordError
        If chain or head say that it was changed.
    """
    entries: list[dict[str, Any]] = []
    hashes: list[str] = []
    left_out: list[int] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line:
            continue
        content = _whole(line)
        if content is None:
            left_out.append(number)
            continue
        digest, previous = content.pop("hash"), content.pop("previous")
        if previous != (hashes[-1] if hashes else _FIRST):
            raise RecordError(
                f"record {path}, line {number}: what stands before it was changed, removed or moved after it was "
                f"written; {_REMEDY}"
            )
        entries.append(content)
        hashes.append(digest)
    count, digest = _read_head(path)
    if count > len(hashes) or (count and hashes[count - 1] != digest) or len(hashes) - count > 1:
        raise RecordError(
            f"record {path}: {len(hashes)} entries do not fit the head file {head_of(path).name} ({count} entries): "
            f"something was changed or removed after it was written; {_REMEDY}"
        )
    warnings = tuple(f"record {path}, line {number}: cut off, as by a crash; left out" for number in left_out)
    record = Record(
        entries=tuple(entries),
        warnings=warnings,
        last_hash=hashes[-1] if hashes else _FIRST,
        ends_whole=not data or data.endswith(b"\n"),
    )
    return record, count < len(hashes)


def _whole(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None where it is not a whole line as it was written."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "previous" not in content or "hash" not in content:
        return None
    return content if _hash({k: v for k, v in content.items() if k != "hash"}) == content["hash"] else None


def _hash(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _read_head(path: Path) -> tuple[int, str]:
    """Number and hash of the last entry by the head file; none where there is no such file."""
    try:
        text = head_of(path).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0, ""
    count, _, digest = text.strip().partition(" ")
    if not (count.isascii() and count.isdigit() and int(count) > 0 and len(digest) == 64):
        raise RecordError(f"{head_of(path)} is not a record's head ({text[:80]!r}); {_REMEDY}")
    return int(count), digest


def _write_head(path: Path, count: int, digest: str) -> None:
    """Replace the head file, whole or not at all; the record's lock is held."""
    partial = path.with_suffix(".head.new")
    with partial.open("w", encoding="ascii") as stream:
        stream.write(f"{count} {digest}\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(head_of(path))
    _sync_folder(path.parent)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """The record's descriptor under a lock: one writer at a time, and no reader meanwhile."""
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH if flags == os.O_RDONLY else fcntl.LOCK_EX)
        yield descriptor  # closing it lets go of the lock
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    if os.fstat(descriptor).st_size > _LARGEST_BYTES:
        raise OSError(27, f"it has over {_LARGEST_BYTES // 2**20} MB")
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system lets one."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
