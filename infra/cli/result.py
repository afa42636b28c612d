"""A run's result as data: what `--json` prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from mimetypes import guess_extension

from infra.cli.approval import doubts_of, effect_of, scopes_of
from runtime.log import Stored
from runtime.payloads import is_ref
from runtime.state import OpenCall, RunState
from runtime.timeline import summary
from schemas.commands import AskPerson, RequestApproval
from schemas.events import (
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallPlanned,
    KnowledgeRetrieved,
    Passage,
    RunFailed,
    TimerFired,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)
from schemas.tools import Part


def result_of(state: RunState, facts: Sequence[Stored], below: Sequence[RunState] = ()) -> dict[str, object]:
    """Run id, outcome, answer, steps, calls, approvals and error, from the facts that led to the state.

    below: the runs of agents that it asked, as they are now.
    """
    request = state.request
    waits = state.outcome == "open" and any(each.outcome == "waiting" for each in below)
    told: dict[str, object] = {"children": [_child(each) for each in below]} if below else {}
    if state.fork:
        told["fork"] = {"run": state.fork.run, "at": state.fork.at, "changed": state.fork.changed}
    return {
        "run": state.run, "conversation": request.conversation if request else None,
        "outcome": "waiting" if waits else state.outcome,
        "answer": state.answer if state.outcome == "completed" else None,
        "started": state.requested_at, "ended": state.ended_at, "ms": _ms(state.requested_at, state.ended_at),
        "steps": [step_of(stored, state.requested_at) for stored in facts if _is_step(stored)],
        "calls": [call for stored in facts if (call := _call(stored))],
        "approvals": _approvals(state, facts),
        "questions": [question_of(id, asked) for id, asked in state.questions().items()],
        "sources": [_source(each) for each in passages_of(facts)],
        "error": _error(facts), **told,
    }  # fmt: skip


def _child(state: RunState) -> dict[str, object]:
    """The run of an agent that another one asked."""
    request = state.request
    calls = state.open_calls
    return {
        "run": state.run, "agent": request.agent.name if request else None, "outcome": state.outcome,
        "parent": request.parent.run if request and request.parent else None,
        "answer": state.answer if state.outcome == "completed" else None,
        "approvals": [approval_of(id, asked, calls.get(asked.call.id)) for id, asked in state.approvals().items()],
        "questions": [question_of(id, asked) for id, asked in state.questions().items()],
    }  # fmt: skip


def step_of(stored: Stored, start: datetime | None) -> dict[str, object]:
    """One event in one line: when (ms since the run began), who, what."""
    fact = stored.fact
    return {"ms": _ms(start, fact.time), "who": fact.role, "type": fact.kind, "summary": summary(fact)}


def _ms(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds() * 1000, 1) if start and end else None


def _is_step(stored: Stored) -> bool:
    return isinstance(stored.fact.body, Answered) and not isinstance(stored.fact.body, TimerFired)


def _call(stored: Stored) -> dict[str, object] | None:
    match stored.fact.body:
        case ToolReturned(command=command, result=result, repeated=repeated):
            said = {"tool": command.call.name, "arguments": command.call.arguments, "result": result.text, "repeated": repeated}
            kept = [_kept(part) for part in result.parts if is_ref(part.ref)]
            return {**said, "payloads": kept} if kept else said
        case ToolFailed(command=command, failure=failure) | ToolInDoubt(command=command, failure=failure):
            return {"tool": command.call.name, "arguments": command.call.arguments, "error": failure.model_dump()}
    return None


def _kept(part: Part) -> dict[str, object]:
    """Bytes that a tool gave back, and the command that fetches them."""
    return {**part.model_dump(mode="json", include={"kind", "ref", "media_type", "name", "size"}), "get": fetching(part)}


def fetching(part: Part) -> str:
    """The command that fetches the bytes of a part."""
    ending = guess_extension((part.media_type or "").partition(";")[0]) or ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", part.name or "").lstrip(".-") or f"{part.kind}{ending}"
    return f"milepost payloads get {part.ref} -o {name}"


def _approvals(state: RunState, facts: Sequence[Stored]) -> list[dict[str, object]]:
    plans: dict[str, CallPlanned] = {
        stored.fact.id: stored.fact.body for stored in facts if isinstance(stored.fact.body, CallPlanned)
    }
    told: dict[str, dict[str, object]] = {}
    for id, request in state.approvals().items():
        told[id] = approval_of(id, request, state.open_calls.get(request.call.id), plans.get(request.plan))
    for stored in facts:
        body = stored.fact.body
        if isinstance(body, ApprovalGranted | ApprovalRefused) and isinstance(body.command, RequestApproval):
            approval = approval_of(stored.fact.slot, body.command, None, plans.get(body.command.plan))
            granted = isinstance(body, ApprovalGranted)
            scope = body.scope if isinstance(body, ApprovalGranted) else None
            told[stored.fact.slot] = {**approval, "state": "granted" if granted else "refused", "by": body.by, "scope": scope}
    return list(told.values())


def approval_of(
    id: str, asked: RequestApproval, open_call: OpenCall | None, planned: CallPlanned | None = None
) -> dict[str, object]:
    """An approval that waits, as data: what would happen, what is doubtful about it, and who may answer until when."""
    planned = planned or (open_call.plan.planned if open_call and open_call.plan else None)
    effect = effect_of(open_call)
    return {
        "id": id, "state": "waiting", "by": None, "tool": asked.call.name, "arguments": asked.call.arguments,
        "preview": planned.preview.model_dump(mode="json") if planned else None, "effect": effect,
        "why": asked.why, "ungrounded": list(asked.ungrounded), "doubts": list(doubts_of(asked, effect)),
        "before": asked.before.model_dump(mode="json") if asked.before else None,
        "approvers": list(asked.approvers), "not_by": asked.not_by, "scopes": list(scopes_of(asked)),
        "expires": asked.expires,
    }  # fmt: skip


def question_of(id: str, asked: AskPerson) -> dict[str, object]:
    """What a tool wants to know, as data."""
    return {
        "id": id, "tool": asked.call.name, "text": asked.question.text, "fields": asked.question.fields,
        "expires": asked.expires,
    }  # fmt: skip


def passages_of(facts: Sequence[Stored]) -> list[Passage]:
    """What the answer may be taken from, in the order in which the model is shown it."""
    return [each for stored in facts if isinstance(stored.fact.body, KnowledgeRetrieved) for each in stored.fact.body.passages]


def _source(passage: Passage) -> dict[str, object]:
    told = {"document", "title", "source", "heading", "start", "end", "page", "version", "hash", "similarity", "text"}
    return {"page": None, **passage.model_dump(mode="json", include=told)}


def _error(facts: Sequence[Stored]) -> dict[str, str] | None:
    for stored in facts:
        if isinstance(stored.fact.body, RunFailed):
            failure = stored.fact.body.failure
            return {"type": failure.type, "what": failure.what, "why": failure.why, "next": failure.hint}
    return None
