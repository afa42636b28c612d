"""What a benchmark is: items, how one is answered, whether a reply is right, and the figures that replies add up to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from schemas.canonical import canonical
from schemas.errors import ProtocolError
from schemas.messages import Message
from schemas.tools import ToolCard
from services.datasets.example import Skipped
from services.evaluation.item import Item, Reply
from services.evaluation.metrics import replies
from services.evaluation.metrics.calls import Wanted, wanted_call
from services.evaluation.metrics.intervals import Measured, rates_of
from services.evaluation.totals import Rate

Speak: TypeAlias = Callable[[Sequence[Message], Sequence[ToolCard]], Awaitable[Reply]]
"""Lets whoever is examined go on with a conversation, offered these tools; never raises but when it is cancelled."""


class Benchmark(ABC):
    """One benchmark. parts: the names of its parts, the first the usual one; data: its set's folder under the data folder.

    source: who made it and where its rule is written down. languages: of its items. Its own rule stands in `wrong`, what it
    measures beside the common figures in `also`; both see only replies that can be read.
    """

    name: str
    title: str
    source: str
    data: str
    parts: tuple[str, ...]
    languages: tuple[str, ...] = ("en",)

    @abstractmethod
    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        """The items of a part, given the set's folder. Raises SetMissing."""

    def is_there(self, folder: Path) -> bool:
        """Whether its items can be read from the set's folder. Raises MilepostError for a reason why not."""
        return next(iter(self.items(folder, self.parts[0])), None) is not None

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """What is said to an item: one reply, unless a benchmark executes what is called and goes on."""
        return await speak(item.messages, item.cards)

    def judge(self, item: Item, reply: Reply) -> str:
        """Why a reply is wrong; empty if it is right. No reply at all, or none that can be read, is wrong everywhere."""
        return unreadable(reply) or self.wrong(item, reply)

    @abstractmethod
    def wrong(self, item: Item, reply: Reply) -> str:
        """Why a reply that can be read is wrong by the benchmark's own rule; empty if it is right."""

    def wanted(self, item: Item) -> Sequence[Wanted] | None:
        """The calls that the common figures compare with; None where a call is wanted, but which is not told."""
        return tuple(wanted_call(call) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        """What this benchmark measures of a reply beside the common figures."""
        return {}

    def measured(self, item: Item, reply: Reply) -> dict[str, Measured]:
        """All that one item adds to the figures, `right` first: what two models are compared by."""
        right = Measured(float(not self.judge(item, reply)))
        if (why := unreadable(reply)) and not reply.trouble:
            reply = reply.model_copy(update={"malformed": why, "calls": ()})
        return {"right": right, **replies.measured(item, reply, self.wanted(item)), **self.also(item, reply)}

    def figures(self, answered: Sequence[tuple[Item, Reply]]) -> Mapping[str, Rate]:
        """Every figure with its count and interval, the common ones first."""
        return rates_of([self.measured(item, reply) for item, reply in answered], replies.FIGURES)


def unreadable(reply: Reply) -> str:
    """Why a reply can be neither right nor executed; empty if it can."""
    if reply.trouble:
        return f"no reply: {reply.trouble}"
    if reply.malformed:
        return f"unreadable: {reply.malformed}"
    try:
        for call in reply.calls:
            canonical(call.arguments)
    except ProtocolError as error:
        return f"unreadable: {error.why or error.what}"
    return ""
