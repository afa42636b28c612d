"""Forks of random runs: unchanged, they come from the log alone to where the run came; and they are replayed as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from unittest import mock

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtime.fold import Folded, fold
from runtime.log import Stored
from runtime.replay import replay
from runtime.state import RunState
from schemas.commands import AnyCommand, CallTool, JudgeCall, KeepGrant, RecallMemory, StoreTurn
from schemas.events import Fork, MemoryRecalled, StepFailed
from tests.support import drawn_run
from tests.support.builders import RunUnderTest, own_verdict
from tests.support.drawn_run import play
from tests.support.forked_run import ForkUnderTest, drive, judging, original_of

SEEDS = st.integers(min_value=0, max_value=2**32)


@contextmanager
def no_rules() -> Iterator[None]:
    """The agents' own settings decide, as they do in forks."""
    with mock.patch.object(drawn_run, "drawn_verdict", lambda command, agent, draw: own_verdict(agent, command)):
        yield


def forked(run: RunUnderTest, draw: random.Random, *, settled: bool = False) -> ForkUnderTest:
    """A fork of a run that was told its turn, at any of its decisions. settled: where no plan waits for its verdict."""
    original, folded = original_of(run), Folded(RunState(run=run.id))
    assume(any(isinstance(told.body, MemoryRecalled) for told in original.told))
    places = []
    for told in original.told:
        folded.add(Stored(told.fact, told.number))
        if told.decides and not (settled and any(_half_planned(folded.state))):
            places.append(told.number)
    return ForkUnderTest(original, draw.choice(places))


def _half_planned(state: RunState) -> list[str]:
    return [id for id, each in state.open_calls.items() if each.plan and judging(state, id)]


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_a_fork_that_changes_nothing_comes_from_the_log_to_the_same(seed: int, draw: random.Random) -> None:
    with no_rules():
        run = play(seed)
    assume(not any(isinstance(body := told.fact.body, StepFailed) and isinstance(body.command, JudgeCall) for told in run.log))
    fork = forked(run, draw, settled=True)
    drive(fork)
    assert fork.state.phase == "ended"
    assert _result(fork.state) == _result(run.state)
    assert _asked(fork) == _asked(run)
    replayed = replay(fork.id, fork.log)
    assert replayed.same and replayed.outcome == run.state.outcome
    assert not [each for each in fork.decided if isinstance(each.command, CallTool) and each.command.host != "recorded"]


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_a_fork_has_what_the_run_had_where_it_leaves_it(seed: int, draw: random.Random) -> None:
    run = play(seed)
    fork = forked(run, draw, settled=True)
    at = cast("Fork", fork.request.fork).at
    assume(all(told.number <= at for told in fork.original.copied(at)))  # else its turn was opened later there
    there = fold(run.id, run.log[:at]).state
    assert _result(fork.state)[1:] == _result(there)[1:]
    assert replay(fork.id, fork.log).same


def _result(state: RunState) -> tuple[object, ...]:
    """What a run has come to, without the ids of its events."""
    return (
        state.outcome, state.answer, state.failure, state.messages, state.tools, state.passages, state.history,
        set(state.receipts), state.refusals, set(state.doubts.values()), [result for _, result in state.results],
        state.steps, state.calls, state.tokens, state.writes, state.spent, state.told, state.returned,
    )  # fmt: skip


def _asked(run: RunUnderTest) -> list[tuple[str, object]]:
    """What a run asked for, in order, without ids, hosts and moments; not what no fork asks for."""
    never = StoreTurn | KeepGrant | JudgeCall | RecallMemory
    return sorted(
        (each.command.kind, repr(_content(each.command))) for each in run.decided if not isinstance(each.command, never)
    )


def _content(command: AnyCommand) -> object:
    known = {"kind", "call", "prompt_hash", "model", "outcome", "purpose", "about", "question", "k", "write_key", "why"}
    return command.model_dump(mode="json", include=known)
