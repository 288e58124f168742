"""Small files that a user names: read whole, but only if they are regular files of a sensible size."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SMALL_FILE_BYTES = 20 * 2**20  # tables, applicators and plans have some kB


def require_regular(path: Path) -> int:
    """Size of a regular file; a pipe would hang, a device would never end.

    Raises
    ------
    OSError
        If there is no such file, or it is none.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file")
    return status.st_size


def read_small(path: Path) -> bytes:
    """All bytes of a small regular file.

    Raises
    ------
    OSError
        If it cannot be read, is no regular file, or is larger than `SMALL_FILE_BYTES`.
    """
    if require_regular(path) > SMALL_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it has over {SMALL_FILE_BYTES // 2**20} MB")
    return path.read_bytes()
