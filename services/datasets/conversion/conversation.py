"""A conversation as it is put together from a set's own form: who says what, and ids for the calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from schemas.messages import Message
from schemas.tools import ToolCall

Asked: TypeAlias = tuple[str, Mapping[str, object]]
"""A call: the tool's name and its arguments."""


class Conversation:
    """Messages in the making; ids of calls are c1, c2, ... in their order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._calls = 0

    def user(self, text: str) -> None:
        """A person says something."""
        self.messages.append(Message(role="user", content=text, origin="user"))

    def answer(self, text: str) -> None:
        """The assistant answers in words."""
        self.messages.append(Message(role="assistant", content=text, origin="model"))

    def call(self, calls: Iterable[Asked], text: str = "") -> None:
        """The assistant calls tools, all at once, after words of its own."""
        made = tuple(self._call(name, arguments) for name, arguments in calls)
        self.messages.append(Message(role="assistant", content=text, calls=made, origin="model"))

    def result(self, name: str, text: str) -> None:
        """A tool's result."""
        self.messages.append(Message(role="tool", name=name, content=text, origin="tool"))

    @property
    def last(self) -> Literal["system", "user", "assistant", "tool"] | None:
        """Who spoke last."""
        return self.messages[-1].role if self.messages else None

    def _call(self, name: str, arguments: Mapping[str, object]) -> ToolCall:
        self._calls += 1
        return ToolCall(id=f"c{self._calls}", name=name, arguments=dict(arguments))
