"""A small reader of DICOM element positions, for cutting and changing bytes on purpose; it shares no code with the package."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS = 3000  # a file that was blown up is changed further only as bytes
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA, TRANSFER_SYNTAX, META_LENGTH = 0x7FE00010, 0x00020010, 0x00020000
IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    b"1.2.840.10008.1.2",
    b"1.2.840.10008.1.2.1",
    b"1.2.840.10008.1.2.2",
    b"1.2.840.10008.1.2.1.99",
)
_LONG_FORM = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
Parents = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """Where one element, item or delimiter stands; ``parents`` are the places of enclosing defined lengths."""

    tag: int
    vr: bytes
    at: int
    length_at: int
    length_size: int
    value_at: int
    length: int
    end: int
    depth: int
    parents: Parents
    meta: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All elements of a file in order, and how its data set is written."""

    elements: tuple[Element, ...]
    implicit: bool
    big: bool
    body_at: int
    syntax: bytes


class BrokenError(Exception):
    """The bytes are no longer what this reader can follow: only byte-level mutations are left."""


@lru_cache(maxsize=256)
def layout(data: bytes) -> Layout:
    """Positions in a whole DICOM file; `BrokenError` if it cannot be followed to its end."""
    if data[128:132] != b"DICM":
        raise BrokenError("no DICM")
    elements: list[Element] = []
    head = _Walk(data=data, found=elements, implicit=False, big=False)
    at, syntax = 132, b""
    while at + 8 <= len(data) and data[at : at + 2] == b"\x02\x00":
        at = head.one(at, len(data), 0, (), meta=True)
        if elements[-1].tag == TRANSFER_SYNTAX:
            syntax = data[elements[-1].value_at : elements[-1].end].rstrip(b"\0 ")
    implicit, big = syntax == IMPLICIT, syntax == BIG
    if syntax != DEFLATED:
        rest = _Walk(data=data, found=elements, implicit=implicit, big=big)
        if rest.all(at, len(data), 0, ()) != len(data):
            raise BrokenError("stopped early")
    return Layout(elements=tuple(elements), implicit=implicit, big=big, body_at=at, syntax=syntax)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Elements of one coding, read in order."""

    data: bytes
    found: list[Element]
    implicit: bool
    big: bool

    def all(self, at: int, end: int, depth: int, parents: Parents, *, fragments: bool = False) -> int:
        """Read elements to ``end`` or to the delimiter of what holds them; where they end."""
        if depth > 40:
            raise BrokenError("deep")
        while at < end:
            at = self.one(at, end, depth, parents, fragment=fragments)
            if self.found[-1].tag in (ITEM_END, SEQUENCE_END) and self.found[-1].depth == depth:
                return at
        return at

    def one(
        self, at: int, end: int, depth: int, parents: Parents, *, meta: bool = False, fragment: bool = False
    ) -> int:
        """Read one element with all that it holds; its end."""
        order = ">" if self.big else "<"
        if at + 8 > end:
            raise BrokenError("cut")
        group, number = struct.unpack_from(order + "HH", self.data, at)
        tag = group << 16 | number
        vr = b""
        if self.implicit or group == 0xFFFE:
            length_at, length_size = at + 4, 4
        else:
            vr = self.data[at + 4 : at + 6]
            length_at, length_size = (at + 8, 4) if vr in _LONG_FORM else (at + 6, 2)
        value_at = length_at + length_size
        if value_at > end:
            raise BrokenError("cut")
        (length,) = struct.unpack_from(order + ("L" if length_size == 4 else "H"), self.data, length_at)
        stop = end if length == UNDEFINED else value_at + length
        if stop > end:
            raise BrokenError("too long")
        place = len(self.found)
        if place > MOST_ELEMENTS:
            raise BrokenError("too many")
        element = Element(
            tag=tag,
            vr=vr,
            at=at,
            length_at=length_at,
            length_size=length_size,
            value_at=value_at,
            length=length,
            end=stop,
            depth=depth,
            parents=parents,
            meta=meta,
        )
        self.found.append(element)
        inner = parents if length == UNDEFINED else (*parents, (length_at, length_size))
        holds = vr == b"SQ" or tag == ITEM or length == UNDEFINED or (self.implicit and _is_sequence(tag))
        if not holds or fragment:
            return stop
        closing = self.all(value_at, stop, depth + 1, inner, fragments=tag == PIXEL_DATA)
        self.found[place] = replace(element, end=closing)
        return closing


@lru_cache(maxsize=4096)
def _is_sequence(tag: int) -> bool:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def put(data: bytes, element: Element, value: bytes, *, big: bool, repair: bool = True) -> bytes:
    """``data`` with another value; with ``repair`` its length and those of all that encloses it fit again."""
    result = bytearray(data)
    result[element.value_at : element.end] = value
    if repair:
        _write_length(result, element.length_at, element.length_size, len(value), big)
        grow(result, element.parents, len(value) - (element.end - element.value_at), big=big)
    return bytes(result)


def grow(data: bytearray, parents: Parents, by: int, *, big: bool) -> None:
    """Add to the lengths of what encloses a changed place."""
    order: Literal["big", "little"] = "big" if big else "little"
    for at, size in parents:
        old = int.from_bytes(data[at : at + size], order)
        _write_length(data, at, size, old + by, big)


def _write_length(data: bytearray, at: int, size: int, length: int, big: bool) -> None:
    data[at : at + size] = (length % (1 << 8 * size)).to_bytes(size, "big" if big else "little")


def set_length(data: bytes, element: Element, length: int, *, big: bool) -> bytes:
    """``data`` with a length field that says ``length`` (cut to its size), nothing else changed."""
    result = bytearray(data)
    _write_length(result, element.length_at, element.length_size, length, big and not element.meta)
    return bytes(result)


def make(tag: int, vr: bytes, value: bytes, *, implicit: bool, big: bool, length: int | None = None) -> bytes:
    """One element's bytes; ``length`` may lie."""
    order = ">" if big else "<"
    length = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit or tag >> 16 == 0xFFFE:
        return head + struct.pack(order + "L", length % (1 << 32)) + value
    if vr in _LONG_FORM:
        return head + vr + b"\0\0" + struct.pack(order + "L", length % (1 << 32)) + value
    return head + vr + struct.pack(order + "H", length % (1 << 16)) + value


def insert(data: bytes, new: bytes, tag: int, where: Layout) -> bytes:
    """``data`` with an element put in among the outermost ones, in order of tags."""
    at = next((e.at for e in where.elements if e.depth == 0 and not e.meta and e.tag > tag), len(data))
    return data[:at] + new + data[at:]
