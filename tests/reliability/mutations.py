"""Ways in which files are damaged or odd, each from a generator of its own: bytes, numbers, and whole files."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORDS = (b"0", b"-1", b"-0", b"1e300", b"-1e300", b"1e-300", b"99999999999999999999", b"nan", b"inf", b"1,5", b"", b"x")
BINARY = (
    *(struct.pack("<h", one) for one in (0, -1, 32767, -32768)),
    *(struct.pack(order + "i", one) for one in (0, -1, 2**31 - 1, -(2**31)) for order in "<>"),
    *(struct.pack("<f", one) for one in (0.0, -1.0, 1e30, float("nan"), float("inf"))),
    *(struct.pack("<d", one) for one in (1e300, float("nan"), -1.0)),
    struct.pack("<Q", 2**63),
)
LEAVES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 10**400, 2**63, -1e300, 1e300, float("nan"), float("inf"), "", "x", "1", "0,5", "\u2028{}$",
    "a" * 100_000, [], {}, [[]], [0] * 1000, {"a": {"b": {}}}, [None], [float("nan")] * 3, "2026-01-01", -0.0,
)  # fmt: skip
CUT, REMOVED, INSERTED = "cut", "removed", "inserted"
LENGTH_CHANGES = (CUT, REMOVED, INSERTED)


@dataclass(frozen=True)
class Mutation:
    """What was done to a file's bytes.

    Attributes:
        kind: in a word.
        data: the bytes.
        first, last: of the bytes that were touched, in the original file.
        count: how many bytes are others at most.
    """

    kind: str
    data: bytes
    first: int
    last: int
    count: int


def _place(low: int, high: int, rng: np.random.Generator) -> int:
    return int(rng.integers(low, max(high, low + 1)))


def cut(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """Ended early."""
    at = _place(low, high, rng)
    return Mutation(CUT, data[:at], at, len(data), len(data) - at)


def flipped(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """Bits of a few bytes are others."""
    out = bytearray(data)
    places = [_place(low, high, rng) for _ in range(int(rng.integers(1, 5)))]
    for at in places:
        out[at] ^= 1 << int(rng.integers(8))
    return Mutation("flipped", bytes(out), min(places), max(places), len(places))


def zeroed(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """A block is zeros, as a disk gives back what it never wrote."""
    at = _place(low, high, rng)
    end = min(at + int(rng.choice([4, 16, 512, 4096])), high, len(data))
    return Mutation("zeroed", data[:at] + bytes(end - at) + data[end:], at, end, end - at)


def removed(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """Bytes are gone."""
    at = _place(low, high, rng)
    end = min(at + int(rng.choice([1, 2, 64, 4096])), len(data))
    return Mutation(REMOVED, data[:at] + data[end:], at, len(data), len(data))


def inserted(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """Bytes stand there that do not belong there."""
    at = _place(low, high, rng)
    more = rng.bytes(int(rng.choice([1, 2, 64, 4096])))
    return Mutation(INSERTED, data[:at] + more + data[at:], at, len(data), len(data))


def extreme_word(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """A number in text is an extreme one, or none."""
    found = [match for match in NUMBER.finditer(data, low, high)]
    if not found:
        return extreme_binary(data, low, high, rng)
    match = found[int(rng.integers(len(found)))]
    word = WORDS[int(rng.integers(len(WORDS)))]
    return Mutation("number", data[: match.start()] + word + data[match.end() :], match.start(), len(data), len(data))


def padded_word(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """The same where the file has lengths: the number keeps its own."""
    found = [match for match in NUMBER.finditer(data, low, high) if len(match[0]) > 1]
    if not found:
        return extreme_binary(data, low, high, rng)
    match = found[int(rng.integers(len(found)))]
    size = len(match[0])
    word = WORDS[int(rng.integers(len(WORDS)))][:size].ljust(size)
    return Mutation("number", data[: match.start()] + word + data[match.end() :], match.start(), match.end(), size)


def extreme_binary(data: bytes, low: int, high: int, rng: np.random.Generator) -> Mutation:
    """A number of two to eight bytes is an extreme one."""
    value = BINARY[int(rng.integers(len(BINARY)))]
    at = _place(low, max(high - len(value), low + 1), rng) // 2 * 2
    out = data[:at] + value + data[at + len(value) :]
    return Mutation("number", out[: len(data)], at, at + len(value), len(value))


Mutator = Callable[[bytes, int, int, np.random.Generator], Mutation]
PIXELS: tuple[Mutator, ...] = (cut, flipped, zeroed, removed, inserted)
TEXT_HEADER: tuple[Mutator, ...] = (cut, flipped, zeroed, removed, inserted, extreme_word, extreme_word, extreme_word)
BINARY_HEADER: tuple[Mutator, ...] = (cut, flipped, zeroed, removed, inserted, extreme_binary, extreme_binary)
TAGGED_HEADER: tuple[Mutator, ...] = (*BINARY_HEADER, padded_word, padded_word)


def places_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all nodes of a tree of mappings and lists."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, child in children for place in places_of(child, (*path, key)))]


def odd_tree(tree: Any, rng: np.random.Generator) -> Any:
    """A tree in which one node is something else, is gone, or stands under another key."""
    out = json.loads(json.dumps(tree))
    places = places_of(out)
    place = places[int(rng.integers(len(places)))]
    leaf = LEAVES[int(rng.integers(len(LEAVES)))]
    if not place:
        return leaf
    at = out
    for key in place[:-1]:
        at = at[key]
    what = int(rng.integers(4))
    if what == 0:
        del at[place[-1]]
    elif what == 1 and isinstance(at, dict):
        at[str(leaf)[:20]] = at.pop(place[-1])
    elif what == 2 and isinstance(at, list):
        at.append(leaf)
    else:
        at[place[-1]] = leaf
    return out
