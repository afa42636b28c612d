"""Our tools and agents for any MCP client. Each call is a run, so plan, policy, approval, ledger and log hold for it too.

A tool's call is the run of an agent whose model is `services.llm.caller`: it makes this call and no other. What the run asks
a person becomes an elicitation to the client where it can ask, else a text that says how to answer at a terminal; the same
call again then takes up the waiting run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from fnmatch import fnmatchcase
from typing import Protocol

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from infra.given_call import caller
from infra.mcp_answers import Load, agent_tool, failed, form_of, may_approve, result_of, tool_of, waits_text
from runtime.client import Client, TooLate, Update
from runtime.state import RunState
from runtime.timeline import summary
from runtime.tree import follow_tree
from schemas.agent import AgentSpec
from schemas.canonical import canonical
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.ids import CommandId, RunId, checked_run
from schemas.tools import ToolCard
from services.llm.caller import task_of

PAGE = 100
STATE_S = 3600.0
WAITING = 1000
"""How many runs that wait for a terminal are remembered for the same call to come again."""

Request = ServerRequestContext[dict[str, object]]
Answer = types.CallToolResult | types.InputRequiredResult


class Catalogue(Protocol):
    """The tools that somebody answers."""

    async def page(self, after: str, limit: int) -> tuple[Sequence[ToolCard], str | None]:
        """Cards by name behind `after`, and where the next page begins; None at the end."""
        ...

    async def card(self, name: str) -> ToolCard | None:
        """One card."""
        ...


class Front:
    """What MCP clients find here. tools: shell patterns of the tools' names; approvals: whether clients may answer for their
    user what a run asks a person."""

    def __init__(
        self, client: Client, catalogue: Catalogue, load: Load, *, tools: Sequence[str] = ("*",),
        agents: Sequence[AgentSpec] = (), approvals: bool = True,
    ) -> None:  # fmt: skip
        self._client, self._catalogue, self._load = client, catalogue, load
        self._tools, self._approvals = tuple(tools), approvals
        self._agents: Mapping[str, AgentSpec] = {}
        self.offer(agents)
        self._waiting: dict[tuple[str, bytes], RunId] = {}

    def server(self) -> Server[dict[str, object]]:
        """The protocol's server, for any transport, with this front for everybody."""

        async def same(_: Request) -> Front:
            return self

        return server_of(same, RequestStateSecurity.ephemeral(ttl=STATE_S))

    def offer(self, agents: Sequence[AgentSpec]) -> None:
        """These agents, and no others, from now on."""
        self._agents = {agent_tool(spec).name: spec for spec in agents}

    # --- what there is ---

    async def page(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """A page of what may be called; agents stand on the first one."""
        after = params.cursor if params and params.cursor else ""
        tools = [] if after else [agent_tool(spec) for spec in self._agents.values()]
        cards, following = await self._catalogue.page(after, PAGE)
        tools += [tool_of(card) for card in cards if self._offered(card.name)]
        return types.ListToolsResult(tools=tools, next_cursor=following)

    def _offered(self, name: str) -> bool:
        return name not in self._agents and any(fnmatchcase(name, pattern) for pattern in self._tools)

    # --- calls ---

    async def call(self, context: Request, params: types.CallToolRequestParams) -> Answer:
        """Answer a call of a tool or an agent by its run."""
        try:
            arguments: dict[str, object] = dict(params.arguments or {})
            run = await self._run(params, arguments)
            return await self._through(context, params, run, (params.name, canonical(arguments)))
        except MilepostError as error:
            return failed(str(error))

    async def _run(self, params: types.CallToolRequestParams, arguments: dict[str, object]) -> RunId:
        """The run of this call: one that waits for it, or a new one. Raises MilepostError."""
        if params.request_state is not None:
            return checked_run(params.request_state)  # sealed: it is what we said
        waiting = self._waiting.pop((params.name, canonical(arguments)), None)
        if waiting is not None:
            return waiting
        if params.name in self._agents:
            task, conversation = arguments.get("task"), arguments.get("conversation")
            if not isinstance(task, str) or not task.strip() or not isinstance(conversation, str | None):
                raise MilepostError("An agent takes a task.", hint='{"task": "..."}')
            asked = await self._client.ask(task, agent=self._agents[params.name], conversation=conversation)
            return asked.run
        card = await self._catalogue.card(params.name) if self._offered(params.name) else None
        if card is None:
            raise MilepostError(f"There is no tool {params.name} here.", hint="ask for the list of tools again")
        return (await self._client.ask(task_of(card.name, arguments), agent=caller(card, "mcp"))).run

    async def _through(
        self, context: Request, params: types.CallToolRequestParams, run: RunId, key: tuple[str, bytes]
    ) -> Answer:  # fmt: skip
        """Follow the run to its end, or to where a person must be asked in another way."""
        events: list[object] = []
        answered: set[CommandId] = set()
        state, number = RunState(run=run), 0
        try:
            async with aclosing(follow_tree(self._client, run)) as updates:  # type: ignore[type-var]  # a generator
                async for update in updates:
                    if update.state.run == run:
                        state = update.state
                        events.append(update.stored.fact.body)
                    await self._progress(context, update, number := number + 1)
                    for id, asked in _open(update.state).items():
                        if id in answered or id not in _open(await self._client.state(update.state.run)):
                            continue
                        answered.add(id)
                        instead = await self._ask(context, params, run, update.state, id, asked)
                        if instead is not None:
                            self._remember(key, run, instead)
                            return instead
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(MilepostError):
                await self._client.cancel(run, reason="its MCP client gave the call up")
            raise
        return await result_of(state, events, self._load, agent=params.name in self._agents)

    def _remember(self, key: tuple[str, bytes], run: RunId, instead: Answer) -> None:
        if isinstance(instead, types.CallToolResult):
            self._waiting[key] = run
            while len(self._waiting) > WAITING:
                self._waiting.pop(next(iter(self._waiting)))

    async def _progress(self, context: Request, update: Update, number: int) -> None:
        with suppress(Exception):  # who does not listen misses nothing
            await context.session.report_progress(float(number), None, summary(update.stored.fact)[:200])

    # --- a person's answer, by way of the client ---

    async def _ask(
        self, context: Request, params: types.CallToolRequestParams, run: RunId, state: RunState, id: CommandId,
        asked: RequestApproval | AskPerson,
    ) -> Answer | None:  # fmt: skip
        """Have the client's person answer; what to answer the call with instead, if that is not to be had now.

        run: of the call; state: of the run that asks, which is this one or one below it.
        """
        allowed = self._approvals and (isinstance(asked, AskPerson) or may_approve(asked, self._client.user))
        if not allowed or not _can_ask(context):
            return failed(waits_text(state), run)
        form = form_of(asked, state)
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            said = await context.session.elicit_form(form.message, form.requested_schema, context.request_id)
        else:
            given = (params.input_responses or {}).get(id)
            if not isinstance(given, types.ElicitResult):
                return types.InputRequiredResult(input_requests={id: types.ElicitRequest(params=form)}, request_state=run)
            said = given
        if said.action == "cancel":
            return failed(waits_text(state), run)
        await self._decide(state.run, id, asked, said)
        return None

    async def _decide(self, run: RunId, id: CommandId, asked: RequestApproval | AskPerson, said: types.ElicitResult) -> None:
        content: dict[str, object] | None = dict(said.content or {}) if said.action == "accept" else None
        with suppress(TooLate):  # somebody else answered first: the log tells whom
            if isinstance(asked, AskPerson):
                await self._client.answer(run, id, content)
            elif content is not None and content.get("approve") is True:
                await self._client.approve(run, id)
            else:
                await self._client.refuse(run, id, reason="refused by way of an MCP client")


def server_of(front: Callable[[Request], Awaitable[Front]], security: RequestStateSecurity) -> Server[dict[str, object]]:
    """The protocol's server where every request may have a front of its own. security: seals what clients carry for us."""

    async def listed(context: Request, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await (await front(context)).page(context, params)

    async def called(context: Request, params: types.CallToolRequestParams) -> Answer:
        return await (await front(context)).call(context, params)

    server: Server[dict[str, object]] = Server(
        "milepost", title="Milepost", on_list_tools=listed, on_call_tool=called,
        instructions="Every call is recorded. What changes the world may first ask a person, and happens once.",
    )  # fmt: skip
    server.middleware.append(RequestStateBoundary(security, default_audience="milepost"))
    return server


def _open(state: RunState) -> dict[CommandId, RequestApproval | AskPerson]:
    return {**state.approvals(), **state.questions()}


def _can_ask(context: Request) -> bool:
    """Whether the client said that it can ask its person, by a form."""
    can = context.session.client_capabilities
    return can is not None and can.elicitation is not None and (can.elicitation.form is not None or can.elicitation.url is None)
