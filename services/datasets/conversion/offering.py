"""Which tools of a large catalogue an example is offered beside its own: drawn by its words, the same each time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable


def drawn(text: str, own: Collection[str], others: Iterable[str], number: int) -> list[str]:
    """Names of its own tools and of others, `number` in all, in an order that tells nothing of which are its own."""

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{text}\n{name}".encode(errors="replace")).digest()

    chosen = sorted((name for name in others if name not in own), key=place)[: max(0, number - len(own))]
    return sorted((*own, *chosen), key=place)
