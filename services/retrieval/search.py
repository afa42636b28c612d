"""How a request becomes a question to the index of tools."""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.events import ScoredCard
from services.retrieval.embedder import Embedder
from services.retrieval.tool_index import ToolIndex

CANDIDATES = 30
"""How many are found before they are ranked by their hosts and effects."""

BEGINNING, END = 1500, 500
"""How much of a long request is searched with: what is wanted stands at its beginning or its end."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Search:
    """Finds tools by meaning, by words and by name."""

    def __init__(self, tools: ToolIndex, embedder: Embedder) -> None:
        self._tools, self._embedder = tools, embedder

    async def find(
        self, tenant: str, text: str, k: int, exclude: Sequence[str] = (), lanes: Sequence[str] | None = None
    ) -> list[ScoredCard]:
        """The k best, best first; none for a text without a letter or digit. lanes: of these hosts only."""
        asked = essence(text)
        if not any(char.isalnum() for char in asked):
            return []
        vector = (await self._embedder.embed([asked], "query"))[0]
        return await self._tools.search(tenant, asked, vector, k, exclude, lanes)


def essence(text: str) -> str:
    """The text without control characters, or the two ends of one that is longer than a request should be."""
    text = _CONTROL.sub(" ", text)
    if len(text) <= BEGINNING + END:
        return text
    return f"{text[:BEGINNING]}\n{text[-END:]}"
