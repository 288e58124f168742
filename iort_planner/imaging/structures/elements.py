"""DICOM files of structures taken apart with a bound on everything: elements, depth, lengths.

pydicom makes an object of each sequence item: a file of 8 MB with a million empty items cost it 11 s and
770 MB (pydicom 3.0.2, our own trial), and contours and segment frames come as nested sequences. Here an
element is three numbers, a value is read only where it is asked for, and the count of elements is limited.

Encoding: DICOM PS3.5 chapter 7; deflated syntax: PS3.5 A.5; file head: PS3.10 chapter 7.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom.pixels import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from iort_planner.imaging.dicom.tags import printable, quiet_pydicom

# A structure set with 100 structures on 300 slices has some 300 000 elements, a segmentation of 12 000 frames
# 400 000. A million and a half is read in about 3 s. Our own choice.
MAX_ELEMENTS = 1_500_000
_MAX_DEPTH = 12  # what is read here lies at most 4 sequences deep
_MAX_DEFLATED_BYTES = 1 << 28  # unpacked; our own choice
_MAX_READ_BYTES = 1 << 26  # larger files are mapped, not read

# A number and its separator are 17 bytes at most (PS3.5 6.2, DS), and some writers pad generously.
_DS_BYTES = 32
# Beyond this, products of coordinates overflow; what is merely absurd is named where its meaning is known. Our own choice.
_LARGEST_DECIMAL = 1e12

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 table 7.1-1: these have two reserved bytes and a length of four bytes.
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_PIXEL_DATA = 0x7FE00010
_CHARACTER_SET, _SOP_CLASS, _SYNTAX, _MEDIA_SOP_CLASS = 0x00080005, 0x00080016, 0x00020010, 0x00020002
_DS_CHARACTERS = b"0123456789+-.eE\\ "

Buffer: TypeAlias = bytes | mmap.mmap


class Element(NamedTuple):
    """Where a value lies; ``items`` are the places of a sequence's items or of the pixel data's fragments."""

    start: int
    stop: int
    items: tuple[tuple[int, int], ...] | None
    implicit: bool = False


Elements: TypeAlias = dict[int, Element]


@dataclass(frozen=True, slots=True)
class _Coding:
    implicit: bool
    big: bool


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that starts with these bytes is DICOM, with or without the 128 bytes in front."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    group, element, vr, length = struct.unpack_from("<HH2sH", head)
    if (group, element) == (0x0002, 0x0000):
        return bool(vr == b"UL" and length == 4)
    # Without any file head the data set starts with group 8, as a rule with these; both codings are possible.
    if group != 0x0008 or element not in (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016):
        return False
    return vr in _SHORT or struct.unpack_from("<I", head, 4)[0] < 256


class DicomFile:
    """The elements of one file, found on request.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ImageError
        If the file is damaged or exceeds a limit; the same for every method.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = MAX_ELEMENTS
        with path.open("rb") as file:
            size = path.stat().st_size
            data: Buffer = (
                file.read() if size <= _MAX_READ_BYTES else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )
        self.data = data
        start = 132 if data[128:132] == b"DICM" else 0
        self.transfer_syntax_uid, start, media_class = self._head(start)
        if self.transfer_syntax_uid == DEFLATED_LITTLE:
            self.data, start = self._inflated(start), 0
        big = self.transfer_syntax_uid == EXPLICIT_BIG
        self._coding = _Coding(self.transfer_syntax_uid == IMPLICIT_LITTLE, big)
        self.root, _ = self._walk(start, len(self.data), self._coding, 0)
        self.sop_class_uid = self.text(self.root, _SOP_CLASS) or media_class

    @property
    def big_endian(self) -> bool:
        """Byte order of binary values."""
        return self._coding.big

    def items(self, elements: Elements, tag: int) -> list[Elements]:
        """Data sets of a sequence's items; empty where the sequence is absent."""
        element = elements.get(tag)
        if element is None:
            return []
        places = element.items
        coding = _Coding(implicit=True, big=False) if element.implicit else self._coding
        if places is None:
            places = self._items(element.start, element.stop, coding, 1, bounded=True)[0]
        return [self._walk(start, stop, coding, 1)[0] for start, stop in places]

    def first(self, elements: Elements, *tags: int) -> Elements:
        """The first item of each nested sequence in turn; empty where one is absent."""
        for tag in tags:
            found = self.items(elements, tag)
            if not found:
                return {}
            elements = found[0]
        return elements

    def raw(self, elements: Elements, tag: int) -> bytes:
        """The stored bytes without padding; empty where the element is absent."""
        element = elements.get(tag)
        return b"" if element is None else self.data[element.start : element.stop].strip(b" \0")

    def text(self, elements: Elements, tag: int) -> str:
        """A value of plain characters (UI, CS): control characters and others become ``?``."""
        return printable(self.raw(elements, tag)[:1024].decode("ascii", "replace"))

    def name(self, elements: Elements, tag: int) -> str:
        """A text in the file's own character set, printable, at most 64 characters (the limit of LO)."""
        from pydicom import charset

        raw = self.raw(elements, tag)[:256]
        if raw.isascii() and b"\x1b" not in raw:
            return printable(raw.decode("ascii"))[:64]
        sets = self.raw(self.root, _CHARACTER_SET).decode("ascii", "replace").split("\\")
        try:
            with quiet_pydicom():
                text = charset.decode_bytes(raw, charset.convert_encodings(sets), set())
        except (LookupError, ValueError):
            text = raw.decode("latin-1")
        return printable(text)[:64]

    def whole(self, elements: Elements, tag: int) -> int | None:
        """A whole number written as text (IS); None where absent or malformed."""
        raw = self.raw(elements, tag)
        digits = raw[1:] if raw[:1] in (b"+", b"-") else raw
        return int(raw) if digits.isdigit() and len(digits) <= 10 else None

    def unsigned(self, elements: Elements, tag: int) -> int | None:
        """A binary number of two bytes (US); None where absent."""
        element = elements.get(tag)
        if element is None or element.stop - element.start < 2:
            return None
        return int.from_bytes(self.data[element.start : element.start + 2], "big" if self._coding.big else "little")

    def decimals(self, elements: Elements, tag: int, *, most: int) -> list[float] | None:
        """Numbers written as text (DS), at most ``most``; None where absent, malformed or more."""
        element = elements.get(tag)
        if element is None or element.stop - element.start > _DS_BYTES * most + 2:
            return None
        raw = self.raw(elements, tag)
        if not raw or raw.translate(None, _DS_CHARACTERS):
            return None
        try:
            values = [float(part) for part in raw.split(b"\\")]
        except ValueError:
            return None
        return values if all(abs(value) <= _LARGEST_DECIMAL for value in values) else None  # NaN is refused too

    def damaged(self, what: str) -> ImageError:
        """The refusal of a malformed file."""
        return ImageError(f"{self.path} is damaged: {what}; export it again")

    def _head(self, start: int) -> tuple[str, int, str]:
        """Transfer syntax, where the data set starts, and the SOP class the head names."""
        data, position = self.data, start
        elements: Elements = {}
        while data[position : position + 2] == b"\x02\0":
            tag, element, position = self._element(position, len(data), _Coding(implicit=False, big=False), 0)
            elements[tag] = element
        syntax = self.text(elements, _SYNTAX)
        if not syntax:
            syntax = EXPLICIT_LITTLE if data[position + 4 : position + 6] in _SHORT | _LONG else IMPLICIT_LITTLE
        return syntax, position, self.text(elements, _MEDIA_SOP_CLASS)

    def _inflated(self, start: int) -> bytes:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = unpacker.decompress(self.data[start:], _MAX_DEFLATED_BYTES)
        except zlib.error as error:
            raise self.damaged("its deflated data set cannot be unpacked") from error
        if not unpacker.eof:
            if len(data) < _MAX_DEFLATED_BYTES:
                raise self.damaged("its deflated data set is cut off")
            raise ImageError(f"{self.path} unpacks to more than {_MAX_DEFLATED_BYTES} bytes; store it uncompressed")
        return data

    def _walk(self, position: int, end: int, coding: _Coding, depth: int) -> tuple[Elements, int]:
        """Elements from a position to ``end`` or to an item's end mark, and the position after them."""
        elements: Elements = {}
        while position < end:
            tag, element, position = self._element(position, end, coding, depth)
            if tag == _ITEM_END:
                break
            elements[tag] = element
        return elements, position

    def _element(self, position: int, end: int, coding: _Coding, depth: int) -> tuple[int, Element, int]:
        """One element (its sequence's items, if the length is undefined) and the position after it."""
        self._left -= 1
        if self._left < 0:
            raise ImageError(f"{self.path} has over {MAX_ELEMENTS} elements; export the one structure that is needed")
        if position + 8 > end:
            raise self.damaged(f"it ends within an element, at byte {position}")
        order = ">" if coding.big else "<"
        group, number, vr, length = struct.unpack_from(order + "HH2sH", self.data, position)
        tag = group << 16 | number
        implicit = coding.implicit
        if implicit or group == 0xFFFE:
            (length,) = struct.unpack_from(order + "I", self.data, position + 4)
            start = position + 8
            is_sequence = group != 0xFFFE and length == _UNDEFINED
        elif vr in _SHORT:
            start = position + 8
            is_sequence = False
        elif vr in _LONG:
            if position + 12 > end:
                raise self.damaged(f"it ends within an element, at byte {position}")
            (length,) = struct.unpack_from(order + "I", self.data, position + 8)
            start = position + 12
            is_sequence = length == _UNDEFINED
            if vr == b"UN" and is_sequence:  # PS3.5 6.2.2 note 2: its items are in implicit little endian
                implicit, coding = True, _Coding(implicit=True, big=False)
        else:
            raise self.damaged(f"no value representation at byte {position + 4}")
        if is_sequence:
            places, after = self._items(start, end, coding, depth + 1, bounded=False)
            return tag, Element(start, after, places, implicit and not self._coding.implicit), after
        if start + length > end:
            raise self.damaged(f"an element at byte {position} says {length} bytes, {end - start} are there")
        if tag == _ITEM_END and depth == 0:
            raise self.damaged(f"an item ends at byte {position} without a start")
        return tag, Element(start, start + length, None), start + length

    def _items(
        self, position: int, end: int, coding: _Coding, depth: int, *, bounded: bool
    ) -> tuple[tuple[tuple[int, int], ...], int]:
        """Places of items, and the position after them; ``bounded``: the sequence fills the range to ``end``."""
        if depth > _MAX_DEPTH:
            raise self.damaged(f"sequences lie more than {_MAX_DEPTH} deep at byte {position}")
        form = ">HHI" if coding.big else "<HHI"
        places = []
        while position < end or not bounded:
            self._left -= 1
            if self._left < 0:
                raise ImageError(f"{self.path} has over {MAX_ELEMENTS} items; export the one structure that is needed")
            if position + 8 > end:
                raise self.damaged(f"it ends within a sequence, at byte {position}")
            group, number, length = struct.unpack_from(form, self.data, position)
            tag = group << 16 | number
            position += 8
            if tag == _SEQUENCE_END and not bounded:
                break
            if tag != _ITEM:
                raise self.damaged(f"an item is expected at byte {position - 8}")
            if length == _UNDEFINED:
                _, after = self._walk(position, end, coding, depth)
                if self.data[after - 8 : after - 4] != struct.pack(form[:3], _ITEM >> 16, _ITEM_END & 0xFFFF):
                    raise self.damaged(f"an item at byte {position - 8} has no end")
                places.append((position, after - 8))
                position = after
            else:
                if position + length > end:
                    raise self.damaged(f"an item at byte {position - 8} says {length} bytes")
                places.append((position, position + length))
                position += length
        return tuple(places), position
