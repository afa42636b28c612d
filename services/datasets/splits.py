"""Which part of a data set an example belongs to: by its name alone, so that more examples move none that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

PARTS = {"train": 0.9, "validation": 0.05, "test": 0.05}


def part_of(name: str, shares: Mapping[str, float] = PARTS) -> str:
    """The part for an example of this name. shares: of each part, in order, together 1. Raises ValueError if they are not."""
    if abs(sum(shares.values()) - 1) > 1e-6 or any(share < 0 for share in shares.values()):
        raise ValueError(f"shares must not be negative and add up to 1, these add up to {sum(shares.values()):g}")
    place = int.from_bytes(hashlib.sha256(f"milepost split {name}".encode()).digest()[:8], "big") / 2**64
    reached = 0.0
    for part, share in shares.items():
        reached += share
        if place < reached:
            return part
    return [part for part, share in shares.items() if share][-1]
