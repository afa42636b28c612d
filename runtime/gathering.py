"""The beginning of a run: what the first generation needs is gathered side by side."""

from __future__ import annotations

from datetime import timedelta

from runtime.ending import finish
from runtime.generating import generate
from runtime.state import RunState, changed
from runtime.steps import NOTHING, Step, expect, request_of
from schemas.agent import AgentSpec, Recall
from schemas.commands import AnyCommand, EndRun, RecallMemory, RetrieveKnowledge, SelectTools, StartTimer
from schemas.envelope import Fact
from schemas.events import (
    Failure,
    KnowledgeRetrieved,
    MemoryRecalled,
    RunRequested,
    ToolsSelected,
    TurnRefused,
)
from schemas.ids import run_id, segment_of_run


def requested(state: RunState, fact: Fact) -> Step:
    """A client asked for something: memory, tools and knowledge are asked side by side, and the deadline is set."""
    event = expect(fact, RunRequested)
    if state.phase != "new" or fact.run != run_id(fact.tenant, event.key, segment_of_run(fact.run)):
        return state, NOTHING  # nobody else's key names this run
    began = min(event.fork.began, fact.time) if event.fork else fact.time
    state = changed(
        state, phase="gathering", tenant=fact.tenant, decider=fact.header.decider, request=event,
        requested_at=began, inputs=(fact.id,), datakey=fact.header.datakey, erased=False,
    )  # fmt: skip
    own = event.fork.tools if event.fork else None
    state = changed(state, tools=event.brought if own is None else own)
    agent, commands = event.agent, [_recall(state)]
    if agent.tool_k or agent.tools:
        commands.append(SelectTools(always=agent.tools, forbidden=agent.forbidden, k=agent.tool_k))
    else:
        state = changed(state, gathered=state.gathered | {"tools"})
    if agent.knowledge_k:
        commands.append(_retrieve(state, agent))
    else:
        state = changed(state, gathered=state.gathered | {"knowledge"})
    commands.append(StartTimer(at=began + timedelta(seconds=agent.budget.deadline_s), purpose="deadline"))
    return state, tuple(commands)


def _retrieve(state: RunState, agent: AgentSpec) -> AnyCommand:
    if state.before_3:
        return RetrieveKnowledge(collections=agent.collections, k=agent.knowledge_k)
    return RetrieveKnowledge(
        collections=agent.collections, k=agent.knowledge_k, host=agent.knowledge_host, filters=agent.filters
    )  # fmt: skip


def _recall(state: RunState) -> AnyCommand:
    request, at = request_of(state), state.requested_at
    if at is None:
        raise ValueError("a run without a request recalls nothing")
    budget = request.agent.budget
    wanted = Recall(similar=0, facts=0, summary=False) if state.before_3 else request.agent.recall
    return RecallMemory(
        conversation=request.conversation, user=request.user, when_busy=request.agent.when_busy,
        deadline=at + timedelta(seconds=budget.deadline_s + budget.approval_s),
        history_tokens=budget.history_tokens, similar=wanted.similar, facts=wanted.facts,
        facts_when=wanted.facts_when, summary=wanted.summary,
    )  # fmt: skip


def recalled(state: RunState, fact: Fact) -> Step:
    """The turn is open, and what was said before is known."""
    event = expect(fact, MemoryRecalled)
    state = changed(
        state, history=event.history, similar=event.similar, summary=event.summary, facts=event.facts, phase="gathering"
    )
    return _gathered(state, fact, "memory")


def queued(state: RunState, fact: Fact) -> Step:
    """Another run of the conversation is open; unless it has ended meanwhile, this one waits."""
    if "release" in state.gathered:
        return changed(state, gathered=state.gathered - {"release"}), (_recall(state),)
    return changed(state, phase="queued"), NOTHING


def released(state: RunState, fact: Fact) -> Step:
    """The run that this one waited for has ended."""
    if state.phase == "gathering":  # the release overtook the answer that tells of the queue
        return changed(state, gathered=state.gathered | {"release"}), NOTHING
    if state.phase != "queued":
        return state, NOTHING
    return changed(state, phase="gathering"), (_recall(state),)


def refused(state: RunState, fact: Fact) -> Step:
    """The agent wants no second run of a conversation."""
    event = expect(fact, TurnRefused)
    failure = Failure(
        type="ConversationBusy", what="The conversation has an open run, and its agent refuses a second one.",
        why=f"run {event.by} is open", hint=f"milepost runs follow {event.by}",
    )  # fmt: skip
    return finish(changed(state, failure=failure), EndRun(outcome="failed", error=failure.model_dump(mode="json")))


def selected(state: RunState, fact: Fact) -> Step:
    """The tools that the model is offered."""
    event = expect(fact, ToolsSelected)
    own = state.fork.tools if state.fork else None
    cards = (*request_of(state).brought, *(each.card for each in event.tools)) if own is None else own
    state = changed(state, tools=cards, leaning=event.leaning)
    return _gathered(state, fact, "tools")


def knowledge(state: RunState, fact: Fact) -> Step:
    """The passages that the model may read."""
    event = expect(fact, KnowledgeRetrieved)
    return _gathered(changed(state, passages=event.passages), fact, "knowledge")


def _gathered(state: RunState, fact: Fact, what: str) -> Step:
    state = changed(state, gathered=state.gathered | {what}, inputs=(*state.inputs, fact.id))
    if state.phase == "gathering" and state.gathered >= {"memory", "tools", "knowledge"}:
        return generate(state)
    return state, NOTHING
