"""The Merkle tree of RFC 9162, section 2.1, over SHA-256.

The definition splits n leaves at the largest power of two below n. Level by level that is the same as to pair neighbours and
to let an odd last node rise as it is, which takes no recursion: node i of level k covers the leaves from i * 2**k on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """The lowest node of one leaf [32 bytes]."""
    return hashlib.sha256(_LEAF + leaf).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes [32 bytes]; of none it is the digest of nothing, as the RFC has it."""
    if not leaves:
        return hashlib.sha256().digest()
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def level_of(leaves: Sequence[bytes], most: int) -> tuple[int, Sequence[bytes]]:
    """The lowest level with no more than `most` nodes: how many leaves each of them covers, and the nodes in order."""
    covers, level = 1, leaves
    while len(level) > most:
        covers, level = 2 * covers, _above(level)
    return covers, level


def _above(level: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [sha256(_NODE + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above
