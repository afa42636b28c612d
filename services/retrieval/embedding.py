"""Vectors for other services: the embedder is loaded in this process alone."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import Field, StringConstraints

from runtime.bus import Reply
from schemas.tools import Value
from services.retrieval.embedder import Embedder, Kind
from services.retrieval.questions import read

MOST_TEXTS = 32


class Embed(Value):
    """Texts to turn into vectors, all of one kind."""

    texts: tuple[Annotated[str, StringConstraints(max_length=20_000)], ...] = Field(min_length=1, max_length=MOST_TEXTS)
    kind: Kind = "passage"


class Embedding:
    """The verb `embed`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.answers: dict[str, Reply] = {"embed": self.embed}

    async def embed(self, raw: bytes) -> bytes:
        """Embed -> embedder (its name), fits (the least cosine of related texts), vectors (in order, seven digits)."""
        asked = read(Embed, raw)
        vectors = await self._embedder.embed(asked.texts, asked.kind)
        rounded = [[float(f"{part:.7g}") for part in vector] for vector in vectors]
        return orjson.dumps({"embedder": self._embedder.name, "fits": self._embedder.fits, "vectors": rounded})
