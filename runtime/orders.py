"""Decisions become orders: commands with the content that their references stand for."""

from __future__ import annotations

from datetime import datetime

from runtime import prompt
from runtime.advance import Decision, due
from runtime.state import RunState
from schemas.commands import AnyCommand, CallTool, Generate, PlanCall, RequestApproval, StoreTurn
from schemas.envelope import Order, new_order


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
            return {"user": request.user, "conversation": request.conversation}
        case CallTool():
            open_call = state.open_calls.get(command.call.id)
            planned = open_call.plan.planned if open_call and open_call.plan else None
            return {
                "user": request.user,
                "conversation": request.conversation,
                "state": planned.state if planned else "",
            }
        case RequestApproval():
            plan = state.plan_of(command)
            return {"preview": plan.planned.preview.model_dump(mode="json")} if plan else {}
        case _:
            return {"query": request.task}


def _inputs(command: AnyCommand, cause: str) -> tuple[str, ...]:
    return tuple(id for id in command.inputs if id != cause) if isinstance(command, Generate) else ()
