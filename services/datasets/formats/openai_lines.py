"""Lines of OpenAI's chat with tools as examples, in the forms that fine-tuning files are found in.

{"messages", "tools"} with tool_calls, or the older function_call and functions; arguments as a JSON text, or an object; content
as a text, null, or a list of text parts. System and developer messages before the first other are the system message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import cast

from schemas.canonical import JsonObject
from schemas.ids import TOKEN
from schemas.messages import Message
from schemas.tools import ToolCall
from services.datasets.conversion.cards import cards, names
from services.datasets.example import Example
from services.datasets.formats.language import language_of


def openai_example(line: JsonObject, where: str) -> Example:
    """The example of a line. Raises ValueError."""
    said, listed = line.get("messages"), line.get("tools", line.get("functions")) or []
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise ValueError("messages are no list of objects")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("tools are no list of objects")
    tools = cards(listed)
    told = _Told(names(tools))
    for message in said:
        told.hear(message)
    id = line.get("id")
    first = next((each.content for each in told.messages if each.role == "user"), "")
    name = id if isinstance(id, str) and id else where
    return Example(name, (), "\n\n".join(told.system), tools, tuple(told.messages), language=language_of(first))


class _Told:
    """The messages so far, and which calls wait for a result."""

    def __init__(self, called: Mapping[str, str]) -> None:
        self.system: list[str] = []
        self.messages: list[Message] = []
        self._called = called
        self._waiting: list[tuple[str, str]] = []  # the id in the file, and the tool
        self._calls = 0
        self._used: set[str] = set()

    def hear(self, message: JsonObject) -> None:
        """One message of the file."""
        role, text = message.get("role"), _text(message.get("content"))
        if role in ("system", "developer"):
            if self.messages:
                raise ValueError("roles out of order: system after the first message")
            self.system.append(text)
        elif role == "user":
            self.messages.append(Message(role="user", content=text, origin="user"))
        elif role == "assistant":
            calls = tuple(self._call(each) for each in _calls(message))
            self.messages.append(Message(role="assistant", content=text, calls=calls, origin="model"))
        elif role in ("tool", "function"):
            self.messages.append(Message(role="tool", content=text, name=self._tool(message), origin="tool"))
        else:
            raise ValueError(f"a role that nobody knows: {role}")

    def _call(self, call: tuple[str, str, JsonObject]) -> ToolCall:
        id, name, arguments = call
        self._calls += 1
        name = self._called.get(name, name)
        self._waiting.append((id, name))
        fit = re.fullmatch(TOKEN, id) and id not in self._used
        used = id if fit else f"c{self._calls}"
        self._used.add(used)
        return ToolCall(id=used, name=name, arguments=arguments)

    def _tool(self, message: JsonObject) -> str:
        """The tool that a result is of: by the call's id, else by its name, else the first that waits."""
        id, name = message.get("tool_call_id"), message.get("name")
        named = self._called.get(str(name), str(name))
        same = [each for each in self._waiting if each[0] == id] or [each for each in self._waiting if each[1] == named]
        if same:
            self._waiting.remove(same[0])
            return same[0][1]
        if id or name or not self._waiting:
            raise ValueError("a result that nothing was called for")
        return self._waiting.pop(0)[1]


def _calls(message: JsonObject) -> list[tuple[str, str, JsonObject]]:
    """The calls of an assistant's message: id, name and arguments. Raises ValueError."""
    listed = message.get("tool_calls") or []
    if not isinstance(listed, list):
        raise ValueError("tool_calls are no list")
    older = message.get("function_call")
    found = [*listed, *([{"function": older}] if older else [])]
    return [_read(each) for each in found]


def _read(call: object) -> tuple[str, str, JsonObject]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("a call without a name")
    given = function.get("arguments") or {}
    try:
        arguments = json.loads(given, strict=False) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        raise ValueError("arguments of a call are not JSON") from None
    if not isinstance(arguments, dict):
        raise ValueError("arguments of a call are no object")
    return str(call.get("id") or ""), str(function["name"]), cast("JsonObject", arguments)


def _text(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("content that is no text")
    return "".join(map(str, texts))
