"""The space of tools: e5's vectors moved by the map that ships, and how likely a tool in it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from schemas.tools import ToolCard
from services.retrieval.embedder import E5_SMALL, HashEmbedder, Kind, estimate
from services.retrieval.fitness import EVEN, Fitness
from services.retrieval.leaning import BACKGROUND
from services.retrieval.tuned import MAPS, TunedEmbedder, for_tools, moved

CARD = ToolCard(name="renew", description="Renew a server.", parameters={})


class Drawn:
    """Vectors of 384 parts drawn by the text: like e5 to all who look at its name."""

    name, dimensions, fits = E5_SMALL.name, 384, 0.84

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        drawn = [np.random.default_rng(sum(text.encode())).normal(size=384) for text in texts]
        return [(vector / np.linalg.norm(vector)).tolist() for vector in drawn]

    async def counter(self) -> Callable[[str], int]:
        return estimate


def test_only_e5_is_moved() -> None:
    plain = HashEmbedder()
    assert for_tools(plain) is plain
    tuned = for_tools(Drawn())
    assert tuned.name.startswith(f"{E5_SMALL.name}+")
    assert tuned.dimensions == 384


async def test_vectors_are_moved_and_stay_of_unit_length() -> None:
    tuned = for_tools(Drawn())
    plain = np.array(await Drawn().embed(["one", "two"], "query"))
    for kind in ("query", "passage"):
        vectors = np.array(await tuned.embed(["one", "two"], kind))
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
        assert np.abs(vectors - plain).max() > 0.01
    assert await tuned.embed([], "query") == []


async def test_requests_and_cards_are_moved_differently() -> None:
    tuned = for_tools(Drawn())
    assert await tuned.embed(["one"], "query") != await tuned.embed(["one"], "passage")


def test_a_map_of_nothing_moves_nothing() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert np.array_equal(moved(vectors, np.zeros((3, 3), np.float32), np.zeros(3, np.float32)), vectors)


def test_the_map_can_be_committed_and_holds_plain_arrays() -> None:
    assert MAPS.stat().st_size < 1_500_000
    with np.load(MAPS, allow_pickle=False) as stored:
        assert {name: stored[name].shape for name in stored.files} == {
            "matrix": (384, 384), "query_bias": (384,), "passage_bias": (384,),
        }  # fmt: skip
        assert all(np.isfinite(stored[name]).all() for name in stored.files)


class Placed:
    """The card at one cosine from the request, the background at another."""

    name, dimensions, fits = E5_SMALL.name, 2, 0.84

    def __init__(self, card: float, background: float) -> None:
        self._card, self._background = card, background

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        cosine = {True: 1.0, False: self._background if list(texts) == list(BACKGROUND) else self._card}[kind == "query"]
        return [[cosine, (1 - cosine**2) ** 0.5] for _ in texts]

    async def counter(self) -> Callable[[str], int]:
        return estimate


async def told(card: float, background: float, monkeypatch: pytest.MonkeyPatch) -> float | None:
    zero = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    monkeypatch.setattr("services.retrieval.tuned._maps", lambda: ({"query": zero, "passage": zero}, "none"))
    return await Fitness(Placed(card, background)).of("renew it", [CARD])


async def test_fitness_is_even_at_its_lead_and_grows_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    even = await told(0.3 + EVEN, 0.3, monkeypatch)
    more = await told(0.5 + EVEN, 0.3, monkeypatch)
    less = await told(0.1 + EVEN, 0.3, monkeypatch)
    assert even == pytest.approx(0.5, abs=1e-4)
    assert less is not None
    assert more is not None
    assert 0 < less < 0.1
    assert 0.9 < more < 1


async def test_fitness_is_not_told_without_tools_or_of_a_strange_embedder() -> None:
    assert await Fitness(Drawn()).of("renew it", []) is None
    assert await Fitness(HashEmbedder()).of("renew it", [CARD]) is None
    assert isinstance(for_tools(Drawn()), TunedEmbedder)
