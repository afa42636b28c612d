"""What became of a call that was let through, as far as its run tells: a limit counts only what may have happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import structlog

from runtime.log import Log
from schemas.commands import CallTool, JudgeCall, PlanCall, RequestApproval
from schemas.envelope import Fact
from schemas.errors import MilepostError
from schemas.events import (
    TERMINAL,
    Answered,
    ApprovalRefused,
    CallJudged,
    EffectSettled,
    StepFailed,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)
from schemas.ids import checked_run
from schemas.sealing import Sealed
from services.policy.ports import Held

log = structlog.get_logger("services.policy")

Became: TypeAlias = Literal["open", "used", "unused"]
"""open: it may still happen, or it is not known. unused: it did not happen, and will not."""


async def what_became(held: Iterable[Held], journal: Log) -> tuple[list[str], list[str]]:
    """The ids of charges that were used, and of those that were not; what cannot be read is neither."""
    found: dict[Became, list[str]] = {"open": [], "used": [], "unused": []}
    for each in held:
        try:
            facts = [stored.fact for stored in await journal.read(checked_run(each.run))]
        except MilepostError as error:
            log.warning("a run is not read, its charge stays", run=each.run, why=error.what)
            continue
        found[became(facts, each)].append(each.id)
    return found["used"], found["unused"]


def became(facts: Sequence[Fact], held: Held) -> Became:
    """What became of a call, from where it was judged to where its id is judged again.

    A run ends only when none of its writes is under way, so what it has not told by then did not happen. A repeated receipt
    is no new effect; what is in doubt may have happened.
    """
    end: Became = "open"
    judged, doubts = False, set[str]()
    for fact in facts:
        body = fact.body
        if isinstance(body, Sealed):
            return "open"
        if isinstance(body, EffectSettled) and body.call in doubts:
            end = "used" if body.happened else "unused"
        elif _call_of(body) != held.call:
            continue
        elif isinstance(body, CallJudged):
            if judged:
                break
            judged = fact.slot == held.id
        elif judged and _in_doubt(body):
            doubts.add(fact.slot)
        elif judged:
            end = _end(body) or end
    over = any(fact.kind in _ENDS for fact in facts)
    return "unused" if judged and over and end == "open" and not doubts else end


_ENDS = frozenset(event.__name__ for event in TERMINAL)


def _call_of(body: object) -> str | None:
    command = body.command if isinstance(body, Answered) else None
    return command.call.id if isinstance(command, PlanCall | JudgeCall | RequestApproval | CallTool) else None


def _in_doubt(body: object) -> bool:
    return isinstance(body, ToolInDoubt) or (isinstance(body, StepFailed) and isinstance(body.command, CallTool))


def _end(body: object) -> Became | None:
    match body:
        case ToolReturned(command=command, repeated=repeated) if command.write_key:
            return "unused" if repeated else "used"
        case ApprovalRefused() | ToolFailed():
            return "unused"
        case StepFailed(command=command) if isinstance(command, PlanCall):
            return "unused"
    return None
