"""A conversation to learn from or be examined on, in no wire format yet: what a model was told, and what it said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from schemas.messages import Message
from schemas.tools import ToolCard


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation. id: its name, unique in its set; runs: those it was recorded from; system: "" for the runtime's own.

    messages: from the first user's on, roles as in a prompt; calls of one assistant message are parallel. source: the set it
    is from; group: of what kind it is there; language: "en", "zh" or "". urls: the address that MSAgent-Bench gives beside a
    call, by the call's id.
    """

    id: str
    runs: tuple[str, ...]
    system: str
    tools: tuple[ToolCard, ...]
    messages: tuple[Message, ...]
    source: str = ""
    group: str = ""
    language: str = ""
    urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> frozenset[str]:
        """The names of the tools that are called in it."""
        return frozenset(call.name for message in self.messages for call in message.calls)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is none of use, and why: what is wrong with a row is told, and ends nothing."""

    row: str
    why: str


Row: TypeAlias = Example | Skipped
