"""What makes an example unfit to learn from or be examined on: one rule for all sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from schemas.canonical import canonical
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Row, Skipped

LONGEST = 100_000
"""Characters of an example with its tools. Some 25,000 tokens of English: over any model's window here."""

_MARKERS = re.compile(r"<\|(startofthink|endofthink|startofexec|endofexec)\|>|</?(tool_call|tool_response|function_call)>")


def checked(example: Example, longest: int = LONGEST, *, last: bool = False) -> Row:
    """The example, or why it is skipped."""
    why = fault(example, longest, last=last)
    return Skipped(example.id, why) if why else example


def fault(example: Example, longest: int = LONGEST, *, last: bool = False) -> str:
    """What is wrong with an example, in words; "" for nothing. longest: characters of messages, calls and tools together.

    last: only the last of the assistant's turns is to be right, as in an examination; what it said before may be wrong.
    """
    return _of_roles(example.messages) or _of_calls(example, last) or _of_words(example.messages) or _of_size(example, longest)


def _of_roles(messages: tuple[Message, ...]) -> str:
    if not messages or messages[0].role != "user":
        return "it does not begin with a user's message"
    if not any(each.role == "assistant" for each in messages):
        return "no assistant's turn"
    waiting: list[str] = []  # names of called tools whose results have not come
    for before, message in pairwise(messages):
        if before.role == "assistant":
            waiting = [call.name for call in before.calls]
        why = _of_turn(before.role, message, waiting)
        if why:
            return why
    return "a result is missing" if messages[-1].role == "tool" and waiting else ""


def _of_turn(before: str, message: Message, waiting: list[str]) -> str:
    """What is wrong with a message after one of that role. waiting: less its name, if it is a result."""
    if message.role == "tool":
        if message.name not in waiting:
            return "a result that nothing was called for"
        waiting.remove(message.name)
        return ""
    if waiting:
        return "a result is missing"
    if message.role not in ("user", "assistant") or message.role == before:
        return f"roles out of order: {message.role} after {before}"
    return "roles out of order: user after tool" if (before, message.role) == ("tool", "user") else ""


def _of_calls(example: Example, last: bool) -> str:
    offered = {card.name: card for card in example.tools}
    ids = [call.id for message in example.messages for call in message.calls]
    if len(ids) != len(set(ids)):
        return "two calls of one id"
    said = [message for message in example.messages if message.role == "assistant"]
    for call in (call for message in (said[-1:] if last else said) for call in message.calls):
        if call.name not in offered:
            return "a call to a tool that is not offered"
        why = _of_arguments(call, offered[call.name])
        if why:
            return why
    return ""


def _of_arguments(call: ToolCall, card: ToolCard) -> str:
    properties = card.parameters.get("properties")
    known = set(properties) if isinstance(properties, Mapping) else set()
    if set(call.arguments) - known and card.parameters.get("additionalProperties") is not True:
        return "an argument that is not in the schema"
    required = card.parameters.get("required")
    missing = isinstance(required, list) and not set(required) <= set(call.arguments)
    return "a required argument is missing" if missing else ""


def _of_words(messages: Iterable[Message]) -> str:
    for message in messages:
        if message.role == "assistant" and not message.content.strip() and not message.calls:
            return "an assistant's turn is empty"
        if message.role == "user" and not message.content.strip():
            return "a user's turn is empty"
        if message.role == "assistant" and _MARKERS.search(message.content):
            return "a marker of a call is left in the words"
        if "\ufffd" in message.content or any("\ud800" <= letter <= "\udfff" for letter in message.content):
            return "wrongly encoded text"
    return ""


def _of_size(example: Example, longest: int) -> str:
    calls = [call for message in example.messages for call in message.calls]
    size = len(example.system) + sum(len(each.content) for each in example.messages)
    size += sum(len(card.written) for card in example.tools) + sum(len(canonical(call.arguments)) for call in calls)
    return f"longer than {longest:,} characters" if size > longest else ""
