"""What causes say about a log: every answer names events that stand before it. A gap is a cause that is missing.

Answers alone are held to it. What somebody states of himself (a cancel, a release, what became of a call) may name what is
in another run, or not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.log import Stored
from schemas.events import EVENTS, Answered

_ANSWERS = frozenset(event.__name__ for event in EVENTS if issubclass(event, Answered))


@dataclass(frozen=True, slots=True)
class BrokenCause:
    """An event names a cause that is not there, that comes after it, or that it is a cause of itself."""

    stored: Stored
    cause: str
    how: Literal["missing", "later", "cycle"]

    def __str__(self) -> str:
        told = {
            "missing": "which is not in the run: an event is missing",
            "later": "which comes after it",
            "cycle": "which it is a cause of itself: the causes form a cycle",
        }
        return f"{self.stored.fact.kind} names the cause {self.cause}, {told[self.how]}"


def broken_causes(facts: Sequence[Stored]) -> Iterator[BrokenCause]:
    """Causes that are no causes, in the order of the log."""
    causes: dict[str, tuple[str, ...]] = {stored.fact.id: stored.fact.causes for stored in facts}
    seen: set[str] = set()
    for stored in facts:
        seen.add(stored.fact.id)
        if stored.fact.kind not in _ANSWERS:
            continue
        for cause in stored.fact.causes:
            if cause not in causes:
                yield BrokenCause(stored, cause, "missing")
            elif cause == stored.fact.id or cause not in seen:
                yield BrokenCause(stored, cause, "cycle" if _leads(cause, stored.fact.id, causes) else "later")


def _leads(event: str, to: str, causes: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an event has another one among its causes, and theirs; every event is looked at once."""
    open_, seen = [event], {event}
    while open_:
        event = open_.pop()
        if event == to:
            return True
        more = [each for each in causes.get(event, ()) if each not in seen]
        seen.update(more)
        open_.extend(more)
    return False
