"""A replay says what happened, and where today's code would decide otherwise: what, why, and which code that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime import policy, prompt, writes
from runtime.divergence import Divergence
from runtime.fold import Folded
from runtime.log import Stored
from runtime.replay import replay
from runtime.state import RunState
from schemas.commands import EndRun
from schemas.envelope import DECIDER, Fact, Order
from schemas.events import TERMINAL, Answered, RunCompleted, ToolFailed, ToolReturned
from schemas.ids import RunId
from tests.golden.record import approval_granted, questions_of_a_tool
from tests.support.builders import RunUnderTest, fact_of, failure
from tests.support.simulation import Cluster

Edit = Callable[[list[Stored]], list[Stored]]
SEEDS = st.integers(min_value=0, max_value=2**32)


def edited(run: RunUnderTest, edit: Edit) -> list[Stored]:
    return [replace(stored, position=place + 1) for place, stored in enumerate(edit(list(run.log)))]


def found(run: RunUnderTest, edit: Edit = list) -> Divergence:
    divergence = replay(run.id, edited(run, edit)).divergence
    assert divergence is not None
    return divergence


def place_of(log: list[Stored], kind: str) -> int:
    return next(place for place, stored in enumerate(log) if stored.fact.kind == kind)


def without(kind: str) -> Edit:
    return lambda log: [stored for stored in log if stored.fact.kind != kind]


def with_fact(log: list[Stored], kind: str, change: Callable[[Fact], Fact]) -> list[Stored]:
    place = place_of(log, kind)
    return [*log[:place], replace(log[place], fact=change(log[place].fact)), *log[place + 1 :]]


@settings(max_examples=3, deadline=None)
@given(SEEDS)
@example(3)
def test_a_replay_says_what_happened_however_often_processes_die(seed: int) -> None:
    cluster, sent = Cluster(seed), dict[RunId, list[Order]]()
    send = cluster.broker.send

    async def remembered(order: Order, *, resent: bool = False) -> None:
        sent.setdefault(order.run, []).append(order)
        await send(order, resent=resent)

    cluster.broker.send = remembered  # type: ignore[method-assign]
    cluster.play(runs=4)

    assert cluster.killed
    for run in cluster.runs:
        log = cluster.log_of(run)
        replayed = replay(run, iter(log))
        assert replayed.divergence is None
        (end,) = (stored.fact.body for stored in log if isinstance(stored.fact.body, TERMINAL))
        assert isinstance(end, Answered) and isinstance(end.command, EndRun)
        assert replayed.outcome == end.command.outcome
        assert not isinstance(end, RunCompleted) or replayed.answer == end.answer
        folded = Folded(RunState(run=run))
        decided = {each.id: each for stored in log for each in folded.add(stored)}
        assert replayed.decisions == len(decided)
        for order in sent[run]:  # also those of a conductor that died right after it
            assert (decided[order.id].command, decided[order.id].cause) == (order.body, order.causes[0])  # type: ignore[index]


def test_a_field_that_is_made_otherwise_is_named_with_its_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    run = approval_granted()
    number = place_of(run.log, "CallJudged") + 1
    monkeypatch.setattr(writes, "ungrounded", lambda *_: ("Period",))
    divergence = found(run)
    (field,) = divergence.fields
    assert (divergence.event, divergence.type, divergence.kind) == (number, "CallJudged", "decision")
    assert (field.path, field.how, field.log, field.now) == ("/ungrounded/0", "added", None, "Period")
    assert field.made_by == "runtime.grounding.ungrounded"
    assert divergence.cause == (place_of(run.log, "Generated") + 1, "Generated")
    assert divergence.code == "runtime.advance._generated"
    assert (divergence.began, divergence.today) == (DECIDER, DECIDER)
    assert isinstance(divergence.command, dict) and divergence.command["kind"] == "JudgeCall"


def test_a_field_of_the_agent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run = approval_granted()
    monkeypatch.setattr(prompt, "FIRST_MARGIN", -3.5)
    (field,) = found(run).fields
    assert (field.path, field.made_by) == ("/prompt_hash", "runtime.prompt.digested")
    assert "agent.instructions" in field.of
    monkeypatch.undo()

    def slower(fact: Fact) -> Fact:
        assert fact.kind == "CallJudged"
        verdict = fact.body.verdict.model_copy(update={"expires_s": 60.0})  # type: ignore[union-attr]
        return replace(fact, body=fact.body.model_copy(update={"verdict": verdict}))

    divergence = found(run, lambda log: with_fact(log, "CallJudged", slower))
    assert {field.path: field.of for field in divergence.fields} == {"/expires": "verdict.expires_s, agent.budget.approval_s"}
    assert divergence.cause == (place_of(run.log, "CallJudged") + 1, "CallJudged")
    assert divergence.code == "runtime.writes.judged"


def test_another_kind_of_decision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = approval_granted()
    monkeypatch.setattr(policy, "changes_the_world", lambda _: False)
    divergence = found(run)
    assert (divergence.type, divergence.instead, divergence.fields) == ("CallPlanned", ("CallTool",), ())
    assert "CallTool" in divergence.why


def test_a_gap_is_told_from_another_decision() -> None:
    run = approval_granted()
    cause = run.log[place_of(run.log, "CallJudged")].fact.id

    def known(fact: Fact) -> Fact:
        return replace(fact, header=fact.header.model_copy(update={"causes": cause}))

    gone = without("CallJudged")
    named = found(run, lambda log: gone(with_fact(log, "ApprovalGranted", known)))
    assert (named.kind, named.type) == ("gap", "ApprovalGranted")
    assert cause in named.why
    assert found(run, gone).kind == "altered", "builders name no causes: it may as well have been changed"


def test_what_stands_twice_or_belongs_elsewhere_is_told() -> None:
    run, other = approval_granted(), questions_of_a_tool()
    again = found(run, lambda log: [*log[:5], log[4], *log[5:]])
    assert (again.kind, again.event, again.cause and again.cause[0]) == ("twice", 6, 5)
    place = place_of(run.log, "ToolReturned")

    def second(log: list[Stored]) -> list[Stored]:
        body = log[place].fact.body
        assert isinstance(body, ToolReturned)
        failed = fact_of(
            ToolFailed(command=body.command, failure=failure()), run.id, log[place].fact.slot, time=log[place].fact.time
        )
        return [*log[: place + 1], replace(log[place], fact=failed), *log[place + 1 :]]

    two = found(run, second)
    assert (two.kind, two.event, two.cause) == ("slot", place + 2, (place + 1, "ToolReturned"))
    stranger = fact_of(other.log[0].fact.body, RunId("202611-" + "b" * 32), "request", time=run.now)  # type: ignore[arg-type]
    foreign = found(run, lambda log: [*log[:3], replace(log[3], fact=stranger), *log[3:]])
    assert (foreign.kind, foreign.event) == ("foreign", 4)


def test_an_end_with_other_words_is_told() -> None:
    run = approval_granted()
    assert isinstance(run.log[-1].fact.body, RunCompleted)

    def otherwise(fact: Fact) -> Fact:
        return replace(fact, body=fact.body.model_copy(update={"answer": "It is not done."}))

    divergence = found(run, lambda log: with_fact(log, "RunCompleted", otherwise))
    (field,) = divergence.fields
    assert (divergence.kind, field.path, field.log, field.now) == ("ending", "/answer", "It is not done.", "It is done.")
    assert divergence.code == "runtime.ending.ending_event"


def test_a_log_that_is_cut_off_or_whose_clock_went_back_is_only_noted() -> None:
    run = approval_granted()
    cut = replay(run.id, run.log[:-2])
    assert cut.same and [note.kind for note in cut.notes] == ["open"]

    def early(fact: Fact) -> Fact:
        return replace(fact, header=fact.header.model_copy(update={"time": fact.time - timedelta(seconds=90)}))

    back = replay(run.id, with_fact(run.log, "TurnStored", early))
    (note,) = back.notes
    assert back.same and (note.kind, note.event, note.detail) == ("clock", place_of(run.log, "TurnStored") + 1, "90")


def test_an_iterator_is_read_once_and_nothing_of_it_kept() -> None:
    run = approval_granted()
    alive = 0
    most = 0

    class Counted(Stored):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def facts() -> object:
        nonlocal alive, most
        for stored in run.log:
            alive += 1
            most = max(most, alive)
            yield Counted(stored.fact, stored.position)

    assert replay(run.id, facts()).same  # type: ignore[arg-type]
    assert most <= 2
