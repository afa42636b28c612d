"""How likely it is that any of the tools found fits a request: what "no tool fits" is read from.

The nearest of any tools is near in some measure. What counts is how much nearer it is to the request than tools in general
are. That lead is made a probability by a logistic curve, fitted on training requests once with their tool among others and
once without it; see tuned/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from schemas.tools import ToolCard
from services.retrieval.embedder import Embedder
from services.retrieval.leaning import BACKGROUND
from services.retrieval.rank import cosine
from services.retrieval.tuned import TunedEmbedder, for_tools
from services.retrieval.words import card_text

SLOPE, EVEN = 13.6, 0.305
"""How fast the log-odds grow with the lead, and the lead at which they are even."""


class Fitness:
    """The fitness of tools, known for e5 alone; other embedders give None."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = for_tools(embedder)
        self._background: list[float] | None = None

    async def of(self, request: str, cards: Sequence[ToolCard]) -> float | None:
        """The probability, 0 to 1, that one of these tools fits; None without tools."""
        if not isinstance(self._embedder, TunedEmbedder) or not cards:
            return None
        wish = (await self._embedder.embed([request], "query"))[0]
        found = await self._embedder.embed([card_text(card) for card in cards], "passage")
        lead = max(cosine(wish, card) for card in found) - cosine(wish, await self._mean())
        return 1 / (1 + math.exp(-SLOPE * (lead - EVEN)))

    async def _mean(self) -> list[float]:
        """The mean of what tools in general are: its dot product is the mean of theirs."""
        if self._background is None:
            vectors = await self._embedder.embed(list(BACKGROUND), "passage")
            self._background = [sum(parts) / len(parts) for parts in zip(*vectors, strict=True)]
        return self._background
