"""What a benchmark is: items, how one is answered, whether a reply is right, and the figures that replies add up to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from schemas.messages import Message
from schemas.tools import ToolCard
from services.datasets.example import Skipped
from services.evaluation.item import Item, Reply
from services.evaluation.totals import Rate

Speak: TypeAlias = Callable[[Sequence[Message], Sequence[ToolCard]], Awaitable[Reply]]
"""Lets whoever is examined go on with a conversation, offered these tools; never raises but when it is cancelled."""


class Benchmark(ABC):
    """One benchmark. parts: the names of its parts, the first the usual one; data: its set's folder under the data folder.

    source: who made it and where its rule is written down. languages: of its items.
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

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """What is said to an item: one reply, unless a benchmark executes what is called and goes on."""
        return await speak(item.messages, item.cards)

    @abstractmethod
    def judge(self, item: Item, reply: Reply) -> str:
        """Why a reply is wrong; empty if it is right."""

    def figures(self, answered: Sequence[tuple[Item, Reply]]) -> Mapping[str, Rate]:
        """What the benchmark tells beside the share of right ones, each with its count and interval."""
        return {}
