"""BFCL v4, single turn: the rules stand in services/evaluation/bfcl.py, the official checker's item for item.

A fifth of the live items is built on SGD's functions, which models may have been trained on: `right_without_sgd` leaves out
those whose gold call is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from schemas.tools import ToolCall
from services.datasets.example import Skipped
from services.evaluation import bfcl
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import instructed

PLAIN = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance")
OTHERS = ("simple_java", "simple_javascript")
GROUPS = {"plain": PLAIN, "live": LIVE, "all-python": (*PLAIN, *LIVE)}

_OF_SGD = re.compile(r"[A-Z][A-Za-z]+_\d+_[A-Z]\w+")  # SERVICE_NUMBER_INTENT, as in Hotels_2_BookHouse


class _Bfcl(Benchmark):
    name = "bfcl"
    title = "Berkeley Function Calling Leaderboard v4, single turn"
    source = "bfcl-eval 2026.3.23, ast_checker.py; https://gorilla.cs.berkeley.edu/leaderboard.html"
    data = "bfcl"
    parts = (*PLAIN, *LIVE, *OTHERS, *GROUPS)

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        packed = folder / "bfcl_eval" / "data"
        for category in GROUPS.get(part, (part,)):
            for one in bfcl.read(packed if packed.is_dir() else folder, category):
                yield Item(
                    one.id, self.name, category, "en", instructed(one.messages), one.cards, _gold_calls(one), source=one,
                    parallel="parallel" in category,
                )  # fmt: skip

    def wrong(self, item: Item, reply: Reply) -> str:
        return bfcl.wrong(_of(item), reply.calls)

    def wanted(self, item: Item) -> Sequence[Wanted] | None:
        one = _of(item)
        return None if one.category == bfcl.ANY_CALL else tuple(_wanted(one, gold) for gold in one.gold)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        one = _of(item)
        if not one.category.startswith("live_") or any(_OF_SGD.fullmatch(name) for gold in one.gold for name in gold):
            return {}
        return {"right_without_sgd": Measured(float(not self.judge(item, reply)))}


def _of(item: Item) -> bfcl.Item:
    return cast("bfcl.Item", item.source)


def _wanted(one: bfcl.Item, gold: bfcl.Gold) -> Wanted:
    ((name, arguments),) = gold.items()
    types = bfcl.types_of(one, name)

    def check(argument: str) -> Callable[[object], bool]:
        if argument not in types:
            return lambda said: False
        return lambda said: bfcl.right_value(said, types[argument], arguments[argument], one.language)

    optional = frozenset(argument for argument, accepted in arguments.items() if "" in accepted)
    return Wanted(_card_name(one, name), {argument: check(argument) for argument in arguments}, optional)


def _card_name(one: bfcl.Item, name: str) -> str:
    return next((card for card, own in one.names.items() if own == name), name)


def _gold_calls(one: bfcl.Item) -> tuple[ToolCall, ...]:
    """The gold calls, each argument with the first value that counts as right."""
    return tuple(
        ToolCall(id=f"g{number}", name=_card_name(one, name), arguments=bfcl.written(one, name, bfcl.first_accepted(arguments)))
        for number, gold in enumerate(one.gold) for name, arguments in gold.items()
    )  # fmt: skip


BENCHMARK = _Bfcl()
