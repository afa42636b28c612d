"""ToolRL's rlla: single turns over real and masked tools with thoughts; and API-Bank in the same form.

https://github.com/qiancheng0/ToolRL (arXiv 2504.13958). The samples are from ToolACE (Apache-2.0), Hammer's masked set and
xLAM-60k (CC BY 4.0: name it). Its traps:

- Tools stand in the instruction as text, with their parameters as JSON or as a Python literal, in two shapes; the conversation
  so far stands in one text, between tags.
- Nothing says what is required; a parameter's default of "" says nothing, so none is.
- Thoughts are left out. The sentence that API-Bank's items end with ("... please only make one tool call ...") stays where a
  user's turn is needed, and goes where one has just spoken or a result has just come.
- API-Bank is here and in `api-bank`: count it once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

import orjson

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.datasets.checks import checked
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import cards, names
from services.datasets.conversion.conversation import Asked, Conversation
from services.datasets.conversion.files import FileUnreadable, json_rows
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/qiancheng0/ToolRL"
_BENCHMARKS = "benchmarks/API-Bank"
_FILES = {
    "train": "dataset/rlla_4k_raw/rlla_sft.json",
    "test": "dataset/rlla_4k/test.parquet",
    "api-bank-1": f"{_BENCHMARKS}/level-1-api_processed.json",
    "api-bank-2": f"{_BENCHMARKS}/level-2-api_processed.json",
    "api-bank-3": f"{_BENCHMARKS}/level-3-api_processed.json",
}
_TOOL = re.compile(
    r"^\d+\. (?:Name: (?P<name>[^\n]+)\nDescription: (?P<description>.*?)|(?P<short>[^\n:]+): (?P<said>.*?))"
    r"\nParameters: (?P<parameters>[^\n]*)$",
    re.DOTALL | re.MULTILINE,
)
_SPOKEN = re.compile(r"<(user|think|tool_call|response|obs)>(.*?)</\1>", re.DOTALL)
_REMINDER = "Based on our conversation above, please only make one tool call to solve my need."
_CUT = "an argument is cut short"
_LONGEST_LITERAL = 100_000  # characters that are read as a Python literal


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of a part."""
    path = folder / _FILES[part]
    if not path.exists():
        raise SetMissing("toolrl", path, HOME)
    rows = _table(path) if path.suffix == ".parquet" else json_rows(path)
    for place, raw in enumerate(rows):
        row = _row(raw, f"{part}/{place}", part)
        yield row if isinstance(row, Skipped) else checked(row, last=part != "train")


def _table(path: Path) -> list[object]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as failure:
        raise MilepostError(
            f"{path} cannot be read.", why=f"it is Parquet: {failure}", hint="pip install 'milepost[parquet]'"
        ) from failure
    try:
        return [*parquet.read_table(path).to_pylist()]
    except (OSError, arrow.ArrowException) as failure:
        raise FileUnreadable(path, f"it is no table: {failure}") from failure


def _row(raw: object, id: str, part: str) -> Row:
    try:
        instruction, history, reply = _texts(raw)
        tools = _tools(instruction)
        said = _Told(tools)
        for kind, text in _SPOKEN.findall(history):
            said.hear(kind, text.strip())
        if isinstance(reply, str):
            for kind, text in _SPOKEN.findall(reply[max(reply.rfind("</think>"), 0) :]):
                said.hear(kind, text.strip())
        else:
            said.call([_call(each) for each in reply])
        if said.conversation.last != "assistant":
            return Skipped(id, "no reply")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as failure:
        return Skipped(id, _CUT if str(failure) == _CUT else "tools or a call cannot be read")
    messages = tuple(said.conversation.messages)
    group = "words" if messages and messages[-1].role == "assistant" and not messages[-1].calls else "calls"
    return Example(id, (), "", tools, messages, "toolrl", f"{part}-{group}", "en")


def _texts(raw: object) -> tuple[str, str, str | list[JsonObject]]:
    """Instruction, conversation so far, and reply: a text, or the calls themselves."""
    row = cast("Mapping[str, object]", raw)
    if "instruction" in row:
        return str(row["instruction"]), str(row["input"]), str(row["output"])
    if "prompt" in row:
        turns, judged = cast("list[JsonObject]", row["prompt"]), cast("JsonObject", row["reward_model"])
        return str(turns[0]["content"]), str(turns[1]["content"]), str(judged["ground_truth"])
    answer = row["answer"]
    return str(row["system"]), str(row["user"]), cast("list[JsonObject]", answer if isinstance(answer, list) else [answer])


def _tools(instruction: str) -> tuple[ToolCard, ...]:
    begin = instruction.index("following tools:")
    listed = instruction[begin : instruction.index("**Steps for Each Turn**")]
    return cards(
        {
            "name": found["name"] or found["short"],
            "description": found["description"] or found["said"],
            "parameters": _plain_defaults(_literal(found["parameters"])),
        }
        for found in _TOOL.finditer(listed)
    )


def _literal(text: str) -> Mapping[str, object]:
    """A mapping that is written as JSON or as Python writes one. Raises ValueError."""
    try:
        found = orjson.loads(text)
    except ValueError:
        if len(text) > _LONGEST_LITERAL:
            raise ValueError("too long") from None
        try:
            found = ast.literal_eval(text)
        except (SyntaxError, MemoryError, RecursionError) as failure:
            raise ValueError("not a literal") from failure
    if not isinstance(found, dict):
        raise ValueError("not a mapping")
    return found


def _plain_defaults(parameters: Mapping[str, object]) -> JsonObject:
    return {
        name: {key: value for key, value in each.items() if key != "default" or value != ""} if isinstance(each, dict) else each
        for name, each in parameters.items()
    }


def _call(call: Mapping[str, object]) -> Asked:
    """The name and the arguments of a call; null says that there is none. Raises ValueError for a text that is cut in it."""
    given = cast("Mapping[str, object]", call["parameters"])
    if any(isinstance(value, str) and _is_cut(value) for value in given.values()):
        raise ValueError(_CUT)
    return str(call["name"]), {name: value for name, value in given.items() if value is not None}


def _is_cut(text: str) -> bool:
    """Whether it begins as a list or an object and does not end as one: the set has been split at commas somewhere."""
    text = text.strip()
    return text[:1] in ("[", "{") and text[-1:] != {"[": "]", "{": "}"}[text[0]]


class _Told:
    """The conversation that the tags tell of."""

    def __init__(self, tools: tuple[ToolCard, ...]) -> None:
        self.conversation = Conversation()
        self._known = {card.name: card for card in tools}
        self._called = names(tools)
        self._waiting: list[str] = []

    def hear(self, kind: str, text: str) -> None:
        """One tag's text; thoughts say nothing."""
        last = self.conversation.last
        if kind == "user":
            self._user(text)
        elif kind == "response" and last == "assistant" and not self.conversation.messages[-1].calls:
            before = self.conversation.messages.pop()
            self.conversation.answer(f"{before.content}\n{text}")
        elif kind == "response":
            self.conversation.answer(text)
        elif kind == "tool_call":
            found = [cast("JsonObject", orjson.loads(line)) for line in text.splitlines() if line.strip()]
            self.call([_call(each) for each in found])
        elif kind == "obs":
            self._results(text)

    def call(self, calls: list[Asked]) -> None:
        """The assistant calls, by the set's own names; after words of its own, in the same message."""
        before = ""
        if self.conversation.last == "assistant" and not self.conversation.messages[-1].calls:
            before = self.conversation.messages.pop().content
        fitting = [(self._called.get(name, name), arguments) for name, arguments in calls]
        self._waiting = [name for name, _ in fitting]
        known = self._known
        self.conversation.call(((name, fitted(said, known[name]) if name in known else said) for name, said in fitting), before)

    def _user(self, text: str) -> None:
        last = self.conversation.last
        if text == _REMINDER and last in ("user", "tool"):
            return
        if last == "user":
            before = self.conversation.messages.pop()
            text = f"{before.content}\n{text}"
        self.conversation.user(text)

    def _results(self, text: str) -> None:
        """One result for each call, if there are as many; else all of it for the first."""
        try:
            found = orjson.loads(text)
        except ValueError:
            found = None
        several = found if isinstance(found, list) and len(found) == len(self._waiting) else None
        for place, name in enumerate(self._waiting):
            if several is not None:
                result = several[place]
                inner = result.get("results", result) if isinstance(result, dict) else result
                self.conversation.result(name, inner if isinstance(inner, str) else orjson.dumps(inner).decode())
            else:
                self.conversation.result(name, text if place == 0 else "")
        self._waiting = []


SET = DataSet(
    "toolrl",
    "ToolRL rlla, and API-Bank in its form",
    "Apache-2.0, parts CC BY 4.0",
    ("en",),
    HOME,
    {part: "training" if part == "train" else "evaluation" for part in _FILES},
    read,
)
