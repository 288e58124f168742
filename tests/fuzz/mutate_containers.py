"""Hostile archives and folders: zip fields that lie, bombs, names that climb out, links, pipes, DICOMDIR records."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from tests.fuzz.mutate_bytes import BYTE_MUTATORS
from tests.fuzz.mutate_dicom import BOMB_MB, bomb

STORED, DEFLATE = 0, 8
_NAMES = (
    b"../outside/evil.dcm",
    b"../../../../../../evil.dcm",
    b"/absolute-evil.dcm",
    b"C:\\evil.dcm",
    b"..\\..\\evil.dcm",
    b"",
    b"/",
    b"a\0b.dcm",
    b"a\nb.dcm",
    b"\xff\xfe.dcm",
    b"\x1b[31m.dcm",
    b"A" * 65000,
    b"deep/" * 2000 + b"x.dcm",
    b".",
    b"..",
    b"con",
    b"folder/",
    b"\xe2\x80\xaegnp.dcm",
    b"Secret^Name.dcm",
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One zip entry with all that may be said wrongly of it; None: say the truth."""

    name: bytes
    data: bytes
    method: int = DEFLATE
    flags: int = 0
    packed: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    local_name: bytes | None = None
    local_size: int | None = None
    mode: int = 0o100644
    offset: int | None = None
    extra: bytes = b""


@dataclass
class Folder:
    """What a case puts on the disk besides plain files."""

    links: dict[str, str] = field(default_factory=dict)
    pipes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def write_zip(members: list[Member], *, comment: bytes = b"", prefix: bytes = b"", count: int | None = None) -> bytes:
    """An archive written by hand, so that every field can lie (PKWARE APPNOTE 4.3)."""
    out = bytearray(prefix)
    central = bytearray()
    for m in members:
        packed = m.packed
        if packed is None:
            packed = _deflate(m.data) if m.method == DEFLATE else m.data
        crc = zlib.crc32(m.data) if m.crc is None else m.crc
        size = len(m.data) if m.size is None else m.size
        packed_size = len(packed) if m.packed_size is None else m.packed_size
        at = len(out)
        local = m.name if m.local_name is None else m.local_name
        out += struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            m.flags,
            m.method,
            0,
            0x5A21,
            crc,
            packed_size & 0xFFFFFFFF,
            (size if m.local_size is None else m.local_size) & 0xFFFFFFFF,
            len(local) & 0xFFFF,
            0,
        )
        out += local + packed
        central += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            0x031E,
            20,
            m.flags,
            m.method,
            0,
            0x5A21,
            crc,
            packed_size & 0xFFFFFFFF,
            size & 0xFFFFFFFF,
            len(m.name) & 0xFFFF,
            len(m.extra),
            0,
            0,
            0,
            m.mode << 16,
            (at if m.offset is None else m.offset) & 0xFFFFFFFF,
        )
        central += m.name[:0xFFFF] + m.extra
    start = len(out)
    entries = len(members) if count is None else count
    out += central
    out += struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, entries & 0xFFFF, entries & 0xFFFF, len(central), start, len(comment)
    )
    return bytes(out + comment)


@lru_cache(maxsize=256)
def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@lru_cache(maxsize=1)
def _zeros() -> tuple[bytes, int]:
    """Many megabytes of zeros, packed; and their CRC."""
    crc, block = 0, bytes(1 << 20)
    for _ in range(BOMB_MB):
        crc = zlib.crc32(block, crc)
    return bomb(b"\0"), crc


def bomb_member(name: bytes, start: bytes = b"") -> Member:
    """A small member that unpacks to more than the memory bound; ``start`` makes it look like DICOM first."""
    if start:
        first = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = first.compress(start) + first.flush(zlib.Z_FULL_FLUSH) + _zeros()[0]
        return Member(name=name, data=b"", packed=packed, size=len(start) + (BOMB_MB << 20), crc=0)
    packed, crc = _zeros()
    return Member(name=name, data=b"", packed=packed, size=BOMB_MB << 20, crc=crc)


ZipMutator: TypeAlias = Callable[[random.Random, list[Member]], list[Member]]


def _change(rng: random.Random, members: list[Member], **values: object) -> list[Member]:
    """One member or all with other values."""
    chosen = rng.randrange(len(members))
    everywhere = rng.random() < 0.3
    return [replace(m, **values) if everywhere or n == chosen else m for n, m in enumerate(members)]  # type: ignore[arg-type]  # by name


def zip_sizes(rng: random.Random, members: list[Member]) -> list[Member]:
    number = rng.choice((0, 1, 100, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF))
    return _change(rng, members, **{rng.choice(("size", "packed_size", "local_size", "offset")): number})


def zip_crc(rng: random.Random, members: list[Member]) -> list[Member]:
    return _change(rng, members, crc=rng.randrange(1 << 32))


def zip_method(rng: random.Random, members: list[Member]) -> list[Member]:
    return _change(rng, members, method=rng.choice((0, 1, 6, 8, 9, 12, 14, 93, 95, 97, 99, 65535)))


def zip_packed(rng: random.Random, members: list[Member]) -> list[Member]:
    """The packed bytes damaged; method and sizes as they were."""
    n = rng.randrange(len(members))
    packed = rng.choice(BYTE_MUTATORS)(rng, _deflate(members[n].data))
    return [replace(m, packed=packed, method=DEFLATE) if k == n else m for k, m in enumerate(members)]


def zip_flags(rng: random.Random, members: list[Member]) -> list[Member]:
    return _change(rng, members, flags=rng.choice((1, 8, 0x20, 0x41, 0x800, 0x2000, 0xFFFF)))


def zip_name(rng: random.Random, members: list[Member]) -> list[Member]:
    if rng.random() < 0.3:
        return _change(rng, members, local_name=rng.choice(_NAMES))
    return _change(rng, members, name=rng.choice(_NAMES))


def zip_link(rng: random.Random, members: list[Member]) -> list[Member]:
    """A member that is a symbolic link, a device, a folder with content."""
    target = rng.choice((b"/etc/passwd", b"../outside/bait.dcm", b"/dev/zero", b"."))
    made = Member(
        name=b"link.dcm", data=target, method=STORED, mode=rng.choice((0o120777, 0o020666, 0o010644, 0o040755))
    )
    return [*members, made]


def zip_twice(rng: random.Random, members: list[Member]) -> list[Member]:
    """One name twice, with the same or another content; or many entries on one local header (overlap)."""
    n = rng.randrange(len(members))
    if rng.random() < 0.5:
        return [*members, replace(members[n], data=rng.choice(members).data)]
    return [
        *members,
        *(replace(members[n], name=b"again%d.dcm" % k, offset=0) for k in range(rng.choice((1, 50, 2000)))),
    ]


def zip_bomb(rng: random.Random, members: list[Member]) -> list[Member]:
    start = rng.choice((b"", members[0].data, members[0].data[:-100]))
    made = bomb_member(b"bomb.dcm", start)
    if rng.random() < 0.3:
        made = replace(made, size=rng.choice((100, 4000)))  # says that it is small
    return [*members, made] if rng.random() < 0.5 else [made]


def zip_nested(rng: random.Random, members: list[Member]) -> list[Member]:
    inside = write_zip(members)
    for _ in range(rng.choice((0, 1, 20))):
        inside = write_zip([Member(name=b"inner.zip", data=inside)])
    return (
        [*members, Member(name=b"inner.zip", data=inside)]
        if rng.random() < 0.5
        else [Member(name=b"i.zip", data=inside)]
    )


def zip_many(rng: random.Random, members: list[Member]) -> list[Member]:
    """Thousands of empty members."""
    count = rng.choice((1000, 1000, 20000))
    return [*members, *(Member(name=b"%d/%d" % (n % 7, n), data=b"", method=STORED) for n in range(count))]


def zip_zip64(rng: random.Random, members: list[Member]) -> list[Member]:
    """A zip64 extra field with absurd numbers, or one cut off."""
    extra = struct.pack("<2H3Q", 1, 24, rng.choice((1, 1 << 40, (1 << 64) - 1)), 1 << 40, 1 << 50)
    extra = rng.choice((extra, extra[:10], struct.pack("<2H", 1, 65535)))
    return _change(rng, members, extra=extra, size=0xFFFFFFFF, packed_size=0xFFFFFFFF)


ZIP_MUTATORS: tuple[ZipMutator, ...] = (
    zip_sizes,
    zip_sizes,
    zip_crc,
    zip_method,
    zip_packed,
    zip_packed,
    zip_flags,
    zip_name,
    zip_name,
    zip_link,
    zip_twice,
    zip_nested,
    zip_zip64,
)
RARE_ZIP_MUTATORS: tuple[ZipMutator, ...] = (zip_bomb, zip_many)


def mutate_zip(rng: random.Random, members: list[Member]) -> tuple[bytes, str]:
    """An archive of ``members`` with one or two things wrong."""
    names = []
    for _ in range(rng.choice((1, 1, 2))):
        mutator = rng.choice(RARE_ZIP_MUTATORS if rng.random() < 0.02 else ZIP_MUTATORS)
        members = mutator(rng, members)
        names.append(mutator.__name__)
    ends: tuple[dict[str, object], ...] = (
        {"count": 0},
        {"count": 65535},
        {"comment": b"PK\5\6" * 30},
        {"prefix": rng.randbytes(50)},
        {"prefix": b"#!/bin/sh\n"},
    )
    options = rng.choice(ends) if rng.random() < 0.2 else {}
    names += list(options)
    return write_zip(members, **options), "+".join(names)  # type: ignore[arg-type]  # by name


def litter(rng: random.Random, folder: Folder, outside: str) -> str:
    """Links, pipes and odd names beside the files; ``outside`` is a folder that may not be opened."""
    kind = rng.choice(
        ("link-out", "link-file", "link-loop", "link-dangling", "link-zero", "pipe", "folder", "deep", "names")
    )
    match kind:
        case "link-out":
            folder.links["more"] = outside
        case "link-file":
            folder.links["s999.dcm"] = f"{outside}/bait0.dcm"
        case "link-loop":
            folder.links["loop"] = "."
            folder.links["self"] = "self"
        case "link-dangling":
            folder.links["gone.dcm"] = "nowhere"
        case "link-zero":
            folder.links["s998.dcm"] = rng.choice(("/dev/zero", "/dev/stdin", "/proc/self/mem"))
        case "pipe":
            folder.pipes.append("s000a.dcm")
        case "folder":
            folder.folders.append("s001a.dcm")
        case "deep":
            folder.folders.append("/".join(["d"] * rng.choice((10, 500))))
        case "names":
            folder.folders += ["zeile\nneu", "Würbel 椎骨", "\udcff\udcfe", "\x1b[31mrot"]
    return f"litter:{kind}"
