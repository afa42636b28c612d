"""Seal-Tools: one request, one call or several, some with an earlier call's result as an argument.

The figures are those of its calculate.py: AMOUNT, the share of replies that can be read, and precision, recall and F1 of API
names and of (API, parameter, value) triples, summed over all items first. Its own matcher compares each call with the first
gold call of that name, so that a call made twice counts twice; here each gold call and each triple is matched once, and the
original's figures stand beside as `..._first_match`. Values are compared as text, numbers by their value, for the set writes
one number in several ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from schemas.tools import ToolCall
from services.datasets.example import Example, Skipped
from services.datasets.sets import SetMissing, data_set
from services.evaluation.benchmark import Benchmark, unreadable
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, same_text, value_text, wanted_call, wrong_turn
from services.evaluation.metrics.intervals import Measured
from services.evaluation.turns import items_of

OUT = "test-out-domain"
SEEN_IN = ("train", "test-in-domain")

_T = TypeVar("_T")


class _SealTools(Benchmark):
    name = "seal-tools"
    title = "Seal-Tools: one request, several calls, some nested"
    source = "github.com/fairyshine/Seal-Tools, calculate_score_ToolLearning; arXiv 2405.08355"
    data = "seal-tools"
    parts = ("test-in-domain", OUT)

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        seen = _seen(folder) if part == OUT else frozenset()
        for row in data_set("seal-tools").read(folder, part):
            if isinstance(row, Skipped):
                yield row
                continue
            unseen = part == OUT and not row.calls & seen
            example = replace(row, group=f"{row.group}-unseen") if unseen else row
            yield from items_of(example, self.name, last=True, group=example.group, parallel=True, source=unseen)

    def wrong(self, item: Item, reply: Reply) -> str:
        return wrong_turn(self.wanted(item), reply.calls, reply.text)

    def wanted(self, item: Item) -> Sequence[Wanted]:
        return tuple(wanted_call(call, same_text) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        readable = not unreadable(reply)
        calls = reply.calls if readable else ()
        names = Counter(call.name for call in calls), Counter(call.name for call in item.calls)
        triples = Counter(_triples(calls)), Counter(_triples(item.calls))
        found = {"amount": Measured(float(readable)), **_three("api", *names), **_three("triple", *triples)}
        same_names, same_values = _first_match(item.calls, calls)
        found["api_f1_first_match"] = Measured(2 * same_names, names[0].total() + names[1].total())
        found["triple_f1_first_match"] = Measured(2 * same_values, triples[0].total() + triples[1].total())
        if item.source:
            found["right_unseen"] = Measured(float(not self.judge(item, reply)))
        return found


def _triples(calls: Iterable[ToolCall]) -> Iterator[tuple[str, str, str]]:
    return ((call.name, name, value_text(value)) for call in calls for name, value in call.arguments.items())


def _three(of: str, said: Counter[_T], gold: Counter[_T]) -> dict[str, Measured]:
    same = (said & gold).total()
    return {
        f"{of}_precision": Measured(same, said.total()), f"{of}_recall": Measured(same, gold.total()),
        f"{of}_f1": Measured(2 * same, said.total() + gold.total()),
    }  # fmt: skip


def _first_match(gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> tuple[int, int]:
    """Names and triples that the original's matcher takes for right."""
    first = {call.name: call.arguments for call in reversed(gold)}
    known = [call for call in calls if call.name in first]
    return len(known), sum(
        name in first[call.name] and str(value) == str(first[call.name][name])
        for call in known for name, value in call.arguments.items()
    )  # fmt: skip


def _seen(folder: Path) -> frozenset[str]:
    """The tools called in the other parts that are there."""
    found: set[str] = set()
    for part in SEEN_IN:
        try:
            found.update(
                name for row in data_set("seal-tools").read(folder, part) if isinstance(row, Example) for name in row.calls
            )
        except SetMissing:
            continue
    return frozenset(found)


BENCHMARK = _SealTools()
