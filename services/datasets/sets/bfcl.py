"""The Berkeley Function Calling Leaderboard, version 4 (package bfcl-eval): its single turns with the calls that are right.

The gold lists values that count as right for each argument; an example has the first of them, and leaves an argument out
whose first is "". Where nothing may be called the set has no words; NO_CALL stands for them. What wants some call, whichever,
is no example, for no call is the right one. Of multi-turn items the first turn is read, with all its calls: what comes after
depends on results that only the leaderboard's own simulators give. Memory and web search are not read.
"""

from __future__ import annotations

import ast
import io
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import cards, names
from services.datasets.conversion.conversation import Asked, Conversation
from services.datasets.conversion.files import FileUnreadable, json_lines, parsed_lines
from services.datasets.conversion.rows import Unusable, list_of, object_of, row
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://pypi.org/project/bfcl-eval"
DATA = Path("bfcl_eval") / "data"
NO_CALL = "None of the tools can do this."
SINGLE = (
    "simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance", "simple_java", "simple_javascript",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance",
)  # fmt: skip
MULTI = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
IRRELEVANT = frozenset({"irrelevance", "live_irrelevance"})
UNDECIDED = frozenset({"live_relevance"})
_CLASSES = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api", "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api", "TradingBot": "trading_bot", "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}  # fmt: skip


def read(folder: Path, part: str) -> Iterator[Row]:
    """The items of a category, named as its file is: `simple_python`, `live_multiple`, `multi_turn_base` ..."""
    data = folder / DATA
    if part in MULTI:
        yield from _first_turns(data, part)
        return
    golds = {} if part in IRRELEVANT | UNDECIDED else _golds(data / "possible_answer" / _file(part))
    for where, item in json_lines(_there(data / _file(part))):
        if isinstance(item, Skipped):
            yield item
            continue
        id = str(item.get("id", where))
        yield row(id, partial(_example, id, part, item, golds.get(id, [])))


def _file(part: str) -> str:
    return f"BFCL_v4_{part}.json"


def _there(path: Path) -> Path:
    if not path.exists():
        raise SetMissing("bfcl", path, HOME)
    return path


def _golds(path: Path) -> dict[str, list[object]]:
    """The right calls of each item, by its id."""
    found = (item for _, item in json_lines(_there(path)) if not isinstance(item, Skipped))
    return {str(item.get("id")): cast("list[object]", item.get("ground_truth") or []) for item in found}


def _example(id: str, part: str, item: JsonObject, gold: Sequence[object]) -> Example:
    if part in UNDECIDED:
        raise Unusable("some call is wanted, and none is the right one")
    if part not in IRRELEVANT and not gold:
        raise Unusable("no gold calls")
    tools = cards(list_of(item["function"], "function"))
    system, said = _asked(cast("list[object]", item["question"])[0])
    if part in IRRELEVANT:
        said.answer(NO_CALL)
    else:
        said.call(_gold_call(object_of(call, "a gold call"), tools) for call in gold)
    return Example(id, (), system, tools, tuple(said.messages), "bfcl", part, "" if part.startswith("live") else "en")


def _asked(turn: object) -> tuple[str, Conversation]:
    """System message and conversation of a turn. Messages of one role in a row are one message."""
    system: list[str] = []
    spoken: list[tuple[str, str]] = []
    for message in list_of(turn, "the question"):
        role, text = str(message["role"]), str(message["content"])
        if role == "system":
            system.append(text)
        elif spoken and spoken[-1][0] == role:
            spoken[-1] = (role, f"{spoken[-1][1]}\n{text}")
        else:
            spoken.append((role, text))
    said = Conversation()
    for role, text in spoken:
        (said.user if role == "user" else said.answer)(text)
    return "\n".join(system), said


def _gold_call(gold: JsonObject, tools: Sequence[ToolCard]) -> Asked:
    ((name, accepted),) = gold.items()
    fitting = names(tools).get(name)
    called = next((tool for tool in tools if tool.name == fitting), None)
    if called is None:
        raise Unusable("a call to a tool that is not offered")
    required = cast("list[str]", called.parameters.get("required", []))
    return called.name, _first(object_of(accepted, "the gold arguments"), required)


def _first(accepted: JsonObject, required: Collection[str] = ()) -> dict[str, object]:
    """The first value that counts as right of each argument; one that is best left out is left out, unless it is required."""
    chosen: dict[str, object] = {}
    for name, values in accepted.items():
        several = [value for value in cast("list[object]", values) if value != "" or name not in required]
        if several and several[0] != "":
            chosen[name] = _plain(several[0])
    return chosen


def _plain(value: object) -> object:
    """A value in which objects have, for each key, one value and not all that count as right."""
    if isinstance(value, Mapping) and value and all(isinstance(each, list) for each in value.values()):
        return _first(cast("JsonObject", value))
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _first_turns(data: Path, part: str) -> Iterator[Row]:
    """The first turn of each multi-turn item. The files are in an archive of their own, or beside the others."""
    golds = {str(each.get("id")): each.get("ground_truth") for each in _multi(data, f"possible_answer/{_file(part)}")}
    documented: dict[str, list[JsonObject]] = {}
    for name, file in _CLASSES.items():
        lines = json_lines(_there(data / "multi_turn_func_doc" / f"{file}.json"))
        documented[name] = [line for _, line in lines if not isinstance(line, Skipped)]
    for item in _multi(data, _file(part)):
        id = str(item.get("id", "?"))
        yield row(id, partial(_first_turn, id, part, item, golds.get(id), documented))


def _multi(data: Path, name: str) -> Iterator[JsonObject]:
    if (data / name).exists():
        yield from (item for _, item in json_lines(data / name) if not isinstance(item, Skipped))
        return
    try:
        with tarfile.open(_there(data / "multi_turn.tar.xz")) as archive:
            file = archive.extractfile(name)
            lines = parsed_lines(name, io.BytesIO(file.read() if file else b""))
            yield from (item for _, item in lines if not isinstance(item, Skipped))
    except (tarfile.TarError, KeyError, OSError, LZMAError, EOFError) as failure:
        raise FileUnreadable(data / "multi_turn.tar.xz", str(failure)) from failure


def _first_turn(id: str, part: str, item: JsonObject, gold: object, documented: Mapping[str, Sequence[JsonObject]]) -> Example:
    involved = cast("list[str]", item["involved_classes"])
    functions = [function for name in involved for function in documented[name]]
    held = cast("Mapping[str, list[str]]", item.get("missed_function") or {})  # by the turn from which on they are offered
    missing = {name for turn, named in held.items() if turn != "0" for name in named}
    tools = cards(function for function in functions if function["name"] not in missing)
    system, said = _asked(cast("list[object]", item["question"])[0])
    wanted = cast("list[list[str]]", gold)[0]
    if not wanted:
        raise Unusable("its first turn wants no call")
    said.call(_written_call(text, tools) for text in wanted)
    return Example(id, (), system, tools, tuple(said.messages), "bfcl", part, "en")


def _written_call(text: str, tools: Sequence[ToolCard]) -> Asked:
    """A call written in Python, such as `mv(source='a', destination='b')`; what has no name has that of its place."""
    tree = ast.parse(text, mode="eval").body
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise Unusable("a gold call that is no call")
    name = tree.func.id
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        raise Unusable("a call to a tool that is not offered")
    order = list(cast("Mapping[str, object]", tool.parameters["properties"]))
    given = {order[at]: ast.literal_eval(value) for at, value in enumerate(tree.args)}
    return name, given | {str(each.arg): ast.literal_eval(each.value) for each in tree.keywords}


SET = DataSet(
    name="bfcl", title="Berkeley Function Calling Leaderboard v4", licence="Apache-2.0", languages=("en",), home=HOME,
    parts=dict.fromkeys((*SINGLE, *MULTI), "evaluation"), read=read,
)  # fmt: skip
