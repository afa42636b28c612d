"""Glaive's function calls, as LLaMA-Factory shows them: calls, results, answers that use them, and words alone.

https://github.com/hiyouga/LLaMA-Factory, 300 rows each of English and of its machine translation. Rows are repeated: of
conversations with the same first request, and those in words only with the same tools, too, the longest is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import orjson

from schemas.canonical import JsonObject
from services.datasets.checks import checked
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import cards, names
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import json_rows
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/hiyouga/LLaMA-Factory/tree/main/data"


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of the only part."""
    for language in ("en", "zh"):
        path = folder / "data" / f"glaive_toolcall_{language}_demo.json"
        if not path.exists():
            raise SetMissing("glaive-demo", path, HOME)
        rows = [_row(raw, f"{language}/{place}", language) for place, raw in enumerate(json_rows(path))]
        longest: dict[object, int] = {}
        for row in rows:
            if isinstance(row, Example):
                longest[_asked(row)] = max(longest.get(_asked(row), 0), len(row.messages))
        for row in rows:
            if isinstance(row, Skipped):
                yield row
            elif longest.get(_asked(row)) == len(row.messages):
                del longest[_asked(row)]
                yield row
            else:
                yield Skipped(row.id, "repeats another row")


def _asked(row: Example) -> tuple[str, frozenset[str]]:
    tools: frozenset[str] = frozenset() if row.calls else frozenset(card.name for card in row.tools)
    return row.messages[0].content.strip().lower(), tools


def _row(raw: object, id: str, language: str) -> Row:
    try:
        row = cast("Mapping[str, object]", raw)
        listed = orjson.loads(str(row["tools"]) or "[]")
        tools = cards(listed)
        known, called = {each.name: each for each in tools}, names(tools)
        said = Conversation()
        waiting: list[str] = []
        for turn in cast("list[JsonObject]", row["conversations"]):
            speaker, text = turn["from"], str(turn["value"])
            if speaker == "human":
                said.user(text)
            elif speaker == "gpt":
                said.answer(text)
            elif speaker == "function_call":
                calls = _calls(text, called)
                said.call([(name, fitted(arguments, known[name]) if name in known else arguments) for name, arguments in calls])
                waiting = [name for name, _ in calls]
            elif speaker == "observation":
                said.result(waiting.pop(0) if waiting else "", text)
            else:
                return Skipped(id, "a speaker that nobody knows")
    except (KeyError, TypeError, AttributeError, ValueError):
        return Skipped(id, "tools or a call cannot be read")
    group = f"{language}-{'calls' if any(each.calls for each in said.messages) else 'words'}"
    return checked(Example(id, (), "", tools, tuple(said.messages), "glaive-demo", group, language))


def _calls(text: str, called: Mapping[str, str]) -> list[tuple[str, JsonObject]]:
    found = orjson.loads(text)
    calls = []
    for each in found if isinstance(found, list) else [found]:
        name, arguments = each["name"], each["arguments"]
        calls.append((called.get(name, name), orjson.loads(arguments) if isinstance(arguments, str) else arguments))
    return calls


SET = DataSet(
    "glaive-demo",
    "Glaive function calling: calls, results and answers",
    "Apache-2.0",
    ("en", "zh"),
    HOME,
    {"train": "training"},
    read,
)
