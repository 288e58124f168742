"""Where bytes come from: plain files and members of a zip archive, opened read-only and never unpacked to disk."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

# What reading a source may raise when it is damaged. OSError: the medium. From zipfile - EOFError: a member is cut off;
# zlib.error: its deflate stream is wrong; BadZipFile: a head or a checksum; RuntimeError: it turns out encrypted, or
# (its subclass NotImplementedError) asks for a version or packing that zipfile does not know.
READ_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError)

# A header is read by a library that trusts lengths; these bounds keep any file from costing memory or time.
# Our own choice: a classic header takes about 150 reads, a volume up to 100 reads a frame, whose pixels are at least
# 30 kB even when compressed. 250 000 reads of empty items take 3 s and 200 MB.
MAX_HEADER_READS, MIN_HEADER_READS, BYTES_A_READ = 250_000, 10_000, 100
MAX_HEADER_BYTES = 64 * 2**20

# An object may not unpack to more than this times its packed size, unless it stays small: even slices that are all
# padding do not get there (deflate ends at 1032:1, an archive of zeros is a bomb, not a scan). Our own choice.
MAX_EXPANSION = 200
SMALL_BYTES = 8 * 2**20
SMALL_SERIES_BYTES = 64 * 2**20  # ... and of all files of a series together


class Source(Protocol):
    """One file to look at."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def folder(self) -> str:
        """The place it lies in: files of one place may belong together."""

    @property
    def size(self) -> int:
        """Bytes of its content."""

    @property
    def packed_size(self) -> int:
        """Bytes that it takes on the disk."""

    def open(self) -> BinaryIO:
        """The content as a stream that can seek."""

    def verify(self) -> None:
        """Compare the content with its checksum, if it has one; raises one of `READ_ERRORS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A regular file."""

    path: Path
    name: str
    size: int

    @property
    def folder(self) -> str:
        """The folder's path."""
        return str(self.path.parent)

    @property
    def packed_size(self) -> int:
        """The file's size."""
        return self.size

    def open(self) -> BinaryIO:
        """The open file."""
        return self.path.open("rb")

    def verify(self) -> None:
        """Nothing to compare with: plain files carry no checksum."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZipSource:
    """A member of an open archive."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo
    name: str

    @property
    def folder(self) -> str:
        """The folder inside the archive."""
        return self.member.filename.rpartition("/")[0]

    @property
    def size(self) -> int:
        """Unpacked bytes, as the archive says."""
        return self.member.file_size

    @property
    def packed_size(self) -> int:
        """Packed bytes."""
        return self.member.compress_size

    def open(self) -> BinaryIO:
        """The member, unpacked as it is read."""
        return cast("BinaryIO", self.archive.open(self.member))

    def verify(self) -> None:
        """Read it to the end once: the archive holds a sum."""
        with self.open() as file:  # zipfile compares the sum when it has read to the end in one go
            while file.read(1 << 20):
                pass


class HeaderTooLargeError(Exception):
    """A header asks for more reads or bytes than any image needs. Stays inside the package."""


class CutOffError(Exception):
    """A file ends within a value. Stays inside the package."""


@dataclass(slots=True)
class Budget:
    """Reads and bytes that are left for one file's header, all its sequences included."""

    reads: int
    bytes: int = MAX_HEADER_BYTES

    @classmethod
    def for_image(cls, size: int) -> Budget:
        """What the header of an image file of ``size`` bytes may take."""
        return cls(reads=min(MAX_HEADER_READS, MIN_HEADER_READS + size // BYTES_A_READ))

    def spend(self, count: int) -> None:
        """Take one read of ``count`` bytes; reading to the end (-1) is refused, no header needs it."""
        self.reads -= 1
        if not 0 <= count <= self.bytes or self.reads < 0:
            raise HeaderTooLargeError
        self.bytes -= count


class BoundedReader:
    """A stream for the DICOM library that ends its work when it reads more than any header needs."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self.tell: Callable[[], int] = file.tell
        self._seek, self._read = file.seek, file.read
        self._budget = budget

    def read(self, count: int = -1) -> bytes:
        """``count`` bytes within the budget, or none at the end of the file; half a value would pass for a whole one."""
        self._budget.spend(count)
        data = self._read(count)
        if 0 < len(data) < count:
            raise CutOffError
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """Move, not beyond what a header may take: in packed data, every skipped byte is unpacked."""
        if whence == 0 and position > MAX_HEADER_BYTES:
            raise HeaderTooLargeError
        return self._seek(position, whence)


class InflatingReader:
    """Forward reading of a raw deflate stream (Deflated Explicit VR Little Endian), with rewinding inside what is kept.

    Parameters
    ----------
    file : BinaryIO
        Positioned at the first compressed byte.
    keep : bool
        Keep all that was inflated, so that `seek` may go back: for headers. Else only forwards, for pixels.
    """

    _CHUNK = 1 << 16

    def __init__(self, file: BinaryIO, *, keep: bool) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._keep = keep
        self._data = bytearray()
        self._start = 0  # position of _data[0] in the inflated stream
        self._position = 0

    def tell(self) -> int:
        """Position in the inflated stream."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Move, relative to the start (0) or to here (1); nothing is read yet."""
        position += self._position if whence == 1 else 0
        if whence not in (0, 1) or position < self._start:
            raise OSError(f"cannot go to {position} in deflated data")
        self._position = position
        return position

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes; fewer only at the end of the stream."""
        self._fill(count)
        first = self._position - self._start
        part = bytes(self._data[first : first + count])
        self._position += len(part)
        return part

    def _fill(self, count: int) -> None:
        """Inflate until ``count`` bytes from the position on are there, or the stream ends."""
        end = self._position + count
        while self._start + len(self._data) < end and not self._inflate.eof:
            if not self._keep:
                passed = min(self._position - self._start, len(self._data))
                del self._data[:passed]
                self._start += passed
            packed = self._inflate.unconsumed_tail or self._file.read(self._CHUNK)
            more = self._inflate.decompress(packed, 1 << 20)
            if not packed and not more:
                return
            self._data += more
            if self._keep and len(self._data) > MAX_HEADER_BYTES:
                raise HeaderTooLargeError
