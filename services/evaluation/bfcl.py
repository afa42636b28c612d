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
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.sets import SetMissing
from services.evaluation import bfcl_literals
from services.evaluation.bfcl_literals import Language

# A gold call: its name, and for each argument the values that count as right ("" among them: it may be left out).
Gold = Mapping[str, Mapping[str, Sequence[object]]]

# Where the right thing is to call nothing, or anything at all: there is no file of possible answers.
NO_CALL = frozenset({"irrelevance", "live_irrelevance"})
ANY_CALL = "live_relevance"
HOME = "https://pypi.org/project/bfcl-eval"

JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
PYTHON_TYPES: dict[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict, "any": str,
}  # fmt: skip
TYPES: dict[Language, dict[str, type]] = {
    "python": PYTHON_TYPES, "java": bfcl_literals.JAVA, "javascript": bfcl_literals.JAVASCRIPT,
}  # fmt: skip
NAMED: dict[Language, str] = {"python": "Python", "java": "Java", "javascript": "JavaScript"}
LANGUAGES: dict[str, Language] = {"simple_java": "java", "simple_javascript": "javascript"}
SCHEMA_KEYS = frozenset({"type", "description", "enum", "items", "properties", "required", "default"})
IGNORED = re.compile(r"[ ,./\-_*^]")


@dataclass(frozen=True)
class Item:
    """One item. names: the function that each card stands for, whose own name a card may not have (`math.hypot`)."""

    id: str
    category: str
    messages: tuple[Message, ...]
    cards: tuple[ToolCard, ...]
    names: Mapping[str, str]
    functions: tuple[Mapping[str, object], ...]
    gold: tuple[Gold, ...]

    @property
    def language(self) -> Language:
        """In which values are written: Python's are JSON, others text."""
        return LANGUAGES.get(self.category, "python")


def read(folder: Path, category: str) -> Iterator[Item]:
    """The items of a category such as `simple_python` from the package's `data` folder. Raises SetMissing."""
    answers = () if category in {*NO_CALL, ANY_CALL} else _rows(folder / "possible_answer", category)
    golds = {row["id"]: cast("list[Gold]", row["ground_truth"]) for row in answers}
    for row in _rows(folder, category):
        functions = tuple(cast("list[JsonObject]", row["function"]))
        cards = tuple(card_of(function, LANGUAGES.get(category, "python")) for function in functions)
        names = {card.name: str(function["name"]) for card, function in zip(cards, functions, strict=True)}
        turn = cast("list[list[dict[str, str]]]", row["question"])[0]
        gold = tuple(golds.get(row["id"], ()))
        yield Item(str(row["id"]), category, tuple(map(_message, turn)), cards, names, functions, gold)


def _rows(folder: Path, category: str) -> Iterator[dict[str, object]]:
    path = folder / f"BFCL_v4_{category}.json"
    if not path.exists():
        raise SetMissing("bfcl", path, HOME)
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _message(said: Mapping[str, str]) -> Message:
    match said["role"]:
        case "user":
            return Message(role="user", content=said["content"], origin="user")
        case "assistant":
            return Message(role="assistant", content=said["content"], origin="model")
        case _:
            return Message(role="system", content=said["content"])


def card_of(function: Mapping[str, object], language: Language = "python") -> ToolCard:
    """A BFCL function as a tool card: its Python types become JSON Schema's, dots in its name underscores."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", str(function["name"]))[:64]
    declared = cast("JsonObject", function["parameters"])
    parameters = _schema(declared) if language == "python" else _of_text(declared, language)
    return ToolCard(name=name, description=str(function.get("description") or name)[:4000], parameters=parameters)


def _of_text(declared: JsonObject, language: Language) -> JsonObject:
    """JSON Schema of a function whose arguments are all written as text, in another language than Python."""
    properties = {}
    for name, schema in cast("Mapping[str, Mapping[str, object]]", declared["properties"]).items():
        inner = cast("Mapping[str, object]", schema.get("items", {})).get("type")
        kind = f"{schema['type']} of {inner}" if inner else str(schema["type"])
        said = f"{schema.get('description', '')} A {NAMED[language]} value of type {kind}, as text."
        properties[name] = {"type": "string", "description": said.strip()}
    return {"type": "object", "properties": properties, "required": declared.get("required", [])}


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
    if item.category == ANY_CALL:
        return "" if calls else "called nothing"
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
    if item.names.get(call.name) != name:
        return f"called {call.name} for {name}"
    parameters, types = _parameters(item, name), types_of(item, name)
    for argument in cast("Sequence[str]", parameters.get("required", ())):
        if argument not in call.arguments:
            return f"{argument} is missing"
    for argument, value in call.arguments.items():
        if argument not in types or argument not in wanted:
            return f"{argument} is not wanted"
        if not right_value(value, types[argument], wanted[argument], item.language):
            return f"{argument} is {json.dumps(value, ensure_ascii=False)}"
    for argument, accepted in wanted.items():
        if argument not in call.arguments and "" not in accepted:
            return f"{argument} is left out"
    return ""


def _parameters(item: Item, name: str) -> Mapping[str, object]:
    function = next(function for function in item.functions if function["name"] == name)
    return cast("Mapping[str, object]", function["parameters"])


def types_of(item: Item, name: str) -> Mapping[str, Mapping[str, object]]:
    """The schemas of a function's arguments, by their names."""
    return cast("Mapping[str, Mapping[str, object]]", _parameters(item, name)["properties"])


def first_accepted(arguments: Mapping[str, Sequence[object]]) -> JsonObject:
    """Gold arguments with the first value of each that counts as right; those that may be left out, too, if there is one."""
    first = {name: next((one for one in accepted if one != ""), None) for name, accepted in arguments.items()}
    return {name: _unfolded(value) for name, value in first.items() if value is not None}


def written(item: Item, name: str, arguments: JsonObject) -> JsonObject:
    """Arguments as the function's language writes them."""
    if item.language == "python":
        return arguments
    types = types_of(item, name)
    made: JsonObject = {}
    for argument, value in arguments.items():
        schema = types[argument]
        inner = cast("Mapping[str, object]", schema.get("items", {})).get("type")
        made[argument] = bfcl_literals.write(item.language, value, str(schema["type"]), str(inner) if inner else None)
    return made


def _unfolded(value: object) -> object:
    """Within gold a dictionary has lists of accepted values, too, but a list is one value."""
    if isinstance(value, dict):
        return first_accepted({key: options if isinstance(options, list) else [options] for key, options in value.items()})
    return [_unfolded(each) for each in value] if isinstance(value, list) else value


def right_value(value: object, schema: Mapping[str, object], accepted: Sequence[object], language: Language = "python") -> bool:
    """Whether a value is of the declared type, or of the type of the accepted ones, and among them."""
    declared, kinds = str(schema["type"]), TYPES[language]
    kind = kinds[declared]
    within = str(cast("Mapping[str, object]", schema["items"])["type"]) if kind is list else None
    inner = kinds[within] if within else None
    if language != "python":
        if not isinstance(value, str):
            return False
        value = bfcl_literals.read(language, value, declared, within)
        return _right(value, kind, inner, accepted)
    if kind is float and type(value) is int:
        value = float(value)
    if schema["type"] == "tuple" and isinstance(value, tuple):  # none comes out of JSON
        value = list(value)
    return _right(value, kind, inner, accepted)


def _right(value: object, kind: type, inner: type | None, accepted: Sequence[object]) -> bool:
    """Whether a value is right, once it is what it stands for."""
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
