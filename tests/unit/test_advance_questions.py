"""Questions of tools: a person is asked, and the same call goes on with the answer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime.asking import QUESTIONS
from runtime.orders import order_of
from schemas.commands import AnyCommand, AskPerson, CallTool, JudgeCall, StartTimer
from schemas.events import PersonAnswered, TimerFired, ToolAsked
from schemas.policy import Verdict
from schemas.tools import Question
from tests.support.builders import NOW, RunUnderTest, call, ready, spec

ALLOW = Verdict(outcome="allow", rule="quiet")
SIZE = Question(id="size", text="How large?", fields={"type": "object", "properties": {"size": {"type": "integer"}}})


def kinds(commands: list[AnyCommand]) -> list[str]:
    return [command.kind for command in commands]


def asks(run: RunUnderTest, question: Question = SIZE) -> AskPerson:
    """The open call's tool wants to know something."""
    commands = run.answer(ToolAsked(command=run.one(CallTool), question=question))
    assert kinds(commands) == ["AskPerson", "StartTimer"]
    return run.one(AskPerson)


def answers(run: RunUnderTest, content: dict[str, object] | None) -> list[AnyCommand]:
    ask = run.one(AskPerson)
    return run.answer(PersonAnswered(command=ask, by="bob", accepted=content is not None, content=content or {}))


def material(run: RunUnderTest) -> dict[str, object]:
    (decision,) = [each for each in run.decided if isinstance(each.command, CallTool) and each.id in run.state.outstanding]
    return order_of(decision, run.state, source="/milepost/conductor/test", time=NOW).material


def reading(**budget: object) -> RunUnderTest:
    run = ready(spec(**budget))
    run.say(call("clock", zone="here"))
    return run


def told(run: RunUnderTest) -> str:
    return run.state.messages[-1].content


def test_a_tool_that_asks_is_called_again_with_what_a_person_answers() -> None:
    run = reading()
    first = run.one(CallTool)
    ask = asks(run)
    assert (ask.call, ask.question, ask.asked) == (first.call, SIZE, run.log[-1].fact.id)
    assert ask.expires == NOW + timedelta(seconds=3600)
    assert run.state.outcome == "waiting"
    assert list(run.state.questions().values()) == [ask]
    (again,) = answers(run, {"size": 3})
    assert again == first.model_copy(update={"answers": (run.log[-1].fact.id,)})
    assert material(run)["answers"] == {"size": {"size": 3}}
    assert run.state.outcome == "open"
    assert kinds(run.returns(again, "made")) == ["Generate"]
    assert told(run) == "made"


def test_a_declined_question_is_the_tools_to_judge() -> None:
    run = reading()
    asks(run)
    (again,) = answers(run, None)
    assert isinstance(again, CallTool)
    assert material(run)["answers"] == {"size": None}


def test_the_answers_of_several_questions_are_told_together() -> None:
    run = reading()
    asks(run)
    answers(run, {"size": 3})
    asks(run, SIZE.model_copy(update={"id": "colour"}))
    (again,) = answers(run, {"colour": "red"})
    assert isinstance(again, CallTool)
    assert len(again.answers) == 2
    assert material(run)["answers"] == {"size": {"size": 3}, "colour": {"colour": "red"}}


def test_a_tool_that_never_stops_asking_is_not_called_again() -> None:
    run = reading()
    for number in range(QUESTIONS):
        asks(run, SIZE.model_copy(update={"id": f"q{number}"}))
        answers(run, {"size": number})
    assert kinds(run.answer(ToolAsked(command=run.one(CallTool), question=SIZE))) == ["Generate"]
    assert "more than 5 questions" in told(run)


def test_a_write_keeps_its_plan_its_key_and_its_approval() -> None:
    run = ready(spec(writes=1))
    run.say(call("renew", months=1))
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    asks(run)
    (again,) = answers(run, {"size": 3})
    assert again == commit.model_copy(update={"answers": again.answers})  # type: ignore[union-attr]
    assert (run.count(JudgeCall), material(run)["state"]) == (1, "until May")
    assert kinds(run.returns(again)) == ["Generate"]  # type: ignore[arg-type]
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert run.state.writes == 1


@pytest.mark.parametrize("how", ["timer", "late answer", "timer failed", "asking failed"])
@pytest.mark.parametrize("tool", ["clock", "renew"])
def test_a_question_that_nobody_answers_ends_the_call(tool: str, how: str) -> None:
    run = ready(spec(writes=1))
    run.say(call(tool, months=1))
    if tool == "renew":
        run.plans(verdict=ALLOW)
    ask = asks(run)
    (timer,) = [timer for _, timer in run.open(StartTimer) if timer.purpose == "question"]
    if how == "timer":
        run.now = ask.expires
        commands = run.answer(TimerFired(command=timer, fired=run.now))
    elif how == "late answer":
        run.now = ask.expires
        commands = answers(run, {"size": 3})
    else:
        commands = run.fails(timer if how == "timer failed" else ask)
    assert kinds(commands)[0] == "Generate"
    assert "nothing was changed" in told(run)
    assert (run.open(AskPerson), run.open(CallTool), run.state.writes) == ([], [], 0)
    if tool == "renew":
        assert "JudgeCall" in kinds(run.say(call("renew", "c2", months=1)))  # nothing happened, so it may be wanted again


def test_the_clock_stands_while_a_question_waits() -> None:
    run = reading(deadline_s=60, approval_s=7200)
    run.later(50)
    asks(run)
    (deadline,) = [timer for _, timer in run.open(StartTimer) if timer.purpose == "deadline"]
    run.later(10)
    assert run.answer(TimerFired(command=deadline, fired=run.now)) == []
    run.later(3600)
    commands = answers(run, {"size": 3})
    assert kinds(commands) == ["CallTool", "StartTimer"]
    assert commands[1].at == run.now + timedelta(seconds=10)  # type: ignore[union-attr]


def test_the_timer_of_an_answered_question_ends_nothing() -> None:
    run = reading()
    asks(run)
    (timer,) = [timer for _, timer in run.open(StartTimer) if timer.purpose == "question"]
    answers(run, {"size": 3})
    run.now = timer.at
    assert run.answer(TimerFired(command=timer, fired=run.now)) == []
    assert run.open(CallTool)


def test_a_run_that_is_cancelled_asks_nobody_and_waits_for_nobody() -> None:
    run = reading()
    asks(run)
    assert kinds(run.cancel()) == ["StoreTurn"]
    assert run.end() == "cancelled"


def test_a_write_that_asks_after_the_cancel_has_changed_nothing() -> None:
    run = ready()
    run.say(call("renew", months=1))
    run.plans(verdict=ALLOW)
    run.cancel()
    assert run.state.phase == "closing"
    assert kinds(run.answer(ToolAsked(command=run.one(CallTool), question=SIZE))) == ["StoreTurn"]
    assert run.end() == "cancelled"


def test_what_a_person_answered_names_the_arguments_of_the_next_call() -> None:
    run = reading()
    asks(run)
    (again,) = answers(run, {"size": 17, "server": "i-901"})
    run.returns(again, "ok")  # type: ignore[arg-type]
    run.say(call("renew", "c2", months=17, server="i-901", zone="i-902"))
    assert run.one(JudgeCall).ungrounded == ("zone",)
