"""How often the right tools are found, through the product: PostgresToolIndex in a PostgreSQL of its own, e5 and its map.

Figures are over requests that training never saw; `_unseen_` are those whose tools it never saw either, `_all_` are all
requests, with those learned from. recall@k is the share of a request's tools among the k best, mean over the requests; mrr is
the mean of 1 / place of the first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tool_index import PostgresToolIndex
from services.retrieval.embedder import Embedder
from services.retrieval.tuned import TunedEmbedder, for_tools
from services.retrieval.words import card_text
from tests.bench.retrieval import datasets, places
from tests.bench.retrieval.datasets import Catalogue, Part, Request
from tests.bench.retrieval.speed import database

DEEP = 10
CUTS = (1, 3, 5)
AT_ONCE = 500
ANY: tuple[Part, ...] = ("train", "dev", "held", "unseen", "left out")
GROUPS: Mapping[str, tuple[Part, ...]] = {"": ("held", "unseen"), "unseen_": ("unseen",), "all_": ANY}

Figures: TypeAlias = dict[str, float]


def measure() -> Figures:
    """All figures of this half. Raises MilepostError when data or model are missing."""
    return asyncio.run(_measure())


async def _measure() -> Figures:
    embedding = await places.embedder()
    figures: Figures = {}
    catalogues: Sequence[Callable[[], Catalogue]] = (
        datasets.metatool, lambda: datasets.hammerbench("zh"), lambda: datasets.hammerbench("en"), datasets.seal_tools,
    )  # fmt: skip
    for read in catalogues:
        async with database() as engine:
            figures |= await _of(read(), embedding, engine)
    return figures


async def _of(catalogue: Catalogue, embedding: Embedder, engine: AsyncEngine) -> Figures:
    """Those of one catalogue, in a database of its own. MetaTool's 20,614 requests are not asked all."""
    tuned = for_tools(embedding)
    index = PostgresToolIndex(engine, tuned.name)
    await _fill(index, catalogue, embedding, tuned)
    async with transaction(engine) as connection:
        await connection.execute(text("ANALYZE"))
    parts = GROUPS["" if catalogue.name == "metatool" else "all_"]
    asked = [request for request in catalogue.requests if request.part in parts]
    found: dict[str, list[list[str]]] = {"lexical": [], "dense": [], "hybrid": []}
    for request in asked:
        vector = (await tuned.embed([request.text], "query"))[0]
        for way, words, meaning in (("lexical", request.text, None), ("dense", "", vector), ("hybrid", request.text, vector)):
            cards = await index.search("bench", words, meaning, DEEP)
            found[way].append([each.card.name for each in cards])
    return dict(_figures(catalogue.name, asked, found))


async def _fill(index: PostgresToolIndex, catalogue: Catalogue, embedding: Embedder, tuned: Embedder) -> None:
    texts = [card_text(card) for card in catalogue.cards]
    vectors = await places.passages(embedding, texts)
    if isinstance(tuned, TunedEmbedder):
        vectors = tuned.moved(vectors, "passage")
    for at in range(0, len(texts), AT_ONCE):
        rows = range(at, min(at + AT_ONCE, len(texts)))
        await index.put("bench", [catalogue.cards[row] for row in rows], {texts[row]: vectors[row].tolist() for row in rows})


def _figures(name: str, asked: Sequence[Request], found: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[tuple[str, float]]:
    for group, parts in GROUPS.items():
        rows = [row for row, request in enumerate(asked) if request.part in parts]
        if group == "all_" and not any(request.part == "train" for request in asked):
            continue
        for way, names in found.items():
            places_of = [[names[row].index(tool) for tool in asked[row].gold if tool in names[row]] for row in rows]
            for cut in CUTS:
                shares = [
                    sum(place < cut for place in hits) / len(asked[row].gold) for row, hits in zip(rows, places_of, strict=True)
                ]
                yield f"{name}_{group}{way}_r{cut}", float(np.mean(shares))
            yield f"{name}_{group}{way}_mrr", float(np.mean([1 / (min(hits) + 1) if hits else 0.0 for hits in places_of]))
