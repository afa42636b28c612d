"""A recorded run driven again comes to the same, unless something of it is exchanged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.exports.reading import load_export
from runtime.advance import Decision
from runtime.log import Stored
from runtime.recording import Answer, Recording, question_of
from runtime.redrive import NoRequest, Said, redrive
from runtime.replay import replay
from runtime.state import RunState
from schemas.commands import Generate
from schemas.events import ApprovalGranted, ApprovalRefused, Generated, RunRequested, ToolReturned
from schemas.ids import END_SLOT, RunId
from schemas.messages import Generation
from tests.support.drawn_run import play
from tests.support.simulation import Cluster

SEEDS = st.integers(min_value=0, max_value=2**32)
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("decider-*.jsonl"))


def recorded(path: Path) -> tuple[RunId, tuple[Stored, ...]]:
    run = load_export(path)
    return run.run, run.facts


def without_late(run: RunId, facts: tuple[Stored, ...]) -> list[object]:
    """What a run said up to its end; the fold passes over what comes later, or was never asked."""
    end = next(index for index, each in enumerate(facts) if each.fact.slot == "end")
    return [each.fact for each in facts[: end + 1]]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
async def test_a_run_that_is_driven_again_unchanged_says_the_very_same(path: Path) -> None:
    run, facts = recorded(path)
    again = await redrive(Recording(run, facts))
    assert [each.fact for each in again.facts] == without_late(run, facts)
    assert (again.fresh, again.unanswered, again.state.outcome) == (frozenset(), (), "completed")


@settings(max_examples=150, deadline=None)
@given(SEEDS)
async def test_any_run_driven_again_comes_to_the_same_state(seed: int) -> None:
    run = play(seed)
    again = await redrive(Recording(run.id, run.log))
    assert again.fresh == frozenset()
    assert (again.state.outcome, again.state.answer, again.state.messages) == (
        run.state.outcome, run.state.answer, run.state.messages,
    )  # fmt: skip
    told = {each.fact.id for each in again.facts}
    assert [each.fact for each in again.facts] == [each.fact for each in run.log if each.fact.id in told]


async def test_another_answer_of_the_model_leads_elsewhere_and_the_log_answers_what_it_knows() -> None:
    run, facts = recorded(next(path for path in GOLDEN if path.stem == "decider-4"))

    async def silent(decision: Decision, state: RunState, answer: Answer | None) -> Said | Answer | None:
        if isinstance(decision.command, Generate):
            return Said(Generated(command=decision.command, generation=Generation(text="I would rather not.")))
        return answer

    again = await redrive(Recording(run, facts), silent)
    assert (again.state.outcome, again.state.answer) == ("completed", "I would rather not.")
    assert not any(isinstance(each.fact.body, ToolReturned) for each in again.facts)
    assert replay(run, again.facts).same


async def test_a_refusal_in_place_of_an_approval_is_followed_as_far_as_the_log_knows() -> None:
    run, facts = recorded(next(path for path in GOLDEN if path.stem == "decider-4"))

    async def refuse(decision: Decision, state: RunState, answer: Answer | None) -> Said | Answer | None:
        if answer and isinstance(answer.body, ApprovalGranted):
            return Said(ApprovalRefused(command=answer.body.command, by="auditor", reason="not today"))
        return answer

    again = await redrive(Recording(run, facts), refuse)
    assert not any(isinstance(each.fact.body, ToolReturned) and each.fact.body.command.write_key for each in again.facts)
    assert [each.command.kind for each in again.unanswered] == ["Generate"]  # its prompt was never seen before
    assert again.state.phase != "ended"
    assert replay(run, again.facts).same


async def test_other_instructions_ask_the_model_something_that_the_log_does_not_know() -> None:
    run, facts = recorded(next(path for path in GOLDEN if path.stem == "decider-4"))
    body = facts[0].fact.body
    assert isinstance(body, RunRequested)
    other = body.model_copy(update={"agent": body.agent.model_copy(update={"instructions": "Speak like a pirate."})})
    again = await redrive(Recording(run, facts), request=other)
    assert [each.command.kind for each in again.unanswered] == ["Generate"]
    assert {type(each.fact.body).__name__ for each in again.facts} >= {"MemoryRecalled", "ToolsSelected"}


async def test_a_recording_without_its_request_is_refused() -> None:
    run, facts = recorded(GOLDEN[0])
    with pytest.raises(NoRequest):
        await redrive(Recording(run, facts[1:]))


def test_a_question_is_the_same_in_any_run_and_at_any_moment() -> None:
    _, facts = recorded(next(path for path in GOLDEN if path.stem == "decider-4"))
    asked = next(each.fact.body for each in facts if isinstance(each.fact.body, Generated)).command
    assert question_of(asked) == question_of(asked.model_copy(update={"inputs": ("0" * 32,), "after": "1" * 32}))
    assert question_of(asked) != question_of(asked.model_copy(update={"prompt_hash": "0" * 32}))


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_runs_that_went_through_crashes_are_driven_again_to_the_same(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.play(runs=3)
    for run in cluster.runs:
        facts = cluster.log_of(run)
        again = asyncio.run(redrive(Recording(run, facts)))
        end = next(each.fact.body for each in facts if each.fact.slot == END_SLOT)
        assert again.fresh == frozenset()
        assert again.facts[-1].fact.body == end
