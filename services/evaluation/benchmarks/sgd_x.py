"""SGD-X: the same dialogues under the original schema and five paraphrases of it, and how much replies hang on the wording.

An item is a place where the assistant speaks, asked six times: with the schema's own words, and with those of each variant
(names and descriptions of tools and arguments; what is said stays). Calls must have the right tool, arguments and values;
where no call is wanted, words are right. `right` is of the original; `right_x1` ... of the variants; `mean` over the five.
Schema sensitivity is SGD-X's (arXiv 2110.06800, 3.3): the coefficient of variation of a metric over the variants - the sample's
standard deviation by the mean, 0 where the mean is 0 - averaged over items; 0 is robust.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from services.datasets.example import Example, Skipped
from services.datasets.sets import data_set
from services.datasets.sets.sgd import WORDINGS
from services.evaluation.benchmark import Benchmark, Speak, unreadable
from services.evaluation.executed.world import joined
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import matched, wanted_call, wrong_turn
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import items_of

VARIANTS = tuple(range(1, WORDINGS))


@dataclass(frozen=True)
class Worded:
    """A place under all wordings, the original first."""

    items: tuple[Item, ...]


class _SgdX(Benchmark):
    name = "sgd-x"
    title = "SGD-X: tools described in other words"
    source = "arXiv 2110.06800, schema sensitivity; dialogues of SGD's test part, arXiv 1909.05855"
    data = "sgd"
    parts = ("calls", "turns", "dev-calls")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        """`calls`: places of the test part with a call, once each dialogue's tools; `turns`: all places of it."""
        files = "dev" if part.startswith("dev") else "test"
        reading = [data_set("sgd").read(folder, files if not each else f"{files}-x{each}") for each in range(WORDINGS)]
        for rows in zip(*reading, strict=True):
            bad = next((row for row in rows if isinstance(row, Skipped)), None)
            if bad is not None:
                yield bad
                continue
            yield from self._places([row for row in rows if isinstance(row, Example)], part)

    def _places(self, rows: Sequence[Example], part: str) -> Iterator[Item]:
        for worded in zip(*(items_of(row, self.name) for row in rows), strict=True):
            first = worded[0]
            if part == "turns" or first.calls:
                group = "calls" if first.calls else "words"
                yield replace(first, group=group, source=Worded(worded))

    def is_there(self, folder: Path) -> bool:
        return all((folder / f"{name}.tar.xz").exists() for name in ("test", "sgd_x_schemas"))

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """Every wording asked by itself; `extra` has what was said to each, the reply itself is the original's."""
        replies = []
        for worded in _worded(item):
            reply = await speak(worded.messages, worded.cards)
            if reply.trouble:
                return reply
            replies.append(reply)
        said = [reply.model_dump(mode="json", include={"item", "calls", "text", "malformed"}) for reply in replies]
        whole = joined(replies, replies[0].calls)
        return whole.model_copy(update={"text": replies[0].text, "malformed": replies[0].malformed, "extra": {"replies": said}})

    def wrong(self, item: Item, reply: Reply) -> str:
        return wrong_turn(self.wanted(item) or (), reply.calls, reply.text)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        said = [Reply.model_validate(each) for each in cast("Sequence[object]", reply.extra.get("replies", ()))]
        if reply.trouble or len(said) != WORDINGS:
            return {}
        pairs = list(zip(_worded(item), said, strict=True))[1:]
        right = [float(not (unreadable(one) or self.wrong(worded, one))) for worded, one in pairs]
        found = {f"right_x{number}": Measured(each) for number, each in zip(VARIANTS, right, strict=True)}
        found["mean"] = Measured(statistics.fmean(right))
        found["sensitivity"] = Measured(varies(right))
        if item.calls:
            found["sensitivity_f1"] = Measured(varies([_f1(worded, one) for worded, one in pairs]))
        return found


def varies(values: Sequence[float]) -> float:
    """The coefficient of variation: the sample's standard deviation by the mean, 0 where the mean is 0."""
    mean = statistics.fmean(values)
    return statistics.stdev(values) / mean if mean else 0.0


def _f1(item: Item, reply: Reply) -> float:
    return 0.0 if unreadable(reply) else matched([wanted_call(call) for call in item.calls], reply.calls).f1


def _worded(item: Item) -> Sequence[Item]:
    return cast("Worded", item.source).items


BENCHMARK = _SgdX()
