"""What a data set is made of, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.datasets.example import Example, Row, Skipped
from services.datasets.mixing.augmentation import clarifies


@dataclass
class Statistics:
    """Of one part. turns: requests of each conversation; calls: of each; parallel: conversations with several calls in one
    reply; no_call: those without any; clarifying: those in which the assistant asks back; offered: tools of each; called: how
    often each tool is called; tokens: of each conversation.
    """

    conversations: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    turns: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)
    tools: set[str] = field(default_factory=set)
    parallel: int = 0
    no_call: int = 0
    clarifying: int = 0

    def add(self, example: Example, tokens: int) -> None:
        """Count one conversation."""
        calls = [call.name for message in example.messages for call in message.calls]
        self.conversations += 1
        self.languages[example.language or "?"] += 1
        self.sources[example.source or "?"] += 1
        self.groups[example.group or "?"] += 1
        self.turns.append(sum(1 for each in example.messages if each.role == "user" and not each.context))
        self.calls.append(len(calls))
        self.offered.append(len(example.tools))
        self.tokens.append(tokens)
        self.called.update(calls)
        self.tools.update(card.name for card in example.tools)
        self.parallel += any(len(each.calls) > 1 for each in example.messages)
        self.no_call += not calls
        self.clarifying += clarifies(example)

    def longer(self, length: int) -> int:
        """How many conversations have more tokens."""
        return sum(1 for each in self.tokens if each > length)


def statistics(rows: Iterable[Row], length: Callable[[Example], int]) -> Statistics:
    """The numbers of all rows; those that are no conversations are counted by reason."""
    made = Statistics()
    for row in rows:
        if isinstance(row, Skipped):
            made.skipped[row.why] += 1
        else:
            made.add(row, length(row))
    return made


def spread(values: Sequence[int]) -> Mapping[str, float]:
    """Mean, median, 95th percentile (nearest rank) and the largest of numbers; nothing of none."""
    if not values:
        return {}
    ordered = sorted(values)
    rank = {share: ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 95)}
    return {"mean": sum(ordered) / len(ordered), "p50": rank[50], "p95": rank[95], "max": ordered[-1]}


def bins(values: Sequence[int], most: int = 16) -> list[tuple[int, int, int]]:
    """(from, up to and with, how many) of at most so many equally wide bins; their width is 1, 2 or 5 times a power of ten."""
    if not values:
        return []
    top, width, steps = max(values), 1, (2, 5, 10)
    scale = 1
    while top // width + 1 > most:
        width = next((scale * step for step in steps if top // (scale * step) + 1 <= most), scale * 10)
        scale *= 10
    counted = Counter(value // width for value in values)
    return [(place * width, (place + 1) * width - 1, counted[place]) for place in range(min(counted), max(counted) + 1)]
