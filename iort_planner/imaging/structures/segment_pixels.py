"""Pixels of a segmentation's frames: bits, shares or numbers, stored plainly or by RLE.

Lengths are compared with the file before anything is set aside for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom import decode_worker
from iort_planner.imaging.dicom.pixels import EXPLICIT_BIG, NATIVE_SYNTAXES, uid_name
from iort_planner.imaging.structures.elements import DicomFile

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
        layout = self._layout
        try:
            words = decode_worker.decode_rle(
                bytes(self._file.data[start:stop]), rows=layout.rows, columns=layout.columns, bits_allocated=layout.bits
            )
        except decode_worker.Refused as reason:
            raise self._file.damaged(f"frame {n + 1}: {reason}") from reason
        return np.frombuffer(words, dtype=f"u{layout.bits // 8}")


def pixel_source(file: DicomFile, layout: FrameLayout) -> _Native | _RunLength:
    """What hands out the stored values of a frame.

    Raises
    ------
    ImageError
        If the pixels are fewer than the layout says, damaged, or compressed in another way than by RLE.
    """
    syntax = file.transfer_syntax_uid
    if syntax == EXPLICIT_BIG and layout.bits != 16:
        text = "pixels of 1 or 8 bits in big endian order, which may lie in swapped pairs"
        raise ImageError(f"{file.path} has {text}: not supported; store it in little endian")
    if syntax in NATIVE_SYNTAXES:
        return _Native(file, layout)
    if syntax == decode_worker.RLE:
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
