"""The space in which tools are found: e5's vectors moved by a trained linear map.

A request seldom reads like the card of the tool it needs; the map learns what of a text tells about the tool. It is
trained by tests/bench/retrieval/train.py; what on, and what it gives, stands in tuned/README.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.retrieval.embedder import E5_SMALL, Embedder, Kind

MAPS = Path(__file__).parent / "tuned" / "tools.npz"

Floats = npt.NDArray[np.float32]


def for_tools(embedder: Embedder) -> Embedder:
    """The embedder with which tools are found: that of the maps for e5, any other as it is."""
    return TunedEmbedder(embedder) if embedder.name == E5_SMALL.name else embedder


class TunedEmbedder:
    """e5 with the maps behind it. name: of e5 and of these maps, since vectors of others may not be compared."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._maps, mark = _maps()
        self.name = f"{embedder.name}+{mark}"
        self.dimensions, self.fits = embedder.dimensions, embedder.fits

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        if not texts:
            return []
        vectors = np.asarray(await self._embedder.embed(texts, kind), dtype=np.float32)
        return [[float(part) for part in vector] for vector in self.moved(vectors, kind)]

    def moved(self, vectors: Floats, kind: Kind) -> Floats:
        """e5's vectors [texts, 384] in the space of tools."""
        return moved(vectors, *self._maps[kind])

    async def counter(self) -> Callable[[str], int]:
        return await self._embedder.counter()


def moved(vectors: Floats, matrix: Floats, bias: Floats) -> Floats:
    """Unit vectors [texts, 384] plus what the map adds to them, at unit length again."""
    sums: Floats = vectors + vectors @ matrix + bias
    units: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return units


@cache
def _maps() -> tuple[dict[Kind, tuple[Floats, Floats]], str]:
    """Matrix and bias by kind, and the beginning of the file's digest."""
    with np.load(MAPS, allow_pickle=False) as stored:
        held = {name: stored[name].astype(np.float32) for name in stored.files}
    maps: dict[Kind, tuple[Floats, Floats]] = {
        "query": (held["matrix"], held["query_bias"]),
        "passage": (held["matrix"], held["passage_bias"]),
    }
    return maps, hashlib.sha256(MAPS.read_bytes()).hexdigest()[:8]
