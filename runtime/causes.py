"""Which event came of which: the events of a run as a tree, though their causes make a graph without cycles.

An event with several causes stands under the last of them; the others are noted with it. A log is not trusted to be as it
should: a cause that is not there, or that comes after what it caused, is told as a finding and not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from runtime.log import Stored
from runtime.numbering import numbered, said_in
from schemas.commands import AskPerson, RequestApproval
from schemas.envelope import Fact
from schemas.events import CallJudged, CallPlanned


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with the causes of an event. missing: no such event; later: it comes after what it caused (or is
    the event itself), as in a cycle."""

    event: int
    kind: Literal["missing", "later"]
    cause: str


@dataclass(slots=True)
class Node:
    """An event in the tree. number: 0 for a receipt. after: since the event that it stands under; others: its other causes."""

    number: int
    fact: Fact
    under: int | None
    others: tuple[int, ...]
    after: timedelta | None
    below: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Causes:
    """The events of a run in order, each knowing what it stands under; the roots among them; and what is wrong."""

    nodes: tuple[Node, ...]
    roots: tuple[Node, ...]
    findings: tuple[Finding, ...]

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Every event once, after what it stands under, with its depth from 0; however deep that is."""
        waiting = [(0, node) for node in reversed(self.roots)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, below) for below in reversed(node.below))


def causes_of(facts: Sequence[Stored]) -> Causes:
    """Order the events of a run by cause. A person's answer names none: it stands under what made the run ask."""
    listed = numbered(facts)
    places = {str(stored.fact.id): index for index, (_, stored) in enumerate(listed)}
    nodes: list[Node] = []
    roots: list[Node] = []
    findings: list[Finding] = []
    asked: dict[str, str] = {}
    for index, (number, stored) in enumerate(listed):
        fact, known = stored.fact, set[int]()
        for cause in fact.causes or _asked_by(fact, asked):
            place = places.get(cause)
            if place is None or place >= index:
                findings.append(Finding(number, "missing" if place is None else "later", cause))
            else:
                known.add(place)
        _remember(fact, asked)
        in_order = sorted(known)
        above = nodes[in_order.pop()] if in_order else None
        others = tuple(nodes[each].number for each in in_order)
        node = Node(number, fact, above.number if above else None, others, fact.time - above.fact.time if above else None)
        nodes.append(node)
        (above.below if above else roots).append(node)
    return Causes(tuple(nodes), tuple(roots), tuple(findings))


def _remember(fact: Fact, asked: dict[str, str]) -> None:
    """By call, the last event that could make the run ask a person about it."""
    if isinstance(said := said_in(fact), CallPlanned | CallJudged):
        asked[said.command.call.id] = fact.id


def _asked_by(fact: Fact, asked: Mapping[str, str]) -> tuple[str, ...]:
    command = getattr(said_in(fact), "command", None)
    if isinstance(command, RequestApproval):
        return (asked.get(command.call.id, command.plan),)
    return (command.asked,) if isinstance(command, AskPerson) else ()
