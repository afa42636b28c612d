"""BFCL v4, single turn: its items as our tool cards and messages, and its rule for a right call.

The Berkeley Function Calling Leaderboard (https://gorilla.cs.berkeley.edu/leaderboard.html) gives for each item functions,
a question and, for each argument of the wanted call, a list of values that count as right. The rules are those of its
AST checker for Python (package bfcl-eval 2026.3.23), quirks included, so that our figures compare with published ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard

# A gold call: its name, and for each argument the values that count as right ("" among them: it may be left out).
Gold = Mapping[str, Mapping[str, Sequence[object]]]

# Where the right thing is to call nothing: there is no file of possible answers.
NO_CALL = frozenset({"irrelevance", "live_irrelevance"})

JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
PYTHON_TYPES: dict[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict, "any": str,
}  # fmt: skip
SCHEMA_KEYS = frozenset({"type", "description", "enum", "items", "properties", "required", "default"})
IGNORED = re.compile(r"[ ,./\-_*^]")


class DataMissing(MilepostError):
    """A data set is not where it was looked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} does not exist.", why="the BFCL data are not part of Milepost", hint="pip download --no-deps bfcl-eval"
        )
        self.path = path


@dataclass(frozen=True)
class Item:
    """One item. names: the function that each card stands for, whose own name a card may not have (`math.hypot`)."""

    id: str
    category: str
    messages: tuple[Message, ...]
    cards: tuple[ToolCard, ...]
    names: Mapping[str, str]
    functions: tuple[JsonObject, ...]
    gold: tuple[Gold, ...]


def read(folder: Path, category: str) -> Iterator[Item]:
    """The items of a category such as `simple_python` from the package's `data` folder. Raises DataMissing."""
    answers = () if category in NO_CALL else _rows(folder / "possible_answer", category)
    golds = {row["id"]: cast("list[Gold]", row["ground_truth"]) for row in answers}
    for row in _rows(folder, category):
        functions = tuple(cast("list[JsonObject]", row["function"]))
        cards = tuple(card_of(function) for function in functions)
        names = {card.name: str(function["name"]) for card, function in zip(cards, functions, strict=True)}
        turn = cast("list[list[dict[str, str]]]", row["question"])[0]
        gold = tuple(golds.get(row["id"], ()))
        yield Item(str(row["id"]), category, tuple(map(_message, turn)), cards, names, functions, gold)


def _rows(folder: Path, category: str) -> Iterator[dict[str, object]]:
    path = folder / f"BFCL_v4_{category}.json"
    if not path.exists():
        raise DataMissing(path)
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _message(said: Mapping[str, str]) -> Message:
    match said["role"]:
        case "user":
            return Message(role="user", content=said["content"], origin="user")
        case "assistant":
            return Message(role="assistant", content=said["content"], origin="model")
        case _:
            return Message(role="system", content=said["content"])


def card_of(function: JsonObject) -> ToolCard:
    """A BFCL function as a tool card: its Python types become JSON Schema's, dots in its name underscores."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", str(function["name"]))[:64]
    parameters = _schema(cast("JsonObject", function["parameters"]))
    return ToolCard(name=name, description=str(function.get("description") or name)[:4000], parameters=parameters)


def _schema(schema: Mapping[str, object]) -> JsonObject:
    """JSON Schema of a BFCL type; keys that are none of JSON Schema's, or would only forbid what gold allows, are left out."""
    kept = {key: value for key, value in schema.items() if key in SCHEMA_KEYS}
    kind = str(kept.get("type", "string"))
    kept["type"] = JSON_TYPES.get(kind, kind)
    if isinstance(properties := kept.get("properties"), Mapping):
        kept["properties"] = {str(name): _schema(value) for name, value in properties.items()}
    if isinstance(items := kept.get("items"), Mapping):
        kept["items"] = _schema(items)
    return kept


def wrong(item: Item, calls: Sequence[ToolCall]) -> str:
    """Why these calls are not what the item wants; empty if they are."""
    if item.category in NO_CALL:
        return f"called {calls[0].name}" if calls else ""
    if len(calls) != len(item.gold):
        return f"{len(calls)} calls for {len(item.gold)}"
    left = list(calls)
    reason = ""
    for gold in item.gold:
        reasons = [wrong_call(item, gold, call) for call in left]
        if "" not in reasons:
            return reason or reasons[0]
        left.pop(reasons.index(""))
    return ""


def wrong_call(item: Item, gold: Gold, call: ToolCall) -> str:
    """Why a call is not the gold one; empty if it is."""
    ((name, wanted),) = gold.items()
    if item.names.get(call.name, call.name) != name:
        return f"called {call.name} for {name}"
    function = next(function for function in item.functions if function["name"] == name)
    parameters = cast("Mapping[str, object]", function["parameters"])
    types = cast("Mapping[str, Mapping[str, object]]", parameters["properties"])
    for argument in cast("Sequence[str]", parameters.get("required", ())):
        if argument not in call.arguments:
            return f"{argument} is missing"
    for argument, value in call.arguments.items():
        if argument not in types or argument not in wanted:
            return f"{argument} is not wanted"
        if not right_value(value, types[argument], wanted[argument]):
            return f"{argument} is {json.dumps(value, ensure_ascii=False)}"
    for argument, accepted in wanted.items():
        if argument not in call.arguments and "" not in accepted:
            return f"{argument} is left out"
    return ""


def right_value(value: object, schema: Mapping[str, object], accepted: Sequence[object]) -> bool:
    """Whether a value is of the declared type, or of the type of the accepted ones, and among them."""
    kind = PYTHON_TYPES[str(schema["type"])]
    inner = PYTHON_TYPES[str(cast("Mapping[str, object]", schema["items"])["type"])] if kind is list else None
    if kind is float and type(value) is int:
        value = float(value)
    fits, as_declared = _type_fits(value, kind, inner, accepted)
    if not fits:
        return False
    if not as_declared:
        # Values of another type than the declared one stand for variables, which are compared as they are.
        return value in accepted
    if kind is dict:
        return any(_same_dict(value, one) for one in accepted)
    if kind is list:
        # "" allows an empty list, too: to the official checker both are sequences without elements.
        return any(_same_dicts(value, one) for one in accepted) if inner is dict else _texts(value) in map(_texts, accepted)
    return _text(value) in map(_text, accepted) if kind is str else value in accepted


def _type_fits(value: object, kind: type, inner: type | None, accepted: Sequence[object]) -> tuple[bool, bool]:
    """Whether the type is right, and whether the accepted values are of the declared type, too."""
    given = next((type(one) for one in accepted if one != ""), None)
    as_declared = given is None or given is kind
    if type(value) is kind and (inner is None or _elements_fit(value, inner, accepted)):
        return True, as_declared
    if type(value) is kind:
        return False, as_declared
    return type(value) is given, False


def _elements_fit(value: object, inner: type, accepted: Sequence[object]) -> bool:
    """Whether the elements of a list are of their declared type, or of that of one accepted list's; one level only."""
    return any(
        not isinstance(one, list) or all(_type_fits(element, inner, None, one)[0] for element in cast("list[object]", value))
        for one in accepted
    )


def _same_dicts(value: object, accepted: object) -> bool:
    given, wanted = cast("list[object]", value), cast("list[object]", accepted)
    return len(given) == len(wanted) and all(map(_same_dict, given, wanted))


def _same_dict(value: object, accepted: object) -> bool:
    """Whether a dictionary has only accepted keys with accepted values, and all that may not be left out."""
    if not isinstance(value, Mapping) or not isinstance(accepted, Mapping):
        return False
    return all(key in accepted and _text(one) in map(_text, accepted[key]) for key, one in value.items()) and all(
        key in value or "" in options for key, options in accepted.items()
    )


def _texts(value: object) -> object:
    return list(map(_text, cast("list[object]", value)))


def _text(value: object) -> object:
    """Text without blanks, `,./-_*^` and case, with double quotes; other values as they are."""
    return IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
