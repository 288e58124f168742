"""Gzip files read in pieces, with a bound on what goes in and what comes out.

Python's own reader takes a file name in the gzip head byte by byte, so a head of 100 MB would hold it for
a minute; zlib does the same work in C.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

_PIECE = 1 << 16
# Blocks of 64 KB are the smallest that writers in use make members of (BGZF); that is 6 GB in all.
_MAX_MEMBERS = 100_000
# Deflate adds 5 bytes to 16 KB at worst (RFC 1951, stored blocks of old writers); the rest is for heads and file names.
_SLACK_BYTES = 1 << 21


class GzipStream:
    """The unpacked bytes of a gzip file, in order.

    Parameters
    ----------
    file : BinaryIO
        Open at the first byte of the gzip data.

    Raises
    ------
    zlib.error
        From `read`: if the data are damaged, cut off, or fail their check sum.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._waiting = b""
        self._members = 1
        self._taken = 0
        self._given = 0

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end."""
        pieces: list[bytes] = []
        while count > 0:
            if self._unpacker.eof and not self._next_member():
                break
            if not self._waiting:
                self._waiting = self._file.read(_PIECE)
                self._taken += len(self._waiting)
                if not self._waiting:
                    raise zlib.error("it is cut off")
                if self._taken > self._given * 1.001 + _SLACK_BYTES:
                    raise zlib.error("its packed data are longer than what they hold")
            piece = self._unpacker.decompress(self._waiting, count)
            self._waiting = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            self._given += len(piece)
            count -= len(piece)
            if piece:
                pieces.append(piece)
        return b"".join(pieces)

    def _next_member(self) -> bool:
        """Whether more gzip data follow; zeros that pad a file do not count."""
        if not self._waiting.strip(b"\0"):
            self._waiting = self._file.read(_PIECE)
            self._taken += len(self._waiting)
        if not self._waiting.strip(b"\0"):
            return False
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise zlib.error(f"it has over {_MAX_MEMBERS} parts")
        self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return True
