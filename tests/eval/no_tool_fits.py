"""How well "no tool fits" is told: `python -m tests.eval.no_tool_fits [--embedder FOLDER]`. The last line is JSON.

Each request of no_tool_fits.json is searched for in a catalogue of some 130 cards, as a run would, and the three best are
judged. The functions of HammerBench among the cards are for evaluation alone. auc: how often a request that a tool fits gets
the higher probability of two; ece: how far the probabilities are from the shares they promise, over five bins.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.tools import ToolCard
from services.retrieval.e5 import E5Embedder
from services.retrieval.embedder import Embedder
from services.retrieval.fitness import Fitness
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.search import Search
from services.retrieval.tool_index import SHARED
from services.retrieval.tuned import for_tools
from services.retrieval.words import card_text
from tests.bench.retrieval import places
from tool_adapters.aliyun.apis import APIS
from tool_adapters.aliyun.cards import card_of
from tool_adapters.builtin import builtin_tools
from tool_adapters.names import tool_name

REQUESTS = Path(__file__).with_name("no_tool_fits.json")
OFFERED = 3
EVEN = 0.5
BINS = 5


class Judged(NamedTuple):
    """A request with what is so and what was told."""

    language: str
    fits: bool
    told: float


async def judge(embedder: Embedder) -> list[Judged]:
    """All requests, each in the catalogue of its language. Raises MilepostError when the data set is not here."""
    said = json.loads(REQUESTS.read_text())
    fitness, judged = Fitness(embedder), []
    for language in ("en", "zh"):
        search = await _search(_cards(language, frozenset(map(tool_name, said["hammerbench"]))), embedder)
        for request in said["requests"]:
            if request["language"] == language:
                found = await search.find("eval", request["text"], OFFERED)
                told = await fitness.of(request["text"], [each.card for each in found])
                judged.append(Judged(language, request["fits"], told or 0.0))
    return judged


def _cards(language: places.Language, names: frozenset[str]) -> list[ToolCard]:
    own = [*map(card_of, APIS), *(tool.card for tool in builtin_tools())]
    return [*own, *(card for card in places.hammerbench(language)[0] if card.name in names)]


async def _search(cards: Sequence[ToolCard], embedder: Embedder) -> Search:
    tuned, index = for_tools(embedder), MemoryToolIndex()
    texts = [card_text(card) for card in cards]
    await index.put(SHARED, cards, dict(zip(texts, await tuned.embed(texts, "passage"), strict=True)))
    return Search(index, tuned)


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """auc, accuracy at even odds, and expected calibration error."""
    fit = [each.told for each in judged if each.fits]
    unfit = [each.told for each in judged if not each.fits]
    pairs = [(one > other) + 0.5 * (one == other) for one in fit for other in unfit]
    right = sum((each.told >= EVEN) == each.fits for each in judged)
    return {"auc": _mean(pairs), "accuracy": right / len(judged), "ece": _calibration_error(judged), "requests": len(judged)}


def _calibration_error(judged: Sequence[Judged]) -> float:
    """Guo et al., arXiv 1706.04599, equation 3."""
    bins: dict[int, list[Judged]] = {}
    for each in judged:
        bins.setdefault(min(int(each.told * BINS), BINS - 1), []).append(each)
    apart = (
        abs(_mean([each.told for each in some]) - _mean([each.fits for each in some])) * len(some) for some in bins.values()
    )
    return sum(apart) / len(judged)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Judge, show what was told wrongly, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", type=Path, help="a built multilingual-e5-small; without it the one that ships")
    asked = parser.parse_args()
    embedder = E5Embedder(asked.embedder, threads=1) if asked.embedder else asyncio.run(places.embedder())
    judged = asyncio.run(judge(embedder))
    told = {"all": figures(judged)} | {
        language: figures([each for each in judged if each.language == language]) for language in ("en", "zh")
    }  # fmt: skip
    print(json.dumps({group: {name: round(value, 4) for name, value in each.items()} for group, each in told.items()}))


if __name__ == "__main__":
    main()
