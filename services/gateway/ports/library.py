"""Documents on their way in: what is uploaded is read, cut and put where retrieval finds it. The port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from schemas.tools import Value


class Progress(Value):
    """How far a document is; the last one says how it ended: added, unchanged, skipped or refused, with why and the next step.

    waiting: for room, or for a server that is away. characters: how many of `of` are in. source: what the document is known
    by from then on.
    """

    state: Literal["waiting", "reading", "adding", "added", "unchanged", "skipped", "refused"]
    name: str
    characters: int = 0
    of: int = 0
    chunks: int = 0
    why: str = ""
    hint: str = ""
    source: str = ""


class Library(Protocol):
    """Takes documents in."""

    def add(self, tenant: str, collection: str, name: str, content: bytes) -> AsyncIterator[Progress]:
        """Put a document in, telling how far it is; the last one says what became of it. Raises Unreachable.

        name: what it was called where it comes from: its suffix says the format; the same name again replaces it.
        """
        ...
