from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.messages import Sampling
from services.llm.cpu_decoder import CpuDecoder
from services.llm.engine import END, Engine, Next, Outcome
from services.llm.graph import write_graph
from services.llm.sampling import Sampler
from services.llm.scores import Scores
from services.llm.speculation import FEWEST, LONGEST, MOST, SILENCE, Drafter, continuation
from services.llm.weights import Weights
from tests.support.counting_decoder import CountingDecoder
from tests.support.tiny_model import Tiny

CAPACITY = 256


def tokens(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def test_a_continuation_follows_the_longest_earlier_ngram() -> None:
    assert continuation(tokens(1, 2, 3, 9, 8, 7, 1, 2, 3), 2) == [9, 8]
    # 5 1 2 3 is longer than 1 2 3, though the latter came last.
    assert continuation(tokens(5, 1, 2, 3, 40, 41, 6, 1, 2, 3, 50, 51, 5, 1, 2, 3), 1) == [40]
    # Of equally long ones the last.
    assert continuation(tokens(4, 1, 2, 3, 40, 6, 1, 2, 3, 50, 7, 1, 2, 3), 1) == [50]


def test_no_continuation_without_an_ngram_of_three() -> None:
    assert continuation(tokens(1, 2, 9, 8, 1, 2), 4) == []
    assert continuation(tokens(), 4) == []
    assert continuation(tokens(1), 4) == []
    assert continuation(tokens(1, 1, 1), 4) == []
    assert continuation(tokens(1, 2, 3, 9, 1, 2, 3), 0) == []


def test_a_continuation_may_run_into_the_end() -> None:
    assert continuation(tokens(7, 7, 7, 7), 5) == [7]
    assert continuation(tokens(*range(50, 50 + LONGEST + 4), *range(50, 50 + LONGEST + 2)), 9)[:2] == [60, 61]


def test_a_drafter_dares_more_after_right_drafts_and_is_silent_after_wrong_ones() -> None:
    drafter, said = Drafter(), tokens(*range(40), *range(4))
    assert len(drafter.draft(said, 99)) == FEWEST
    for _ in range(5):
        drafter.judge(4, 4)
    assert len(drafter.draft(said, 99)) == MOST
    assert len(drafter.draft(said, 3)) == 3
    drafter.judge(16, 7)
    assert len(drafter.draft(said, 99)) == MOST // 2
    silences = []
    for _ in range(10):
        drafter.judge(4, 0)
        silences.append(next(n for n in range(200) if drafter.draft(said, 99)))
    assert silences == [4, 8, 16, 32, 64, 64, 64, 64, 64, 64]
    assert max(silences) == SILENCE
    assert (drafter.drafted, drafter.accepted) == (76, 27)


class Whimsical:
    """Does all that a guide may do, by a seed: takes the best, copies from its prompt, forces several, takes some back."""

    def __init__(self, prompt: list[int], seed: int, count: int) -> None:
        self.random, self.prompt, self.count = random.Random(seed), prompt, count
        self.at = 0
        self.seen: list[int] = []
        self.held: list[int] = []
        self.steps: list[Next] = []

    def follow(self, scores: Scores) -> Next:
        self.seen.append(scores.best())
        if len(self.seen) > self.count:
            return END
        match self.random.choices(["copy", "best", "jump", "force", "back"], [60, 6, 4, 20, 10])[0]:
            case "best":
                following = Next([self.seen[-1]])
            case "jump":
                self.at = self.random.randrange(len(self.prompt))
                following = Next([self.prompt[self.at]])
            case "back" if len(self.held) > 3:
                said = [self.seen[-1]] if self.random.random() < 0.5 else self.copied(1)
                following = Next(said, drop=self.random.randint(1, 3))
            case "force":
                following = Next(self.copied(self.random.randint(2, 6)))
            case _:
                following = Next(self.copied(1))
        self.held = [*self.held[: len(self.held) - following.drop], *following.tokens]
        self.steps.append(following)
        return following

    def copied(self, count: int) -> list[int]:
        self.at = (self.at + count) % (len(self.prompt) - 6)
        return self.prompt[self.at : self.at + count]


def spoken(engine: Engine, guide: Whimsical) -> Outcome:
    return engine.submit(guide.prompt, guide).result(30)


@pytest.fixture(scope="module")
def counting() -> list[tuple[CountingDecoder, Engine]]:
    decoders = [CountingDecoder(slots=1, capacity=CAPACITY) for _ in range(2)]
    return [(decoder, Engine(decoder, speculate=bool(n))) for n, decoder in enumerate(decoders)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), text=st.lists(st.integers(1, 12), min_size=9, max_size=60), count=st.integers(1, 30))
def test_guesses_change_nothing_that_a_guide_sees(
    counting: list[tuple[CountingDecoder, Engine]], seed: int, text: list[int], count: int
) -> None:
    guides = [Whimsical(text, seed, count) for _ in counting]
    for (decoder, engine), guide in zip(counting, guides, strict=True):
        spoken(engine, guide)
        held = [*text, *guide.held]
        assert decoder.memory[0, : len(held)].tolist() == held
    assert guides[0].seen == guides[1].seen
    assert guides[0].steps == guides[1].steps


def test_what_is_copied_takes_fewer_steps() -> None:
    text = [1 + (place * place) % 89 for place in range(60)]

    class Copying(Whimsical):
        def follow(self, scores: Scores) -> Next:
            self.seen.append(scores.best())
            return Next([text[len(self.seen) - 1]]) if len(self.seen) <= 50 else END

    for speculate, most in ((True, 16), (False, 60)):
        decoder = CountingDecoder(slots=1, capacity=CAPACITY)
        engine = Engine(decoder, speculate=speculate)
        outcome = spoken(engine, Copying(text, 0, 0))
        stats = engine.stats()
        engine.close()
        assert len(decoder.steps) <= most
        assert (outcome.accepted > 30) == speculate
        assert outcome.accepted <= outcome.drafted
        assert stats["accepted"] == outcome.accepted


def test_what_is_taken_back_behind_a_right_guess_is_taken_back(counting: list[tuple[CountingDecoder, Engine]]) -> None:
    text = [1 + (place * place) % 89 for place in range(60)]

    class Regretting(Whimsical):
        def follow(self, scores: Scores) -> Next:
            self.seen.append(scores.best())
            at = len(self.seen)
            drop = 2 if at % 5 == 0 else 0  # yet it goes on with what was guessed
            self.held = [*self.held[: len(self.held) - drop], text[at]]
            return Next([text[at]], drop=drop) if at < 40 else END

    guides = [Regretting([*text, *text[:1]], 0, 0) for _ in counting]
    accepted = [spoken(engine, guide).accepted for (_, engine), guide in zip(counting, guides, strict=True)]
    assert guides[0].seen == guides[1].seen
    assert accepted[0] == 0 < accepted[1]


def test_a_certified_stream_guesses_nothing() -> None:
    decoder = CountingDecoder(slots=1, capacity=CAPACITY)
    engine = Engine(decoder, speculate=True)
    guide = Whimsical([1, 2, 3, 4, 5, 6, 7, 8] * 4, 0, 40)
    outcome = engine.submit(guide.prompt, guide, certified=True).result(30)
    engine.close()
    assert outcome.drafted == 0
    assert not any(every for _, every in decoder.steps)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speculation")
    weights = Weights(Tiny.random("qwen2", tied=False).write(folder / "tiny.gguf"))
    write_graph(weights, folder, precision="int8", context=CAPACITY)
    return folder


def test_a_sampled_text_is_the_same_with_and_without_guesses(tiny: Path) -> None:
    """Sharp sampling over few allowed tokens repeats itself, so that there is something to guess."""
    allowed = np.zeros(len(Tiny.random("qwen2", tied=False).tensors["token_embd.weight"]), np.bool_)
    allowed[[5, 6, 7]] = True

    class Sampling5(Whimsical):
        def follow(self, scores: Scores) -> Next:
            self.held.append(sampler.choose(scores, allowed))
            return Next(self.held[-1:]) if len(self.held) < 120 else END

    said, accepted = [], 0
    for speculate in (False, True):
        shape = Weights(tiny / "tiny.gguf").shape
        engine = Engine(CpuDecoder(tiny, shape, slots=2, capacity=CAPACITY, threads=1), speculate=speculate)
        for seed in range(4):
            sampler = Sampler(Sampling(temperature=0.8, top_p=0.9, seed=seed))
            guide = Sampling5([5, 6, 7, 7, 6, 5, 5, 6, 6, 7, 5, 7], seed, 0)
            accepted += spoken(engine, guide).accepted
            said.append(guide.held)
        engine.close()
    assert said[:4] == said[4:]
    assert len({tuple(held) for held in said}) == 4
    assert accepted > 0
