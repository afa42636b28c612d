"""Arguments that nobody spoke of: a small model fills them in because they are there.

A call is right without them, and wrong or dangerous with them (ForceStop, a made-up NextToken). Measured in docs/results.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from schemas.messages import Prompt
from schemas.tools import ToolCall, ToolCard
from services.llm.replies import Reply
from services.llm.validity import fault

CHINESE = re.compile(r"[\u4e00-\u9fff]")
IGNORED = re.compile(r"[\s_\-]+")
# What models write where they know nothing: the argument's own name, or somebody's example.
EXAMPLE = re.compile(r"^(my|your|example|sample|test)(?![a-z])|^(My|Your|Example)[A-Z]")
# Small numbers as people say them.
NUMBERS = {
    number: re.compile(rf"\b(?:{english})\b|[{chinese}]", re.IGNORECASE)
    for number, english, chinese in (
        (1, "one|an? (?:minute|hour|day|week|month|quarter|year)", "一"), (2, "two|twice|couple", "二两俩"), (3, "three", "三"),
        (4, "four", "四"), (5, "five", "五"), (6, "six|half a year", "六"), (7, "seven", "七"), (8, "eight", "八"),
        (9, "nine", "九"), (10, "ten", "十"), (12, "twelve|dozen", "十"),
    )
}  # fmt: skip
WORDS = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}")


def grounded(reply: Reply, prompt: Prompt) -> Reply:
    """The reply with what `spoken` leaves of each call's arguments, where that still fits the tool's schema."""
    said = _said(prompt)
    cards = {card.name: card for card in prompt.offered}
    return replace(reply, calls=tuple(_bare(call, cards[call.name], said) for call in reply.calls))


def invented(reply: Reply, prompt: Prompt) -> int:
    """How many required arguments of a call nobody spoke of, neither a person nor a result; of several, the worst call's."""
    said = _said(prompt)
    cards = {card.name: card for card in prompt.offered}
    return max((_made_up(call, cards[call.name], said) for call in reply.calls), default=0)


def _made_up(call: ToolCall, card: ToolCard, said: str) -> int:
    needed, _ = _facts(card.parameters)
    return sum(not _hinted(value, said) for name, value in call.arguments.items() if name in needed)


def _hinted(value: object, said: str) -> bool:
    """Whether anything of a required value was said: it must be filled with something, so a number or half a word will do."""
    match value:
        case bool() | None:
            return True
        case str():
            words = re.findall(r"[A-Za-z]{3,}|\d+", value)
            translated = bool(CHINESE.search(said)) and not re.search(r"\d", value)
            spoken_of = any(word[:4].lower() in said.lower() for word in words)
            return not words or translated or spoken_of or _plain(value) in _plain(said)
        case Mapping():
            return not value or any(_hinted(one, said) for one in value.values())
        case list() | tuple():
            return not value or any(_hinted(one, said) for one in value)
    return _occurs(value, said)


def _said(prompt: Prompt) -> str:
    """What people, results, documents and instructions say. A user's message with a name is ours and quotes what the model
    made up, unless it is context."""
    return "\n".join(
        each.content
        for each in prompt.messages
        if each.context or (each.role != "assistant" and not (each.role == "user" and each.name))
    )


def _facts(parameters: Mapping[str, object]) -> tuple[frozenset[str], Mapping[str, object]]:
    """The required arguments, and the schemas of all by name."""
    required, properties = parameters.get("required"), parameters.get("properties")
    needed = frozenset(map(str, required)) if isinstance(required, list | tuple) else frozenset[str]()
    return needed, properties if isinstance(properties, Mapping) else {}


def _bare(call: ToolCall, card: ToolCard, said: str) -> ToolCall:
    arguments = spoken(call.arguments, card.parameters, said)
    kept = arguments if not fault(arguments, card.parameters) else call.arguments
    return call.model_copy(update={"arguments": kept})


def spoken(arguments: Mapping[str, object], parameters: Mapping[str, object], said: str) -> dict[str, object]:
    """The arguments without optional ones whose value does not occur in what people and tools said.

    Of a text one longer word is enough (Asia/Tokyo for Tokyo). Values of an enum stay, for people say them in other words.
    A boolean stays where a word of its name occurs. Where Chinese is spoken, Latin words without digits stay, too: they may
    be translations.
    """
    needed, schemas = _facts(parameters)
    return {name: value for name, value in arguments.items() if name in needed or _kept(name, value, schemas.get(name), said)}


def _kept(name: str, value: object, schema: object, said: str) -> bool:
    if isinstance(schema, Mapping) and "enum" in schema:
        return True
    if isinstance(value, bool):
        return any(word.lower()[:4] in said.lower() for word in WORDS.findall(name))
    if isinstance(value, str) and (_plain(value) == _plain(name) or EXAMPLE.match(value)) and _plain(value) not in _plain(said):
        return False
    return _occurs(value, said)


def _occurs(value: object, said: str) -> bool:
    match value:
        case str():
            if CHINESE.search(said) and not re.search(r"\d", value):
                return True
            words = [word.lower() for word in re.findall(r"[^\W\d_]{4,}", value)]
            return bool(value) and (_plain(value) in _plain(said) or any(word in said.lower() for word in words))
        case int() | float():
            return f"{value:.15g}" in said.replace(",", "") or (value == int(value) and _in_words(int(value), said))
        case Mapping():
            return any(_occurs(one, said) for one in value.values())
        case list() | tuple():
            return any(_occurs(one, said) for one in value)
    return False


def _in_words(number: int, said: str) -> bool:
    return number in NUMBERS and NUMBERS[number].search(said) is not None


def _plain(text: str) -> str:
    return IGNORED.sub("", text).lower()
