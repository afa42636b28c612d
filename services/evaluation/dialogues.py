"""Short dialogues with what should follow: a certain call, or an answer with certain facts in the person's language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from schemas.messages import Message, Origin
from schemas.tools import ToolCall, ToolCard

CHINESE = re.compile(r"[\u4e00-\u9fff]")
ORIGINS: dict[str, Origin] = {"user": "user", "assistant": "model", "tool": "tool"}
Split: TypeAlias = Literal["dev", "test"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: dict[str, object]


class _Said(BaseModel):
    """A message of the file; the calls of an assistant get their ids when they are read."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant", "tool"]
    content: str = ""
    name: str | None = None
    calls: tuple[_Asked, ...] = ()


class Expected(BaseModel):
    """What should follow. call: the tool's name, with those arguments that matter; or answer: patterns that it must match."""

    model_config = ConfigDict(extra="forbid")

    call: str = ""
    arguments: dict[str, object] = {}
    answer: tuple[str, ...] = ()


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    language: Literal["en", "zh"]
    kind: str
    tools: tuple[str, ...]
    messages: tuple[_Said, ...]
    expect: Expected


@dataclass(frozen=True)
class Dialogue:
    """One dialogue up to where the model speaks. kind: such as `call`, `chat` or `after_answer` (a result, then an answer)."""

    id: str
    language: str
    kind: str
    split: Split
    messages: tuple[Message, ...]
    cards: tuple[ToolCard, ...]
    expected: Expected

    @property
    def after_result(self) -> bool:
        """Whether a tool has answered already."""
        return any(message.role == "tool" for message in self.messages)


def read(path: Path, cards: Mapping[str, ToolCard]) -> Iterator[Dialogue]:
    """The dialogues of a JSON file: `cards` are tools of its own beside those given, `dialogues` one each.

    Every other one is for tuning (dev), the rest for figures (test); kinds stand in rows, so both halves have all of them.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    known = {**cards, **{card.name: card for card in map(ToolCard.model_validate, data["cards"])}}
    for number, line in enumerate(map(_Line.model_validate, data["dialogues"])):
        yield Dialogue(
            line.id, line.language, line.kind, "test" if number % 2 else "dev",
            tuple(_message(said, f"{line.id}-{index}") for index, said in enumerate(line.messages)),
            tuple(known[name] for name in line.tools), line.expect,
        )  # fmt: skip


def _message(said: _Said, id: str) -> Message:
    calls = tuple(
        ToolCall(id=f"{id}-{index}", name=asked.name, arguments=asked.arguments) for index, asked in enumerate(said.calls)
    )
    return Message(role=said.role, content=said.content, calls=calls, name=said.name, origin=ORIGINS[said.role])


def wrong(dialogue: Dialogue, calls: Sequence[ToolCall], text: str) -> str:
    """Why this is not what should follow; empty if it is."""
    wanted = dialogue.expected
    if not wanted.call:
        return f"called {calls[0].name}" if calls else wrong_answer(dialogue, text)
    if not calls:
        return "answered"
    if calls[0].name != wanted.call:
        return f"called {calls[0].name}"
    given = calls[0].arguments
    bad = [key for key, value in wanted.arguments.items() if not same(given.get(key), value)]
    return f"{bad[0]} is {given.get(bad[0])!r}" if bad else ""


def wrong_answer(dialogue: Dialogue, text: str) -> str:
    """Why a text is no answer: it is empty, in another language than the person's, or lacks a fact."""
    if not text.strip():
        return "said nothing"
    if bool(CHINESE.search(text)) != (dialogue.language == "zh"):
        return "in another language"
    return next((f"without {fact}" for fact in dialogue.expected.answer if not re.search(fact, text, re.IGNORECASE)), "")


def same(given: object, wanted: object) -> bool:
    """Whether an argument is the one meant: blanks do not matter, nor the order of a list, nor 3 or 3.0 or "3"."""
    if isinstance(wanted, list):
        return isinstance(given, list) and sorted(map(_plain, given)) == sorted(map(_plain, wanted))
    return _plain(given) == _plain(wanted)


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return re.sub(r"\s+", "", str(value)).lower().replace("×", "*")
