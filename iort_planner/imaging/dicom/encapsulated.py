"""Where the compressed frames of a file lie: the items that encapsulate them (DICOM PS3.5 A.4)."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import BinaryIO

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.decode_worker import RLE

# Our own choice: a file of nothing but item heads must not keep us busy; 100 000 take 0.3 s and 30 MB.
_MOST_FRAGMENTS = 100_000
_REMEDY = "export the series again, uncompressed if possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameIndex:
    """Where the frames of one file lie: for each its fragments as (position, length) in bytes."""

    name: str
    fragments: tuple[tuple[tuple[int, int], ...], ...]

    def read(self, file: BinaryIO, frame: int, *, at_most: int) -> bytes:
        """Bytes of one frame, its fragments joined.

        Raises
        ------
        ImageError
            If the frame has more than ``at_most`` bytes (`FrameFormat.most_compressed_bytes`), or the file ends in it.
        """
        size = sum(length for _, length in self.fragments[frame])
        if size > at_most:
            raise _bad_data(self.name, f"frame {frame + 1} has {size} bytes where its pixels need at most {at_most}")
        parts = []
        for position, length in self.fragments[frame]:
            file.seek(position)
            parts.append(file.read(length))
        data = b"".join(parts)
        if len(data) != size:
            raise _bad_data(self.name, f"the file ends in frame {frame + 1}")
        return data


def index_frames(
    file: BinaryIO,
    *,
    offset: int,
    length_limit: int,
    frames: int,
    name: str,
    transfer_syntax_uid: str,
    extended_offsets: tuple[bytes, bytes] | None = None,
) -> FrameIndex:
    """Find the frames in encapsulated pixel data (DICOM PS3.5 A.4).

    With as many fragments as frames each fragment is a frame. Else the basic or the extended offset table
    says where frames start, or, where there is none that fits, the marker that starts each image.

    Parameters
    ----------
    file : binary file
        Seekable; its position is changed.
    offset : int
        First byte after the head of the Pixel Data element.
    length_limit : int
        Size of the file in bytes.
    frames : int
        Number of Frames.
    name : str
        The file, for messages.
    transfer_syntax_uid : str
        One of `SUPPORTED_SYNTAXES`.
    extended_offsets : pair of bytes or None
        Values of Extended Offset Table (7FE0,0001) and its Lengths (7FE0,0002).

    Raises
    ------
    ImageError
        If an item does not lie in the file, or fragments and frames do not fit.
    """
    table, *items = _items(file, offset, length_limit, name)
    if len(items) < frames:
        raise _bad_data(name, f"{len(items)} pieces of compressed pixels for {frames} frames")
    starts: list[int] | None = None
    if len(items) == frames:
        starts = list(range(frames))
    elif transfer_syntax_uid == RLE:  # DICOM PS3.5 A.4.2: one fragment a frame
        raise _bad_data(name, f"{len(items)} pieces of RLE pixels for {frames} frames")
    else:
        heads = {position - items[0][0]: place for place, (position, _) in enumerate(items)}
        if extended_offsets is not None:
            starts = _starts(extended_offsets[0], "Q", heads, frames)
        if starts is None and table[1] == 4 * frames:
            file.seek(table[0])
            starts = _starts(file.read(table[1]), "I", heads, frames)
        marked = [place for place, item in enumerate(items) if _starts_image(file, item)]
        if starts is None and len(marked) == frames and marked[0] == 0:
            starts = marked
        if starts is None or (len(marked) > frames):
            raise _bad_data(
                name,
                f"{len(items)} pieces of compressed pixels, {len(marked)} of which start an image, for {frames} frames",
            )
    ends = [*starts[1:], len(items)]
    return FrameIndex(
        name=name, fragments=tuple(tuple(items[start:end]) for start, end in zip(starts, ends, strict=True))
    )


def _items(file: BinaryIO, offset: int, limit: int, name: str) -> list[tuple[int, int]]:
    """(position, length) of every item's value, the offset table's first."""
    found: list[tuple[int, int]] = []
    while True:
        file.seek(offset)
        head = file.read(8)
        if not head and found:
            break  # many writers forget the delimiter; what is missing will be missed
        if len(head) < 8:
            raise _bad_data(name, "the file ends in its compressed pixels")
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise _bad_data(name, f"({group:04X},{element:04X}) stands at byte {offset} where a piece of pixels should")
        offset += 8
        if length > limit - offset:
            raise _bad_data(name, f"a piece of {length} bytes at byte {offset} of a file of {limit}")
        if len(found) == _MOST_FRAGMENTS:
            raise _bad_data(name, f"compressed pixels in more than {_MOST_FRAGMENTS} pieces")
        found.append((offset, length))
        offset += length
    if len(found) < 2:
        raise _bad_data(name, "no compressed pixels")
    return found


def _starts(table: bytes, code: str, heads: dict[int, int], frames: int) -> list[int] | None:
    """First fragment of each frame by an offset table; None if the table does not fit the fragments."""
    if len(table) != frames * struct.calcsize(f"<{code}"):
        return None
    places = [heads.get(value, -1) for value in struct.unpack(f"<{frames}{code}", table)]
    return places if places[0] == 0 and all(a < b for a, b in itertools.pairwise(places)) else None


def _starts_image(file: BinaryIO, item: tuple[int, int]) -> bool:
    """Whether a fragment begins like an image of the JPEG family (SOI and a marker, SOC and SIZ, a JP2 box)."""
    file.seek(item[0])
    return item[1] >= 8 and file.read(8).startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "))


def _bad_data(name: str, what: str) -> ImageError:
    return ImageError(f"{name}: {what}; the file is damaged or cut off, {_REMEDY}")
