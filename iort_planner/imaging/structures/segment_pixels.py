"""Pixels of a segmentation's frames: bits, shares or numbers, stored plainly or by RLE.

Lengths are compared with the file before anything is set aside for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.pixels import NATIVE_SYNTAXES, uid_name
from iort_planner.imaging.structures.elements import DicomFile

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
# A run of RLE costs at least two bytes and a step here; 16 MB are read in 3 s. Our own choice.
_MAX_RLE_BYTES = 1 << 24
_PIXEL_DATA = 0x7FE00010

Kind: TypeAlias = Literal["BINARY", "FRACTIONAL", "LABELMAP"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """How the frames are stored."""

    kind: Kind
    rows: int
    columns: int
    frames: int
    bits: int
    threshold: float

    @property
    def pixels(self) -> int:
        """Of one frame."""
        return self.rows * self.columns


class _Native:
    """Frames that lie one behind the other; bits are packed across frames without gaps (PS3.5 8.1.1)."""

    def __init__(self, file: DicomFile, layout: FrameLayout) -> None:
        element = file.root.get(_PIXEL_DATA)
        there = 0 if element is None or element.items is not None else element.stop - element.start
        needed = (layout.frames * layout.pixels * layout.bits + 7) // 8
        if element is None or there < needed:
            raise ImageError(
                f"{file.path} has {there} bytes of pixels where {layout.frames} frames of {layout.columns} x "
                f"{layout.rows} pixels need {needed}; it is cut off, export it again"
            )
        self._file, self._layout, self._start = file, layout, element.start

    def frame(self, n: int) -> npt.NDArray[np.generic]:
        """Stored values of frame ``n``, flat."""
        layout, data = self._layout, self._file.data
        if layout.bits == 1:
            first_bit = n * layout.pixels
            first, skip = divmod(first_bit, 8)
            end = (first_bit + layout.pixels + 7) // 8
            packed = np.frombuffer(data[self._start + first : self._start + end], dtype=np.uint8)
            return np.unpackbits(packed, bitorder="little")[skip : skip + layout.pixels]
        size = layout.pixels * layout.bits // 8
        begin = self._start + n * size
        order = ">" if self._file.big_endian else "<"
        return np.frombuffer(data[begin : begin + size], dtype=f"{order}u{layout.bits // 8}")


class _RunLength:
    """Frames compressed by RLE, one fragment a frame (PS3.5 annex G)."""

    def __init__(self, file: DicomFile, layout: FrameLayout) -> None:
        element = file.root.get(_PIXEL_DATA)
        fragments = () if element is None else (element.items or ())[1:]  # the first holds offsets
        if len(fragments) != layout.frames:
            raise file.damaged(f"{len(fragments)} fragments of pixels for {layout.frames} frames")
        if layout.bits == 1:
            raise ImageError(
                f"{file.path} has single bits compressed by RLE, which DICOM does not have; export it again"
            )
        if sum(stop - start for start, stop in fragments) > _MAX_RLE_BYTES:
            raise ImageError(f"{file.path} has over {_MAX_RLE_BYTES} bytes of RLE pixels; store it uncompressed")
        self._file, self._layout, self._fragments = file, layout, fragments

    def frame(self, n: int) -> npt.NDArray[np.generic]:
        """Stored values of frame ``n``, flat."""
        start, stop = self._fragments[n]
        data = self._file.data[start:stop]
        count = self._layout.bits // 8
        head = np.frombuffer(data[:64].ljust(64, b"\0"), dtype="<u4")
        offsets = [int(o) for o in head[1 : count + 1]]
        if head[0] != count or offsets != sorted(offsets) or offsets[0] != 64 or offsets[-1] > len(data):
            raise self._file.damaged(f"the RLE head of frame {n + 1} makes no sense")
        planes = [
            _unpacked(data[a:b], self._layout.pixels) for a, b in zip(offsets, [*offsets[1:], len(data)], strict=True)
        ]
        if None in planes:
            raise self._file.damaged(f"the RLE pixels of frame {n + 1} are cut off")
        values = np.zeros(self._layout.pixels, dtype=np.uint16)
        for plane in planes:  # most significant byte first
            values = values << np.uint16(8) | np.frombuffer(plane or b"", dtype=np.uint8)
        return values


def _unpacked(data: bytes, size: int) -> bytes | None:
    """One byte plane of an RLE frame (PackBits); None if it is shorter than ``size``."""
    pieces, position, length = [], 0, 0
    while length < size and position + 1 < len(data):
        code = data[position]
        if code < 128:
            piece = data[position + 1 : position + 2 + code]
            position += 2 + code
        elif code > 128:
            piece = data[position + 1 : position + 2] * (257 - code)
            position += 2
        else:
            position += 1
            continue
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)[:size] if length >= size else None


def pixel_source(file: DicomFile, layout: FrameLayout) -> _Native | _RunLength:
    """What hands out the stored values of a frame.

    Raises
    ------
    ImageError
        If the pixels are fewer than the layout says, damaged, or compressed in another way than by RLE.
    """
    syntax = file.transfer_syntax_uid
    if syntax in NATIVE_SYNTAXES:
        return _Native(file, layout)
    if syntax == RLE_LOSSLESS:
        return _RunLength(file, layout)
    raise ImageError(f"{file.path} has its pixels in {uid_name(syntax)}, which is not supported; store it uncompressed")


def segment_pixels(stored: npt.NDArray[np.generic], layout: FrameLayout, segment: int) -> npt.NDArray[np.bool_]:
    """Which pixels of a frame belong to a segment, from stored values; shape (rows, columns)."""
    if layout.kind == "LABELMAP":
        inside = stored == segment
    elif layout.kind == "FRACTIONAL":
        inside = stored.astype(np.float64) >= layout.threshold
    else:
        inside = stored != 0
    result: npt.NDArray[np.bool_] = np.asarray(inside, dtype=np.bool_).reshape(layout.rows, layout.columns)
    return result
