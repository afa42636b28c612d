from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.messages import Sampling
from services.llm.sampling import Sampler
from services.llm.scores import TOP, HostScores, Logits, NotFinite

SIZE = 4000


class Counted(HostScores):
    """Scores that lie far away: fetching all of them is counted."""

    fetched = 0

    def all(self) -> Logits:
        self.fetched += 1
        return super().all()


class Whole(Counted):
    """Scores whose top says nothing, so that every choice is made from all of them."""

    def best(self) -> int:
        return int(np.flatnonzero(~self.allowed)[0]) if not self.allowed.all() else super().best()

    def top(self) -> tuple[NDArray[np.int64], Logits]:
        tokens, logits = super().top()
        return tokens[:1], logits[:1]

    allowed: NDArray[np.bool_] = np.ones(SIZE, np.bool_)


def logits(seed: int, *, spread: float = 3.0, ties: bool = False) -> Logits:
    values = np.random.default_rng(seed).standard_normal(SIZE) * spread
    return np.asarray(np.round(values) if ties else values, np.float32)


def mask(seed: int, share: float) -> NDArray[np.bool_]:
    allowed = np.random.default_rng(seed + 1).random(SIZE) < share
    allowed[seed % SIZE] = True
    return allowed


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.003, 0.3, 1.0]), ties=st.booleans(),
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.5]), top_k=st.sampled_from([0, 1, 5, 64, 200]),
    top_p=st.sampled_from([0.2, 0.9, 1.0]), spread=st.sampled_from([0.5, 3.0, 9.0]),
)  # fmt: skip
def test_a_choice_is_the_same_from_the_top_and_from_all(
    *, seed: int, share: float, ties: bool, temperature: float, top_k: int, top_p: float, spread: float
) -> None:
    values, allowed = logits(seed, spread=spread, ties=ties), mask(seed, share)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    whole = Whole(values)
    whole.allowed = allowed
    near, far = Sampler(sampling), Sampler(sampling)
    for _ in range(3):
        chosen = near.choose(HostScores(values), allowed)
        assert chosen == far.choose(whole, allowed)
        assert allowed[chosen]
    if temperature == 0:
        assert chosen == int(np.where(allowed, values, -np.inf).argmax())


@pytest.mark.parametrize(
    ("sampling", "share"),
    [
        (Sampling(temperature=0), 1.0),
        (Sampling(temperature=0), 0.3),
        (Sampling(temperature=1, top_k=20), 0.5),
        (Sampling(temperature=1, top_k=TOP // 4, top_p=0.9), 0.5),
        (Sampling(temperature=0.5, top_p=0.9), 0.9),
    ],
)
def test_what_the_top_can_prove_fetches_nothing_else(sampling: Sampling, share: float) -> None:
    sampler = Sampler(sampling)
    for seed in range(20):
        scores = Counted(logits(seed, spread=9))
        sampler.choose(scores, mask(seed, share))
        assert scores.fetched == 0


def test_what_the_top_cannot_prove_fetches_all() -> None:
    flat = Counted(logits(1, spread=0.01))
    Sampler(Sampling(temperature=1, top_p=0.9)).choose(flat, mask(1, 1.0))
    assert flat.fetched == 1
    few = Counted(logits(1))
    lowest = np.zeros(SIZE, np.bool_)
    lowest[int(logits(1).argmin())] = True
    assert lowest[Sampler(Sampling(temperature=0)).choose(few, lowest)]
    assert few.fetched == 1


def test_the_nucleus_holds_no_more_than_its_share() -> None:
    values = np.full(SIZE, -50, np.float32)
    values[[7, 8, 9]] = np.log([0.6, 0.3, 0.1]).astype(np.float32)
    for allowed in (None, np.ones(SIZE, np.bool_)):
        sampler = Sampler(Sampling(temperature=1, top_p=0.85, seed=3))
        said = [sampler.choose(HostScores(values), allowed) for _ in range(300)]
        assert set(said) == {7, 8}
        assert 0.55 < said.count(7) / 300 < 0.78  # two in three


def test_nothing_allowed_and_no_numbers_are_refused() -> None:
    nothing = np.zeros(SIZE, np.bool_)
    for sampling in (Sampling(temperature=0), Sampling(temperature=1), Sampling(temperature=1, top_k=5)):
        with pytest.raises(ValueError, match="allowed"):
            Sampler(sampling).choose(HostScores(logits(1)), nothing)
        broken = logits(1)
        broken[5] = np.nan
        with pytest.raises(NotFinite):
            Sampler(sampling).choose(HostScores(broken), np.ones(SIZE, np.bool_))


class LastOfEqual(Counted):
    """A device that takes any of equal tokens into its top, here the last."""

    def top(self) -> tuple[NDArray[np.int64], Logits]:
        order = np.lexsort((-np.arange(SIZE), -self._logits))[:TOP]
        order = order[np.lexsort((order, -self._logits[order]))]
        return order, self._logits[order]


def test_of_equal_tokens_the_first_counts_even_where_the_top_has_another() -> None:
    values = np.zeros(SIZE, np.float32)
    values[1000:1060] = 2
    values[500:600] = 1
    allowed = np.ones(SIZE, np.bool_)
    allowed[1000:1060] = False
    assert Sampler(Sampling()).choose(LastOfEqual(values), allowed) == 500
    for sampling in (Sampling(temperature=0.1, top_k=1), Sampling(temperature=0.1, top_p=0.001)):
        assert Sampler(sampling).choose(LastOfEqual(values), allowed) == 500
