"""ToolAlpaca's evaluation (arXiv 2306.05301): requests to APIs that a model made up, and to real ones, with gold calls.

A tool is a function of the API's OpenAPI document. The gold of a request is a chain of calls, whose results are not in the set:
they stand in one message, in their order. An argument that the gold gives as "" is one that is left out; a chain that begins
with a question to the user (`getDetails`) is that question; optional steps are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import orjson

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import names
from services.datasets.conversion.conversation import Asked, Conversation
from services.datasets.conversion.files import json_rows
from services.datasets.conversion.openapi import operation_card
from services.datasets.conversion.rows import Unusable, list_of, object_of, row
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/tangqiaoyu/ToolAlpaca"
QUESTION, OPTIONAL = "getDetails", "[Optional]"
UNKNOWN = re.compile(r'(?<!")(\$\{[^{}"]*\})"?')


def read(folder: Path, part: str) -> Iterator[Row]:
    """The requests of a part, API by API."""
    path = folder / "data" / f"{part}.json"
    if not path.exists():
        raise SetMissing("toolalpaca", path, HOME)
    for number, each in enumerate(json_rows(path)):
        name = f"{part}-{number}"
        try:
            api = object_of(each, "the API")
            tools = _tools(api)
            instructions, golds = cast("list[object]", api["Instructions"]), cast("list[object]", api["Golden_Answers"])
        except (Unusable, KeyError, TypeError, ValueError) as wrong:
            yield Skipped(name, f"an API of another form: {wrong}")
            continue
        for at, (said, gold) in enumerate(zip(instructions, golds, strict=False)):
            yield row(f"{name}-{at}", partial(_example, f"{name}-{at}", str(api["Name"]), tools, said, gold))


def _tools(api: JsonObject) -> tuple[ToolCard, ...]:
    document = object_of(orjson.loads(cast("str", api["Documentation"])), "the documentation")
    where = cast("Mapping[str, Sequence[str]]", api["Function_Projection"])
    return tuple(operation_card(document, method, path, name) for name, (path, method) in where.items())


def _example(id: str, api: str, tools: tuple[ToolCard, ...], said: object, gold: object) -> Example:
    steps = [step for step in list_of(gold, "the gold") if not str(step["Action"]).startswith(OPTIONAL)]
    talk = Conversation()
    talk.user(str(said))
    if steps and steps[0]["Action"] == QUESTION:
        talk.answer(str(_input(steps[0])["Question"]))
    else:
        talk.call(_call(step, names(tools)) for step in steps)
    return Example(id, (), "", tools, tuple(talk.messages), "toolalpaca", api, "en")


def _call(step: JsonObject, offered: Mapping[str, str]) -> Asked:
    name = str(step["Action"])
    if name not in offered:
        raise Unusable("a call to a tool that is not offered")
    return offered[name], {argument: value for argument, value in _input(step).items() if value != ""}


def _input(step: JsonObject) -> JsonObject:
    """The arguments of a step. What another step finds stands in them as ${...}, which becomes a text."""
    written = step["Action_Input"]
    if isinstance(written, str):
        try:
            written = orjson.loads(UNKNOWN.sub(lambda found: orjson.dumps(found[1]).decode(), written))
        except ValueError as wrong:
            raise Unusable("the gold arguments are not JSON") from wrong
    return object_of(written, "the gold arguments")


SET = DataSet(
    name="toolalpaca", title="ToolAlpaca evaluation", licence="Apache-2.0", languages=("en",), home=HOME,
    parts={"eval_simulated": "evaluation", "eval_real": "evaluation"}, read=read,
)  # fmt: skip
