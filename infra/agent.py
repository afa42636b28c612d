"""Agents from a script or a notebook: attach to the running stack, or start one, and ask."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

import orjson
import structlog

from infra import logs
from infra.local_stack import attached, start_detached
from infra.settings import Settings, load
from infra.stack import NotRunning
from infra.wiring import World, bring_model, open_payloads, open_toolbox, open_world
from runtime.client import Client as RunClient
from runtime.client import Update, answer_of
from runtime.errors import Unreachable
from runtime.service import Service, Worker
from runtime.speech import Delta, hear_text
from runtime.state import RunState
from runtime.timeline import summary
from runtime.tree import follow_tree
from schemas import subjects
from schemas.agent import AgentSpec, Budget, Priority, WhenBusy
from schemas.canonical import digest
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.events import ToolReturned
from schemas.ids import CommandId, RunId
from schemas.messages import Manner
from schemas.policy import Scope
from schemas.tools import Before, Effect, Preview, ToolResult
from services.llm.adapted import AdaptedModel, Parser, PromptGenerator
from services.llm.model import TextModel
from services.llm.models import Models
from services.llm.own import LLM, OwnModel
from services.llm.service import llm_service
from services.tools.service import Toolbox
from tool_adapters.agent import AT_ONCE as AGENTS_AT_ONCE
from tool_adapters.agent import LANE, AgentTool
from tool_adapters.langchain import from_langchain, is_langchain
from tool_adapters.names import tool_name
from tool_adapters.python import tool as as_tool
from tool_adapters.tool import InvalidTool, Tool

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

T = TypeVar("T")
CATALOGUE_PATIENCE_S = 20.0  # longer than a host that was killed keeps its names
ASKED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer as it is generated. A new attempt replaces what came before."""

    text: str
    attempt: int
    offset: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened in the run: the event's name and one line about it."""

    event: str
    summary: str


class Approve(Protocol):
    """Allows a planned write: this call, this tool for the conversation, or these arguments for good."""

    def __call__(self, scope: Scope = "once") -> None: ...


class Refuse(Protocol):
    """Refuses a planned write; the agent reads the reason."""

    def __call__(self, reason: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Approval:
    """A planned write that waits for a person. Call `approve()` or `refuse()`.

    effect: what the tool may do, None where its card is not known. why: the rule that asks. ungrounded: arguments that
    nobody named. before: it has happened already, and would happen once more. approvers: shell patterns of who may
    approve, not_by: who may not. run, agent: whose call it is, the asked agent's or one's that it asked itself.
    """

    run: RunId
    id: CommandId
    tool: str
    arguments: dict[str, object]
    preview: Preview
    approve: Approve
    refuse: Refuse
    effect: Effect | None = None
    why: str = ""
    ungrounded: tuple[str, ...] = ()
    before: Before | None = None
    approvers: tuple[str, ...] = ()
    not_by: str | None = None
    expires: datetime | None = None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class ToolQuestion:
    """What a tool wants to know of a person before it goes on. Call `answer(content)` or `decline()`.

    fields: JSON Schema of a flat object; the content is by its names.
    """

    run: RunId
    id: CommandId
    tool: str
    text: str
    fields: dict[str, object]
    answer: Callable[[Mapping[str, object]], None]
    decline: Callable[[], None]
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. results: what the tools returned, in order; steps: its timeline."""

    run: RunId
    text: str
    results: tuple[ToolResult, ...]
    steps: tuple[Step, ...]


Offered: TypeAlias = "str | Tool | Callable[..., object] | Agent | BaseTool"
"""What an agent may be given as a tool."""

Item: TypeAlias = Text | Step | Approval | ToolQuestion | Result
Decide: TypeAlias = Callable[[Approval], bool | Scope]
"""Whether a planned write may happen, or how far its approval reaches."""

Reply: TypeAlias = Callable[[ToolQuestion], Mapping[str, object] | None]
"""What a person answers to a tool's question; None for nothing."""


class Stack:
    """This process's link to a stack: one connection, one thread with a loop, the tools and models hosted here.

    home: the data directory. start: bring up a stack when none runs there; it is stopped when this process ends.
    """

    def __init__(self, *, home: str | Path | None = None, start: bool = True) -> None:
        if not structlog.is_configured():
            logs.configure("script", level="error")
        self._loaded = load({"home": str(home) if home else None})
        self._start = start
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="milepost", daemon=True)
        self._thread.start()
        self._exits = AsyncExitStack()
        self._started = False
        self.world: World = self.call(self._open())
        atexit.register(self.close)

    def call(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine on the stack's loop and wait for it; safe in notebooks, whose own loop is running."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def settings(self) -> Settings:
        return self.world.settings

    def client(self, user: str | None = None) -> RunClient:
        """A client on the stack's loop: call its methods through `call`."""
        return self.clients(self.settings.tenant, user or self.settings.user)

    def fetch(self, ref: str) -> bytes:
        """The bytes that a part of a result refers to (`payload:...`). Raises UnknownPayload, Erased, Unreachable."""
        return self.call(open_payloads(self.world).get(ref, tenant=self.settings.tenant))

    def close(self) -> None:
        """Withdraw what is hosted here, disconnect, and stop the stack if it was started here."""
        atexit.unregister(self.close)
        if self._loop.is_closed():
            return
        self.call(self._exits.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def _open(self) -> World:
        settings = self._loaded.settings
        try:
            settings = attached(settings)
        except NotRunning:
            if not self._start:
                raise
            await start_detached(self._loaded)
            self._exits.push_async_callback(_stop, settings.home)
            settings = attached(settings)
        world = await open_world(settings, f"script-{os.getpid()}-{secrets.token_hex(3)}")
        self._exits.push_async_callback(world.connection.close)
        return world

    def clients(self, tenant: str, user: str) -> RunClient:
        """A client on the stack's loop for somebody whose run asks an agent that is hosted here."""
        return RunClient(self.world.log, self.world.bus, self.world.clock, tenant=tenant, user=user)

    async def host_tools(self, tools: Sequence[Tool]) -> None:
        """Answer the calls of these tools in this process for as long as it lives."""
        await self._host_tools(tools, f"py-{secrets.token_hex(6)}")

    async def host_agent(self, tool: AgentTool) -> None:
        """Answer the calls of an agent in this process. Its lane is the agent's: who hosts it next takes its calls up."""
        await self._host_tools([tool], tool.card.lane, at_once=AGENTS_AT_ONCE)

    async def _host_tools(self, tools: Sequence[Tool], lane: str, *, at_once: int | None = None) -> None:
        world = self.world
        box = open_toolbox(world, tools, lane, tenant=world.settings.tenant)
        service = box.service()
        service.at_once = at_once or service.at_once
        await self._host(Worker(service, world.log, world.bus, world.clock, name=world.name))
        self._exits.push_async_callback(_end, asyncio.create_task(box.upkeep()))
        await box.register(world.bus)
        self._exits.push_async_callback(box.withdraw, world.bus)
        await self._until_known(box)

    async def host_model(self, model: TextModel) -> str:
        """Answer Generate with this model in this process; returns its lane."""
        lane, world = f"py-{secrets.token_hex(6)}", self.world

        async def bring(name: str) -> TextModel:
            return model if name == model.name else await bring_model(world.settings, name)

        service = llm_service(Models(world.settings.model.name, bring), world.clock, lane=lane)
        await self._host(Worker(service, world.log, world.bus, world.clock, name=world.name))
        return lane

    async def host_retriever(self, retriever: Service) -> str:
        """Answer RetrieveKnowledge with a retriever of one's own in this process; returns its lane."""
        await self._host(Worker(retriever, self.world.log, self.world.bus, self.world.clock, name=self.world.name))
        return retriever.lane

    async def _host(self, worker: Worker) -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(worker.run(ready, drain_s=2.0))
        self._exits.push_async_callback(_end, task)
        await ready.wait()

    async def _until_known(self, box: Toolbox) -> None:
        """Wait until the catalogue has every tool of the box. Raises what it refuses a card for."""
        question, waiting = subjects.question("retrieval", "get_tools"), [card.name for card in box.cards()]
        deadline = self._loop.time() + CATALOGUE_PATIENCE_S
        while waiting and self._loop.time() < deadline:
            body = orjson.dumps({"tenant": self.settings.tenant, "names": waiting[:ASKED_AT_ONCE]})
            told = [each["card"] for each in orjson.loads(await self.world.bus.ask(question, body, 10.0))]
            known = {card["name"] for card in told if card["lane"] == box.lane}
            waiting = [name for name in waiting if name not in known]
            if not known:
                await asyncio.sleep(0.05)
        for refusal in (box.refused[name] for name in waiting if name in box.refused):
            raise MilepostError(refusal.what, why=refusal.why, hint=refusal.hint)
        if waiting:
            raise Unreachable("The catalogue did not take in the tools in time.", hint="milepost tools ls")


_stacks: dict[Path | None, Stack] = {}


def stack_at(home: str | Path | None) -> Stack:
    """The one link of this process to the stack of a data directory."""
    key = Path(home).resolve() if home else None
    if key not in _stacks:
        _stacks[key] = Stack(home=home)
    return _stacks[key]


class Agent:
    """An agent to ask: `Agent("ops").run("renew i-... for 3 months").text`.

    model: one by name, or an `LLM` of your own that is hosted in this process; fallback: names to ask when it cannot
    answer. manner: how it is to speak (wire form, JSON or regex or choice output, certified). tools: names in
    the catalogue, functions, `@tool`s or `Tool` objects, tools of LangChain, and other agents, which then have runs of
    their own; all but names are hosted in this process. description: when another agent should ask this one. knowledge:
    a `@retriever` of your own, hosted here too, in place of the index; collections and filters: which documents of the
    index. prompt and parser: functions around the model, which is then loaded in this process unless one is given.
    approve (of `run`): decides about planned writes; without it they are refused; answer: answers what tools ask; without
    it they are told that nobody does. Writes that are never to be asked about need approval="never".
    """

    def __init__(
        self, name: str = "assistant", *, instructions: str = "", model: str | LLM | TextModel = "default",
        fallback: Iterable[str] = (), manner: Manner | None = None, priority: Priority = "interactive",
        tools: Iterable[Offered] = (), tool_k: int = 3, knowledge_k: int = 2,
        knowledge: Service | None = None, collections: Iterable[str] = ("default",), filters: Mapping[str, str] | None = None,
        prompt: PromptGenerator | None = None, parser: Parser | None = None, budget: Budget | None = None,
        approval: Literal["writes", "destructive", "never"] = "writes", when_busy: WhenBusy = "queue",
        user: str | None = None, home: str | Path | None = None, stack: Stack | None = None, description: str = "",
    ) -> None:  # fmt: skip
        self.stack = stack or stack_at(home)
        self.client = self.stack.client(user)
        self.description = description
        names, hosted, agents = _sorted_out(tools, self.stack)
        if hosted:
            self.stack.call(self.stack.host_tools(hosted))
        for each in agents:
            self.stack.call(self.stack.host_agent(each))
        host = self._model_host(model, prompt, parser)
        knows = self.stack.call(self.stack.host_retriever(knowledge)) if knowledge else "main"
        self.spec = AgentSpec(
            name=name, instructions=instructions, model=model if isinstance(model, str) else model.name, model_host=host,
            fallback=tuple(fallback), manner=manner or Manner(), priority=priority,
            tools=(*names, *(tool.card.name for tool in (*hosted, *agents))), tool_k=tool_k, knowledge_k=knowledge_k,
            knowledge_host=knows, collections=tuple(collections), filters=dict(filters or {}),
            budget=budget or _budget(agents), approval=approval, when_busy=when_busy,
        )  # fmt: skip
        self.reset()

    def as_tool(self, *, description: str = "", name: str | None = None, timeout_s: float | None = None) -> AgentTool:
        """This agent for another one to call: `Agent(tools=[other.as_tool(description=...)])`.

        description: when to ask it; that of the agent if not given. Raises InvalidTool.
        """
        lane = f"{LANE}{tool_name(name or self.spec.name)[:40]}-{digest('agent', self.spec.model_dump_json())[:12]}"
        return HostedAgent(self, description or self.description, name=name, lane=lane, timeout_s=timeout_s)

    def _model_host(self, model: str | LLM | TextModel, prompt: PromptGenerator | None, parser: Parser | None) -> str:
        if isinstance(model, str) and prompt is None and parser is None:
            return "main"
        found = self._found(model)
        if prompt or parser:
            found = AdaptedModel(found, prompt=prompt, parser=parser)
        return self.stack.call(self.stack.host_model(found))

    def _found(self, model: str | LLM | TextModel) -> TextModel:
        if isinstance(model, LLM):
            return OwnModel(model)
        if isinstance(model, str):
            settings = self.stack.settings
            return self.stack.call(bring_model(settings, settings.model.name if model == "default" else model))
        return model

    def reset(self) -> None:
        """Begin a new conversation: what was said before is not recalled."""
        self.conversation = f"c-{secrets.token_hex(8)}"

    def run(self, task: str, *, approve: Decide | None = None, answer: Reply | None = None, key: str | None = None) -> Result:
        """Ask and wait for the answer. Raises MilepostError when the run ends without one."""
        return self.stack.call(self.arun(task, approve=approve, answer=answer, key=key))

    async def arun(
        self, task: str, *, approve: Decide | None = None, answer: Reply | None = None, key: str | None = None
    ) -> Result:
        """`run` for async code; call it on any loop."""
        async for item in self.astream_run(task, key=key):
            if isinstance(item, Approval):
                await asyncio.to_thread(decide, item, approve)
            elif isinstance(item, ToolQuestion):
                await asyncio.to_thread(reply, item, answer)
            elif isinstance(item, Result):
                return item
        raise AssertionError("a run always ends")

    def stream_run(self, task: str, *, key: str | None = None) -> Iterator[Item]:
        """Text, steps, approvals, questions and at last the result, as they come."""
        items = self.astream_run(task, key=key)
        try:
            while True:
                yield self.stack.call(_next(items))
        except StopAsyncIteration:
            return
        finally:
            self.stack.call(_close(items))

    async def astream_run(self, task: str, *, key: str | None = None) -> AsyncIterator[Item]:
        """`stream_run` for async code; call it on any loop."""
        queue: asyncio.Queue[Item | BaseException] = asyncio.Queue()
        here = asyncio.get_running_loop()

        def put(item: Item | BaseException) -> None:
            here.call_soon_threadsafe(queue.put_nowait, item)

        following = asyncio.run_coroutine_threadsafe(self._follow(task, key, put), self.stack._loop)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Result):
                    return
        finally:
            following.cancel()

    async def _follow(self, task: str, key: str | None, put: Callable[[Item | BaseException], None]) -> None:
        try:
            asked = await self.client.ask(task, agent=self.spec, conversation=self.conversation, key=key)

            def hear(delta: Delta) -> None:
                put(Text(delta.text, delta.attempt, delta.offset))

            seen: _Seen = _Seen()
            state = RunState(run=asked.run)
            async with (
                hear_text(self.client.bus, self.client.tenant, asked.run, hear),
                aclosing(follow_tree(self.client, asked.run)) as updates,  # type: ignore[type-var]  # a generator
            ):
                async for update in updates:
                    if update.state.run == asked.run:
                        state = update.state
                        for item in self._items(update, seen):
                            put(item)
                    for waits in self._waiting(update.state, seen):
                        put(waits)
            put(Result(asked.run, answer_of(state), tuple(seen.results), tuple(seen.steps)))
        except Exception as error:
            put(error)

    def _items(self, update: Update, seen: _Seen) -> Iterator[Item]:
        fact = update.stored.fact
        step = Step(type(fact.body).__name__, summary(fact))
        seen.steps.append(step)
        yield step
        if isinstance(fact.body, ToolReturned):
            seen.results.append(fact.body.result)

    def _waiting(self, state: RunState, seen: _Seen) -> Iterator[Approval | ToolQuestion]:
        """What this run, or one below it, asks a person now."""
        for id, asked in state.approvals().items():
            if id not in seen.asked:
                seen.asked.add(id)
                yield self._approval(state, id, asked)
        for id, question in state.questions().items():
            if id not in seen.asked:
                seen.asked.add(id)
                yield self._question(state, id, question)

    def _approval(self, state: RunState, id: CommandId, asked: RequestApproval) -> Approval:
        open_call = state.open_calls.get(asked.call.id)
        plan = open_call.plan if open_call else None
        call, client, run = self.stack.call, self.client, state.run

        def approve(scope: Scope = "once") -> None:
            call(client.approve(run, id, scope=scope))

        def refuse(reason: str = "") -> None:
            call(client.refuse(run, id, reason=reason))

        return Approval(
            run, id, asked.call.name, asked.call.arguments,
            plan.planned.preview if plan else Preview(summary=asked.call.name), approve, refuse,
            effect=open_call.card.effect if open_call else None, why=asked.why, ungrounded=asked.ungrounded,
            before=asked.before, approvers=asked.approvers, not_by=asked.not_by, expires=asked.expires, agent=_agent_of(state),
        )  # fmt: skip

    def _question(self, state: RunState, id: CommandId, asked: AskPerson) -> ToolQuestion:
        call, client, run = self.stack.call, self.client, state.run

        def answer(content: Mapping[str, object]) -> None:
            call(client.answer(run, id, dict(content)))

        def decline() -> None:
            call(client.answer(run, id, None))

        question = asked.question
        return ToolQuestion(
            run, id, asked.call.name, question.text, question.fields, answer, decline, agent=_agent_of(state)
        )  # fmt: skip


class HostedAgent(AgentTool):
    """An agent of this process as a tool."""

    def __init__(
        self, agent: Agent, description: str, *, name: str | None, lane: str, timeout_s: float | None
    ) -> None:  # fmt: skip
        super().__init__(agent.spec, agent.stack.clients, description=description, name=name, lane=lane, timeout_s=timeout_s)
        self.stack = agent.stack


@dataclass(slots=True)
class _Seen:
    steps: list[Step] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    asked: set[CommandId] = field(default_factory=set)


def decide(asked: Approval, approve: Decide | None) -> None:
    """Answer an approval as somebody decides; nobody's answer is no."""
    decision = approve(asked) if approve else False
    if decision:
        asked.approve("once" if decision is True else decision)
    else:
        asked.refuse()


def reply(asked: ToolQuestion, answer: Reply | None) -> None:
    """Answer a tool's question as somebody does; nobody's answer is none."""
    content = answer(asked) if answer else None
    if content is None:
        asked.decline()
    else:
        asked.answer(content)


def _sorted_out(tools: Iterable[Offered], stack: Stack) -> tuple[list[str], list[Tool], list[AgentTool]]:
    """Names in the catalogue, tools to be hosted, and agents. Raises InvalidTool."""
    names: list[str] = []
    hosted: list[Tool] = []
    agents: list[AgentTool] = []
    for each in tools:
        if isinstance(each, str):
            names.append(each)
        elif isinstance(each, Agent | AgentTool):
            agents.append(_agent_tool(each, stack))
        elif is_langchain(each):
            hosted.append(from_langchain(each))
        elif hasattr(each, "card"):
            hosted.append(each)  # type: ignore[arg-type]  # a Tool by shape
        else:
            hosted.append(as_tool(each))  # type: ignore[arg-type]  # a function
    return names, hosted, agents


def _agent_tool(each: Agent | AgentTool, stack: Stack) -> AgentTool:
    tool = each.as_tool() if isinstance(each, Agent) else each
    if isinstance(tool, HostedAgent) and tool.stack is not stack:
        raise InvalidTool(
            f"The agent {tool.spec.name} belongs to another stack.", why="its runs could not be found from here",
            hint="make both agents with the same home= or stack=",
        )  # fmt: skip
    return tool


def _budget(agents: Sequence[AgentTool]) -> Budget:
    """An agent that asks others has the time that these may take, beside its own."""
    own = Budget()
    longest = max((each.card.timeout_s for each in agents), default=0.0)
    return own.model_copy(update={"deadline_s": own.deadline_s + longest})


def _agent_of(state: RunState) -> str:
    return state.request.agent.name if state.request else ""


async def _stop(home: Path) -> None:
    from infra import stack as stacks

    await stacks.down(home)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _next(items: AsyncIterator[Item]) -> Item:
    return await anext(items)


async def _close(items: AsyncIterator[Item]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
