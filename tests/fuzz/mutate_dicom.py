"""Mutations that know DICOM's structure: lengths, VRs, tags, values, sequences."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence

from tests.fuzz import elements as dicom
from tests.fuzz.elements import BrokenError, Element, Layout
from tests.fuzz.mutate_bytes import BYTE_MUTATORS, Mutator
from tests.fuzz.values import DANGEROUS, SYNTAXES

BOMB_MB = 700  # over the 500 MB that a load may take beyond the volume
_VRS = (
    *(b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()),
    b"ZZ",
    b"\0\0",
    b"  ",
    b"sq",
    b"\xff\xff",
)
_TAGS = (
    *DANGEROUS,
    0x7FE00010,
    0x7FE00008,
    0x7FE00009,
    0x52009229,
    0x52009230,
    0xFFFEE000,
    0xFFFEE00D,
    0xFFFEE0DD,
    0,
    0xFFFFFFFF,
)
_SEQUENCE_TAGS = (
    0x00081140,
    0x00189504,
    0x00209113,
    0x00283000,
    0x00540410,
    0x52009229,
    0x52009230,
    0x00091001,
    0x00880200,
)


def body(data: bytes) -> tuple[bytes, bytes]:
    """Head (preamble and meta group) and data set as bytes."""
    where = dicom.layout(data)
    return data[: where.body_at], data[where.body_at :]


def pick(rng: random.Random, where: Layout, among: Sequence[Element] | None = None) -> Element:
    found = where.elements if among is None else among
    if not found:
        raise BrokenError("nothing to pick")
    return rng.choice(found)


def value_bytes(rng: random.Random, value: int | bytes, where: Layout, meta: bool) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2, "big" if where.big and not meta else "little")
    if len(value) % 2 and rng.random() < 0.8:
        value += b" "
    return value


def dangerous_value(rng: random.Random, data: bytes) -> bytes:
    """Change (or put in) a value of a tag that decides something."""
    where = dicom.layout(data)
    present = [e for e in where.elements if e.tag in DANGEROUS and e.length != dicom.UNDEFINED]
    if present and rng.random() < 0.85:
        element = rng.choice(present)
        value = value_bytes(rng, rng.choice(DANGEROUS[element.tag][1]), where, element.meta)
        return dicom.put(data, element, value, big=where.big and not element.meta, repair=rng.random() < 0.95)
    tag = rng.choice(tuple(DANGEROUS))
    vr, values = DANGEROUS[tag]
    value = value_bytes(rng, rng.choice(values), where, False)
    return dicom.insert(data, dicom.make(tag, vr, value, implicit=where.implicit, big=where.big), tag, where)


def text_digit(rng: random.Random, data: bytes) -> bytes:
    """Change one character of a number written as text: stays plausible, must not go unseen."""
    where = dicom.layout(data)
    numeric = [e for e in where.elements if e.vr in (b"DS", b"IS") and 0 < e.length < 200]
    element = pick(rng, where, numeric)
    value = bytearray(data[element.value_at : element.end])
    value[rng.randrange(len(value))] = rng.choice(b"0123456789.-+eE\\ ")
    return dicom.put(data, element, bytes(value), big=where.big)


def length_field(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    element = pick(rng, where)
    left = len(data) - element.value_at
    length = rng.choice(
        (
            0,
            1,
            element.length + 1,
            element.length + 2,
            element.length - 1,
            element.length - 2,
            element.length * 2,
            left,
            left + 1,
            left - 8,
            0xFFFF,
            0x7FFFFFFF,
            0x80000000,
            0xFFFFFFFE,
            dicom.UNDEFINED,
            dicom.UNDEFINED,
            rng.randrange(1 << 16),
        )
    )
    return dicom.set_length(data, element, length, big=where.big)


def change_vr(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    element = pick(rng, where, [e for e in where.elements if e.vr])
    vr = rng.choice(_VRS)
    if rng.random() < 0.5:
        return data[: element.at + 4] + vr + data[element.at + 6 :]
    new = dicom.make(
        element.tag, vr, data[element.value_at : element.end], implicit=False, big=where.big and not element.meta
    )
    return data[: element.at] + new + data[element.end :]


def change_tag(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    element = pick(rng, where)
    tag = rng.choice((*_TAGS, pick(rng, where).tag, rng.randrange(1 << 32)))
    order = ">" if where.big and not element.meta else "<"
    return data[: element.at] + struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + data[element.at + 4 :]


def drop_element(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    element = pick(rng, where)
    result = bytearray(data[: element.at] + data[element.end :])
    if rng.random() < 0.8:
        dicom.grow(result, element.parents, element.at - element.end, big=where.big)
    return bytes(result)


def double_element(rng: random.Random, data: bytes) -> bytes:
    """The same element again, elsewhere or many times; enclosing lengths repaired or not."""
    where = dicom.layout(data)
    element, other = pick(rng, where), pick(rng, where)
    at = rng.choice((element.end, element.at, other.at, other.end))
    copies = data[element.at : element.end] * rng.choice((1, 1, 1, 3, 100))
    result = bytearray(data[:at] + copies + data[at:])
    if at in (element.end, element.at) and rng.random() < 0.8:
        dicom.grow(result, element.parents, len(copies), big=where.big)
    return bytes(result)


def swap_elements(rng: random.Random, data: bytes) -> bytes:
    where = dicom.layout(data)
    first, second = sorted((pick(rng, where), pick(rng, where)), key=lambda e: e.at)
    if first.end > second.at:
        return data
    a, b = data[first.at : first.end], data[second.at : second.end]
    return data[: first.at] + b + data[first.end : second.at] + a + data[second.end :]


def swap_values(rng: random.Random, data: bytes) -> bytes:
    """The value of one element in another one of the same VR: spacings, positions, UIDs."""
    where = dicom.layout(data)
    first = pick(rng, where, [e for e in where.elements if e.vr not in (b"", b"SQ") and not e.meta and e.length < 5000])
    second = pick(rng, where, [e for e in where.elements if e.vr == first.vr and not e.meta and e.length < 5000])
    return dicom.put(data, first, data[second.value_at : second.end], big=where.big)


def nested(rng: random.Random, data: bytes) -> bytes:
    """Sequences inside one another, a few to many thousands deep, of undefined or true length."""
    where = dicom.layout(data)
    depth = rng.choice((3, 30, 200, 260, 1000, 5000, 20000))
    tag, known = rng.choice(_SEQUENCE_TAGS), rng.random() < 0.5
    vr = rng.choice((b"SQ", b"SQ", b"UN"))
    if known:
        depth = min(depth, 1000)  # each level copies all that is inside it
        inner = b""
        for _ in range(depth):
            entry = dicom.make(dicom.ITEM, b"", inner, implicit=where.implicit, big=where.big)
            inner = dicom.make(tag, vr, entry, implicit=where.implicit, big=where.big)
    else:
        opening = dicom.make(tag, vr, b"", implicit=where.implicit, big=where.big, length=dicom.UNDEFINED)
        opening += dicom.make(dicom.ITEM, b"", b"", implicit=True, big=where.big, length=dicom.UNDEFINED)
        closing = dicom.make(dicom.ITEM_END, b"", b"", implicit=True, big=where.big)
        closing += dicom.make(dicom.SEQUENCE_END, b"", b"", implicit=True, big=where.big)
        inner = opening * depth + closing * rng.choice((depth, depth, 0, depth // 2))
    return _somewhere(rng, data, inner, tag, where)


def wide(rng: random.Random, data: bytes) -> bytes:
    """One sequence of many small items, or many elements of one tag."""
    where = dicom.layout(data)
    count = rng.choice((100, 3000, 20000, 100_000))
    tag = rng.choice(_SEQUENCE_TAGS)
    if rng.random() < 0.3:
        new = dicom.make(rng.choice(tuple(DANGEROUS)), b"LO", b"", implicit=where.implicit, big=where.big) * count
        return _somewhere(rng, data, new, tag, where)
    entry = dicom.make(dicom.ITEM, b"", b"", implicit=True, big=where.big, length=rng.choice((0, 0, dicom.UNDEFINED)))
    if rng.random() < 0.3:
        held = dicom.make(0x00209113, b"SQ", b"", implicit=where.implicit, big=where.big)
        entry = dicom.make(dicom.ITEM, b"", held, implicit=True, big=where.big)
    items = entry * count
    if rng.random() < 0.5:
        new = dicom.make(tag, b"SQ", items, implicit=where.implicit, big=where.big)
    else:
        new = dicom.make(tag, b"SQ", items, implicit=where.implicit, big=where.big, length=dicom.UNDEFINED)
        new += dicom.make(dicom.SEQUENCE_END, b"", b"", implicit=True, big=where.big)
    return _somewhere(rng, data, new, tag, where)


def open_ended(rng: random.Random, data: bytes) -> bytes:
    """An element of undefined length that is no sequence, with or without an end, with a false end inside."""
    where = dicom.layout(data)
    tag = rng.choice((0x00091010, 0x00204000, 0x7FE00010, 0x00880200, 0x52009230, 0x00081140))
    inside = rng.choice((b"", rng.randbytes(64), b"\0" * 3000, data[132:600]))
    new = (
        dicom.make(tag, rng.choice(_VRS), b"", implicit=where.implicit, big=where.big, length=dicom.UNDEFINED) + inside
    )
    new += rng.choice(
        (b"", b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\0\0\0\0")
    )
    return _somewhere(rng, data, new, tag, where)


def _somewhere(rng: random.Random, data: bytes, new: bytes, tag: int, where: Layout) -> bytes:
    """At its place among the outermost elements, or inside an item whose enclosing lengths then grow."""
    items = [e for e in where.elements if e.tag == dicom.ITEM and e.depth > 0 and e.length != 0]
    if items and rng.random() < 0.4:
        item = rng.choice(items)
        result = bytearray(data[: item.value_at] + new + data[item.value_at :])
        enclosing = (
            (*item.parents, (item.length_at, item.length_size)) if item.length != dicom.UNDEFINED else item.parents
        )
        dicom.grow(result, enclosing, len(new), big=where.big)
        return bytes(result)
    return dicom.insert(data, new, tag, where)


def other_syntax(rng: random.Random, data: bytes) -> bytes:
    """The transfer syntax's name changed: what follows is written in another one."""
    where = dicom.layout(data)
    element = pick(rng, where, [e for e in where.elements if e.tag == dicom.TRANSFER_SYNTAX])
    value = rng.choice(SYNTAXES)
    return dicom.put(data, element, value + b"\0" * (len(value) % 2), big=False)


def meta_group(rng: random.Random, data: bytes) -> bytes:
    """No preamble, no meta group, a false group length, meta twice."""
    where = dicom.layout(data)
    meta, rest = data[132 : where.body_at], data[where.body_at :]
    match rng.randrange(6):
        case 0:
            return meta + rest
        case 1:
            return data[:132] + rest
        case 2:
            return data[: where.body_at] + meta + rest
        case 3:
            return rest
        case 4:
            return b"\xff" * 128 + data[128:]
    element = pick(rng, where, [e for e in where.elements if e.tag == dicom.META_LENGTH])
    return dicom.put(
        data, element, rng.choice((b"\0" * 4, b"\xff" * 4, struct.pack("<L", len(data)), b"\1\0\0\0")), big=False
    )


def charset(rng: random.Random, data: bytes) -> bytes:
    """A character set of several code pages and texts that use it wrongly."""
    where = dicom.layout(data)
    names = DANGEROUS[0x00080005][1]
    value = rng.choice(names)
    data = dicom.insert(
        data, dicom.make(0x00080005, b"CS", bytes(value), implicit=where.implicit, big=where.big), 0x00080005, where
    )
    where = dicom.layout(data)
    texts = [e for e in where.elements if e.vr in (b"LO", b"PN", b"SH", b"CS", b"UI", b"DS") and not e.meta]
    element = pick(rng, where, texts)
    return dicom.put(
        data,
        element,
        rng.choice((b"\x1b$B%F\x1b(B", b"\xff\x81\x30\x81", b"\x1b$)C\xb1\xe8", b"\xc3\x28")),
        big=where.big,
    )


def through_deflate(rng: random.Random, data: bytes, inner: Mutator) -> bytes:
    """Mutate what is inside a deflated file and deflate it again."""
    head, packed = body(data)
    plain = inflate(packed)
    # For the inner mutator the file looks like an explicit one, so that it finds the elements.
    shown = head.replace(dicom.DEFLATED, dicom.EXPLICIT + b"\0\0\0")
    changed = inner(rng, shown + plain)
    if changed[: len(shown)] != shown:
        raise BrokenError("the head changed")
    return head + raw_deflate(changed[len(shown) :])


def inflate(packed: bytes) -> bytes:
    """What is inside, unless it is a bomb of our own making."""
    plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, 4 << 20)
    if len(plain) == 4 << 20:
        raise BrokenError("a bomb")
    return plain


def raw_deflate(plain: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(plain) + packer.flush()


def bomb(fill: bytes) -> bytes:
    """A deflate stream of `BOMB_MB` of one byte: a block that leaves no state behind (full flush), again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(fill * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * BOMB_MB + packer.flush()


STRUCTURE_MUTATORS: tuple[Mutator, ...] = (
    dangerous_value,
    dangerous_value,
    dangerous_value,
    text_digit,
    text_digit,
    length_field,
    length_field,
    change_vr,
    change_tag,
    drop_element,
    double_element,
    swap_elements,
    swap_values,
    nested,
    wide,
    open_ended,
    other_syntax,
    meta_group,
    charset,
)
HEAVY = frozenset({nested, wide})  # make large files: rarer


def mutate(rng: random.Random, data: bytes, extra: Sequence[Mutator] = ()) -> tuple[bytes, str]:
    """One mutation by a mutator that fits what the bytes still are; and the mutator's name."""
    for _ in range(8):
        chosen = rng.choice((STRUCTURE_MUTATORS, STRUCTURE_MUTATORS, BYTE_MUTATORS, tuple(extra) or STRUCTURE_MUTATORS))
        mutator = rng.choice(chosen)
        if mutator in HEAVY and rng.random() < 0.7:
            continue
        try:
            if chosen is not BYTE_MUTATORS and dicom.layout(data).syntax == dicom.DEFLATED and mutator not in extra:
                changed = through_deflate(rng, data, mutator)
            else:
                changed = mutator(rng, data)
        except (BrokenError, struct.error, zlib.error, IndexError, ValueError):
            continue
        if changed != data:
            return changed, mutator.__name__
    mutator = rng.choice(BYTE_MUTATORS)
    return mutator(rng, data), mutator.__name__
