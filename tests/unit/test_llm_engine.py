from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path

import numpy as np
import pytest

from services.llm.cpu_decoder import CpuDecoder
from services.llm.engine import END, Engine, EngineStopped, ModelBusy, Next, Outcome, PromptTooLong
from services.llm.graph import write_graph
from services.llm.model import Terms
from services.llm.scores import HostScores, Logits, NotFinite, Scores
from services.llm.weights import Weights
from tests.support.tiny_model import Tiny

CAPACITY = 128
# Logits of the tiny model are of the size of 5.
BOUND = 1e-3
PROMPTS = [[5, 77, 3, 200], [5, 77, 3, 200, 140, 9, 61, 30], [9, 9, 250], list(range(40)), [100, 3, 77]]


class Counting(CpuDecoder):
    """A decoder that remembers the shape of each step."""

    def step(
        self, first: int, tokens: np.ndarray[tuple[int, int], np.dtype[np.int64]], past: Sequence[int], *, every: bool = False
    ) -> Sequence[HostScores]:
        shapes.append(tokens.shape)
        return super().step(first, tokens, past, every=every)


shapes: list[tuple[int, ...]] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_graph(
        Weights(Tiny.random("qwen2", tied=False).write(folder / "tiny.gguf")), folder, precision="int8", context=CAPACITY
    )
    return folder


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    shapes.clear()
    shape = Weights(folder / "tiny.gguf").shape
    engine = Engine(Counting(folder, shape, slots=3, capacity=CAPACITY, threads=1), max_waiting=2)
    yield engine
    engine.close()


class Greedy:
    """Takes the likeliest token, count times. gate: waits for it before each answer; reached: tells that it was asked."""

    def __init__(self, count: int, gate: threading.Event | None = None) -> None:
        self.count, self.gate = count, gate
        self.said: list[int] = []
        self.reached = threading.Event()

    def follow(self, scores: Scores) -> Next:
        self.reached.set()
        if self.gate:
            self.gate.wait(30)
        self.said.append(scores.best())
        return Next([self.said[-1]]) if len(self.said) < self.count else END


def run(engine: Engine, prompt: list[int], count: int = 12, label: str = "") -> Greedy:
    guide = Greedy(count)
    engine.submit(prompt, guide, terms=Terms(label=label)).result(30)
    return guide


def test_streams_that_run_together_say_what_they_say_alone(engine: Engine) -> None:
    alone = [run(engine, prompt).said for prompt in PROMPTS]
    guides = [Greedy(12) for _ in PROMPTS]
    for future in [engine.submit(prompt, guide) for prompt, guide in zip(PROMPTS, guides, strict=True)]:
        future.result(30)
    assert [guide.said for guide in guides] == alone
    assert len({tuple(said) for said in alone}) > 1
    assert any(rows > 1 for rows, _ in shapes), "no step was shared"


def test_a_prompt_that_extends_another_reads_only_what_is_new(engine: Engine) -> None:
    prompt = list(range(60))
    first = run(engine, prompt, label="run")
    longer = [*prompt, *first.said[:-1], 7, 8, 9]
    shapes.clear()
    outcome = engine.submit(longer, Greedy(1), terms=Terms(label="run")).result(30)
    assert outcome.cached_tokens == len(prompt) + len(first.said) - 1
    assert shapes == [(1, 3)]


def test_what_was_reused_changes_nothing(engine: Engine) -> None:
    prompt = list(range(50))
    wanted = run(engine, [*prompt, 200, 201]).said
    run(engine, [*prompt, 77])
    again = Greedy(12)
    assert engine.submit([*prompt, 200, 201], again).result(30).cached_tokens >= len(prompt)
    assert again.said == wanted


def test_a_beginning_is_copied_from_a_slot_that_still_speaks(engine: Engine) -> None:
    prompt = list(range(40))
    gate = threading.Event()
    speaking = Greedy(3, gate)
    first = engine.submit([*prompt, 7], speaking)
    assert speaking.reached.wait(30)
    second = Greedy(12)
    waiting = engine.submit([*prompt, 9], second)
    gate.set()
    assert waiting.result(30).cached_tokens == len(prompt)
    first.result(30)
    assert second.said == run(engine, [*prompt, 9]).said


def test_a_guide_can_take_tokens_back(engine: Engine) -> None:
    class Hesitant:
        def __init__(self) -> None:
            self.seen: list[Scores] = []

        def follow(self, scores: Scores) -> Next:
            self.seen.append(scores)
            return [Next([50, 51, 52]), Next([7], drop=3), END][len(self.seen) - 1]

    hesitant = Hesitant()
    engine.submit(PROMPTS[0], hesitant).result(30)
    straight = run(engine, [*PROMPTS[0], 7], 1)
    assert hesitant.seen[-1].best() == straight.said[0]


def test_cancelling_frees_the_slot(engine: Engine) -> None:
    gates = [threading.Event() for _ in range(3)]
    guides = [Greedy(10_000, gates[0]), Greedy(2, gates[1]), Greedy(2, gates[2])]
    for gate in gates:
        gate.set()
    endless = engine.submit([1, 2, 3], guides[0])
    assert guides[0].reached.wait(30)
    assert endless.cancel()
    said = len(guides[0].said)
    for _ in range(4):
        run(engine, [4, 5, 6], 3)
    assert len(guides[0].said) <= said + 2
    with pytest.raises(CancelledError):
        endless.result(0)


def test_a_stream_whose_guide_fails_ends_alone(engine: Engine) -> None:
    class Broken:
        def follow(self, scores: Scores) -> Next:
            raise KeyError("broken guide")

    broken = engine.submit([1, 2, 3], Broken())
    assert len(run(engine, [4, 5, 6]).said) == 12
    with pytest.raises(KeyError, match="broken guide"):
        broken.result(30)


def test_more_than_may_wait_is_refused(engine: Engine) -> None:
    gate = threading.Event()
    guides = [Greedy(1, gate) for _ in range(5)]
    futures = [engine.submit([n, n + 1], guide) for n, guide in enumerate(guides)]
    with pytest.raises(ModelBusy):
        engine.submit([1, 2], Greedy(1))
    gate.set()
    for future in futures:
        future.result(30)
    assert run(engine, [1, 2], 2).said


def test_a_prompt_beyond_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong) as refused:
        engine.submit([1] * CAPACITY, Greedy(1))
    assert refused.value.limit == CAPACITY


def test_a_stream_that_outgrows_the_context_ends_with_an_error(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        engine.submit([1] * (CAPACITY - 4), Greedy(50)).result(30)


def test_closing_ends_what_runs_and_takes_no_more(folder: Path) -> None:
    engine = Engine(CpuDecoder(folder, Weights(folder / "tiny.gguf").shape, slots=1, capacity=CAPACITY, threads=1))
    endless = Greedy(10_000)
    running, waiting = engine.submit([1, 2], endless), engine.submit([3, 4], Greedy(1))
    assert endless.reached.wait(30)
    engine.close()
    for future in (running, waiting):
        with pytest.raises((EngineStopped, PromptTooLong)):
            future.result(30)
    with pytest.raises(EngineStopped):
        engine.submit([1], Greedy(1))


class Recording(Greedy):
    """Keeps the logits that it saw; forces two tokens now and then, as a grammar does."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.logits: list[Logits] = []

    def follow(self, scores: Scores) -> Next:
        self.logits.append(scores.all().copy())
        following = super().follow(scores)
        forced = [60, 61] if following.tokens and len(self.said) % 5 == 0 else []
        return Next([*following.tokens, *forced])


def busy(engine: Engine, ends: threading.Event) -> list[Future[Outcome]]:
    class Endless(Greedy):
        def follow(self, scores: Scores) -> Next:
            return END if ends.is_set() else super().follow(scores)

    guides = [Endless(80) for _ in range(5)]
    return [engine.submit([*PROMPTS[3], 90 + n], guide) for n, guide in enumerate(guides)]


def test_a_certified_stream_computes_the_same_bits_whatever_else_runs(folder: Path) -> None:
    prompt, seen = [*range(40), 77, 3, 8], []
    shape = Weights(folder / "tiny.gguf").shape
    for place in (0, 3):
        for crowded in (False, True):
            engine = Engine(CpuDecoder(folder, shape, slots=6, capacity=CAPACITY, threads=1))
            for other in range(place):  # whose label keeps their slots
                engine.submit([200 + other, *prompt], Greedy(1), terms=Terms(label=f"other {other}")).result(30)
            ends = threading.Event()
            crowd = busy(engine, ends) if crowded else []
            guide = Recording(20)
            outcome = engine.submit(prompt, guide, certified=True).result(30)
            ends.set()
            wait(crowd, 30)
            engine.close()
            assert outcome.cached_tokens == outcome.drafted == 0
            seen.append(guide)
    for guide in seen:
        assert guide.said == seen[0].said
        assert np.array_equal(guide.logits, seen[0].logits)


def test_uncertified_streams_see_the_same_logits_within_a_bound(folder: Path) -> None:
    """What depends on the batch, the pieces and what is reused is the order of sums, which shows in the last digits."""
    prompt = [*range(40), 77, 3, 8]
    shape = Weights(folder / "tiny.gguf").shape
    alone, among = Recording(20), Recording(20)
    engine = Engine(CpuDecoder(folder, shape, slots=6, capacity=CAPACITY, threads=1))
    engine.submit(prompt, alone, certified=True).result(30)
    ends = threading.Event()
    crowd = busy(engine, ends)
    outcome = engine.submit(prompt, among).result(30)
    ends.set()
    wait(crowd, 30)
    engine.close()
    assert outcome.cached_tokens > 0
    assert among.said == alone.said
    assert np.abs(np.array(among.logits) - np.array(alone.logits)).max() < BOUND


def test_numbers_that_are_none_end_their_stream_and_their_cache(folder: Path) -> None:
    class Broken(CpuDecoder):
        def step(
            self,
            first: int,
            tokens: np.ndarray[tuple[int, int], np.dtype[np.int64]],
            past: Sequence[int],
            *,
            every: bool = False,
        ) -> Sequence[HostScores]:
            scores = super().step(first, tokens, past, every=every)
            spoilt = HostScores(np.full(300, np.nan, np.float32))
            return [spoilt if 250 in row else score for row, score in zip(tokens, scores, strict=False)]

    engine = Engine(Broken(folder, Weights(folder / "tiny.gguf").shape, slots=2, capacity=CAPACITY, threads=1))
    prompt = [*range(40), 250]
    with pytest.raises(NotFinite):
        engine.submit(prompt, Greedy(3)).result(30)
    outcome = engine.submit(list(range(41)), Greedy(3)).result(30)
    engine.close()
    assert outcome.cached_tokens == 0
