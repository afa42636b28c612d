"""ToolTalk: conversations over a simulated account, whose tools are executed.

As in the set's own evaluation, each turn begins after the recorded conversation so far, with the databases as the recorded
calls left them; the model calls, reads results and calls again until it answers or has called MOST times. A call is a match if
a recorded one of the same turn has its tool and its arguments - or, of a tool that only reads, its result - each recorded call
for one call. A conversation is right if every recorded call has a match (recall 1) and there is no bad action: a call that
succeeds, changes something and matches nothing. The set compares free texts by sentence embeddings; here they are alike with
ROUGE-L F of ALIKE or more, and `success_any_words` takes any words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import orjson

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Skipped
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.tooltalk import FOLDERS, HOME, TOOLS
from services.evaluation.benchmark import Benchmark, Speak
from services.evaluation.executed.office import FILES, Office, tables_of
from services.evaluation.executed.records import Tables
from services.evaluation.executed.world import ANSWERED, World, episode, joined
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import same_value
from services.evaluation.metrics.intervals import Measured
from services.evaluation.similarity import rouge_l

MOST = 10  # calls of a turn
ALIKE = 0.25
FREE = {
    "CreateEvent": ("name", "description", "location"), "SendMessage": ("message",), "SendEmail": ("subject", "body"),
    "ModifyEvent": ("new_name", "new_description", "new_location"), "AddReminder": ("task",),
}  # fmt: skip
"""Arguments that are words of the model's own, by the tool."""


class Turn(NamedTuple):
    """One turn. before: the conversation up to it; gold: the recorded calls of all turns before, and of this one."""

    before: tuple[Message, ...]
    done: tuple[ToolCall, ...]
    gold: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Talk:
    """What a conversation is judged by. user, now, ids, codes: as the Office has them."""

    turns: tuple[Turn, ...]
    tables: Tables
    cards: tuple[ToolCard, ...]
    user: str | None
    now: str
    ids: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, str]

    def world(self, turn: Turn) -> World:
        """The account before a turn."""
        world = Office(self.tables, self.cards, self.user, self.now, self.ids, self.codes)
        for call in turn.done:
            world.execute(call)
        return world


class Matched(NamedTuple):
    """Calls of a conversation against the recorded ones. actions: those that succeeded; bad: of them, those that match none."""

    found: int
    gold: int
    called: int
    bad: int
    actions: int


class _ToolTalk(Benchmark):
    name = "tooltalk"
    title = "ToolTalk: conversations with 28 tools that are executed on a simulated account"
    source = "github.com/microsoft/ToolTalk; arXiv 2311.10775, success, recall, precision and incorrect action rate"
    data = "tooltalk"
    parts = ("hard", "easy")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        tables = _tables(folder / "data" / "databases")
        for row in data_set("tooltalk").read(folder, part):
            if isinstance(row, Skipped):
                yield row
                continue
            path = folder / "data" / FOLDERS[part] / f"{row.id.removeprefix(f'{part}-')}.json"
            talk = _talk(row, orjson.loads(path.read_bytes()), tables)
            calls = tuple(call for turn in talk.turns for call in turn.gold)
            yield Item(row.id, self.name, part, "en", talk.turns[0].before, row.tools, calls, source=talk, parallel=False)

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """All turns, one after the other, as one reply; `extra` tells how many calls each has and how each ended."""
        talk, replies, calls = _talk_of(item), list[Reply](), list[ToolCall]()
        for turn in talk.turns:
            reply = await episode(turn.before, item.cards, talk.world(turn), speak, MOST)
            replies.append(reply)
            calls.extend(reply.calls)
            if reply.trouble:
                break
        extra: dict[str, object] = {
            "turns": [len(reply.calls) for reply in replies], "ended": [reply.extra["ended"] for reply in replies],
        }  # fmt: skip
        return joined(replies, calls).model_copy(update={"extra": extra})

    def wrong(self, item: Item, reply: Reply) -> str:
        match = _matched(item, reply)
        if match.found < match.gold:
            return f"{match.gold - match.found} of {match.gold} calls are missing"
        return f"{match.bad} bad actions" if match.bad else ""

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        match, loose = _matched(item, reply), _matched(item, reply, any_words=True)
        ended = cast("Sequence[str]", reply.extra.get("ended", ()))
        return {
            "recall": Measured(match.found, match.gold), "precision": Measured(match.found, match.called),
            "bad_actions": Measured(match.bad, match.actions),
            "success_any_words": Measured(float(reply.readable and loose.found == loose.gold and not loose.bad)),
            "turns_answered": Measured(sum(each == ANSWERED for each in ended), len(ended)),
        }  # fmt: skip


def _tables(folder: Path) -> Tables:
    databases: dict[str, Mapping[str, JsonObject]] = {}
    for table, name in FILES.items():
        path = folder / f"{name}.json"
        if not path.exists():
            raise SetMissing("tooltalk", path, HOME)
        try:
            databases[table] = orjson.loads(path.read_bytes())
        except ValueError as failure:
            raise MilepostError(f"{path} cannot be read.", why=str(failure), hint=f"get it again from {HOME}") from failure
    return tables_of(databases)


def _talk(row: Example, raw: JsonObject, tables: Tables) -> Talk:
    told = cast("JsonObject", raw["metadata"])
    ids: dict[str, list[str]] = {}
    codes: dict[str, str] = {}
    for call, result in _recorded(raw):
        made = [str(value) for key, value in result.items() if key.endswith("_id")]
        ids.setdefault(call, []).extend(made)
    for call_ in (call for message in row.messages for call in message.calls if call.name == "ResetPassword"):
        codes[str(call_.arguments.get("username"))] = str(call_.arguments.get("verification_code"))
    user = cast("str | None", told.get("username"))
    known = {tool: tuple(found) for tool, found in ids.items()}
    return Talk(tuple(_turns(row)), tables, row.tools, user, str(told["timestamp"]), known, codes)


def _recorded(raw: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Each recorded call's tool, with its result."""
    for turn in cast("list[JsonObject]", raw["conversation"]):
        for made in cast("list[JsonObject]", turn.get("apis", [])):
            yield str(cast("JsonObject", made["request"])["api_name"]), cast("JsonObject", made.get("response") or {})


def _turns(row: Example) -> Iterator[Turn]:
    """The turns: what a user says, up to the words that answer it."""
    done: list[ToolCall] = []
    gold: list[ToolCall] = []
    start = 0
    system = Message(role="system", content=row.system)
    for place, message in enumerate(row.messages):
        if message.role == "user":
            start = place + 1
        gold.extend(message.calls)
        if message.role == "assistant" and not message.calls:
            yield Turn((system, *row.messages[:start]), tuple(done), tuple(gold))
            done, gold = [*done, *gold], []


def _talk_of(item: Item) -> Talk:
    return cast("Talk", item.source)


def _matched(item: Item, reply: Reply, *, any_words: bool = False) -> Matched:
    talk, left = _talk_of(item), list(reply.calls if reply.readable else ())
    counts = cast("Sequence[int]", reply.extra.get("turns", (len(left),)))
    total: Counter[str] = Counter(gold=len(item.calls), called=len(left))
    for turn, count in zip(talk.turns, counts, strict=False):
        calls, left = left[:count], left[count:]
        total.update(_match(talk, turn, calls, any_words))
    return Matched(total["found"], total["gold"], total["called"], total["bad"], total["actions"])


def _match(talk: Talk, turn: Turn, calls: Sequence[ToolCall], any_words: bool) -> Counter[str]:
    """One turn: each call executed, and paired with the first recorded one that is left and alike."""
    recorded, world, counts = talk.world(turn), talk.world(turn), Counter[str]()
    gold = [(call, recorded.execute(call)) for call in turn.gold]
    for call in calls:
        result = world.execute(call)
        acts = call.name in TOOLS and TOOLS[call.name].acts
        match = next((pair for pair in gold if _alike(pair[0], call, any_words)), None)
        if match is None and not acts:
            match = next((pair for pair in gold if pair[0].name == call.name and pair[1] == result), None)
        counts["actions"] += acts and result.done
        if match is not None:
            gold.remove(match)
            counts["found"] += 1
        elif acts and result.done:
            counts["bad"] += 1
    return counts


def _alike(wanted: ToolCall, said: ToolCall, any_words: bool) -> bool:
    """Whether a call is the recorded one: an optional text of the model's own may be there or not, lists have no order."""
    if wanted.name != said.name:
        return False
    free = FREE.get(wanted.name, ())
    for name in wanted.arguments.keys() | said.arguments.keys():
        one, other = wanted.arguments.get(name), said.arguments.get(name)
        if name in free:
            if one and other and not any_words and rouge_l(str(other), str(one)) < ALIKE:
                return False
        elif not same_value(_unordered(one), _unordered(other)):
            return False
    return True


def _unordered(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, list) else value or None


BENCHMARK = _ToolTalk()
