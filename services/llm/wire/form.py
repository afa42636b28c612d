"""What a wire format is: how tools are shown to a model, how calls and results are written, how a reply is read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCard

Role: TypeAlias = Literal["user", "assistant", "tool"]
Language: TypeAlias = Literal["en", "zh"]


MARKS = re.compile(r"[<{\[`]")


class Markup(str):
    """Text of ours, in which the names of special tokens mean them. All other text, whoever wrote it, never does."""

    __slots__ = ()


class Words(str):
    """Plain text that a reply says in words."""

    __slots__ = ()


class Name(str):
    """Plain text that is the name of the tool in a call."""

    __slots__ = ()


class Parameters(str):
    """Plain text that is the arguments of a call."""

    __slots__ = ()


class Url(str):
    """Plain text that is the address which MSAgent-Bench gives a tool in a call."""

    __slots__ = ()


# Pieces in order, Markup or plain; what is plain may say what it is part of (see services.llm.lesson).
Text: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A call as a reply has it: a name, which may be no tool's, and arguments. url: what MSAgent-Bench has beside them."""

    name: str
    arguments: JsonObject
    url: str = ""


@dataclass(frozen=True)
class Reply:
    """What a model said: words, calls, or both."""

    text: str
    calls: tuple[Asked, ...] = ()


class Malformed(ValueError):
    """A reply is neither an answer nor a call. Its text says why, in words that a model can follow."""


class Wire(ABC):
    """One wire format.

    further: what stands before tools that are offered later. several: one reply may hold several calls. opening: what
    stands before the name of the first call; between: after a call, up to the name of the next; closing: after the last.
    answer: what an answer begins with. inline: results stand in the assistant's own turn, which then goes on. stops: what
    ends a reply that nothing constrains, for what would follow is not the model's to say.
    """

    name: str
    further = "Further tools for this request:"
    several = False
    opening = Markup("")
    between = Markup("")
    closing = Markup("")
    answer = Markup("")
    inline = False
    stops: tuple[str, ...] = ()

    @abstractmethod
    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """How tools are announced, as what follows the system message."""

    @abstractmethod
    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """The tools alone, as they stand in an offer."""

    def more(self, cards: Sequence[ToolCard]) -> Text:
        """How further tools are announced to a model that knows how to call."""
        return (f"{self.further}\n", *self.listed(cards))

    @abstractmethod
    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """A call from its name on; card: None for a tool that is not offered."""

    @abstractmethod
    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """What `body` may write for a tool, as a Lark expression (llguidance); quoted: a literal of plain text or Markup."""

    @abstractmethod
    def parse(self, text: str) -> Reply:
        """A whole reply. Raises Malformed."""

    def shown(self, text: str) -> str:
        """How much of a reply that is still being written is surely an answer in words: all before the first markup."""
        found = MARKS.search(text)
        return (text[: found.start()] if found else text).strip()

    def said(self, text: str, calls: Sequence[Asked], cards: Mapping[str, ToolCard]) -> Text:
        """An earlier reply of the model."""
        if not calls:
            return (self.answer, Words(text))
        pieces: list[str] = [Words(text), "\n"] if text else []
        for index, call in enumerate(calls):
            pieces += [self.between if index else self.opening, *self.call(call, cards.get(call.name))]
        return (*pieces, self.closing)

    def call(self, call: Asked, card: ToolCard | None) -> Text:
        """A call from its name on, with all that it has."""
        return self.body(call.name, call.arguments, card)

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """A tool's result: who hands it over, and how. left: what the person listed, and no call has been made for."""
        return "tool", (message.content,)


def function(card: ToolCard) -> dict[str, object]:
    """A tool as OpenAI's API describes one."""
    return {"name": card.name, "description": card.description, "parameters": card.parameters}
