"""Which payloads the results of a run refer to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.payloads import is_ref
from schemas.envelope import Fact
from schemas.events import AnswerCopied, EffectSettled, ToolReturned
from schemas.tools import Part


@dataclass(frozen=True, slots=True)
class Reference:
    """A payload as a result names it. sha256: over its bytes; None where a writer before version 3 did not say."""

    ref: str
    media_type: str | None
    sha256: str | None


def references(facts: Iterable[Fact]) -> dict[str, Reference]:
    """Every payload that a result refers to, in the order of the log."""
    found: dict[str, Reference] = {}
    for fact in facts:
        for part in _parts(fact):
            if part.ref is None or not is_ref(part.ref):
                continue
            known = found.get(part.ref)
            if known is None or known.sha256 is None:
                found[part.ref] = Reference(part.ref, part.media_type, part.sha256)
    return found


def _parts(fact: Fact) -> tuple[Part, ...]:
    body = fact.body.answer if isinstance(fact.body, AnswerCopied) else fact.body
    if isinstance(body, ToolReturned | EffectSettled) and body.result is not None:
        return body.result.parts
    return ()
