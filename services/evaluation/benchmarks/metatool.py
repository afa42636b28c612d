"""MetaTool: whether a request needs a tool at all, and which of ten; plugins take no arguments, so that names are all.

need       half of the requests want no tool: `decision` is the share that is decided right, whichever tool is called
two-tool   both tools, in any order
selection  one tool of ten, requests whose text was held back from training the retriever
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from services.datasets.example import Skipped
from services.datasets.sets import data_set
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, wrong_turn
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import items_of

PARTS = {"need": "need", "two-tool": "two-tool", "selection": "retrieval"}
"""The parts of the benchmark, and those of the set."""


class _MetaTool(Benchmark):
    name = "metatool"
    title = "MetaTool: whether a tool is needed, and which"
    source = "github.com/HowieHwong/MetaTool; arXiv 2310.03128"
    data = "metatool"
    parts = tuple(PARTS)

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        for row in data_set("metatool").read(folder, PARTS[part]):
            if isinstance(row, Skipped):
                yield row
                continue
            group = part if part != "need" else "tool" if row.calls else "no-tool"
            for item in items_of(row, self.name, last=True, group=group):
                yield replace(item, text="")  # where no tool is needed, the set has no words

    def wrong(self, item: Item, reply: Reply) -> str:
        return wrong_turn(self.wanted(item), reply.calls, reply.text)

    def wanted(self, item: Item) -> Sequence[Wanted]:
        return tuple(Wanted(call.name, others=True) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        calls = reply.calls if reply.readable else ()
        decided = reply.readable and bool(calls) == bool(item.calls)
        found = {"decision": Measured(float(decided))}
        if item.calls:
            gold = {call.name for call in item.calls}
            found["tool_recall"] = Measured(len(gold & {call.name for call in calls}), len(gold))
        return found


BENCHMARK = _MetaTool()
