"""Decisions become orders: commands with the content that their references stand for."""

from __future__ import annotations

from datetime import datetime

from runtime import prompt
from runtime.advance import Decision
from runtime.state import OpenCall, RunState
from runtime.waiting import due
from schemas.agent import AgentSpec
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RequestApproval,
    StoreTurn,
)
from schemas.envelope import Order, new_order
from schemas.events import RunRequested


def order_of(decision: Decision, state: RunState, *, source: str, time: datetime) -> Order:
    """The message that asks a role to carry out a decision of a run in this state."""
    causes = (decision.cause, *_inputs(decision.command, decision.cause))
    return new_order(
        decision.command, id=decision.id, run=state.run, tenant=state.tenant, source=source, time=time, causes=causes,
        material=material(decision.command, state), decider=state.decider, datakey=state.datakey,
    )  # fmt: skip


def material(command: AnyCommand, state: RunState) -> dict[str, object]:
    """The content behind a command's references; not hashed, not logged, since the log has it already."""
    request = state.request
    if request is None:
        return {}
    match command:
        case Generate():
            return {"prompt": prompt.build(state).model_dump(mode="json"), "deadline": due(state).isoformat()}
        case StoreTurn():
            results = {"results": [result.model_dump(mode="json") for _, result in state.results]} if state.results else {}
            return {"task": request.task, "answer": state.answer or "", **results}
        case PlanCall():
            return {**_who(request), "agent": request.agent.name}
        case CallTool():
            return {**_who(request), "agent": request.agent.name, **_planned(state.open_calls.get(command.call.id))}
        case JudgeCall() | KeepGrant():
            return {**_who(request), "agent": _rules_of(request.agent), **_parent(request)}
        case RequestApproval():
            plan = state.plan_of(command)
            return {"preview": plan.planned.preview.model_dump(mode="json")} if plan else {}
        case AskPerson():
            return _who(request)
        case _:
            return {"query": request.task}


def _who(request: RunRequested) -> dict[str, object]:
    return {"user": request.user, "conversation": request.conversation}


def _planned(open_call: OpenCall | None) -> dict[str, object]:
    """The state that the call was planned on, and what persons answered to the tool's questions, by their ids."""
    plan = open_call.plan if open_call else None
    replied = open_call.replied if open_call else ()
    answers = {"answers": {each.question: each.content for each in replied}} if replied else {}
    return {"state": plan.planned.state if plan else "", **answers}


def _rules_of(agent: AgentSpec) -> dict[str, object]:
    """What an agent says of its own writes."""
    return {"name": agent.name, "approval": agent.approval, "policy": [rule.model_dump(mode="json") for rule in agent.policy]}


def _parent(request: RunRequested) -> dict[str, object]:
    return {"parent": request.parent.model_dump(mode="json")} if request.parent else {}


def _inputs(command: AnyCommand, cause: str) -> tuple[str, ...]:
    return tuple(id for id in command.inputs if id != cause) if isinstance(command, Generate) else ()
