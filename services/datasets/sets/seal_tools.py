"""Seal-Tools: one request, one call or several at once, some with the result of another as an argument.

https://github.com/fairyshine/Seal-Tools (arXiv 2405.08355). A row names only the tools that it calls; offered are those and
DISTRACTORS others of the set's 4,076, drawn by the row's id. An argument such as "API_call_0" stands for a result of an
earlier call and stays a text, as the set has it, whatever type the schema asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import card, own_name
from services.datasets.conversion.conversation import Asked, Conversation
from services.datasets.conversion.files import FileUnreadable, json_lines
from services.datasets.conversion.rows import Unusable, needed, row
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/fairyshine/Seal-Tools"
DISTRACTORS = 4
_FILES = {"train": "dev.jsonl", "test-in-domain": "test_in_domain.jsonl", "test-out-domain": "test_out_domain.jsonl"}


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of a part."""
    known = _tools(_found(folder, "tool.jsonl"))
    everything = sorted(known)
    for where, line in json_lines(_found(folder, _FILES[part])):
        if isinstance(line, Skipped):
            yield line
        else:
            yield row(str(line.get("id") or where), partial(_example, line, known, everything))


def _found(folder: Path, name: str) -> Path:
    path = folder / "Seal-Tools_Dataset" / name
    if not path.exists():
        raise SetMissing("seal-tools", path, HOME)
    return path


def _tools(path: Path) -> dict[str, ToolCard]:
    """The cards of all tools by their own names. Raises FileUnreadable if there are none, or one that is none."""
    found: dict[str, ToolCard] = {}
    with needed(path):
        for _, tool in json_lines(path):
            if isinstance(tool, Skipped) or not isinstance(tool.get("api_name"), str):
                continue
            made = card({**tool, "name": tool["api_name"], "description": tool.get("api_description")})
            found[own_name(made)] = made
    if not found:
        raise FileUnreadable(path, "it holds no tool")
    return found


def _example(line: JsonObject, known: Mapping[str, ToolCard], everything: Sequence[str]) -> Example:
    id, query, calling = line.get("id"), line.get("query"), line.get("calling")
    if not isinstance(id, str) or not isinstance(query, str) or not isinstance(calling, list) or not calling:
        raise Unusable("not a query with calls")
    asked: list[Asked] = []
    offered: dict[str, ToolCard] = {}
    for call in calling:
        if not isinstance(call, dict) or not isinstance(call.get("parameters"), dict):
            raise Unusable("a call without parameters")
        tool = known.get(str(call.get("api")))
        if tool is None:
            raise Unusable("a call to a tool that is not offered")
        offered[tool.name] = tool
        asked.append((tool.name, fitted(cast("JsonObject", call["parameters"]), tool)))
    said = Conversation()
    said.user(query)
    said.call(asked)
    nested = any(isinstance(value, str) and "API_call_" in value for _, arguments in asked for value in arguments.values())
    group = "nested" if nested else "one" if len(asked) == 1 else "several"
    tools = _with_distractors(id, offered, known, everything)
    return Example(id, (), "", tools, tuple(said.messages), "seal-tools", group, "en")


def _with_distractors(
    id: str, offered: Mapping[str, ToolCard], known: Mapping[str, ToolCard], everything: Sequence[str]
) -> tuple[ToolCard, ...]:
    """The called tools among others, in an order by chance."""
    chance = random.Random(f"seal-tools {id}")
    tools = dict(offered)
    while len(tools) < min(len(offered) + DISTRACTORS, len(known)):
        other = known[chance.choice(everything)]
        tools.setdefault(other.name, other)
    mixed = list(tools.values())
    chance.shuffle(mixed)
    return tuple(mixed)


SET = DataSet(
    "seal-tools",
    "Seal-Tools: one request, several calls",
    "Apache-2.0",
    ("en",),
    HOME,
    {"train": "training", "test-in-domain": "evaluation", "test-out-domain": "evaluation"},
    read,
)
