"""An approval that comes late, twice, from the wrong person, or for something else: real processes, one scripted stack."""

from __future__ import annotations

import asyncio

import pytest

from infra.wiring import World
from runtime.client import Client, NotAllowed, TooLate, Update
from runtime.policy import approval_hash
from schemas.agent import AgentSpec, Budget
from schemas.commands import RequestApproval
from schemas.envelope import new_fact, source_of
from schemas.events import ApprovalGranted, ApprovalRefused, RunCompleted, ToolReturned
from schemas.ids import CommandId
from schemas.policy import Rule
from tests.support.stack import OPERATOR, LocalStack, reached, see_through

WEB = "i-bp1f8k2m9x4q7web02"
FOUR_EYES = OPERATOR.model_copy(
    update={"policy": (Rule(name="two-people", then="ask", why="two people", four_eyes=True, approvers=("boss*", "me")),)}
)


async def waits(client: Client, agent: AgentSpec = OPERATOR, task: str = f"renew {WEB} for 1 week") -> Update:
    """A run that has planned its write and waits for a person."""
    asked = await client.ask(task, agent=agent)
    return await reached(client, asked.run, lambda update: bool(update.state.approvals()))


def only(update: Update) -> tuple[CommandId, RequestApproval]:
    ((id, asked),) = update.state.approvals().items()
    return id, asked


async def says(world: World, update: Update, id: CommandId, event: ApprovalGranted | ApprovalRefused) -> bool:
    """State the fact straight into the log, past the client and its checks; whether its place was free."""
    return await world.log.append(new_fact(
        event, run=update.state.run, tenant=world.settings.tenant, slot=id, source=source_of("person", "somebody"),
        time=world.clock.now(), datakey=update.state.datakey,
    ))  # fmt: skip


def granted(asked: RequestApproval, by: str = "me", **changes: object) -> ApprovalGranted:
    return ApprovalGranted(command=asked, by=by, approval_hash=asked.approval_hash).model_copy(update=changes)


async def ended(client: Client, update: Update) -> Update:
    return await reached(client, update.state.run, lambda now: now.state.phase == "ended")


async def test_an_approval_that_comes_late_commits_nothing(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    hasty = OPERATOR.model_copy(update={"budget": Budget(approval_s=0.5)})
    async with scripted_stack.session() as (client, world):
        waiting = await waits(client, hasty)
        id, asked = only(waiting)
        last = await ended(client, waiting)
        assert "Nobody approved this call in time" in (last.state.answer or "")
        with pytest.raises(TooLate):
            await client.approve(waiting.state.run, id)
        assert await says(world, waiting, id, granted(asked)), "the place was free, the time was over"
        await see_through(client, (await client.ask("What time is it?", agent=OPERATOR)).run)
        facts = [stored.fact.body for stored in await world.log.read(waiting.state.run)]
    assert not [event for event in facts if isinstance(event, ToolReturned)]
    assert await scripted_stack.effects() == before


async def test_of_two_who_approve_at_once_one_is_heard_and_one_effect_happens(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    async with scripted_stack.session() as (client, world), scripted_stack.session(user="bea") as (other, _):
        waiting = await waits(client)
        id, _ = only(waiting)
        run = waiting.state.run
        answers = await asyncio.gather(
            client.approve(run, id), other.approve(run, id), other.refuse(run, id), return_exceptions=True
        )
        assert sum(answer is None for answer in answers) == 1
        assert sum(isinstance(answer, TooLate) for answer in answers) == 2
        last = await ended(client, waiting)
        with pytest.raises(TooLate):
            await client.approve(run, id)
        facts = [stored.fact.body for stored in await world.log.read(run)]
    approved = [event for event in facts if isinstance(event, ApprovalGranted)]
    assert isinstance(last.stored.fact.body, RunCompleted)
    assert len(await scripted_stack.effects()) == len(before) + len(approved) <= len(before) + 1


async def test_who_asked_may_not_approve_where_the_rules_want_another(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    async with scripted_stack.session() as (client, world), scripted_stack.session(user="boss-bo") as (boss, _):
        waiting = await waits(client, FOUR_EYES)
        id, asked = only(waiting)
        run = waiting.state.run
        assert (asked.not_by, asked.approvers, "two people" in asked.why) == ("me", ("boss*", "me"), True)
        for by in (None, "passer-by"):
            with pytest.raises(NotAllowed, match="may not approve"):
                await client.approve(run, id, by=by)

        assert await says(world, waiting, id, granted(asked, by="me")), "past the client's own check"
        again = await reached(client, run, lambda now: bool(now.state.approvals().keys() - {id}))
        second, _ = only(again)
        assert await scripted_stack.effects() == before
        await boss.approve(run, second)
        last = await ended(client, waiting)
        assert isinstance(last.stored.fact.body, RunCompleted)
    assert len(await scripted_stack.effects()) == len(before) + 1


async def test_an_approval_of_something_else_commits_nothing(scripted_stack: LocalStack) -> None:
    """Of other arguments under the same question it is nothing; with another hash the person is asked again."""
    before = await scripted_stack.effects()
    async with scripted_stack.session() as (client, world):
        waiting = await waits(client)
        id, asked = only(waiting)
        plan = waiting.state.plan_of(asked)
        assert plan is not None
        longer = asked.call.model_copy(update={"arguments": {**asked.call.arguments, "Period": 12}})
        other = approval_hash(waiting.state.run, longer, plan.planned)
        assert await says(world, waiting, id, granted(asked, approval_hash=other))
        again = await reached(client, waiting.state.run, lambda now: bool(now.state.approvals().keys() - {id}))
        second, asked_again = only(again)
        assert asked_again == asked
        assert await scripted_stack.effects() == before
        await client.refuse(waiting.state.run, second)
        await ended(client, waiting)

        hasty = OPERATOR.model_copy(update={"budget": Budget(approval_s=2.0)})
        waiting = await waits(client, hasty)
        id, asked = only(waiting)
        assert await says(world, waiting, id, granted(asked.model_copy(update={"call": longer})))
        last = await ended(client, waiting)
        assert "Nobody approved this call in time" in (last.state.answer or "")
    assert await scripted_stack.effects() == before


async def test_one_approval_may_reach_further_than_one_call(scripted_stack: LocalStack) -> None:
    """For the conversation: the next renewal in it is not asked about; in another conversation it is."""
    before = await scripted_stack.effects()
    async with scripted_stack.session(user="gil") as (client, _):
        waiting = await waits(client)
        conversation = waiting.state.request.conversation if waiting.state.request else ""
        await client.approve(waiting.state.run, only(waiting)[0], scope="conversation")
        await ended(client, waiting)
        asked = await client.ask(f"renew {WEB} for 2 weeks", agent=OPERATOR, conversation=conversation)
        last = await reached(client, asked.run, lambda now: now.state.phase == "ended" or bool(now.state.approvals()))
        assert last.state.outcome == "completed", "it was allowed for this conversation"
        elsewhere = await waits(client, task=f"renew {WEB} for 3 weeks")
        await client.refuse(elsewhere.state.run, only(elsewhere)[0])
        await ended(client, elsewhere)
    assert len(await scripted_stack.effects()) == len(before) + 2
