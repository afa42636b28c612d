"""The life of planned effects as a run's log tells it: planned, waiting, approved, refused, expired, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from runtime.log import Stored
from runtime.state import RunState
from schemas.commands import CallTool, RequestApproval, StartTimer
from schemas.events import (
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallPlanned,
    EffectSettled,
    Event,
    StepFailed,
    TimerFired,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)


@dataclass(slots=True)
class Life:
    """One planned effect. stages: when, which state, and what there is to say about it."""

    key: str
    tool: str
    arguments: dict[str, object]
    call: str
    stages: list[tuple[datetime, str, str]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """What it has come to."""
        return self.stages[-1][1]


def lives(facts: Sequence[Stored], state: RunState) -> list[Life]:
    """The effects that a run planned, in their order."""
    found: dict[str, Life] = {}
    for stored in facts:
        event, at = stored.fact.body, stored.fact.time
        if isinstance(event, CallPlanned):
            call = event.command.call
            life = found[stored.fact.id] = Life(event.write_key, call.name, call.arguments, call.id)
            life.stages.append((at, "planned", event.preview.summary))
            continue
        said = _stage(event)
        if said is None:
            continue
        for life in found.values():
            if _is_about(event, life, found):
                life.stages.append((at, *said))
    for asked in state.approvals().values():
        waiting = found.get(asked.plan)
        if waiting:
            until = f"for an approval until {asked.expires:%Y-%m-%d %H:%M} UTC"
            waiting.stages.append((waiting.stages[-1][0], "waiting", until))
    return list(found.values())


def _stage(event: Event) -> tuple[str, str] | None:
    match event:
        case ApprovalGranted(by=by, scope=scope):
            return "approved", f"by {by}" + ("" if scope == "once" else f", {scope}")
        case ApprovalRefused(by=by, reason=reason):
            return "refused", f"by {by}" + (f": {reason}" if reason else "")
        case TimerFired(command=StartTimer(purpose="approval")):
            return "expired", "nobody approved it in time"
        case ToolReturned(repeated=repeated, result=result):
            return "done", ("it had happened before: " if repeated else "") + result.text
        case ToolAsked(question=question):
            return "asked", question.text
        case ToolFailed(failure=failure) | StepFailed(failure=failure):
            return "failed", failure.what
        case ToolInDoubt(failure=failure):
            return "in doubt", f"{failure.what} {failure.why}".strip()
        case EffectSettled(happened=happened, by=by, note=note):
            return "reconciled", f"it {'happened' if happened else 'did not happen'}, found out by {by}" + (
                f": {note}" if note else ""
            )
    return None


def _is_about(event: Event, life: Life, plans: dict[str, Life]) -> bool:
    if isinstance(event, EffectSettled):
        return event.write_key == life.key
    if not isinstance(event, Answered):
        return False
    match event.command:
        case RequestApproval(plan=plan):
            return plans.get(plan) is life
        case CallTool(write_key=key, call=call):
            return key == life.key and call.id == life.call
        case StartTimer(about=about):
            return about == life.call and life.state in ("planned", "waiting")
    return False
