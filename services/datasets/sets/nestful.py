"""NESTFUL (arXiv 2409.03797): chains of calls whose arguments refer to what calls before them gave, as `$var1.skyId$`.

Calls stand in one message, in their order; the id of a call is its label, which the references name. The last entry of a gold,
`var_result`, calls nothing: it says what of the results is the answer, and is left out. Offered are the functions of the gold
and others of the part, OFFERED in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.conversion.cards import cards, own_name
from services.datasets.conversion.files import json_rows
from services.datasets.conversion.offering import drawn
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/IBM/NESTFUL"
FILES = {"executable": "executable/executable", "sgd": "non-executable/non-executable-sgd",
         "glaive": "non-executable/non-executable-glaive"}  # fmt: skip
OFFERED = 15
ANSWER = "var_result"


def read(folder: Path, part: str) -> Iterator[Row]:
    """The chains of a part."""
    paths = [folder / "data" / f"{FILES[part]}-{kind}.json" for kind in ("data", "spec")]
    for path in paths:
        if not path.exists():
            raise SetMissing("nestful", path, HOME)
    asked, told = map(json_rows, paths)
    with needed(paths[1]):
        tools = {tool.name: tool for tool in cards(_function(each) for each in list_of(told, "the specification"))}
    for number, each in enumerate(asked):
        id = f"{part}-{number}"
        yield row(id, partial(_example, id, part, each, tools))


def _function(told: JsonObject) -> dict[str, object]:
    """A function whose parameters stand under one of several names; some list their values as `allowed_values`."""
    found: dict[str, object] = {}
    for key in ("query_parameters", "path_parameters", "body_parameters", "parameters", "arguments"):
        taken = told.get(key)
        for name, each in (taken if isinstance(taken, Mapping) else {}).items():
            found[name] = {"type": "string", **each, **({"enum": each["allowed_values"]} if each.get("allowed_values") else {})}
    return {"name": told["name"], "description": told.get("description"), "parameters": found}


def _example(id: str, part: str, each: object, tools: Mapping[str, ToolCard]) -> Example:
    asked = object_of(each, "the request")
    steps = [step for step in list_of(asked["output"], "the gold") if step["name"] != ANSWER]
    if not steps:
        raise Unusable("nothing is called in it")
    calls = tuple(_call(step, number, tools) for number, step in enumerate(steps, 1))
    text = str(asked["input"])
    said = Message(role="user", content=text, origin="user")
    wanted = Message(role="assistant", content="", calls=calls, origin="model")
    shown = drawn(text, frozenset(call.name for call in calls), tools, OFFERED)
    return Example(id, (), "", tuple(tools[name] for name in shown), (said, wanted), "nestful", part, "en")


def _call(step: JsonObject, number: int, tools: Mapping[str, ToolCard]) -> ToolCall:
    """A step as a call. Of functions of one name, it is the first that takes its arguments."""
    given = object_of(step["arguments"], "the arguments")
    meant = [tool for tool in tools.values() if own_name(tool) == step["name"]]
    if not meant:
        raise Unusable("a call to a tool that the specification has not")
    taking = [tool for tool in meant if set(given) <= set(object_of(tool.parameters["properties"], "the parameters"))]
    return ToolCall(id=str(step.get("label") or f"c{number}"), name=(taking or meant)[0].name, arguments=given)


SET = DataSet(
    name="nestful", title="NESTFUL", licence="Apache-2.0", languages=("en",), home=HOME,
    parts=dict.fromkeys(FILES, "evaluation"), read=read,
)  # fmt: skip
