"""Lines of MSAgent-Bench as examples (arXiv 2309.00986, section 3.1; its hub's set is modelscope's MSAgent-Bench).

{"id", "conversations"}: a system message that ends with a numbered list of tools, then user and assistant in turn. The
conversations may be a text, which Python's literal syntax reads. An assistant's value holds any number of
<|startofthink|>```JSON {"api_name", "url", "parameters"} ```<|endofthink|> and <|startofexec|>```JSON ... ```<|endofexec|>
among its words. A tool is listed as a plugin with paths ({"plugin_name", "plugin_schema_for_model"}), or with its name,
description and parameters, these as a list with "required": "True" or as a JSON Schema.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import cast

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.conversion.cards import cards, names
from services.datasets.example import Example
from services.datasets.formats.language import language_of

_LONGEST_LITERAL = 2_000_000  # characters of conversations that are a text
_THINK, _EXEC = ("<|startofthink|>", "<|endofthink|>"), ("<|startofexec|>", "<|endofexec|>")
_OPENING = re.compile("|".join(map(re.escape, (_THINK[0], _EXEC[0]))))
_FENCE = re.compile(r"^```[A-Za-z]*\s*|\s*```$")
_FIRST = re.compile(r"(?<!\d)1\. ?(?=\{)")


def msagent_example(line: JsonObject, where: str) -> Example:
    """The example of a line. Raises ValueError."""
    turns = _turns(line.get("conversations"))
    system, tools = "", tuple[ToolCard, ...]()
    if turns and turns[0][0] == "system":
        system, tools = _system(turns.pop(0)[1])
    told = _Told(names(tools))
    expected = "user"
    for speaker, value in turns:
        if speaker != expected:
            raise ValueError(f"roles out of order: {speaker} where the {expected} should speak")
        if speaker == "user":
            told.messages.append(Message(role="user", content=value.strip(), origin="user"))
        else:
            told.hear(value)
        expected = "assistant" if speaker == "user" else "user"
    id = line.get("id")
    language = language_of(next((value for speaker, value in turns if speaker == "user"), ""))
    return Example(
        str(id) if id else where, (), system, tools, tuple(told.messages), "msagent-bench", language=language, urls=told.urls
    )


def _turns(conversations: object) -> list[tuple[str, str]]:
    """Who says what. Raises ValueError."""
    if isinstance(conversations, str):
        if len(conversations) > _LONGEST_LITERAL:
            raise ValueError(f"conversations are a text of over {_LONGEST_LITERAL:,} characters")
        try:
            conversations = ast.literal_eval(conversations)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError("conversations are a text that cannot be read") from None
    if not isinstance(conversations, list):
        raise ValueError("conversations are no list")
    found = []
    for turn in conversations:
        speaker, value = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(speaker, str) or not isinstance(value, str):
            raise ValueError("a turn without a speaker or a value")
        found.append((speaker, value))
    return found


def _system(text: str) -> tuple[str, tuple[ToolCard, ...]]:
    """The words before the list of tools, and the tools. Without a list, all are words."""
    begin = _FIRST.search(text)
    if begin is None:
        return text.strip(), ()
    listed, at, number = [], begin.end(), 1
    while True:
        try:
            tool, at = json.JSONDecoder(strict=False).raw_decode(text, at)
        except (ValueError, RecursionError):
            raise ValueError("a listed tool is not JSON") from None
        if not isinstance(tool, dict):
            raise ValueError("a listed tool is no object")
        listed += [*_functions(tool)]
        number += 1
        following = re.compile(rf"\s*{number}\. ?(?=\{{)").match(text, at)
        if following is None:
            break
        at = following.end()
    rest = text[at:].strip()
    return "\n\n".join(filter(None, [text[: begin.start()].strip(), rest])), cards(listed)


def _functions(tool: JsonObject) -> Iterator[JsonObject]:
    """The functions of a listed tool: one for each path of a plugin."""
    schema = tool.get("plugin_schema_for_model")
    if not isinstance(schema, Mapping):
        yield tool
        return
    name, description = schema.get("name", tool.get("plugin_name")), schema.get("description")
    paths = schema.get("paths")
    for path in paths if isinstance(paths, list) and paths else [schema]:
        if not isinstance(path, Mapping):
            raise ValueError("a path of a plugin is no object")
        yield {"name": name, "description": description, **{key: value for key, value in path.items() if value}}


class _Told:
    """The messages so far, the calls that wait for their results, and the calls' addresses."""

    def __init__(self, called: Mapping[str, str]) -> None:
        self.messages: list[Message] = []
        self.urls: dict[str, str] = {}
        self._called = called
        self._waiting: list[str] = []
        self._calls: list[ToolCall] = []
        self._words = ""
        self._number = 0

    def hear(self, value: str) -> None:
        """An assistant's turn: words, calls and results in their order. Raises ValueError."""
        at = 0
        while opening := _OPENING.search(value, at):
            words = value[at : opening.start()].strip()
            opens, closes = _THINK if opening[0] == _THINK[0] else _EXEC
            end = value.find(closes, opening.end())
            inner = value[opening.end() : end]
            if end < 0 or opens in inner:
                raise ValueError(f"{opens} is not closed")
            if words:
                self._say()
                self._words = words
            if opens == _THINK[0]:
                self._ask(_FENCE.sub("", inner.strip()))
            else:
                self._say()
                self._result(_FENCE.sub("", inner.strip()))
            at = end + len(closes)
        self._say()
        rest = value[at:].strip()
        if rest or at == 0:
            self.messages.append(Message(role="assistant", content=rest, origin="model"))
        self._waiting = []

    def _say(self) -> None:
        """The words and calls that are gathered become a message."""
        if self._words or self._calls:
            self.messages.append(Message(role="assistant", content=self._words, calls=tuple(self._calls), origin="model"))
            self._waiting = [call.name for call in self._calls]
        self._words, self._calls = "", []

    def _ask(self, text: str) -> None:
        try:
            call = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            raise ValueError("a call is not JSON") from None
        name = call.get("api_name", call.get("name")) if isinstance(call, dict) else None
        arguments = _object(call.get("parameters")) if isinstance(call, dict) else None
        if not isinstance(name, str) or arguments is None:
            raise ValueError("a call without a name or parameters")
        self._number += 1
        made = ToolCall(id=f"c{self._number}", name=self._called.get(name, name), arguments=arguments)
        self._calls.append(made)
        url = call.get("url")
        if isinstance(url, str) and url:
            self.urls[made.id] = url

    def _result(self, text: str) -> None:
        if not self._waiting:
            raise ValueError("a result that nothing was called for")
        found = _object(text)
        alone = found.get("result") if found is not None and len(found) == 1 else None
        content = alone if isinstance(alone, str) else text
        self.messages.append(Message(role="tool", name=self._waiting.pop(0), content=content, origin="tool"))


def _object(value: object) -> JsonObject | None:
    """An object, or a text of one; None for what is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return None
    return cast("JsonObject", value) if isinstance(value, dict) else None
