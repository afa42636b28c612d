"""Texts to vectors: the port, and an embedder that needs no model."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["query", "passage"]

_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


class Embedder(Protocol):
    """Turns texts into unit vectors; their dot product is how near they are in meaning.

    name: which vectors may be compared; vectors of two embedders never are. fits: the least cosine at which a passage
    may be about the question at all.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def fits(self) -> float: ...

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """One unit vector of `dimensions` floats a text, in order."""
        ...

    async def counter(self) -> Callable[[str], int]:
        """What counts a text's tokens as this embedder reads them."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of an embedder before it is loaded."""

    name: str
    dimensions: int
    fits: float


E5_SMALL = Traits("multilingual-e5-small-int8", 384, fits=0.84)
"""Unrelated texts lie between 0.74 and 0.82 in this model."""


class HashEmbedder:
    """Counts hashed character trigrams and words: knows shared spelling, not meaning; the same everywhere, for ever."""

    name = "hashed-trigrams-384"
    dimensions = 384
    fits = 0.15

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    async def counter(self) -> Callable[[str], int]:
        return estimate

    def _vector(self, text: str) -> list[float]:
        counts = [0.0] * self.dimensions
        for gram in _grams(text):
            seed = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
            counts[seed % self.dimensions] += 1.0 if seed >> 63 else -1.0
        norm = math.sqrt(sum(count * count for count in counts))
        if norm == 0.0:
            return [1.0] + [0.0] * (self.dimensions - 1)
        return [count / norm for count in counts]


def estimate(text: str) -> int:
    """Tokens without a tokenizer: one a CJK character, one for four others."""
    wide = len(_CJK.findall(text))
    return wide + -(-(len(text) - wide) // 4)


def _grams(text: str) -> list[str]:
    """Words, their trigrams with edges marked, and pairs of adjoining CJK characters."""
    grams = []
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()):
        size = 3 if word.isascii() else 2
        marked = f"^{word}$" if word.isascii() else word
        grams.append(word)
        grams.extend(marked[at : at + size] for at in range(len(marked) - size + 1))
    return grams
