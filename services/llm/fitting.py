"""Making a prompt fit: each part into its share, then all of it into the model's context; what was left out is said.

A part is what its messages name (Message.part). It loses whole items - a turn, a passage, a tool, an example, a sentence of
the summary, a fact -, the fewest that suffice: of the history and of similar turns the oldest, of all else the last. What is
still too much for the context is cut from part after part in the order of CUTS. Messages without a part are never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from schemas.messages import Message, Part, Prompt
from services.llm.fitting_before_3 import fitted_before_3

# What is cut first stands first, with what it is called where a person reads of it.
CUTS: Mapping[Part, str] = {
    "history": "the oldest {} of {} earlier turns",
    "similar": "the oldest {} of {} similar turns from long ago",
    "passages": "the last {} of {} passages from the documents",
    "examples": "the last {} of {} examples",
    "tools": "the last {} of {} tools found for the request",
    "summary": "the last {} of {} sentences of the summary",
    "facts": "the last {} of {} facts about the user",
}
EXCHANGES: frozenset[Part] = frozenset({"history", "examples"})
OLDEST_FIRST: frozenset[Part] = frozenset({"history", "similar"})

# How many tokens a prompt has.
Count = Callable[[Prompt], int]


@dataclass
class _Cutting:
    """A prompt in the course of being cut. left_out: of each part, how many items."""

    prompt: Prompt
    count: Count
    left_out: dict[Part, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.items = {part: _items(self.prompt.messages, part) for part in CUTS}

    def without(self, part: Part, many: int) -> Prompt:
        """The prompt without what has been left out, and with so many items left out of a part."""
        left_out = {**self.left_out, part: many}
        gone = {place for each in left_out for item in _cut(self.items[each], each, left_out[each]) for place in item}
        if not gone:
            return self.prompt
        kept = tuple(message for place, message in enumerate(self.prompt.messages) if place not in gone)
        return self.prompt.model_copy(update={"messages": kept})

    def into_share(self, part: Part, share: int) -> None:
        """Leave out of a part what is over its share. Its tokens are counted as if it were all that is said."""
        items = self.items[part]
        if sum(_most(self.prompt.messages[place]) for item in items for place in item) <= share:
            return

        def enough(many: int) -> bool:
            gone = {place for item in _cut(items, part, many) for place in item}
            kept = tuple(self.prompt.messages[place] for item in items for place in item if place not in gone)
            return self._alone(kept) - self._nothing <= share

        if not enough(0):
            self.left_out[part] = _least(1, len(items), enough)

    @cached_property
    def _nothing(self) -> int:
        return self._alone(())

    def _alone(self, messages: tuple[Message, ...]) -> int:
        """The tokens of a prompt that says no more than this, before words that are not there."""
        words = Message(role="user", content="")
        return self.count(self.prompt.model_copy(update={"messages": (*messages, words), "tools": ()}))

    def into(self, limit: int) -> None:
        """Leave out, part after part, what does not fit into so many tokens."""
        for part, items in self.items.items():
            fits = partial(self._fits, part, limit)
            begun = self.left_out.get(part, 0)
            if fits(begun):
                return
            self.left_out[part] = _least(begun, len(items), fits)

    def _fits(self, part: Part, limit: int, many: int) -> bool:
        return self.count(self.without(part, many)) <= limit

    def told(self) -> tuple[str, ...]:
        """What was left out, in words."""
        return tuple(
            CUTS[part].format(self.left_out[part], len(self.items[part])) for part in CUTS if self.left_out.get(part)
        )  # fmt: skip


def fitted(prompt: Prompt, count: Count, limit: int) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt with as little left out as lets it fit, and what that is, in words; it may still have too many tokens then."""
    if not any(message.part for message in prompt.messages):
        return fitted_before_3(prompt, lambda each: count(each) <= limit)
    cutting = _Cutting(prompt, count)
    for part, share in prompt.shares.items():
        cutting.into_share(part, share)
    cutting.into(limit)
    return cutting.without("history", cutting.left_out.get("history", 0)), cutting.told()


def _items(messages: Sequence[Message], part: Part) -> list[list[int]]:
    """The places of a part's messages, item by item: an exchange from the words of a user on, anything else by itself."""
    items: list[list[int]] = []
    for place, message in enumerate(messages):
        if message.part != part:
            continue
        begins = message.role == "user" and message.name is None if part in EXCHANGES else True
        if begins or not items:
            items.append([])
        items[-1].append(place)
    return items


def _cut(items: Sequence[Sequence[int]], part: Part, many: int) -> Sequence[Sequence[int]]:
    """The items that go when so many must."""
    return items[:many] if part in OLDEST_FIRST else items[len(items) - many :]


def _most(message: Message) -> int:
    """More tokens than a message can have: a token is a byte at the least; calls and tools are counted when they must be."""
    return 1 << 30 if message.tools or message.calls else len(message.content.encode()) + 64


def _least(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest count from `low` on that is enough, `high` if none below it is. More is enough where less is."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
