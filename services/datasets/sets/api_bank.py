"""API-Bank (arXiv 2304.08244): dialogues with calls to 50 APIs and their results, at two levels.

level-1: the APIs of a dialogue are offered. level-2: the one that answers first looks for an API with `ToolSearcher`. What an
API takes is told by what such a search found. Of the others the table `all_apis.csv` often describes another version than the
dialogues call: their arguments are those of the dialogues' calls, in the table's words; what all calls have is required.
Words that stand right before a call are said with it.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import orjson

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable
from services.datasets.conversion.rows import Unusable, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/AlibabaResearch/DAMO-ConvAI/tree/main/api-bank"
FOLDERS = {"level-1": "level-1-given-desc", "level-2": "level-2-toolsearcher"}
SEARCHER = ToolCard(
    name="ToolSearcher", description="Finds an API by key words.",
    parameters={"type": "object", "properties": {"keywords": {"type": "string"}}, "required": ["keywords"]},
)  # fmt: skip
_WRITES = "对外影响"  # "affects the outside" stands in the kind of an API that changes something ...
_LOOKS = "查"  # ... unless it only looks something up


def read(folder: Path, part: str) -> Iterator[Row]:
    """The dialogues of a level, one a file, in the order of their names."""
    samples = folder / "lv1-lv2-samples"
    for path in (folder / "data" / "all_apis.csv", samples / FOLDERS[part]):
        if not path.exists():
            raise SetMissing("api-bank", path, HOME)
    with needed(samples):
        tools = {**_catalogue(folder), SEARCHER.name: SEARCHER}
    for path in sorted((samples / FOLDERS[part]).glob("*.jsonl")):
        yield row(f"{part}-{path.stem}", partial(_example, f"{part}-{path.stem}", path, tools))


def _catalogue(folder: Path) -> dict[str, ToolCard]:
    """The card of each API that any dialogue calls, by what is told of it and by how it is called."""
    described, told = _described(folder / "data" / "all_apis.csv"), dict[str, JsonObject]()
    used: dict[str, list[JsonObject]] = {}
    for path in sorted((folder / "lv1-lv2-samples").glob("*/*.jsonl")):
        with suppress(Unusable, KeyError, ValueError):
            for turn in _turns(path):
                if turn["role"] == "API":
                    used.setdefault(str(turn["api_name"]), []).append(object_of(turn["param_dict"], "param_dict"))
                    told |= _found(turn)
    return {name: _card(name, told.get(name), described.get(name, {}), calls) for name, calls in used.items()}


def _turns(path: Path) -> list[JsonObject]:
    return [object_of(orjson.loads(line), "a turn") for line in path.read_bytes().splitlines() if line.strip()]


def _found(turn: JsonObject) -> dict[str, JsonObject]:
    """The APIs that a search in a dialogue found, with what they take."""
    found = object_of(turn["result"], "the result").get("output") if turn["api_name"] == SEARCHER.name else None
    several = found if isinstance(found, list) else [found]
    return {str(each["name"]): dict(each) for each in several if isinstance(each, Mapping) and "input_parameters" in each}


def _described(path: Path) -> dict[str, JsonObject]:
    """What the table says of each API."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [each for each in csv.DictReader(file) if each.get("类名")]
    except (OSError, csv.Error, UnicodeError) as failure:
        raise FileUnreadable(path, str(failure)) from failure
    return {each["类名"]: {**_assigned(each["api_info"] or ""), "kind": each["类型"] or ""} for each in rows}


def _card(name: str, told: JsonObject | None, described: JsonObject, calls: Sequence[JsonObject]) -> ToolCard:
    if told is None:
        known = described.get("input_parameters")
        known = known if isinstance(known, Mapping) else {}
        taken = {argument: known.get(argument, {"type": "string"}) for call in calls for argument in call}
        told = {"description": described.get("description"), "input_parameters": taken}
    properties = object_of(told["input_parameters"], "the parameters")
    required = [argument for argument in properties if all(argument in call for call in calls)]
    parameters = {"type": "object", "properties": properties, "required": required}
    made = card({"name": name, "description": told.get("description"), "parameters": parameters})
    kind = str(described.get("kind", "")).strip()
    return made.model_copy(update={"effect": "write" if _WRITES in kind and not kind.endswith(_LOOKS) else "read"})


def _assigned(text: str) -> JsonObject:
    """The constants that a piece of Python assigns; none for what is no Python: some APIs are not described."""
    found: JsonObject = {}
    with suppress(SyntaxError, ValueError):
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
    return found


def _example(id: str, path: Path, tools: Mapping[str, ToolCard]) -> Example:
    turns = _turns(path)
    called = dict.fromkeys(str(turn["api_name"]) for turn in turns if turn["role"] == "API")
    if not called:
        raise Unusable("nothing is called in it")
    if unknown := [name for name in called if name not in tools]:
        raise Unusable(f"a call to {unknown[0]}, which the catalogue has not")
    offered = tuple(tools[name] for name in called)
    return Example(id, (), "", offered, tuple(_said(turns).messages), "api-bank", next(reversed(called)), "en")


def _said(turns: list[JsonObject]) -> Conversation:
    said = Conversation()
    asked: list[str] = []  # words of one side that are not said yet: turns of one role in a row are one
    answered: list[str] = []
    for turn in turns:
        role = turn["role"]
        if role != "User" and asked:
            said.user("\n".join(asked))
            asked = []
        if role == "User" and answered:
            said.answer("\n".join(answered))
            answered = []
        if role == "User":
            asked.append(str(turn["text"]))
        elif role == "AI":
            answered.append(str(turn["text"]))
        else:
            name = str(turn["api_name"])
            said.call([(name, object_of(turn["param_dict"], "param_dict"))], "\n".join(answered))
            answered = []
            said.result(name, _result(object_of(turn["result"], "the result")))
    if answered:
        said.answer("\n".join(answered))
    return said


def _result(result: JsonObject) -> str:
    told = {"error": result["exception"]} if result.get("exception") else result["output"]
    return told if isinstance(told, str) else orjson.dumps(told).decode()


SET = DataSet(
    name="api-bank", title="API-Bank", licence="Apache-2.0", languages=("en",), home=HOME,
    parts=dict.fromkeys(FOLDERS, "evaluation"), read=read,
)  # fmt: skip
