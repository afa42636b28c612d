"""Rendering a stranger's chat template: the program of a process of its own, under limits. It imports nothing of ours.

Reads one JSON object on standard input: template; tokens, the names of special tokens by variable; conversations, each
with messages and reply (whether the model is to speak next). Writes a JSON list: {"text": ...} or {"error": ...} each.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from typing import TypedDict

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_S = 1
MEMORY = 512 << 20
OUTPUT = 1 << 20


class Conversation(TypedDict):
    """What is rendered. reply: whether the beginning of the model's own message follows."""

    messages: list[dict[str, str]]
    reply: bool


class Rendered(TypedDict, total=False):
    """The text, or why there is none."""

    text: str
    error: str


class _Generation(Extension):
    """`{% generation %}`, with which trainers mark what the model says; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012  (so does jinja2 type it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def limit() -> None:
    """Take from this process what a template does not need: time, memory, files."""
    limits = {
        resource.RLIMIT_CPU: CPU_S, resource.RLIMIT_AS: MEMORY, resource.RLIMIT_FSIZE: 16 * OUTPUT, resource.RLIMIT_CORE: 0,
    }  # fmt: skip
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def render(template: str, tokens: Mapping[str, str], conversations: list[Conversation]) -> list[Rendered]:
    """Render as `transformers` does (apply_chat_template), in a sandbox."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.globals["raise_exception"] = _raise
    try:
        compiled = environment.from_string(template)
    except (TemplateError, RecursionError) as error:
        return [{"error": _reason(error)} for _ in conversations]
    return [_attempt(lambda each=each: _text(compiled, tokens, each)) for each in conversations]  # type: ignore[misc]


def _attempt(work: Callable[[], str]) -> Rendered:
    try:
        return {"text": work()}
    except Exception as error:  # whatever a template may raise
        return {"error": _reason(error)}


def _text(compiled: Template, tokens: Mapping[str, str], conversation: Conversation) -> str:
    pieces, size = [], 0
    variables = {"messages": conversation["messages"], "add_generation_prompt": conversation["reply"], "enable_thinking": False}
    for piece in compiled.generate(**tokens, **variables):
        size += len(piece)
        if size > OUTPUT:
            raise TemplateError(f"it writes more than {OUTPUT} characters")
        pieces.append(piece)
    return "".join(pieces)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _reason(error: Exception) -> str:
    match error:
        case MemoryError():
            return f"it wants more than {MEMORY >> 20} MiB of memory"
        case SecurityError():
            return f"it reaches for what it may not have: {error}"
        case _:
            return f"{type(error).__name__}: {error}"[:300]


if __name__ == "__main__":
    limit()
    asked = json.load(sys.stdin)
    json.dump(render(asked["template"], asked["tokens"], asked["conversations"]), sys.stdout)
