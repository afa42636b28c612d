"""RestBench (arXiv 2306.06624): requests to the real APIs of TMDB and Spotify, with the operations that solve them, in order.

The gold is a path of operations, `GET /search/person` and so on, without arguments and results: they stand in one message, in
their order. Offered are the operations of the gold and others of the service, OFFERED in all; a card's title is the operation
as the gold writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import orjson

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import names, tool_name
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import json_rows
from services.datasets.conversion.offering import drawn
from services.datasets.conversion.openapi import operation_card, operations
from services.datasets.conversion.rows import Unusable, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/Yifan-Song793/RestGPT"
PARTS = ("tmdb", "spotify")
OFFERED = 20


def read(folder: Path, part: str) -> Iterator[Row]:
    """The requests of a service."""
    asked, specification = folder / "datasets" / f"{part}.json", folder / "specs" / f"{part}_oas.json"
    for path in (asked, specification):
        if not path.exists():
            raise SetMissing("restbench", path, HOME)
    tools = _tools(specification)
    offered = {_placed(title): name for title, name in names(tools.values()).items()}
    for number, each in enumerate(json_rows(asked)):
        id = f"{part}-{number}"
        yield row(id, partial(_example, id, part, each, tools, offered), names_only=True)


def _tools(path: Path) -> dict[str, ToolCard]:
    """The card of each operation of a service, by its name. Raises FileUnreadable."""
    with needed(path):
        document = object_of(orjson.loads(path.read_bytes()), "the document")
        tools = (_tool(document, method, place) for method, place in operations(document))
        return {tool.name: tool for tool in tools}


def _tool(document: JsonObject, method: str, place: str) -> ToolCard:
    words = re.sub(r"[^A-Za-z0-9]+", "_", place).strip("_")
    made = operation_card(document, method, place, tool_name(f"{method}_{words}"))
    return made.model_copy(update={"title": f"{method.upper()} {place}"})


def _placed(operation: str) -> str:
    """An operation whose parameters have no names: gold and document call some differently."""
    return re.sub(r"\{[^{}]*\}", "{}", operation).rstrip("/")


def _example(id: str, part: str, each: object, tools: Mapping[str, ToolCard], offered: Mapping[str, str]) -> Example:
    asked = object_of(each, "the request")
    gold = [str(step).strip() for step in asked["solution"]] if isinstance(asked["solution"], list) else []
    if not gold:
        raise Unusable("no gold operations")
    if unknown := [step for step in gold if _placed(step) not in offered]:
        raise Unusable(f"an operation that the document has not: {unknown[0]}")
    text, wanted = str(asked["query"]), [offered[_placed(step)] for step in gold]
    said = Conversation()
    said.user(text)
    said.call((name, {}) for name in wanted)
    shown = drawn(text, frozenset(wanted), tools, OFFERED)
    return Example(id, (), "", tuple(tools[name] for name in shown), tuple(said.messages), "restbench", part, "en")


SET = DataSet(
    name="restbench", title="RestBench", licence="MIT", languages=("en",), home=HOME,
    parts=dict.fromkeys(PARTS, "evaluation"), read=read,
)  # fmt: skip
