"""A model that follows a script: for tests, drills and benchmarks. It says by its name that it is none.

A script is JSON: {"rules": [RULE, ...]}. The first rule that fits the last message speaks. RULE:
  {"role": "user" | "tool", "match": REGEX, "say": TEXT}                       answer
  {"role": ..., "match": ..., "call": [{"name": NAME, "arguments": {...}}]}     call tools
`match` is searched in the last message; its groups may be used as {0}, {1} or {name} in TEXT and in argument texts.
"asked": REGEX beside it is searched in the person's last message; its named groups may be used too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, ValidationError

from schemas.canonical import JsonObject, digest, read_json
from schemas.errors import MilepostError
from schemas.messages import Generation, Message, Prompt, Usage
from schemas.tools import ToolCall, Value
from services.llm.context import together
from services.llm.model import ANYBODY, Terms

SCRIPT_BYTES = 1024 * 1024

Groups: TypeAlias = dict[str, str | None]


class ScriptedCall(Value):
    """A call as a script states it."""

    name: str
    arguments: JsonObject = Field(default_factory=dict)


class Rule(Value):
    """What to do when the last message fits."""

    role: Literal["user", "tool"]
    match: str = ""
    asked: str | None = None
    say: str | None = None
    call: tuple[ScriptedCall, ...] = ()


class Script(Value):
    """All rules, first match first."""

    rules: tuple[Rule, ...]


class ScriptedModel:
    """Speaks by rules; the same prompt gives the same generation."""

    def __init__(self, script: Script) -> None:
        self.name = "scripted"
        self._rules = tuple((rule, re.compile(rule.match, re.S), re.compile(rule.asked or "", re.S)) for rule in script.rules)
        self._hash = digest("script", script.model_dump_json())

    @classmethod
    def load(cls, path: Path) -> ScriptedModel:
        """Read a script. Raises MilepostError naming the file and what is wrong."""
        try:
            return cls(Script.model_validate(read_json(path.read_bytes(), limit=SCRIPT_BYTES)))
        except (OSError, ValidationError, re.error, MilepostError) as error:
            raise MilepostError(
                f"The script {path} cannot be used.", why=str(error)[:500], hint="see services/llm/scripted.py for its form"
            ) from error

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the first fitting rule says; without one, that no rule fits."""
        messages = list(together(prompt.messages))
        last = messages[-1]
        asked = next((message.content for message in reversed(messages) if message.role == "user"), "")
        for rule, pattern, wish in self._rules:
            found = pattern.search(last.content) if rule.role == last.role else None
            wished = wish.search(asked)
            if found and wished:
                return self._speak(rule, _groups(found) | wished.groupdict(), prompt, on_text)
        return self._answer(f"No rule of the script fits: {last.content[:200]}", prompt, on_text)

    def _speak(self, rule: Rule, found: Groups, prompt: Prompt, on_text: Callable[[str], None]) -> Generation:
        if rule.say is not None:
            return self._answer(_filled(rule.say, found), prompt, on_text)
        number = sum(len(message.calls) for message in prompt.messages)
        calls = tuple(
            ToolCall(id=f"call-{number + index}", name=call.name, arguments=_filled_arguments(call.arguments, found))
            for index, call in enumerate(rule.call)
        )
        return self._generation("", calls, prompt)

    def _answer(self, text: str, prompt: Prompt, on_text: Callable[[str], None]) -> Generation:
        on_text(text)
        return self._generation(text, (), prompt)

    def _generation(self, text: str, calls: tuple[ToolCall, ...], prompt: Prompt) -> Generation:
        words = sum(_words(message) for message in prompt.messages)
        return Generation(
            text=text, calls=calls, finish="calls" if calls else "stop", model=self.name, model_hash=self._hash,
            provider="script", usage=Usage(prompt_tokens=words, completion_tokens=len(text.split())),
        )  # fmt: skip


def _groups(found: re.Match[str]) -> Groups:
    return {"0": found.group(0), **{str(n + 1): group for n, group in enumerate(found.groups())}, **found.groupdict()}


def _filled_arguments(arguments: dict[str, object], groups: Groups) -> dict[str, object]:
    return {name: _filled_value(value, groups) for name, value in arguments.items()}


def _filled_value(value: object, groups: Groups) -> object:
    match value:
        case str():
            return _filled(value, groups)
        case dict():
            return _filled_arguments(value, groups)
        case list():
            return [_filled_value(each, groups) for each in value]
    return value


def _filled(text: str, groups: Groups) -> str:
    return re.sub(r"\{(\w+)\}", lambda mark: str(groups.get(mark.group(1), mark.group(0))), text)


def _words(message: Message) -> int:
    return len(message.content.split())
