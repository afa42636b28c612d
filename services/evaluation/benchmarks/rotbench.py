"""RoTBench: the same requests over five environments whose names and arguments are noisier by the level.

An item of the parts `first-turn` and `third-turn` is a request in all five, each asked by itself; a part with a level is that
one alone. As the paper scores (arXiv 2401.08326, 4.2), of each level: tool selection - a right tool; parameter identification
- a right call's parameters, too; content filling - their values, too; each needs the one before, and any of a row's right
calls will do. Where the right step is to finish or to ask the person, any words are right. Slight, medium and heavy noise have
two forms of each request, whose mean is the level's. A reply is right if all levels asked are right in content. `fall_...`: how
much lower content filling is than in the clean environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import own_name
from services.datasets.conversion.files import json_rows
from services.datasets.example import Example, Skipped
from services.datasets.sets import data_set
from services.datasets.sets.rotbench import LEVELS, golds
from services.evaluation.benchmark import Benchmark, Speak, unreadable
from services.evaluation.executed.world import joined
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import same_text
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import items_of

TURNS = ("first-turn", "third-turn")
STAGES = ("tool_selection", "parameter_identification", "content_filling")


class Noisy(NamedTuple):
    """A request in one environment. golds: the right calls by the cards' names; none: words are right."""

    level: str
    item: Item
    golds: tuple[tuple[str, JsonObject], ...]


@dataclass(frozen=True)
class Environments:
    """What an item is asked in: the clean one first, where it is among them."""

    asked: tuple[Noisy, ...]


class _RoTBench(Benchmark):
    name = "rotbench"
    title = "RoTBench: tools whose names and arguments are noisy"
    source = "github.com/Junjie-Ye/RoTBench; arXiv 2401.08326"
    data = "rotbench"
    parts = (*TURNS, *(f"{turn}-{level}" for turn in TURNS for level in LEVELS))

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        levels = LEVELS if part in TURNS else (part.rsplit("-", 1)[1],)
        turn = next(each for each in TURNS if part.startswith(each))
        read = {level: list(self._rows(folder, turn, level)) for level in levels}
        first = levels[0]
        requests = len(read[first]) if len(levels) == 1 else min(len(rows) for rows in read.values())
        for place in range(requests):
            forms = [
                row
                for rows in read.values()
                for row in (rows[place : place + 1] if len(levels) == 1 else rows[place::requests])
            ]
            asked = tuple(row for row in forms if isinstance(row, Noisy))
            skipped = next((row for row in forms if isinstance(row, Skipped)), None)
            if skipped is not None or not asked:
                yield skipped or Skipped(f"{part}/{place}", "it is in no environment")
                continue
            yield replace(asked[0].item, id=f"{part}/{place}", group=part, source=Environments(asked))

    def _rows(self, folder: Path, turn: str, level: str) -> Iterator[Noisy | Skipped]:
        raw = json_rows(folder / "Data" / turn.title().replace("-", "_") / f"{level}.json") if folder.is_dir() else []
        for place, row in enumerate(data_set("rotbench").read(folder, f"{turn}-{level}")):
            if isinstance(row, Skipped):
                yield row
                continue
            (item,) = items_of(row, self.name, last=True, group=level)
            yield Noisy(level, item, _golds(row, raw[place]))

    def is_there(self, folder: Path) -> bool:
        return all((folder / "Data" / "First_Turn" / f"{level}.json").exists() for level in LEVELS)

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """Every environment asked by itself; `extra` has what was said to each, the reply itself is the first's."""
        replies = []
        for noisy in _asked(item):
            reply = await speak(noisy.item.messages, noisy.item.cards)
            if reply.trouble:
                return reply
            replies.append(reply)
        extra: dict[str, object] = {"replies": [_kept(reply) for reply in replies]}
        whole = joined(replies, replies[0].calls)
        return whole.model_copy(update={"text": replies[0].text, "malformed": replies[0].malformed, "extra": extra})

    def judge(self, item: Item, reply: Reply) -> str:
        """As everywhere, but that each environment has a reply of its own, which may be unreadable."""
        return f"no reply: {reply.trouble}" if reply.trouble else self.wrong(item, reply)

    def wrong(self, item: Item, reply: Reply) -> str:
        bad = [noisy.level for noisy, said in _answered(item, reply) if stages(noisy, said)[-1] < 1]
        return f"wrong in {', '.join(dict.fromkeys(bad))}" if bad else ""

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        if reply.trouble:
            return {}
        found: dict[str, list[tuple[float, ...]]] = {}
        for noisy, said in _answered(item, reply):
            found.setdefault(noisy.level, []).append(stages(noisy, said))
        means = {level: [sum(each) / len(rows) for each in zip(*rows, strict=True)] for level, rows in found.items()}
        figures = {f"{stage}_{level}": Measured(mean[at]) for at, stage in enumerate(STAGES) for level, mean in means.items()}
        if "clean" in means:
            for level in means.keys() - {"clean"}:
                figures[f"fall_{level}"] = Measured(means["clean"][-1] - means[level][-1])
        return figures


def stages(noisy: Noisy, reply: Reply) -> tuple[float, float, float]:
    """Tool selection, parameter identification and content filling of a reply, each 0 or 1."""
    if unreadable(reply):
        return 0.0, 0.0, 0.0
    if not noisy.golds:
        right = float(not reply.calls and bool(reply.text.strip()))
        return right, right, right
    if len(reply.calls) != 1:
        return 0.0, 0.0, 0.0
    call = reply.calls[0]
    same_tool = [given for name, given in noisy.golds if name == call.name]
    same_names = [given for given in same_tool if given.keys() == call.arguments.keys()]
    filled = any(all(same_text(call.arguments[name], value) for name, value in given.items()) for given in same_names)
    return float(bool(same_tool)), float(bool(same_names)), float(filled)


def _golds(row: Example, raw: object) -> tuple[tuple[str, JsonObject], ...]:
    """The right calls by the cards' names; none where the first of them is words, as the row's own end is."""
    if not row.messages[-1].calls:
        return ()
    cards = {own_name(card): card for card in row.tools}
    found = [(cards[name], given) for name, given in golds(raw) if name in cards]
    return tuple((card.name, fitted(given, card)) for card, given in found)


def _asked(item: Item) -> Sequence[Noisy]:
    return cast("Environments", item.source).asked


def _kept(reply: Reply) -> dict[str, object]:
    return reply.model_dump(mode="json", include={"item", "calls", "text", "malformed"})


def _answered(item: Item, reply: Reply) -> Iterator[tuple[Noisy, Reply]]:
    """Each environment with what was said in it; a reply that tells of none is that of all."""
    asked = _asked(item)
    said = cast("Sequence[object]", reply.extra.get("replies") or [_kept(reply)] * len(asked))
    if len(said) != len(asked):
        raise MilepostError(f"{item.id} has {len(said)} replies, and {len(asked)} environments.", hint="ask again: --fresh")
    return zip(asked, map(Reply.model_validate, said), strict=True)


BENCHMARK = _RoTBench()
