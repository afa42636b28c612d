"""What the sets hold for right is right here, and what is changed in it is not: ToolTalk, tau2, RoTBench, from their data."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.sets.tau2 import ToolsMissing
from services.evaluation.benchmarks import benchmark
from services.evaluation.benchmarks.rotbench import Environments
from services.evaluation.benchmarks.tau2 import Task
from services.evaluation.benchmarks.tooltalk import Talk
from services.evaluation.item import Item, Reply
from tests.support.datasets import dataset


def items_of(name: str, part: str) -> list[Item]:
    bench = benchmark(name)
    try:
        return [each for each in bench.items(dataset(bench.data), part) if isinstance(each, Item)]
    except ToolsMissing as missing:
        if os.environ.get("CI"):  # `make install` has them
            raise
        pytest.skip(str(missing))


# --- ToolTalk --------------------------------------------------------------------------------------


def spoken(talk: Talk, calls: Sequence[Sequence[ToolCall]]) -> Reply:
    every = tuple(call for turn in calls for call in turn)
    extra: dict[str, object] = {"turns": [len(turn) for turn in calls], "ended": ["answered"] * len(calls)}
    return Reply(item="", calls=every, text="Done.", extra=extra)


@pytest.mark.parametrize(("part", "count"), [("easy", 28), ("hard", 50)])
def test_recorded_conversations_succeed(part: str, count: int) -> None:
    bench, items = benchmark("tooltalk"), items_of("tooltalk", part)
    assert len(items) == count
    for item in items:
        talk = item.source
        assert isinstance(talk, Talk)
        gold = [list(turn.gold) for turn in talk.turns]
        assert bench.judge(item, spoken(talk, gold)) == "", item.id
        assert bench.judge(item, spoken(talk, [[] for _ in gold])), item.id  # nothing called
        found = bench.measured(item, spoken(talk, gold))
        assert found["recall"][0] == found["recall"][1] == len(item.calls) and found["bad_actions"][0] == 0


def test_an_action_too_many_is_bad_and_a_look_is_not() -> None:
    bench = benchmark("tooltalk")
    items = [item for item in items_of("tooltalk", "hard") if isinstance(item.source, Talk) and item.source.user]
    for item in items:
        talk = item.source
        assert isinstance(talk, Talk)
        gold = [list(turn.gold) for turn in talk.turns]
        look, act = ToolCall(id="x", name="FindAlarms"), ToolCall(id="x", name="AddAlarm", arguments={"time": "03:03:03"})
        fails = ToolCall(id="x", name="DeleteAlarm", arguments={"alarm_id": "none"})
        assert bench.judge(item, spoken(talk, [[look, fails, *gold[0]], *gold[1:]])) == ""
        assert bench.judge(item, spoken(talk, [[act, *gold[0]], *gold[1:]])) == "1 bad actions"


async def test_each_turn_begins_where_the_recorded_one_does() -> None:
    bench = benchmark("tooltalk")
    item = next(item for item in items_of("tooltalk", "hard") if item.id.endswith("DeleteEvent-0"))
    talk = item.source
    assert isinstance(talk, Talk)
    heard: list[Sequence[Message]] = []

    async def speak(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
        heard.append(messages)
        users = sum(message.role == "user" for message in messages)
        turn = next(turn for turn in talk.turns if sum(message.role == "user" for message in turn.before) == users)
        assert tuple(messages[: len(turn.before)]) == turn.before
        made = sum(len(message.calls) for message in messages[len(turn.before) :])
        return Reply(item="", calls=turn.gold[made : made + 1], text="" if made < len(turn.gold) else "Done.")

    reply = await bench.answer(item, speak)
    assert bench.judge(item, reply) == ""
    assert reply.extra["turns"] == [len(turn.gold) for turn in talk.turns]
    assert len(heard) == sum(len(turn.gold) + 1 for turn in talk.turns)


# --- tau2 ------------------------------------------------------------------------------------------


def acted(item: Item, calls: Sequence[ToolCall], ended: str = "answered") -> Reply:
    assert isinstance(item.source, Task)
    return Reply(item="", calls=tuple(calls), text=" ".join(item.source.say) or "Done.", extra={"ended": ended})


@pytest.mark.parametrize(("part", "count", "changes"), [("retail", 114, 103), ("airline", 50, 30)])
def test_gold_actions_lead_to_the_gold_state_and_no_actions_do_not(part: str, count: int, changes: int) -> None:
    bench, items = benchmark("tau2"), items_of("tau2", part)
    assert (len(items), sum(isinstance(item.source, Task) and item.source.changes for item in items)) == (count, changes)
    for item in items:
        assert bench.judge(item, acted(item, item.calls)) == "", item.id
        idle = bench.judge(item, acted(item, ()))
        assert bool(idle) == (item.group == f"{part}-changes"), item.id
    changed = next(item for item in items if item.group == f"{part}-changes")
    assert "no answer" in bench.judge(changed, acted(changed, changed.calls, "endless"))
    found = bench.measured(changed, acted(changed, [*changed.calls, changed.calls[-1]]))
    assert found["actions_called"][0] == len(changed.calls)
    told = next(item for item in items if isinstance(item.source, Task) and item.source.say)
    assert "not said" in bench.judge(told, acted(told, told.calls).model_copy(update={"text": "Done."}))


# --- RoTBench --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "count"), [("third-turn", 66)])
def test_gold_calls_are_right_in_every_environment(part: str, count: int) -> None:
    bench, items = benchmark("rotbench"), items_of("rotbench", part)
    assert len(items) == count
    for item in items:
        assert isinstance(item.source, Environments)
        asked = item.source.asked
        assert [noisy.level for noisy in asked] == ["clean", *["slight"] * 2, *["medium"] * 2, *["heavy"] * 2, "union"]
        assert len({noisy.item.messages[1].content for noisy in asked}) == 1  # it is the same request in all of them
        replies: list[dict[str, object]] = []
        for noisy in asked:
            calls = [{"id": "g", "name": name, "arguments": given} for name, given in noisy.golds[-1:]]
            replies.append({"item": "", "calls": calls, "text": "" if calls else "Done."})
        assert bench.judge(item, Reply(item="", extra={"replies": replies})) == "", item.id
