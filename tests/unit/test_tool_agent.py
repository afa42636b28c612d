"""An agent as a tool: its run's name, what its answer becomes, and what stops it."""

from __future__ import annotations

import asyncio

import pytest

from runtime.children import AGENT, child_conversation, child_key, child_run, children_of, is_child
from runtime.client import Client
from runtime.grounding import sources_of, ungrounded
from runtime.memory_broker import MemoryBroker
from runtime.tree import follow_tree
from schemas.agent import AgentSpec, Budget
from schemas.commands import CallTool, Generate
from schemas.events import CancelRequested, Parent, RunRequested, ToolReturned
from schemas.ids import CANCEL_SLOT, REQUEST_SLOT, CommandId
from schemas.tools import Part, ToolCard, ToolResult
from tests.support.builders import NOW, TENANT, RunUnderTest, call, ready, requested, run_of, spec
from tool_adapters.agent import AgentSource, AgentTool
from tool_adapters.tool import CallContext, InvalidTool, ToolRefused

OPS = spec(name="ops", tools=("clock",))
LEAD = spec(name="lead", tools=("ops",))


class Clock:
    def now(self) -> object:
        return NOW


class World:
    """A parent that has asked the agent, and a log that holds it."""

    def __init__(self, *, task: str = "look at i-4711", agent: AgentSpec = OPS, timeout_s: float | None = None) -> None:
        self.broker = MemoryBroker()
        self.client = Client(self.broker, self.broker, Clock(), tenant=TENANT, user="ann")  # type: ignore[arg-type]
        self.tool = AgentTool(agent, lambda tenant, user: self.client, description="Ask it.", timeout_s=timeout_s)
        self.parent = ready(LEAD, self.tool.card)
        (command,) = self.parent.say(call("ops", task=task))
        assert isinstance(command, CallTool)
        self.command = self.parent.id_of(command)
        self.called = command
        self.child = RunUnderTest(OPS, key=child_key(self.command))
        self._stored = {self.parent.id: 0, self.child.id: 0}

    @property
    def context(self) -> CallContext:
        return CallContext(
            tenant=TENANT, run=self.parent.id, user="ann", conversation="conv", agent="lead", command=self.command
        )

    async def store(self, run: RunUnderTest) -> None:
        """What a run has come to goes into the log."""
        for stored in run.log[self._stored[run.id] :]:
            await self.broker.append(stored.fact)
        self._stored[run.id] = len(run.log)

    async def begun(self) -> RunRequested:
        """Ask the agent, and let its run begin."""
        async for stored in self.broker.follow(self.child.id):
            assert isinstance(stored.fact.body, RunRequested)
            self.child.hear(stored.fact)
            self._stored[self.child.id] = len(self.child.log)
            self.child.gather()
            await self.store(self.child)
            return stored.fact.body
        raise AssertionError

    async def call(self, task: str = "look at i-4711") -> ToolResult:
        return await self.tool.call({"task": task}, self.context)


async def asked(**changes: object) -> tuple[World, asyncio.Task[ToolResult], RunRequested]:
    """A parent that waits for its agent, whose run has begun."""
    world = World(**changes)  # type: ignore[arg-type]
    await world.store(world.parent)
    calling = asyncio.create_task(world.call())
    return world, calling, await world.begun()


async def test_a_call_is_a_run_below_for_the_same_user_in_a_conversation_of_its_own() -> None:
    world, calling, request = await asked()
    world.child.say(text="It is fine.")
    world.child.end()
    await world.store(world.child)
    result = await calling
    assert (result.text, result.parts) == ("It is fine.", (Part(kind="text", text="It is fine."),))
    parent = Parent(run=world.parent.id, command=world.command, root=world.parent.id, depth=1, vouched=False)
    assert request.parent == parent, "nobody named i-4711"
    assert (request.user, request.task, request.key) == ("ann", "look at i-4711", child_key(world.command))
    assert request.conversation == child_conversation("conv", "ops") and is_child(request.conversation)
    assert request.agent.when_busy == "queue"


async def test_a_call_that_is_delivered_again_follows_the_same_run() -> None:
    world, calling, _ = await asked()
    calling.cancel()  # its host goes; the parent still waits
    await asyncio.gather(calling, return_exceptions=True)
    assert not [stored for stored in await world.broker.read(world.child.id) if isinstance(stored.fact.body, CancelRequested)]
    again = asyncio.create_task(world.call())
    world.child.say(text="Done.")
    world.child.end()
    await world.store(world.child)
    assert (await again).text == "Done."
    events = [stored.fact.slot for stored in await world.broker.read(world.child.id)]
    assert events.count(REQUEST_SLOT) == 1


async def test_media_of_the_agents_tools_come_with_its_answer() -> None:
    world, calling, _ = await asked()
    (clock,) = world.child.say(call("clock"))
    chart = Part(kind="image", ref="payload:" + "a" * 64, media_type="image/png", name="chart.png")
    named = chart.model_copy(update={"ref": "payload:" + "b" * 64})
    assert isinstance(clock, CallTool)
    world.child.answer(ToolReturned(command=clock, result=ToolResult(text="two", parts=(chart, named))))
    world.child.say(text=f"See {named.ref}.")
    world.child.end()
    await world.store(world.child)
    result = await calling
    assert result.text == f"See {named.ref}.\nimage, chart.png: {chart.ref}"
    assert result.parts[1:] == (chart, named)


async def test_an_agent_that_fails_is_a_refusal_with_its_reason() -> None:
    world, calling, _ = await asked()
    world.child.fails(world.child.one(Generate), "The model is ill.")
    world.child.end()
    await world.store(world.child)
    with pytest.raises(ToolRefused, match=r"ops ended without an answer \(failed\)") as caught:
        await calling
    assert "The model is ill." in caught.value.why


async def test_when_the_parent_is_stopped_so_is_the_agent() -> None:
    world, calling, _ = await asked()
    world.parent.cancel()
    await world.store(world.parent)
    calling.cancel()  # as a worker does that is told to stop
    await asyncio.gather(calling, return_exceptions=True)
    assert calling.cancelled()
    assert (await world.broker.read(world.child.id))[-1].fact.slot == CANCEL_SLOT


async def test_an_order_that_comes_after_the_parents_end_stops_what_it_had_begun() -> None:
    world, calling, _ = await asked()
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    world.parent.cancel()
    await world.store(world.parent)
    with pytest.raises(ToolRefused, match="Nobody waits for ops any more"):
        await world.call()
    assert (await world.broker.read(world.child.id))[-1].fact.slot == CANCEL_SLOT


async def test_an_agent_that_takes_too_long_is_stopped() -> None:
    world, calling, _ = await asked(timeout_s=0.2)
    with pytest.raises(ToolRefused, match=r"did not answer within 0\.2 s"):
        await calling
    assert (await world.broker.read(world.child.id))[-1].fact.slot == CANCEL_SLOT


async def test_cancelling_a_run_cancels_the_runs_that_it_waits_for() -> None:
    world, calling, _ = await asked()
    await world.client.cancel(world.parent.id)
    assert (await world.broker.read(world.child.id))[-1].fact.slot == CANCEL_SLOT
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)


async def test_the_tree_is_followed_as_one() -> None:
    world, calling, _ = await asked()
    seen: list[str] = []

    async def follow() -> None:
        async for update in follow_tree(world.client, world.parent.id):
            seen.append(update.state.run)
            if update.state.run == world.child.id and update.state.phase == "ended":
                world.parent.answer(ToolReturned(command=world.called, result=await calling))
                world.parent.say(text="Well.")
                world.parent.end()
                await world.store(world.parent)

    following = asyncio.create_task(follow())
    world.child.say(text="Done.")
    world.child.end()
    await world.store(world.child)
    await asyncio.wait_for(following, 5)
    assert {world.parent.id, world.child.id} == set(seen)
    assert seen.count(world.child.id) == len(world.child.log)
    assert children_of(world.parent.state) == {}


async def test_it_is_not_called_by_hand() -> None:
    with pytest.raises(ToolRefused, match="not called by hand"):
        await World().tool.call({"task": "x"}, CallContext(tenant=TENANT, run="", user="ann"))


def test_the_card_is_a_read_with_the_time_of_the_agents_budget() -> None:
    def card(**changes: float) -> ToolCard:
        return AgentTool(spec(name="ops", budget=Budget(**changes)), _nobody, description="Ask it.").card

    assert (card().effect, card().tags, card().lane) == ("read", (AGENT,), "agent-ops")
    assert card(deadline_s=60, approval_s=30).timeout_s == 90
    assert card(approval_s=86400).timeout_s == 3600


def test_an_agent_without_a_description_is_no_tool() -> None:
    with pytest.raises(InvalidTool, match="has no description"):
        AgentTool(OPS, _nobody, description=" ")
    with pytest.raises(InvalidTool, match="cannot be read"):
        AgentSource({"spec": {"tool_k": -1}}, _nobody, lane="agent-ops")
    assert AgentSource({"spec": OPS.model_dump(), "description": "Ask."}, _nobody, lane="agent-x").tool().card.lane == "agent-x"


@pytest.mark.parametrize(("vouched", "expected"), [(True, ()), (False, ("InstanceId",))])
def test_a_task_vouches_for_what_it_names_only_if_somebody_named_it_above(vouched: bool, expected: tuple[str, ...]) -> None:
    parent = Parent(run=run_of("parent"), command="c" * 32, root=run_of("parent"), depth=1, vouched=vouched)
    run = RunUnderTest(OPS)
    run.request = requested(OPS).model_copy(update={"parent": parent, "task": "renew i-4711"})
    run.begin()
    card = ToolCard(name="renew", description="renews", parameters={"type": "object"}, effect="write")
    assert ungrounded(call("renew", InstanceId="i-4711"), card, sources_of(run.state)) == expected


def test_a_childs_name_follows_from_the_call() -> None:
    parent, command = run_of(), CommandId("c" * 32)
    assert child_run(TENANT, parent, command) == run_of(child_key(command))
    assert child_run("other", parent, command) != child_run(TENANT, parent, command)


def _nobody(tenant: str, user: str) -> Client:
    raise AssertionError
