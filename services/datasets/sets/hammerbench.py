"""HammerBench: people at their phones tell what a call needs bit by bit, change their mind or ask for what no tool does.

https://github.com/MadeAgents/HammerBench (arXiv 2412.16516). Its traps:

- After each turn it has a call with what is known so far. Here the assistant's own question stands alone, and the call once:
  where the conversation ends with it.
- Its schemas list every parameter as required, and its complete calls leave some out. Here a parameter is required if every
  complete call to the tool, in any file and language, gives it; of a tool without such calls all are.
- `ir_ST_External` has a call to a tool that is not offered, IS ends with an English sentence in both languages: the answer to
  both is a refusal in the person's language. The published ST_External, the same requests with the tool, could not be had:
  the parts that end with `-offered` are made of these, with the tool as other rows describe it.
- A file holds the conversations of the others in another form: a tool is held back in all of them, or in none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import orjson

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCard
from services.datasets.checks import checked
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import card, names, own_name
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import json_rows
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://huggingface.co/datasets/MadeAgents/HammerBench"
KINDS = ("External", "IS", "SO_case2", "mQmA", "mQsA", "sQmA", "ir_ST_External")
"""Kinds of conversations, by file: told elsewhere, a shift of intent, a slip corrected, several questions or answers."""

_NOWHERE = "the tool that it wants is described nowhere"
_REFUSALS = {
    "en": (
        "Sorry, no tool is suitable for your request.",
        "I'm sorry, none of the tools I have can do that.",
        "I can't help with that here: there is no tool for it.",
        "That is not something my tools can do, sorry.",
        "Sorry, I have no tool that fits what you ask for.",
        "None of the available tools covers that request, so I cannot do it.",
    ),
    "zh": (
        "抱歉，没有适合您请求的工具。",
        "对不起，我现有的工具都做不到这件事。",
        "这个我暂时帮不了您：没有对应的工具。",
        "抱歉，我没有能完成这个要求的工具。",
        "很抱歉，现有的工具都不支持这项操作。",
        "目前没有可用的工具能处理这个请求，所以我无法完成。",
    ),
}


def held_back(name: str) -> bool:
    """Whether a tool, by its own name, is for evaluation only: one in five, the same in both languages."""
    return _chance(name) % 5 == 0


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of a part. train: each conversation once, without the tools held back; held-back: each turn, once.

    With `-offered`: the requests of ir_ST_External, with the tool that they want among those that are offered.
    """
    files = {(kind, language): _rows(folder, kind, language) for language in ("en", "zh") for kind in KINDS}
    cards = _Cards(_always_given(row for rows in files.values() for row in rows))
    side, offered = part.removesuffix("-offered"), part.endswith("-offered")
    listed = {language: _listed(files, language) for language in ("en", "zh")} if offered else {}
    seen: set[object] = set()
    for (kind, language), rows in files.items():
        if offered and kind != "ir_ST_External":
            continue
        for place, raw in enumerate(rows):
            id = f"{language}/{kind.removeprefix('ir_') if offered else kind}/{_number(raw, place)}"
            row = _with_wanted(raw, listed[language], id) if offered else raw
            for made in _examples(row, id, language, side, cards) if row is not None else [Skipped(id, _NOWHERE)]:
                same = _prompt(made) if isinstance(made, Example) else made
                if same not in seen:
                    seen.add(same)
                    yield made


def _listed(files: Mapping[tuple[str, str], list[object]], language: str) -> dict[str, JsonObject]:
    """Every tool of a language by its name, from whatever row offers it."""
    rows = [row for (_, other), rows in files.items() if other == language for row in rows]
    return {_name(tool): tool for row in reversed(rows) if isinstance(row, Mapping) for tool in _tools(row)}


def _with_wanted(raw: object, listed: Mapping[str, JsonObject], id: str) -> object:
    """The row with the tool that it calls among the others; None if no row says what that is."""
    try:
        wanted = listed.get(_call(_messages(raw)[-1])[0])
    except (ValueError, IndexError):  # it is skipped later
        return raw
    if wanted is None:
        return None
    tools = _tools(raw)
    place = _chance(id) % (len(tools) + 1)
    return {**cast("JsonObject", raw), "multiple_tools": [*tools[:place], wanted, *tools[place:]]}


def _chance(id: str) -> int:
    return int(hashlib.sha256(id.encode()).hexdigest(), 16)


def _rows(folder: Path, kind: str, language: str) -> list[object]:
    turns = f"single-turn/{kind}.json" if kind.startswith("ir_") else f"multi-turn/HammerBench_{kind}.json"
    path = folder / "data" / language / turns
    if not path.exists():
        raise SetMissing("hammerbench", path, HOME)
    return json_rows(path)


def _number(raw: object, place: int) -> object:
    return raw.get("id", place) if isinstance(raw, Mapping) else place


def _prompt(row: Example) -> tuple[object, ...]:
    """What makes two examples one: the same tools and words."""
    return row.language, tuple(card.name for card in row.tools), tuple(each.written() for each in row.messages)


def _always_given(rows: Iterable[object]) -> dict[str, frozenset[str]]:
    """Of each tool, the arguments that every complete call to it gives."""
    given: dict[str, frozenset[str]] = {}
    for row in rows:
        try:
            name, arguments = _call(_messages(row)[-1])
        except (ValueError, IndexError):  # a refusal, or a row that is skipped later
            continue
        given[name] = given.get(name, frozenset(arguments)) & frozenset(arguments)
    return given


def _examples(raw: object, id: str, language: str, part: str, cards: _Cards) -> Iterator[Row]:
    """The examples of a row that belong to the part."""
    try:
        messages = _messages(raw)
        gold = next(_call(each)[0] for each in reversed(messages) if each["role"] == "function call")
        if held_back(gold) != (part == "held-back"):
            return
        offered = tuple(cards.of(each) for each in _tools(raw) if part != "train" or not held_back(_name(each)))
        conversation = _conversation(messages, offered, _REFUSALS[language], id)
    except (ValueError, KeyError, StopIteration) as failure:
        yield Skipped(id, str(failure) if type(failure) is ValueError else "not a conversation with a call")
        return
    example = Example(id, (), "", offered, tuple(conversation), "hammerbench", "-".join(id.split("/")[:2]), language)
    if not offered:
        yield Skipped(id, "all its tools are held back")
    elif part == "train":
        yield checked(example)
    else:
        yield from _turns(example)


def _turns(example: Example) -> Iterator[Row]:
    """The conversation up to each of the assistant's turns."""
    ends = [place for place, each in enumerate(example.messages, 1) if each.role == "assistant"]
    for turn, end in enumerate(ends, 1):
        yield checked(replace(example, id=f"{example.id}/{turn}", messages=example.messages[:end]))


def _conversation(
    messages: list[JsonObject], offered: tuple[ToolCard, ...], refusals: tuple[str, ...], id: str
) -> list[Message]:
    said = Conversation()
    known = {each.name: each for each in offered}
    called = names(offered)
    for place, message in enumerate(messages):
        last = place == len(messages) - 1
        if message["role"] == "user":
            said.user(str(message["content"]))
        elif message["role"] == "assistant" and not last:
            said.answer(str(message["content"]))
        elif last:
            name, arguments = _call(message) if message["role"] == "function call" else ("", {})
            if name in called:
                said.call([(called[name], fitted(arguments, known[called[name]]))])
            else:
                said.answer(refusals[_chance(id) % len(refusals)])
        # any other call is of what is known so far: the question that follows is the turn
    return said.messages


def _messages(raw: object) -> list[JsonObject]:
    messages = raw.get("messages") if isinstance(raw, Mapping) else None
    if not isinstance(messages, list) or not all(isinstance(each, dict) and "content" in each for each in messages):
        raise ValueError("not a conversation with a call")
    return cast("list[JsonObject]", messages)


def _call(message: JsonObject) -> tuple[str, JsonObject]:
    """The name and the arguments of a call; an empty text is none. Raises ValueError for what is no call."""
    content = message.get("content")
    if message.get("role") != "function call" or not isinstance(content, dict):
        raise ValueError("not a call")
    name, arguments = content.get("name"), content.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("not a call")
    return name, {key: value for key, value in arguments.items() if value not in ("", None)}


def _tools(raw: object) -> list[JsonObject]:
    row = cast("JsonObject", raw)
    tools = row.get("multiple_tools") or row.get("single_tool")
    return [each for each in tools if isinstance(each, dict)] if isinstance(tools, list) else []


def _name(tool: JsonObject) -> str:
    return str(tool.get("name", ""))


class _Cards:
    """The cards of tools, each made once: some 1,000 are offered 40,000 times."""

    def __init__(self, given: Mapping[str, frozenset[str]]) -> None:
        self._given = given
        self._made: dict[bytes, ToolCard] = {}

    def of(self, tool: JsonObject) -> ToolCard:
        """The card of a tool; what no complete call leaves out is required. Raises ValueError."""
        raw = orjson.dumps(tool)
        if raw not in self._made:
            self._made[raw] = self._card(tool)
        return self._made[raw]

    def _card(self, tool: JsonObject) -> ToolCard:
        made = card(tool)
        always = self._given.get(own_name(made))
        if always is None:
            return made
        required = [name for name in cast("list[str]", made.parameters.get("required", [])) if name in always]
        kept = {key: value for key, value in made.parameters.items() if key != "required"}
        return made.model_copy(update={"parameters": {**kept, **({"required": required} if required else {})}})


SET = DataSet(
    "hammerbench",
    "HammerBench: assistants of mobile phones, slot by slot",
    "Apache-2.0",
    ("en", "zh"),
    HOME,
    {"train": "training", "train-offered": "training", "held-back": "evaluation", "held-back-offered": "evaluation"},
    read,
)
