"""ToolAlpaca's evaluation: requests to made-up and to real APIs, each with the function or the functions that it takes.

The original has GPT-4 judge whole courses; here the functions called must be the gold ones, each as often, with the gold
arguments: as text, without regard to case, and whatever a `${...}` of the gold stands for, which only an earlier result tells.
`first_function` is the share whose first call is of the first gold function, for models that make one call at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from services.datasets.example import Skipped
from services.datasets.sets import data_set
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, same_text, wanted_call, wrong_turn
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import items_of

PARTS = ("eval_simulated", "eval_real")
_UNKNOWN = re.compile(r"\$\{[^{}]*\}")


class _ToolAlpaca(Benchmark):
    name = "toolalpaca"
    title = "ToolAlpaca evaluation: the functions that a request takes"
    source = "github.com/tangqiaoyu/ToolAlpaca, data/eval_*.json; arXiv 2306.05301"
    data = "toolalpaca"
    parts = (*PARTS, "all")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        for one in PARTS if part == "all" else (part,):
            for row in data_set("toolalpaca").read(folder, one):
                if isinstance(row, Skipped):
                    yield row
                else:
                    yield from items_of(row, self.name, last=True, group=one)

    def wrong(self, item: Item, reply: Reply) -> str:
        return wrong_turn(self.wanted(item), reply.calls, reply.text)

    def wanted(self, item: Item) -> Sequence[Wanted]:
        return tuple(wanted_call(call, _alike) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        if not item.calls:
            return {}
        calls = reply.calls if reply.readable else ()
        return {"first_function": Measured(float(bool(calls) and calls[0].name == item.calls[0].name))}


def _alike(said: object, wanted: object) -> bool:
    if isinstance(wanted, str) and _UNKNOWN.search(wanted):
        return True
    if isinstance(said, str) and isinstance(wanted, str):
        return same_text(said.strip().casefold(), wanted.strip().casefold())
    return same_text(said, wanted)


BENCHMARK = _ToolAlpaca()
