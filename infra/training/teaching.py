"""A conversation as the sequences that a model is taught, in the form in which it will be served.

One that could not be served so, or not be read back, is skipped: what is taught is what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.messages import Message, Prompt, Wire
from services.datasets.example import Example, Skipped
from services.llm.chat import ChatFormat

if TYPE_CHECKING:
    from schemas.tools import ToolCard
    from services.llm.lesson import Lesson
    from services.llm.tokenizer import Vocabulary
    from services.llm.wire.form import Asked


@dataclass(frozen=True)
class Form:
    """How a model is spoken to. tokenizer: its tokenizer.json; wire: how it is shown tools and calls them."""

    tokenizer: Path
    chat: ChatFormat
    wire: Wire

    @classmethod
    def built(cls, folder: Path, wire: Wire = "model") -> Form:
        """That of a built model's folder. wire: "model" for the one that it is served with. Raises ModelBroken."""
        from services.llm.about import TOKENIZER
        from services.llm.build import read_manifest

        manifest = read_manifest(folder)
        return cls(folder / TOKENIZER, manifest.chat, manifest.wire if wire == "model" else wire)

    def vocabulary(self) -> Vocabulary:
        """Raises UnsupportedModel."""
        from services.llm.tokenizer import Vocabulary, tokenizer_from_file

        return Vocabulary(tokenizer_from_file(self.tokenizer))


@dataclass(frozen=True)
class Taught:
    """An example as sequences. cut: whether its beginning was left out."""

    lessons: tuple[Lesson, ...]
    cut: bool = False


@dataclass(frozen=True)
class Teacher:
    """Makes sequences of examples. longest: tokens of one; cut: whether what is longer may lose turns at its beginning."""

    form: Form
    vocabulary: Vocabulary
    longest: int
    cut: bool = False

    def teach(self, example: Example) -> Taught | Skipped:
        """The sequences of an example, or why there are none. What is cut is cut before a user's words, never within a turn."""
        from services.llm.lesson import lessons
        from services.llm.wire import WIRES

        wire = WIRES[self.form.wire]
        example = replace(example, messages=tuple(map(_trimmed, example.messages)))
        if why := unreadable(example, self.form.wire):
            return Skipped(example.id, why)
        begins = [place for place, message in enumerate(example.messages) if message.role == "user"]
        for begin in begins if self.cut else [0]:
            asked = instructed(replace(example, messages=example.messages[begin:]))
            try:
                made = lessons(asked, self.form.chat, wire, self.vocabulary, example.urls)
            except ValueError as error:
                return Skipped(example.id, str(error))
            if all(len(each.tokens) <= self.longest for each in made):
                return Taught(tuple(made), begin > 0)
        return Skipped(example.id, f"longer than {self.longest:,} tokens")


def instructed(example: Example) -> Prompt:
    """An example as the runtime would ask it: with its own system message where the example has none, and its tools."""
    from runtime.prompt import INSTRUCTIONS

    system = Message(role="system", content=example.system or INSTRUCTIONS)
    return Prompt(messages=(system, *example.messages), tools=example.tools)


def unreadable(example: Example, wire: Wire) -> str:
    """Why serving would not take a reply of an example as it is meant; "" if it takes all of them."""
    from services.llm.wire.form import Asked

    cards = {card.name: card for card in example.tools}
    for message in example.messages:
        if message.role == "assistant":
            asked = tuple(Asked(call.name, dict(call.arguments)) for call in message.calls)
            whys = (_wrong(each, cards) for each in asked)
            if why := next(filter(None, whys), "") or _misread(message.content, asked, cards, wire):
                return why
    return ""


def _wrong(asked: Asked, cards: Mapping[str, ToolCard]) -> str:
    """What serving would refuse a call for."""
    from services.llm.validity import fault

    card = cards.get(asked.name)
    if card is None:
        return "a call to a tool that is not offered"
    return "arguments that the tool's schema does not allow" if fault(dict(asked.arguments), card.parameters) else ""


def _misread(words: str, asked: tuple[Asked, ...], cards: Mapping[str, ToolCard], wire: Wire) -> str:
    """How a wire would read a reply otherwise than it is meant. Without tools nothing but words is read."""
    from services.llm.wire import WIRES
    from services.llm.wire.form import Malformed

    form = WIRES[wire]
    if not asked and not words:
        return "an assistant's turn is empty"
    if len(asked) > 1 and not form.several:
        return f"several calls in one reply, of which {wire} has one"
    if not cards:
        return ""
    try:
        read = form.parse("".join(form.said(words, asked, cards)))
    except Malformed:
        return f"a reply that {wire} cannot read back"
    same = read.calls == asked if asked else read.text == words and not read.calls
    return "" if same else f"a reply that {wire} reads back otherwise"


def _trimmed(message: Message) -> Message:
    """A reply without blanks around it: serving begins none with one, and takes them off what it reads."""
    bare = message.content.strip()
    if message.role != "assistant" or bare == message.content:
        return message
    return message.model_copy(update={"content": bare})
