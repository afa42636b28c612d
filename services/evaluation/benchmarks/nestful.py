"""NESTFUL: chains of calls, written at once, whose arguments refer to results of calls before them.

Whoever is examined is told how to refer: `$varN.field$` for a field of what the N-th call gives. As in the paper,
`full_match` is the share of items whose calls are the gold ones in their order, names and arguments, and `partial_match` the
share of gold calls that are there in their order. References are compared by the place of the call that they name, and every
argument may be one, whatever type its function asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from schemas.canonical import JsonObject, canonical
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Skipped
from services.datasets.sets import data_set
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, same_text, value_text, wanted_call
from services.evaluation.metrics.intervals import Measured
from services.evaluation.similarity import common
from services.evaluation.turns import items_of

PARTS = ("executable", "sgd", "glaive")
HOW = (
    "Make all the calls that the request takes at once, in their order. Where an argument is a field of what an earlier call "
    "gives, write $varN.field$ for it, N being the place of that call: $var1.id$ is the field id of the first one's result."
)
REFERENCE = r"^\$var[0-9]+(\.[A-Za-z0-9_]+)*\$$"
_REFERENCE = re.compile(r"\$([A-Za-z_]\w*)")


class _Nestful(Benchmark):
    name = "nestful"
    title = "NESTFUL: chains of calls that refer to each other"
    source = "github.com/IBM/NESTFUL; arXiv 2409.03797, partial and full sequence match"
    data = "nestful"
    parts = PARTS

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        for row in data_set("nestful").read(folder, part):
            if isinstance(row, Skipped):
                yield row
            else:
                yield from items_of(
                    _placed(replace(row, system=HOW, tools=tuple(map(_open, row.tools)))),
                    self.name,
                    last=True,
                    group=part,
                    parallel=True,
                )

    def wrong(self, item: Item, reply: Reply) -> str:
        said, gold = _texts(reply.calls), _texts(item.calls)
        return "" if said == gold else f"{common(said, gold)} of {len(gold)} calls, {len(said)} made"

    def wanted(self, item: Item) -> Sequence[Wanted]:
        return tuple(wanted_call(call, same_text) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        said, gold = _texts(reply.calls if reply.readable else ()), _texts(item.calls)
        return {"full_match": Measured(float(said == gold)), "partial_match": Measured(common(said, gold), len(gold))}


def _open(card: ToolCard) -> ToolCard:
    """The card with arguments that may be references, too."""
    properties = cast("Mapping[str, JsonObject]", card.parameters.get("properties", {}))
    opened = {name: _or_reference(schema) for name, schema in properties.items()}
    return card.model_copy(update={"parameters": {**card.parameters, "properties": opened}})


def _or_reference(schema: JsonObject) -> JsonObject:
    if schema.get("type") == "string" and "enum" not in schema:
        return schema
    said = {key: value for key, value in schema.items() if key == "description"}
    rest = {key: value for key, value in schema.items() if key != "description"}
    return {**said, "anyOf": [rest, {"type": "string", "pattern": REFERENCE}]}


def _placed(example: Example) -> Example:
    """The gold with references by place: the label of a call is its id, and becomes var1, var2 ..."""
    *before, gold = example.messages
    places = {call.id: f"var{number}" for number, call in enumerate(gold.calls, 1)}
    calls = tuple(
        call.model_copy(update={"arguments": {name: _renamed(value, places) for name, value in call.arguments.items()}})
        for call in gold.calls
    )
    return replace(example, messages=(*before, gold.model_copy(update={"calls": calls})))


def _renamed(value: object, places: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: f"${places.get(found[1], found[1])}", value)
    if isinstance(value, dict):
        return {name: _renamed(inner, places) for name, inner in value.items()}
    return [_renamed(inner, places) for inner in value] if isinstance(value, list) else value


def _texts(calls: Sequence[ToolCall]) -> tuple[str, ...]:
    said = ({name: value_text(value) for name, value in call.arguments.items()} for call in calls)
    return tuple(f"{call.name} {canonical(given).decode()}" for call, given in zip(calls, said, strict=True))


BENCHMARK = _Nestful()
