"""Mutations that know nothing of what the bytes mean."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

Mutator: TypeAlias = Callable[[random.Random, bytes], bytes]
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x5C)


def place(rng: random.Random, data: bytes) -> int:
    """Somewhere, three times out of four in the head: pixels take most of a file and decide least."""
    if rng.random() < 0.75:
        return rng.randrange(min(len(data), 4000)) if data else 0
    return rng.randrange(len(data)) if data else 0


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if result:
            result[place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(result)


def set_bytes(rng: random.Random, data: bytes) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if result:
            result[place(rng, data)] = rng.choice((*_INTERESTING, rng.randrange(256)))
    return bytes(result)


def overwrite_run(rng: random.Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((2, 4, 8, 32, 200))
    fill = rng.choice((b"\0" * count, b"\xff" * count, rng.randbytes(count), data[:count]))
    return data[:at] + fill + data[at + len(fill) :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[
        : rng.choice((rng.randrange(len(data) + 1), place(rng, data), max(0, len(data) - rng.randrange(1, 40))))
    ]


def insert_run(rng: random.Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((1, 2, 4, 8, 100, 5000))
    return data[:at] + rng.choice((rng.randbytes(count), b"\0" * count, b"\xff" * count)) + data[at:]


def delete_run(rng: random.Random, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 100)) :]


def repeat_run(rng: random.Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((4, 8, 60, 400))
    return data[:at] + data[at : at + count] * rng.choice((2, 3, 50)) + data[at + count :]


def move_run(rng: random.Random, data: bytes) -> bytes:
    at, count = place(rng, data), rng.choice((4, 8, 60, 400))
    run, rest = data[at : at + count], data[:at] + data[at + count :]
    to = place(rng, rest)
    return rest[:to] + run + rest[to:]


def append_run(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((rng.randbytes(rng.randrange(1, 300)), b"\0" * rng.randrange(1, 3000), data))


def number_field(rng: random.Random, data: bytes) -> bytes:
    """Overwrite 2, 4 or 8 bytes with a number at an edge, in either order."""
    size = rng.choice((2, 4, 4, 8))
    edge = rng.choice(
        (0, 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1, (1 << 8 * size) - 1, (1 << 8 * size) - 2, len(data))
    )
    at = place(rng, data)
    number = (edge % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return data[:at] + number + data[at + size :]


BYTE_MUTATORS: tuple[Mutator, ...] = (
    flip_bits,
    flip_bits,
    set_bytes,
    overwrite_run,
    truncate,
    insert_run,
    delete_run,
    repeat_run,
    move_run,
    append_run,
    number_field,
)
