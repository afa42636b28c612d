"""tau2-bench, retail and airline: the tools are executed, and the databases compared with those that the gold actions leave.

There is no simulated customer: the model is given, as one message of the customer's, all that a simulated one would be told -
why they write, what they know and do not, how they would decide - and acts until it answers or has called MOST times. So this
is **not** the leaderboard's pass^1, which is a talk. A reply is right if it came to an answer, the databases are those that
the gold actions lead to, and what has to be said was said (tau2's DB and COMMUNICATE). Beside: `end_state` and `told` apart;
`changed_rightly`, the same over the tasks whose gold changes something, for who does nothing is right on the others; actions
of the gold that were called, with the same arguments; calls that failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from runtime.prompt import INSTRUCTIONS
from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.conversion.files import FileUnreadable, json_rows
from services.datasets.conversion.rows import Unusable, list_of, object_of
from services.datasets.example import Skipped
from services.datasets.sets import SetMissing
from services.datasets.sets.tau2 import HOME, POLICIES, tools
from services.evaluation.benchmark import Benchmark, Speak
from services.evaluation.executed.airline import Airline
from services.evaluation.executed.records import Tables
from services.evaluation.executed.retail import Retail
from services.evaluation.executed.world import ANSWERED, World, episode
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import same_value
from services.evaluation.metrics.intervals import Measured

MOST = 30
WORLDS: Mapping[str, type[World]] = {"retail": Retail, "airline": Airline}
ALONE = (
    "I write once and cannot be asked back. Below is all there is to say. Take it as my confirmation of whatever fits it, do "
    "what I want, and then answer."
)
_TOLD = {
    "reason_for_call": "Why I write", "known_info": "What I know", "unknown_info": "What I do not know",
    "task_instructions": "How I decide",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What an item is judged by. state: a digest of the databases after the gold actions; changes: whether they change any.

    say: texts that the answer has to hold.
    """

    domain: str
    tables: Tables
    cards: tuple[ToolCard, ...]
    state: str
    changes: bool
    say: tuple[str, ...]

    def world(self) -> World:
        """A new one, as it is before the task."""
        return WORLDS[self.domain](self.tables, self.cards)


class _Tau2(Benchmark):
    name = "tau2"
    title = "tau2-bench: the databases after what was done (without a simulated customer)"
    source = "github.com/sierra-research/tau2-bench, DB and COMMUNICATE; arXiv 2506.07982"
    data = "tau2"
    parts = ("retail", "airline")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        domain = folder / "domains" / part
        tasks, database = domain / "tasks.json", domain / "db.json"
        policies = [domain / name for name in POLICIES[part]]
        for needed in (tasks, database, *policies):
            if not needed.exists():
                raise SetMissing("tau2", needed, HOME)
        cards, tables = tools(part), _tables(database)
        policy = "\n\n".join([INSTRUCTIONS, *(each.read_text(encoding="utf-8").strip() for each in policies)])
        for number, each in enumerate(json_rows(tasks)):
            try:
                yield self._item(f"{part}-{number}", part, each, policy, cards, tables)
            except (Unusable, KeyError, TypeError, ValueError) as fault:
                yield Skipped(f"{part}-{number}", f"no task: {fault}")

    def is_there(self, folder: Path) -> bool:
        return bool(tools(self.parts[0])) and (folder / "domains" / self.parts[0] / "tasks.json").exists()

    def _item(
        self, id: str, part: str, raw: object, policy: str, cards: tuple[ToolCard, ...], tables: Tables
    ) -> Item:  # fmt: skip
        task = object_of(raw, "the task")
        wanted = object_of(task["evaluation_criteria"], "the criteria")
        actions = list_of(wanted.get("actions") or [], "the actions")
        calls = tuple(
            ToolCall(id=f"g{place}", name=str(each["name"]), arguments=object_of(each["arguments"], "the arguments"))
            for place, each in enumerate(actions)
        )
        world = WORLDS[part](tables, cards)
        for call in calls:
            world.execute(call)
        changes = bool(world.records.differences())
        say = tuple(str(each) for each in cast("Sequence[object]", wanted.get("communicate_info") or ()))
        told = object_of(object_of(task["user_scenario"], "the scenario")["instructions"], "the instructions")
        messages = (
            Message(role="system", content=policy), Message(role="user", content=asked(told), origin="user")
        )  # fmt: skip
        group = f"{part}-{'changes' if changes else 'unchanged'}"
        return Item(
            id, self.name, group, "en", messages, cards, calls, "",
            Task(part, tables, cards, world.records.state(), changes, say), parallel=False,
        )  # fmt: skip

    async def answer(self, item: Item, speak: Speak) -> Reply:
        return await episode(item.messages, item.cards, _task(item).world(), speak, MOST)

    def wrong(self, item: Item, reply: Reply) -> str:
        task = _task(item)
        if (ended := reply.extra.get("ended", ANSWERED)) != ANSWERED:
            return f"it came to no answer: {ended}"
        if (differs := _difference(task, item.calls, reply.calls)) is not None:
            return f"the databases differ: {differs}"
        missing = [each for each in task.say if not _said(each, reply)]
        return f"not said: {missing[0]}" if missing else ""

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        task, calls = _task(item), reply.calls if reply.readable else ()
        world = task.world()
        failed = sum(not world.execute(call).done for call in calls)
        same = float(reply.readable and world.records.state() == task.state)
        found = {
            "end_state": Measured(same),
            "actions_called": Measured(_called(item.calls, calls), len(item.calls)),
            "failed_calls": Measured(failed, len(calls)),
            "calls_made": Measured(len(calls)),
            "came_to_an_answer": Measured(float(reply.extra.get("ended", ANSWERED) == ANSWERED and reply.readable)),
        }
        if task.say:
            found["told"] = Measured(sum(_said(each, reply) for each in task.say), len(task.say))
        if task.changes:
            found["changed_rightly"] = Measured(float(not self.judge(item, reply)))
        return found


def asked(told: JsonObject) -> str:
    """What a simulated customer is told, as a message of the customer's own."""
    parts = [f"{title}: {text}" for name, title in _TOLD.items() if (text := str(told.get(name) or "").strip())]
    return "\n\n".join([ALONE, *parts])


def _tables(path: Path) -> Tables:
    try:
        tables = orjson.loads(path.read_bytes())
    except ValueError as failure:
        raise FileUnreadable(path, f"it is not JSON: {failure}") from failure
    if not isinstance(tables, dict):
        raise FileUnreadable(path, "it is no object")
    return cast("Tables", tables)


def _task(item: Item) -> Task:
    return cast("Task", item.source)


def _difference(task: Task, gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> str | None:
    """The first record that is not as the gold actions leave it; None if all are."""
    left, right = task.world(), task.world()
    for call in gold:
        left.execute(call)
    for call in calls:
        right.execute(call)
    wanted, found = left.records.differences(), right.records.differences()
    return next((key for key in sorted(wanted.keys() | found.keys()) if not _same(key, wanted, found)), None)


def _same(key: str, wanted: Mapping[str, JsonObject | None], found: Mapping[str, JsonObject | None]) -> bool:
    return key in wanted and key in found and same_value(wanted[key], found[key])


def _called(gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> int:
    """How many of the gold calls were made, each by another call."""
    left, found = list(calls), 0
    for call in gold:
        match = next((one for one in left if one.name == call.name and same_value(one.arguments, call.arguments)), None)
        if match is not None:
            left.remove(match)
            found += 1
    return found


def _said(text: str, reply: Reply) -> bool:
    """As tau2 looks for it: anywhere in what was said, without thousands' commas."""
    return text.lower() in str(reply.extra.get("said", reply.text)).lower().replace(",", "")


BENCHMARK = _Tau2()
