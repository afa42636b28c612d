"""Random runs: they end, they are decided the same however they are folded, and a log that was tampered with is found out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.log import Stored
from runtime.replay import replay
from schemas.commands import EndRun, StoreTurn
from schemas.events import Answered, Generated, ToolReturned
from schemas.tools import ToolResult
from tests.support.builders import RunUnderTest, call, fact_of, ready
from tests.support.drawn_run import check_writes, play
from tests.support.simulation import Cluster

SEEDS = st.integers(min_value=0, max_value=2**32)


def numbered(log: list[Stored]) -> list[Stored]:
    return [replace(stored, position=index + 1) for index, stored in enumerate(log)]


def causes_of_answers(run: RunUnderTest) -> list[int]:
    """Places in the log of the facts that caused something which was answered later."""
    answered = {stored.fact.slot for stored in run.log if isinstance(stored.fact.body, Answered)}
    causes = {each.cause for each in run.decided if each.id in answered}
    return [index for index, stored in enumerate(run.log) if stored.fact.id in causes]


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_every_run_ends_once_and_replays_the_same(seed: int) -> None:
    run = play(seed)  # it checks the fold at every step
    check_writes(run)
    assert (run.count(EndRun), run.count(StoreTurn) <= 1) == (1, True)
    replayed = replay(run.id, run.log)
    assert replayed.same
    assert (replayed.events, replayed.decisions, replayed.outcome) == (len(run.log), len(run.decided), run.state.outcome)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_a_fact_that_is_missing_is_found_out(seed: int, draw: random.Random) -> None:
    run = play(seed)
    gone = draw.choice(causes_of_answers(run))
    assert not replay(run.id, numbered(run.log[:gone] + run.log[gone + 1 :])).same


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_an_answer_before_its_cause_is_found_out(seed: int, draw: random.Random) -> None:
    run = play(seed)
    cause = draw.choice(causes_of_answers(run))
    decided = {each.id for each in run.decided if each.cause == run.log[cause].fact.id}
    answer = next(i for i, stored in enumerate(run.log) if stored.fact.slot in decided)
    log = list(run.log)
    log[cause], log[answer] = log[answer], log[cause]
    assert not replay(run.id, numbered(log)).same


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_an_answer_whose_command_was_changed_is_found_out_at_its_place(seed: int, draw: random.Random) -> None:
    run = play(seed)
    answers = [index for index, stored in enumerate(run.log) if isinstance(stored.fact.body, Answered)]
    place = draw.choice(answers)
    fact, other = run.log[place].fact, draw.choice(run.decided).command
    body = fact.body.model_copy(update={"command": other})
    log = list(run.log)
    log[place] = replace(log[place], fact=replace(fact, body=body))
    divergence = replay(run.id, log).divergence
    assert (divergence is None) == (other == fact.body.command)
    assert divergence is None or divergence.event == place + 1


@pytest.mark.parametrize("where", ["tool", "model"])
def test_a_changed_content_is_found_out_at_the_next_generation(where: str) -> None:
    run = ready()
    (command,) = run.say(call("clock"))
    run.returns(command, "12:00")
    run.say(text="It is noon.")
    run.end()
    assert replay(run.id, run.log).same
    index = next(i for i, s in enumerate(run.log) if isinstance(s.fact.body, ToolReturned if where == "tool" else Generated))
    body = run.log[index].fact.body
    if isinstance(body, ToolReturned):
        changed = body.model_copy(update={"result": ToolResult(text="13:00")})
    else:
        generation = body.generation.model_copy(update={"calls": (call("clock", n=9),)})
        changed = body.model_copy(update={"generation": generation})
    log = list(run.log)
    log[index] = replace(log[index], fact=fact_of(changed, run.id, log[index].fact.slot, time=log[index].fact.time))
    divergence = replay(run.id, log).divergence
    assert divergence is not None
    assert divergence.type == ("Generated" if where == "tool" else "ToolReturned")
    assert divergence.event > index + 1


def test_a_run_that_is_open_replays_as_open() -> None:
    run = ready()
    replayed = replay(run.id, run.log)
    assert (replayed.same, replayed.outcome, replayed.answered) == (True, "open", 3)


@settings(max_examples=12, deadline=None)
@given(SEEDS)
@example(1)
def test_runs_end_and_no_effect_repeats_however_often_processes_die(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.play()
    assert cluster.killed
    for run in cluster.runs:
        log = cluster.log_of(run)
        replayed = replay(run, log)
        assert replayed.same, replayed.divergence
        assert replayed.outcome in ("completed", "failed", "cancelled")
        assert len({stored.fact.slot for stored in log}) == len(log)
    assert set(cluster.world.by_run.values()) <= {1}
    assert set(cluster.world.effects.values()) <= {0, 1}
    assert cluster.world.most_at_once <= 1


def test_a_cluster_that_nobody_kills_does_its_writes() -> None:
    cluster = Cluster(7, kills=0)
    cluster.play(runs=12)
    assert cluster.killed == 0
    written = [
        stored for run in cluster.runs for stored in cluster.log_of(run)
        if isinstance(stored.fact.body, ToolReturned) and stored.fact.body.command.write_key
    ]  # fmt: skip
    assert len(written) == sum(cluster.world.effects.values()) > 0
