"""Damages of a file: every single bit, and random ones of the kinds that disks and people make."""

import re
from collections.abc import Callable, Iterator

import numpy as np

# What stands in a text in the place of a value: of other types, sizes and depths.
VALUES = (
    b'NaN',
    b'Infinity',
    b'-1',
    b'0',
    b'1e999',
    b'9' * 40,
    b'9' * 5000,
    b'true',
    b'null',
    b'"x"',
    b'"\\ud800"',
    b'[]',
    b'{}',
    b'[1]',
    b'{"a": 1}',
    b'[' * 20_000,
    b'{"a":' * 20_000,
)
TOKEN = re.compile(rb'-?\d+\.?\d*(?:e-?\d+)?|"[^"]*"|true|false|null')

# A damage of some bytes by chance.
Damage = Callable[[bytes, np.random.Generator], bytes]


def bit_flips(content: bytes) -> Iterator[bytes]:
    """The content with each of its bits flipped."""
    for bit in range(8 * len(content)):
        yield flipped(content, bit)


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a part, short ones as often as long ones."""
    start = int(rng.integers(len(content) + 1))
    length = int(2 ** rng.uniform(0, np.log2(len(content) + 2)))
    return start, min(len(content), start + length)


def flips(content: bytes, rng: np.random.Generator) -> bytes:
    """Two to nine bits flipped."""
    for bit in rng.integers(8 * len(content), size=rng.integers(2, 10)):
        content = flipped(content, int(bit))
    return content


def other_byte(content: bytes, rng: np.random.Generator) -> bytes:
    """A byte that has become another."""
    place = int(rng.integers(len(content)))
    return content[:place] + rng.bytes(1) + content[place + 1 :]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    """The start alone."""
    return content[: rng.integers(len(content))]


def headless(content: bytes, rng: np.random.Generator) -> bytes:
    """The end alone."""
    return content[rng.integers(1, len(content) + 1) :]


def erased(content: bytes, rng: np.random.Generator) -> bytes:
    """A part that is zero, as a block that never reached the disk."""
    start, end = _span(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """A part that holds anything."""
    start, end = _span(content, rng)
    return content[:start] + rng.bytes(end - start) + content[end:]


def without(content: bytes, rng: np.random.Generator) -> bytes:
    """A part is missing."""
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def twice(content: bytes, rng: np.random.Generator) -> bytes:
    """A part is there twice."""
    start, end = _span(content, rng)
    return content[:end] + content[start:]


def moved(content: bytes, rng: np.random.Generator) -> bytes:
    """A part lies elsewhere."""
    start, end = _span(content, rng)
    rest = content[:start] + content[end:]
    place = int(rng.integers(len(rest) + 1))
    return rest[:place] + content[start:end] + rest[place:]


def inserted(content: bytes, rng: np.random.Generator) -> bytes:
    """Something is added anywhere."""
    place = int(rng.integers(len(content) + 1))
    return content[:place] + rng.bytes(int(rng.integers(1, 50))) + content[place:]


def other_value(content: bytes, rng: np.random.Generator) -> bytes:
    """In a text, a value of another type or size."""
    tokens = list(TOKEN.finditer(content[:100_000]))
    if not tokens:
        return flips(content, rng)
    token = tokens[rng.integers(len(tokens))]
    value = VALUES[rng.integers(len(VALUES))]
    return content[: token.start()] + value + content[token.end() :]


def exchanged(content: bytes, rng: np.random.Generator) -> bytes:
    """In a text, a value that another one has."""
    tokens = list(TOKEN.finditer(content[:100_000]))
    if len(tokens) < 2:
        return flips(content, rng)
    taken, put = (tokens[int(i)] for i in rng.integers(len(tokens), size=2))
    return content[: put.start()] + taken[0] + content[put.end() :]


DAMAGES: tuple[Damage, ...] = (
    flips,
    other_byte,
    truncated,
    headless,
    erased,
    overwritten,
    without,
    twice,
    moved,
    inserted,
    other_value,
    exchanged,
)


def random_damage(content: bytes, seed: int, number: int) -> bytes:
    """The damage of a number, the same for the same seed.

    Args:
        content: Of the good file.
        seed: Of all damages.
        number: Of this one.
    """
    rng = np.random.default_rng([seed, number])
    return DAMAGES[number % len(DAMAGES)](content, rng)
