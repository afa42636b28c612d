"""Chance that is the same each time: it hangs on a seed and on names, never on the order in which anything is read."""

from __future__ import annotations

from hashlib import blake2b
from random import Random


def number(seed: int, *names: object) -> int:
    """A number of 64 bits for names under a seed; equal for equal ones, on every machine."""
    said = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def share(seed: int, *names: object) -> float:
    """The same as a number from 0 up to, but without, 1."""
    return (number(seed, *names) >> 11) / 2**53


def dice(seed: int, *names: object) -> Random:
    """A generator of one's own for these names."""
    return Random(number(seed, *names))
