"""Mutations of pixel data: too short, too long, encapsulated where native, fragments, code streams, deflate bombs."""

from __future__ import annotations

import random
import struct
import zlib

from tests.fuzz import elements as dicom
from tests.fuzz.elements import BrokenError, Element, Layout
from tests.fuzz.mutate_bytes import Mutator
from tests.fuzz.mutate_dicom import BOMB_MB, body, bomb, inflate, raw_deflate

_FRAGMENT_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def _pixels(where: Layout) -> Element:
    found = [e for e in where.elements if e.tag == dicom.PIXEL_DATA and e.depth == 0]
    if not found:
        raise BrokenError("no pixel data")
    return found[-1]


def _fragments(where: Layout) -> list[Element]:
    """Offset table and fragments of encapsulated pixel data."""
    pixels = _pixels(where)
    found = [e for e in where.elements if e.tag == dicom.ITEM and e.at >= pixels.value_at]
    if pixels.length != dicom.UNDEFINED or not found:
        raise BrokenError("not encapsulated")
    return found


def _fragment(rng: random.Random, where: Layout) -> Element:
    """Any fragment that is not empty."""
    fragments = [f for f in _fragments(where)[1:] if f.length]
    if not fragments:
        raise BrokenError("no fragments")
    return rng.choice(fragments)


def native_length(rng: random.Random, data: bytes) -> bytes:
    """Shorter or longer pixels with a length that fits, or the same pixels with one that does not."""
    where = dicom.layout(data)
    pixels = _pixels(where)
    value = data[pixels.value_at : pixels.end]
    match rng.randrange(5):
        case 0:
            value = value[: rng.randrange(len(value) + 1)]
        case 1:
            value = value + rng.randbytes(rng.choice((1, 2, 100, 5000)))
        case 2:
            value = b""
        case 3:
            return dicom.set_length(
                data, pixels, rng.choice((0, len(value) * 2, len(value) - 2, dicom.UNDEFINED)), big=where.big
            )
        case _:
            new = dicom.make(dicom.PIXEL_DATA, b"OW", value, implicit=where.implicit, big=where.big)
            return rng.choice((data[: pixels.at] + new + new, data[: pixels.at], data[: pixels.at] + new[:6]))
    return dicom.put(data, pixels, value, big=where.big)


def encapsulate_native(rng: random.Random, data: bytes) -> bytes:
    """Native pixels wrapped as fragments, with the transfer syntax left as it is."""
    where = dicom.layout(data)
    pixels = _pixels(where)
    value = data[pixels.value_at : pixels.end]
    parts = [value] if rng.random() < 0.5 else [value[: len(value) // 2], value[len(value) // 2 :]]
    wrapped = dicom.make(dicom.ITEM, b"", rng.choice((b"", b"\0" * 4)), implicit=True, big=where.big)
    wrapped += b"".join(dicom.make(dicom.ITEM, b"", part, implicit=True, big=where.big) for part in parts)
    wrapped += rng.choice((_FRAGMENT_END, b""))
    new = dicom.make(dicom.PIXEL_DATA, b"OB", b"", implicit=where.implicit, big=where.big, length=dicom.UNDEFINED)
    return data[: pixels.at] + new + wrapped


def unwrap(rng: random.Random, data: bytes) -> bytes:
    """Fragments written as native pixels under the compressed syntax."""
    where = dicom.layout(data)
    fragments = _fragments(where)
    value = b"".join(data[f.value_at : f.end] for f in fragments[1:])
    value += rng.choice((b"", b"\0" * 600))
    return data[: _pixels(where).at] + dicom.make(
        dicom.PIXEL_DATA, b"OW", value, implicit=where.implicit, big=where.big
    )


def fragment_length(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    fragment = rng.choice(_fragments(where))
    lengths = (
        0,
        1,
        fragment.length + 2,
        fragment.length - 2,
        0x7FFFFFFF,
        0xFFFFFFFE,
        dicom.UNDEFINED,
        len(data),
        4,
        64,
    )
    return dicom.set_length(data, fragment, rng.choice(lengths), big=where.big)


def offset_table(rng: random.Random, data: bytes) -> bytes:
    """Wrong offsets, too many, too few, odd bytes."""
    where = dicom.layout(data)
    table = _fragments(where)[0]
    count = rng.choice((0, 1, 2, 3, 4, 5, 4000))
    offsets = [rng.choice((0, 1, 8, 100, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2000))) for _ in range(count)]
    value = struct.pack(f"<{count}L", *offsets) + rng.choice((b"", b"", b"\0\0"))
    return dicom.put(data, table, value, big=where.big)


def fragment_list(rng: random.Random, data: bytes) -> bytes:
    """Fragments dropped, doubled, reordered, empty, in thousands, or with a foreign tag between them."""
    where = dicom.layout(data)
    fragments = _fragments(where)
    parts = [data[f.at : f.end] for f in fragments]
    match rng.randrange(8):
        case 0:
            del parts[rng.randrange(len(parts))]
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        case 2:
            rng.shuffle(parts)
        case 3:
            parts.insert(rng.randrange(len(parts) + 1), b"\xfe\xff\x00\xe0\0\0\0\0" * rng.choice((1, 10, 20000)))
        case 4:
            parts.insert(rng.randrange(len(parts) + 1), rng.randbytes(rng.choice((2, 8, 30))))
        case 5:
            n = rng.randrange(len(parts))
            body_ = parts[n][8:]
            half = len(body_) // 4 * 2
            parts[n : n + 1] = [
                dicom.make(dicom.ITEM, b"", b, implicit=True, big=False) for b in (body_[:half], body_[half:])
            ]
        case 6:
            parts = parts[:1]
        case _:
            parts.insert(1, _FRAGMENT_END)
    end = rng.choice((_FRAGMENT_END, _FRAGMENT_END, b"", b"\xfe\xff\xdd\xe0\xff\xff\xff\xff"))
    return data[: fragments[0].at] + b"".join(parts) + end


def code_stream(rng: random.Random, data: bytes) -> bytes:
    """Bytes of one fragment changed, most often near its start where the sizes stand."""
    where = dicom.layout(data)
    fragment = _fragment(rng, where)
    stream = bytearray(data[fragment.value_at : fragment.end])
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at = rng.randrange(min(len(stream), rng.choice((16, 64, 120, len(stream)))))
        match rng.randrange(4):
            case 0:
                stream[at] ^= 1 << rng.randrange(8)
            case 1:
                stream[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
            case 2:
                stream[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0"))
            case _:
                stream[at : at + 2] = rng.choice(
                    (b"\xff\xd9", b"\xff\xd8", b"\xff\x4f", b"\xff\x93", b"\xff\xff", b"\0\0")
                )
    if rng.random() < 0.2:
        stream = stream[: rng.randrange(len(stream) + 1)]
    return dicom.put(data, fragment, bytes(stream), big=where.big)


def stream_sizes(rng: random.Random, data: bytes) -> bytes:
    """The frame's size as the code stream has it, made absurd: JPEG 2000's SIZ, JPEG's SOF, RLE's segment table."""
    where = dicom.layout(data)
    fragment = _fragment(rng, where)
    stream = bytearray(data[fragment.value_at : fragment.end])
    size = rng.choice((0, 1, 15, 17, 4096, 30000, 65535))
    at = stream.find(b"\xff\x51")
    if at >= 0:  # marker, Lsiz, Rsiz, then Xsiz, Ysiz, offsets, tile sizes: 8 numbers of 4 bytes; Csiz, Ssiz
        field = rng.randrange(9)
        large = rng.choice((size, 1 << 31, (1 << 32) - 1, 100_000))
        if field < 8:
            stream[at + 6 + 4 * field : at + 10 + 4 * field] = struct.pack(">L", large)
        else:
            stream[at + 38 : at + 40] = struct.pack(">H", size)
        return dicom.put(data, fragment, bytes(stream), big=where.big)
    at = max(stream.find(b"\xff\xc3"), stream.find(b"\xff\xf7"), stream.find(b"\xff\xc1"))
    if at >= 0:  # marker, length, precision, then height and width
        field = rng.randrange(3)
        if field < 2:
            stream[at + 5 + 2 * field : at + 7 + 2 * field] = struct.pack(">H", size)
        else:
            stream[at + 4] = rng.choice((0, 2, 8, 17, 32, 255))
        return dicom.put(data, fragment, bytes(stream), big=where.big)
    at = 4 * rng.randrange(16)  # RLE: count of segments, then their offsets
    stream[at : at + 4] = struct.pack(
        "<L", rng.choice((0, 1, 2, 3, 15, 16, 64, 65, 1 << 31, (1 << 32) - 1, len(stream)))
    )
    return dicom.put(data, fragment, bytes(stream), big=where.big)


def run_lengths(rng: random.Random, data: bytes) -> bytes:
    """RLE that unpacks to far more, or never to enough: replicate runs and no-ops."""
    where = dicom.layout(data)
    if where.syntax != b"1.2.840.10008.1.2.5":
        raise BrokenError("not RLE")
    fragment = _fragment(rng, where)
    runs = rng.choice((b"\x81\xaa", b"\x80", b"\x7f", b"\x00\x01")) * rng.choice((1, 1000, 200_000))
    head = struct.pack("<16L", rng.choice((1, 2, 3)), 64, 64 + len(runs) // 2 // 2 * 2, *([0] * 13))
    return dicom.put(data, fragment, head + runs + b"\0" * (len(runs) % 2), big=where.big)


def deflate_bomb(rng: random.Random, data: bytes) -> bytes:
    """A data set that unpacks to more than the memory bound: in pixels, or in an element before them."""
    head, packed = _deflated(data)
    plain = inflate(packed)
    at = plain.find(struct.pack("<HH", 0x7FE0, 0x10))
    first = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    length = BOMB_MB << 20
    if rng.random() < 0.5 and at > 0:
        start = plain[:at] + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, length)
    else:
        start = plain[: max(at, 0)] + struct.pack(
            "<HH2sHL", 0x0029, 0x1010, b"OB", 0, rng.choice((length, dicom.UNDEFINED))
        )
    return head + first.compress(start) + first.flush(zlib.Z_FULL_FLUSH) + bomb(rng.choice((b"\0", b"A")))


def deflate_garbage(rng: random.Random, data: bytes) -> bytes:
    """A deflate stream cut, damaged, doubled, with a zlib head, or not deflated at all."""
    head, packed = _deflated(data)
    plain = inflate(packed)
    at = rng.randrange(len(packed))
    return head + rng.choice(
        (
            packed[:at],
            packed[:at] + rng.randbytes(40) + packed[at:],
            packed + packed,
            zlib.compress(plain),
            plain,
            b"",
            rng.randbytes(400),
            raw_deflate(packed),
            raw_deflate(plain + plain),
            raw_deflate(plain[: rng.randrange(len(plain))]),
        )
    )


def _deflated(data: bytes) -> tuple[bytes, bytes]:
    head, packed = body(data)
    if dicom.layout(data).syntax != dicom.DEFLATED:
        raise BrokenError("not deflated")
    return head, packed


NATIVE_MUTATORS: tuple[Mutator, ...] = (native_length, encapsulate_native)
DEFLATED_MUTATORS: tuple[Mutator, ...] = (*(deflate_garbage,) * 12, deflate_bomb)
ENCAPSULATED_MUTATORS: tuple[Mutator, ...] = (
    code_stream,
    code_stream,
    code_stream,
    stream_sizes,
    stream_sizes,
    fragment_length,
    fragment_list,
    offset_table,
    unwrap,
    run_lengths,
)
