"""Runs below runs: an agent that is called as a tool has a run of its own, whose name follows from the call."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime.log import Stored
from runtime.state import RunState
from runtime.steps import RECORDED_LANE
from schemas.canonical import digest
from schemas.commands import CallTool
from schemas.events import Answered
from schemas.ids import CommandId, RunId, run_id, segment_of_run

AGENT = "agent"
"""The tag of a card behind which an agent stands: its calls have runs of their own."""

DEEPEST = 3
"""How many agents may call one another in a row below the one that a person asked."""

_CONVERSATION = re.compile(r"sub-[0-9a-f]{32}")


def child_key(command: str) -> str:
    """The idempotency key of the run that a call begins: however often the call is delivered, it is the same run."""
    return f"call-{command}"


def child_run(tenant: str, parent: str, command: str) -> RunId:
    """The run that a call of a parent begins; it lives in the segment of its parent."""
    return run_id(tenant, child_key(command), segment_of_run(RunId(parent)))


def child_conversation(conversation: str, agent: str) -> str:
    """The conversation in which an agent is asked from another: the same at the second question."""
    return f"sub-{digest('sub conversation', conversation, agent)}"


def is_child(conversation: str) -> bool:
    """Whether the runs of this conversation are those of an agent that another one asked."""
    return _CONVERSATION.fullmatch(conversation) is not None


def children_of(state: RunState) -> dict[CommandId, RunId]:
    """The runs that a run waits for now, by the commands that began them; one of them may not have begun yet."""
    return {
        id: child_run(state.tenant, state.run, id) for id, command in state.outstanding.items()
        if isinstance(command, CallTool) and _is_agent(state, command)
    }  # fmt: skip


def all_children(state: RunState, facts: Iterable[Stored]) -> list[RunId]:
    """The runs that the calls of a run have begun, in their order; one whose call was refused has no log."""
    called = [
        CommandId(stored.fact.slot) for stored in facts
        if isinstance(stored.fact.body, Answered) and isinstance(command := stored.fact.body.command, CallTool)
        and _is_agent(state, command)
    ]  # fmt: skip
    return [child_run(state.tenant, state.run, id) for id in dict.fromkeys((*called, *children_of(state)))]


def _is_agent(state: RunState, command: CallTool) -> bool:
    asked = command.host != RECORDED_LANE  # which answers from a log, and begins nothing
    return asked and any(card.name == command.call.name and AGENT in card.tags for card in state.tools)
