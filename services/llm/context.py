"""What stands before the words of a user: summaries, facts, tools and passages found for a request, as one text with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from schemas.messages import Message
from services.llm.wire.form import Text, Wire

GAP = "\n\n"


def written_context(context: Sequence[Message], wire: Wire | None) -> Text:
    """Context messages as the model reads them, up to where the user's own words begin; () where nothing is left to say.

    wire: None where tools are told in another way.
    """
    pieces: list[str] = []
    for _, group in groupby(context, key=lambda message: message.name):
        messages = list(group)
        cards = [card for message in messages for card in message.tools]
        if cards and wire:
            pieces += [*wire.more(cards), GAP]
        if said := "\n".join(message.content for message in messages if message.content):
            pieces += [said, GAP]
    return tuple(pieces)


def together(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages, with the context of each user's message in it: for models that get messages of text alone."""
    waiting: list[Message] = []
    for message in messages:
        if message.context:
            waiting.append(message)
            continue
        if waiting and message.role == "user":
            before = "".join(written_context(waiting, None))
            yield message.model_copy(update={"content": before + message.content})
            waiting = []
        else:
            yield message
