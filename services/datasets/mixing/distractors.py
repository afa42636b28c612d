"""Tools that are offered beside the right ones, drawn from those of other conversations; some have a name much like theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from rapidfuzz import fuzz, process

from schemas.tools import ToolCard
from services.datasets.example import Example
from services.datasets.mixing.renaming import words_of

_NEAREST = 12
_LEAST_ALIKE = 60.0  # of 100, by rapidfuzz's token_sort_ratio over the words of names


class Pool:
    """Tools to draw from, in the order of their names; of one name, the first card."""

    def __init__(self, cards: Iterable[ToolCard]) -> None:
        first: dict[str, ToolCard] = {}
        for card in cards:
            first.setdefault(card.name, card)
        self._cards = [first[name] for name in sorted(first)]
        self._words = [" ".join(words_of(card.name)) for card in self._cards]
        self._near: dict[str, tuple[ToolCard, ...]] = {}

    def __len__(self) -> int:
        return len(self._cards)

    def draw(
        self, wanted: int, right: Sequence[str], offered: Iterable[ToolCard], near: float | None, dice: Random
    ) -> list[ToolCard]:
        """At most so many tools that differ from all that are offered. right: names of those that are called.

        near: the share that have a name like one of these; None: none of them does. A tool of the same words or description as
        a right one would be right as well, and is never drawn.
        """
        there = list(offered)
        names = {card.name for card in there} | set(right)
        alike = {self._key(card) for card in there} | {" ".join(words_of(name)) for name in right}
        texts = {card.description for card in there}
        drawn: list[ToolCard] = []
        for _ in range(wanted):
            source: Sequence[ToolCard] = self._cards
            if right and near is not None and dice.random() < near:
                source = self._like(dice.choice(right)) or self._cards
            for _ in range(8):
                card = dice.choice(source) if source else None
                if card is None or (near is None and any(self.like(name, card) for name in right)):
                    continue
                if card.name not in names and self._key(card) not in alike and card.description not in texts:
                    drawn.append(card)
                    names.add(card.name)
                    alike.add(self._key(card))
                    texts.add(card.description)
                    break
        return drawn

    def like(self, name: str, card: ToolCard) -> bool:
        """Whether a tool has a name so much like this one that it may do the same."""
        return fuzz.token_sort_ratio(" ".join(words_of(name)), self._key(card)) >= _LEAST_ALIKE

    def _like(self, name: str) -> tuple[ToolCard, ...]:
        if name not in self._near:
            words = " ".join(words_of(name))
            found = process.extract(
                words, self._words, scorer=fuzz.token_sort_ratio, limit=_NEAREST, score_cutoff=_LEAST_ALIKE
            )  # fmt: skip
            self._near[name] = tuple(self._cards[place] for said, _, place in found if said != words)
        return self._near[name]

    @staticmethod
    def _key(card: ToolCard) -> str:
        return " ".join(words_of(card.name))


def offered_among(example: Example, most: int, dice: Random) -> Example:
    """The conversation with at most so many tools: those that are called, and of the others as many as there is room for."""
    if len(example.tools) <= most:
        return example
    spare = [card.name for card in example.tools if card.name not in example.calls]
    room = max(0, most - (len(example.tools) - len(spare)))
    kept = set(dice.sample(spare, min(room, len(spare))))
    return with_tools(example, [card for card in example.tools if card.name in example.calls or card.name in kept])


def with_tools(example: Example, tools: Iterable[ToolCard]) -> Example:
    """The same conversation with these tools."""
    return replace(example, tools=tuple(tools))
