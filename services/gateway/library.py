"""Documents on their way in: what is uploaded is read, cut and put where retrieval finds it. The port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from schemas.tools import Value


class Progress(Value):
    """How far a document is. state: reading, adding, added, unchanged, skipped or refused; why: in words."""

    state: str
    name: str
    characters: int = 0
    of: int = 0
    chunks: int = 0
    why: str = ""
    hint: str = ""


class Library(Protocol):
    """Takes documents in."""

    def add(self, tenant: str, collection: str, name: str, content: bytes) -> AsyncIterator[Progress]:
        """Put a document in, telling how far it is; the last one says what became of it. Raises Unreachable."""
        ...
