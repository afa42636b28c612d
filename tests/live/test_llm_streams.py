"""The engine over SmolLM2-135M in int8: what certified streams promise, what others see, and what a warm prefix saves."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import wait

import numpy as np
import pytest

from infra.models.catalogue import find
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from services.llm.cpu_decoder import CpuDecoder
from services.llm.engine import END, Engine, Next
from services.llm.graph import write_graph
from services.llm.model import Terms
from services.llm.scores import Logits, Scores
from services.llm.weights import Weights

MODEL = "smollm2-135m"
CONTEXT = 1024
PROMPT = [int(token) for token in np.random.default_rng(3).integers(20, 5000, 300)]
COUNT = 8


@pytest.fixture(scope="module")
def weights() -> Weights:
    home = load().settings.model.home
    try:
        return Weights(asyncio.run(ensure(MODEL, home=home)) / find(MODEL).file.name)
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def decoder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuDecoder]:
    folder = tmp_path_factory.mktemp(MODEL)
    write_graph(weights, folder, precision="int8", context=CONTEXT)
    decoder = CpuDecoder(folder, weights.shape, slots=5, capacity=CONTEXT, threads=1)
    yield decoder
    decoder.close()


class Recording:
    """Takes the likeliest token, count times, and keeps the logits. ends: stops it early."""

    def __init__(self, count: int, ends: threading.Event | None = None) -> None:
        self.count, self.ends = count, ends
        self.said: list[int] = []
        self.logits: list[Logits] = []
        self.asked = threading.Event()

    def follow(self, scores: Scores) -> Next:
        self.asked.set()
        self.logits.append(scores.all().copy())
        self.said.append(scores.best())
        return END if len(self.said) >= self.count or (self.ends and self.ends.is_set()) else Next(self.said[-1:])


def among(decoder: CpuDecoder, others: int, *, certified: bool) -> Recording:
    """A stream that speaks while others do, in the slot behind theirs."""
    engine, ends = Engine(decoder, speculate=False), threading.Event()
    crowd = [Recording(400, ends) for _ in range(others)]
    futures = [engine.submit([n, *PROMPT[:40]], guide) for n, guide in enumerate(crowd, 100)]
    assert all(guide.asked.wait(60) for guide in crowd)
    guide = Recording(COUNT)
    engine.submit(PROMPT, guide, certified=certified).result(120)
    assert not any(future.done() for future in futures)
    ends.set()
    assert not wait(futures, 60).not_done
    engine.close()
    return guide


def test_a_certified_stream_computes_the_same_bits_among_others_and_in_any_slot(decoder: CpuDecoder) -> None:
    alone, crowded = among(decoder, 0, certified=True), among(decoder, 3, certified=True)
    assert crowded.said == alone.said
    assert np.array_equal(crowded.logits, alone.logits)


def test_who_else_shares_a_step_changes_no_more_than_rounding(decoder: CpuDecoder) -> None:
    """Without guesses and reuse, that is: then steps of one token stay steps of one token."""
    alone, crowded = among(decoder, 0, certified=False), among(decoder, 3, certified=False)
    assert crowded.said == alone.said
    assert np.abs(np.array(crowded.logits) - np.array(alone.logits)).max() < 1e-3


def test_a_warm_beginning_brings_the_first_token_in_a_quarter_of_the_time(decoder: CpuDecoder) -> None:
    engine = Engine(decoder)
    times = []
    for cold in (900, 901):  # each of them another beginning
        prompt = [cold, *PROMPT, *PROMPT[:150]]
        first, second = (
            engine.submit([*prompt, *end], Recording(1), terms=Terms(label=str(end))).result(60) for end in ([5, 6, 7], [8, 9])
        )
        assert first.cached_tokens < 10
        assert second.cached_tokens == len(prompt)
        times.append(second.first_token_s / first.first_token_s)
    engine.close()
    assert min(times) < 0.25
