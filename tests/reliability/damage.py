"""Ways in which files are damaged, each from a generator of its own."""

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Ended early."""
    return data[: int(rng.uniform(0.1, 0.9999) * len(data))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit is another one."""
    out = bytearray(data)
    out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def zeroed(data: bytes, rng: np.random.Generator) -> bytes:
    """A block is zeros, as a disk gives back what it never wrote."""
    size = min(int(rng.choice([16, 512, 4096])), len(data) // 2)
    at = int(rng.integers(len(data) - size))
    return data[:at] + bytes(size) + data[at + size :]


def scrambled(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes are random."""
    out = bytearray(data)
    for at in rng.integers(len(out), size=int(rng.integers(1, 9))):
        out[int(at)] = int(rng.integers(256))
    return bytes(out)


def missing_block(data: bytes, rng: np.random.Generator) -> bytes:
    """A block in the middle is gone."""
    size = min(int(rng.choice([1, 64, 4096])), len(data) // 2)
    at = int(rng.integers(len(data) - size))
    return data[:at] + data[at + size :]


def doubled_block(data: bytes, rng: np.random.Generator) -> bytes:
    """A block stands twice."""
    size = min(int(rng.choice([1, 64, 4096])), len(data) // 2)
    at = int(rng.integers(len(data) - size))
    return data[:at] + data[at : at + size] + data[at:]


def appended(data: bytes, rng: np.random.Generator) -> bytes:
    """Something follows."""
    return data + rng.bytes(int(rng.choice([1, 100, 100_000])))


DAMAGES: dict[str, Damage] = {
    one.__name__: one for one in (cut, flipped, zeroed, scrambled, missing_block, doubled_block, appended)
}
