"""A reply that nothing constrained as it was written: what it says, or why it cannot be taken as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.canonical import digest, read_json
from schemas.errors import ProtocolError
from schemas.messages import ChoiceOutput, JsonOutput, Output, Prompt, RegexOutput
from schemas.tools import ToolCall, ToolCard
from services.llm.validity import fault
from services.llm.wire.form import Asked, Malformed, Wire

LIMIT = 262_144


@dataclass(frozen=True)
class Reply:
    """What is taken of a reply. malformed: what is wrong with it, in words that a model can follow."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    malformed: str = ""


def read_reply(text: str, prompt: Prompt, wire: Wire) -> Reply:
    """A reply in a wire format; without tools it is an answer as it stands."""
    if not prompt.offered:
        return checked(text, (), prompt)
    try:
        said = wire.parse(text)
    except Malformed as error:
        return Reply(text, malformed=str(error))
    return checked(said.text, said.calls, prompt, whole=text)


def checked(text: str, asked: Sequence[Asked], prompt: Prompt, *, whole: str = "") -> Reply:
    """Words and calls against what the prompt offers and wants. whole: the reply that a complaint is about, if not text."""
    cards = {card.name: card for card in prompt.offered}
    wrong = [why for why in (_wrong_call(each, cards) for each in asked) if why]
    if len(asked) > 1 and not prompt.manner.parallel:
        wrong.append(f"It has {len(asked)} calls; make one at a time.")
    if asked and prompt.manner.calls == "never":
        wrong = ["Answer in words; no tool may be called now."]
    if not asked and prompt.offered and prompt.manner.calls == "required":
        wrong = [f"Call one of the tools {', '.join(cards)}."]
    elif not asked and prompt.manner.output:
        wrong = [why] if (why := _wrong_answer(text, prompt.manner.output)) else []
    elif not asked and prompt.offered and not text.strip():
        wrong = ["It is empty; answer in words, or call a tool."]
    if wrong:
        return Reply(whole or text, malformed=" ".join(wrong)[:1000])
    calls = tuple(
        ToolCall(id=f"call_{digest('call', prompt.hash(), str(index))[:16]}", name=each.name, arguments=each.arguments)
        for index, each in enumerate(asked)
    )
    return Reply(text, calls)


def _wrong_call(asked: Asked, cards: Mapping[str, ToolCard]) -> str:
    card = cards.get(asked.name)
    if card is None:
        return f"There is no tool {asked.name!r}; there is {', '.join(cards) or 'none'}."
    wrong = fault(dict(asked.arguments), card.parameters)
    return f"The arguments of {card.name} are wrong: {wrong}." if wrong else ""


def _wrong_answer(text: str, output: Output) -> str:
    match output:
        case ChoiceOutput(options=options):
            return "" if text in options else f"Answer with one of: {json.dumps(options, ensure_ascii=False)}."
        case RegexOutput(pattern=pattern):
            return "" if _matches(pattern, text) else f"The answer must match the regular expression {pattern}."
        case JsonOutput(json_schema=schema):
            return _wrong_json(text, schema)


def _matches(pattern: str, text: str) -> bool:
    """Where a pattern is Rust's alone (\\p{L}, \\z) only a grammar can tell, so it counts as kept."""
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return True


def _wrong_json(text: str, schema: Mapping[str, object]) -> str:
    try:
        value = read_json(text.encode(), limit=LIMIT)
    except ProtocolError as error:
        return f"The answer must be JSON: {error.why or error.what}."
    wrong = fault(value, schema)
    return f"The JSON does not fit its schema: {wrong}." if wrong else ""
