"""An agent as a tool: each call is a run of its own, with its own budget, plan, approvals and log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import TypeAlias

from pydantic import ValidationError

from runtime.children import AGENT, DEEPEST, child_conversation, child_run
from runtime.client import Client, TooLate, UnknownRun
from runtime.errors import Retryable
from runtime.grounding import sources_of, ungrounded
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.events import Parent, RunFailed, ToolReturned
from schemas.ids import CommandId, RunId
from schemas.tools import Part, ToolCall, ToolCard, ToolResult
from tool_adapters.names import tool_name
from tool_adapters.tool import (
    CallContext,
    InvalidTool,
    Plan,
    Reconciled,
    ToolRefused,
    checked_card,
    checked_result,
    read_only,
    validate,
)

ClientOf: TypeAlias = Callable[[str, str], Client]
"""The client of a user of a tenant: of (tenant, user)."""

LANE = "agent-"
"""What the lanes of agents begin with: each has a lane of its own, since a call waits as long as a run takes."""

AT_ONCE = 1000
"""How many calls a host of agents waits for side by side: they cost it next to nothing."""

LONGEST_S = 3600.0
MEDIA = 32
_EARLIER = 0.95  # of the call's time: who gives up by itself can still stop the run and say why

PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "task": {"type": "string", "minLength": 1, "description": "What it is to do or to answer; it sees nothing else."},
        "context": {"type": "string", "description": "What it should know beside: findings, names, references of files."},
    },
    "required": ["task"],
    "additionalProperties": False,
}  # fmt: skip


class AgentTool:
    """An agent behind the Tool port. It counts as a read: what the agent changes is planned and approved in its own run.

    clients: on whose behalf it is asked. description: when to ask it, for the model that calls it. Raises InvalidTool.
    """

    def __init__(
        self, spec: AgentSpec, clients: ClientOf, *, description: str, name: str | None = None, lane: str | None = None,
        timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        self.spec, self._clients = spec.model_copy(update={"when_busy": "queue"}), clients
        if not description.strip():
            raise InvalidTool(
                f"The agent {spec.name} has no description.", why="a model reads it to know when to ask this agent",
                hint="say in a sentence what it is for, and what to tell it",
            )  # fmt: skip
        budget, called = spec.budget, tool_name(name or spec.name)
        try:
            card = ToolCard(
                name=called, description=description, parameters=PARAMETERS, lane=lane or f"{LANE}{called}"[:64],
                tags=(AGENT,), timeout_s=timeout_s or min(LONGEST_S, budget.deadline_s + budget.approval_s),
            )  # fmt: skip
        except ValidationError as error:
            raise InvalidTool(f"The agent {spec.name} cannot become a tool.", why=str(error)[:500]) from error
        self.card = checked_card(card)

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        raise read_only(self.card)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        return Reconciled("not_happened")

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Begin the run of this call, or take it up again if it has begun, and give its answer. Raises ToolRefused."""
        validate(self.card, arguments)
        if not context.run or not context.command:
            raise ToolRefused(
                f"{self.card.name} is an agent, so it is not called by hand.", code="NoRun", hint="milepost ask --agent FILE"
            )
        client = self._clients(context.tenant, context.user)
        try:
            return await self._asked(client, arguments, context)
        except (Retryable, ToolRefused):
            raise
        except MilepostError as error:
            raise ToolRefused(error.what, code=type(error).__name__, why=error.why, hint=error.hint) from error

    async def _asked(self, client: Client, arguments: dict[str, object], context: CallContext) -> ToolResult:
        above, child = await client.state(RunId(context.run)), child_run(context.tenant, context.run, context.command)
        if context.command not in above.outstanding:  # this order was delivered again, and late
            await _stop(client, child, f"run {above.run} does not wait any more")
            raise ToolRefused(f"Nobody waits for {self.card.name} any more.", code="NotAwaited")
        parent = await self._parent(client, above, arguments, context)
        said = [str(arguments[name]) for name in ("task", "context") if arguments.get(name)]
        try:
            async with asyncio.timeout(self.card.timeout_s * _EARLIER):
                await client.ask(
                    "\n\n".join(said), agent=self.spec, parent=parent,
                    conversation=child_conversation(context.conversation, self.spec.name),
                )  # fmt: skip
                return await self._answer(client, child)
        except TimeoutError as error:
            await _stop(client, child, f"run {above.run} waits no longer")
            raise ToolRefused(
                f"{self.card.name} did not answer within {self.card.timeout_s:g} s.",
                code="Late",
                hint=f"milepost runs show {child}",
            ) from error
        except asyncio.CancelledError:
            with suppress(MilepostError):  # else its own deadline ends it
                if context.command not in (await client.state(above.run)).outstanding:
                    await _stop(client, child, f"run {above.run} was stopped")
            raise

    async def _answer(self, client: Client, child: RunId) -> ToolResult:
        """Follow the run to its end. Raises ToolRefused if it ends without an answer."""
        media: dict[str, Part] = {}
        state, event = RunState(run=child), None
        async with aclosing(client.follow(child)) as updates:  # type: ignore[type-var]  # a generator
            async for update in updates:
                state, event = update.state, update.stored.fact.body
                if isinstance(event, ToolReturned):
                    media.update({part.ref: part for part in event.result.parts if part.ref})
        if state.outcome == "completed":
            return _result(state.answer or "", list(media.values())[-MEDIA:])
        failure = event.failure if isinstance(event, RunFailed) else state.failure
        raise ToolRefused(
            f"{self.card.name} ended without an answer ({state.outcome}).", code=failure.type if failure else state.outcome,
            why=f"{failure.what} {failure.why}".strip() if failure else "", hint=f"milepost runs show {child}",
        )  # fmt: skip

    async def _parent(self, client: Client, above: RunState, arguments: dict[str, object], context: CallContext) -> Parent:
        """What the run is below. Raises ToolRefused for one that would be too deep, or that asks an agent that waits for it."""
        request = above.request
        assert request is not None  # a state without one is UnknownRun
        names, up = [request.agent.name], request.parent
        root, depth = (up.root, up.depth + 1) if up else (above.run, 1)
        while up:
            asked = (await client.state(RunId(up.run))).request
            assert asked is not None
            names.append(asked.agent.name)
            up = asked.parent
        row = " <- ".join(names)
        if self.spec.name in names:
            raise ToolRefused(
                f"{self.spec.name} is not asked: it waits for this answer itself.",
                code="Cycle",
                why=f"{self.spec.name} <- {row}",
            )
        if depth > DEEPEST:
            raise ToolRefused(
                f"{self.spec.name} is not asked: agents call one another {DEEPEST} deep at most.", code="TooDeep", why=row
            )
        call = ToolCall(id="call", name=self.card.name, arguments=arguments)
        vouched = not ungrounded(call, self.card, sources_of(above))
        return Parent(run=above.run, command=CommandId(context.command), root=root, depth=depth, vouched=vouched)


class AgentSource:
    """An agent that was imported, hosted by the stack itself. settings: its spec and its description."""

    def __init__(self, settings: JsonObject, clients: ClientOf, *, lane: str) -> None:
        try:
            self._spec = AgentSpec.model_validate(settings.get("spec"))
        except ValidationError as error:
            raise InvalidTool("The agent cannot be read.", why=str(error)[:500], hint="import it again") from error
        self._clients, self._lane, self._description = clients, lane, str(settings.get("description") or "")

    def tool(self, spec: object = None) -> AgentTool:
        """The agent as a tool: the source has this one."""
        return AgentTool(self._spec, self._clients, description=self._description, lane=self._lane)

    async def close(self) -> None:
        """Nothing is kept open."""


def _result(answer: str, media: list[Part]) -> ToolResult:
    """The answer, and where the bytes are that the agent's tools gave, also those that it did not name."""
    unnamed = [part for part in media if part.ref and part.ref not in answer]
    lines = [answer, *(f"{part.kind}{f', {part.name}' if part.name else ''}: {part.ref}" for part in unnamed)]
    return checked_result(ToolResult(text="\n".join(lines), parts=(Part(kind="text", text=answer), *media)))


async def _stop(client: Client, run: RunId, reason: str) -> None:
    with suppress(TooLate, UnknownRun):
        await client.cancel(run, reason=reason)
