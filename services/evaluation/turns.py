"""Items out of conversations: each place where the assistant speaks is a question, with what was said before it as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.prompt import INSTRUCTIONS
from schemas.messages import Message
from services.datasets.example import Example
from services.evaluation.item import Item


def instructed(messages: Sequence[Message], system: str = "") -> tuple[Message, ...]:
    """The messages after the runtime's own system message, into which theirs is taken."""
    own = [system, *(message.content for message in messages if message.role == "system")]
    said = Message(role="system", content="\n".join([INSTRUCTIONS, *(text for text in own if text)]))
    return (said, *(message for message in messages if message.role != "system"))


def items_of(
    example: Example, benchmark: str, *, last: bool = False, group: str | None = None, source: object = None,
    parallel: bool = False,
) -> Iterator[Item]:  # fmt: skip
    """Every assistant message of an example as an item, its gold the calls or else the text; the last alone if `last`.

    The history is the gold one (teacher forcing), so that an early mistake does not spoil what comes after. group: without
    one, the language and the example's own. Messages that say nothing and call nothing are no items.
    """
    of = "-".join(filter(None, (example.language, example.group))) if group is None else group
    places = [place for place, message in enumerate(example.messages) if _spoken(example.messages, place)]
    for turn, place in enumerate(places[-1:] if last else places):
        gold = example.messages[place]
        yield Item(
            example.id if last else f"{example.id}#{turn}", benchmark, of, example.language,
            instructed(example.messages[:place], example.system), example.tools, gold.calls,
            "" if gold.calls else gold.content, source, parallel or len(gold.calls) > 1,
        )  # fmt: skip


def _spoken(messages: Sequence[Message], place: int) -> bool:
    message = messages[place]
    return message.role == "assistant" and bool(message.calls or message.content.strip())
