"""The numbers of events in a run, as its receipt counts them, and what an event says wherever it was said first."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.log import Stored
from schemas.envelope import Fact
from schemas.events import AnswerCopied, AnyEvent, RunSealed
from schemas.sealing import Sealed


def numbered(facts: Iterable[Stored]) -> list[tuple[int, Stored]]:
    """The facts with their numbers: from 1; a receipt itself has none, here 0."""
    found: list[tuple[int, Stored]] = []
    number = 0
    for stored in facts:
        sealed = stored.fact.kind == RunSealed.__name__
        number += not sealed
        found.append((0 if sealed else number, stored))
    return found


def said_in(fact: Fact) -> AnyEvent | None:
    """What a fact says; of a copied answer, the answer; None of one that was erased."""
    body = fact.body
    if isinstance(body, Sealed):
        return None
    return body.answer if isinstance(body, AnswerCopied) else body
