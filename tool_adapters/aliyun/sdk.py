"""Request parameters read from the source of the vendor's SDK: names, types and texts, offline and of the version installed.

Each `models/_*_request.py` declares a class whose `__init__` carries types and, as comments, the documentation;
`to_map` carries the names on the wire.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tool_adapters.tool import InvalidTool

PACKAGE = "alibabacloud_ecs20140526"
TEXT_LIMIT = 110
_REQUIRED = "This parameter is required."


@dataclass(frozen=True, slots=True)
class Parameter:
    """One request parameter. type: its JSON Schema. json_text: an array that travels as JSON text. doc: in full."""

    name: str
    type: dict[str, object]
    required: bool
    doc: str
    json_text: bool = False

    @property
    def text(self) -> str:
        """The first sentence of the documentation, without markup, at most 110 characters."""
        return first_sentence(self.doc)


@cache
def parameters_of(action: str) -> dict[str, Parameter]:
    """The parameters of an API by wire name. Raises InvalidTool if the SDK is missing or has no such API."""
    path = _models() / f"_{snake(action)}_request.py"
    if not path.is_file():
        raise InvalidTool(f"The ECS SDK has no API {action}.", hint=f"check the version of {PACKAGE}")
    source = path.read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return _read(classes, f"{action}Request", source.splitlines())


def snake(action: str) -> str:
    """RenewInstance -> renew_instance, as the SDK names its modules and methods."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", action.replace("VSwitch", "Vswitch")).lower()


def first_sentence(doc: str) -> str:
    """The first sentence of a documentation comment, without its markup."""
    lines = (line.strip() for line in doc.splitlines())
    text = " ".join(line for line in lines if line and not line.startswith((">", "- ", "<props", "</props")))
    text = re.sub(r"<[^>]+>|\*\*|`", "", re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", text)).replace(_REQUIRED, "")
    text = re.sub(r"\s*(Valid values?|Default values?|Unit):?.*$", "", " ".join(text.split()))
    sentence = re.split(r"(?<=[a-zA-Z)])\. ", text, maxsplit=1)[0].strip().rstrip(".:")
    if len(sentence) > TEXT_LIMIT:
        sentence = sentence[:TEXT_LIMIT].rsplit(" ", 1)[0] + " ..."
    return f"{sentence}." if sentence and not sentence.endswith("...") else sentence


@cache
def _models() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InvalidTool("The Alibaba Cloud SDK is not installed.", hint=f"pip install {PACKAGE.replace('_', '-')}")
    return Path(spec.origin).parent / "models"


def _read(classes: dict[str, ast.ClassDef], name: str, lines: list[str]) -> dict[str, Parameter]:
    methods = {node.name: node for node in classes[name].body if isinstance(node, ast.FunctionDef)}
    wire = _wire_names(methods["to_map"])
    hints = {arg.arg: ast.unparse(arg.annotation) for arg in methods["__init__"].args.args if arg.annotation}
    found: dict[str, Parameter] = {}
    for node in methods["__init__"].body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Attribute) and target.attr in wire:
            doc = _comment_above(lines, node.lineno)
            kind = _schema(hints[target.attr], classes, lines)
            json_text = kind == {"type": "string"} and "JSON array" in doc
            if json_text:
                kind = {"type": "array", "items": {"type": "string"}}
            entry = Parameter(wire[target.attr], kind, _REQUIRED in doc, doc, json_text)
            found[entry.name] = entry
    return found


def _wire_names(method: ast.FunctionDef) -> dict[str, str]:
    """attribute -> wire name, from `if self.attribute is not None: result['Name'] = ...`."""
    names: dict[str, str] = {}
    for node in ast.walk(method):
        if not (isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Subscript)):
            continue
        if isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str):
            names[target.slice.value] = ast.unparse(node.value)
    attributes = {name: re.search(r"self\.(\w+)", value) for name, value in names.items()}
    known = {match[1]: name for name, match in attributes.items() if match}
    return known | _list_names(method, set(names) - set(known.values()))


def _list_names(method: ast.FunctionDef, names: set[str]) -> dict[str, str]:
    """A list of models is written as `result['Name'] = []` and then `for k1 in self.attribute:`, so look at the order."""
    found: dict[str, str] = {}
    waiting: str | None = None
    for statement in method.body:
        text = ast.unparse(statement)
        if (match := re.match(r"result\['(\w+)'] = \[]", text)) and match[1] in names:
            waiting = match[1]
        elif waiting and (match := re.search(r"for \w+ in self\.(\w+)", text)):
            found[match[1]], waiting = waiting, None
    return found


def _comment_above(lines: list[str], number: int) -> str:
    """The comment lines right above a line (counted from 1)."""
    comment: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        comment.append(line.strip().removeprefix("#").removeprefix(" "))
    return "\n".join(reversed(comment)).strip()


def _schema(hint: str, classes: dict[str, ast.ClassDef], lines: list[str]) -> dict[str, object]:
    simple = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
    if hint in simple:
        return {"type": simple[hint]}
    if match := re.fullmatch(r"List\[(.+)]", hint):
        return {"type": "array", "items": _schema(match[1], classes, lines)}
    name = hint.removeprefix("main_models.")
    if name in classes:
        inner = _read(classes, name, lines)
        return {
            "type": "object",
            "properties": {one.name: described(one) for one in inner.values()},
            "additionalProperties": False,
        }
    return {"type": "object"}


def described(parameter: Parameter) -> dict[str, object]:
    """A parameter's schema with its text."""
    return {**parameter.type, "description": parameter.text} if parameter.text else dict(parameter.type)
