"""A renewal from the wish to the receipt, and every way in which it must not happen."""

from __future__ import annotations

import pytest

from runtime.client import TooLate
from runtime.log import Stored
from runtime.replay import replay
from schemas.agent import Budget
from schemas.events import (
    ApprovalGranted,
    CallPlanned,
    Event,
    MemoryRecalled,
    RunCancelled,
    RunCompleted,
    ToolReturned,
)
from tests.support.stack import OPERATOR, LocalStack, reached, see_through

WEB = "i-bp1f8k2m9x4q7web01"
API = "i-bp1c3n6v8z2w5api01"


@pytest.mark.parametrize(
    ("instance", "task", "answer"),
    [
        (WEB, f"Please help me renew ECS instance {WEB} for 3 months", "Done: "),
        (API, f"请帮我续费 ECS 实例 {API}，时长 2 个月", "好了："),
    ],
)
async def test_a_wish_becomes_one_renewal_after_its_approval(
    scripted_stack: LocalStack, instance: str, task: str, answer: str
) -> None:
    before = await scripted_stack.effects(instance)
    async with scripted_stack.session(user="ada") as (client, world):
        asked = await client.ask(task, agent=OPERATOR)
        waiting = await reached(client, asked.run, lambda update: bool(update.state.approvals()))
        (approval,) = waiting.state.approvals().values()
        plan = waiting.state.plan_of(approval)
        assert plan is not None
        rows = dict(plan.planned.preview.rows)
        assert instance in rows["instance"] and " -> " in rows["expires"] and plan.planned.preview.price
        assert await scripted_stack.effects(instance) == before, "nothing may happen before the approval"

        ended = await see_through(client, asked.run)
        facts = await world.log.read(asked.run)
    assert isinstance(ended.stored.fact.body, RunCompleted)
    assert ended.stored.fact.body.answer.startswith(answer)
    (effect,) = (await scripted_stack.effects(instance))[len(before) :]
    assert effect["action"] == "RenewInstance"
    assert effect["token"] == plan.planned.write_key
    order = [CallPlanned, ApprovalGranted, ToolReturned, RunCompleted]
    assert [kind for kind in map(_kind, facts) if kind in order] == order
    assert replay(asked.run, facts).same


async def test_what_a_person_refuses_does_not_happen(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    async with scripted_stack.session() as (client, _):
        asked = await client.ask(f"renew {WEB} for 1 month", agent=OPERATOR)
        ended = await see_through(client, asked.run, lambda run, approval: client.refuse(run, approval, reason="too dear"))
    assert ended.state.outcome == "completed"
    assert "refused this call: too dear" in (ended.state.answer or "")
    assert await scripted_stack.effects() == before


async def test_an_approval_that_nobody_gives_expires(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    hasty = OPERATOR.model_copy(update={"budget": Budget(approval_s=0.5)})
    async with scripted_stack.session() as (client, _):
        asked = await client.ask(f"renew {WEB} for 1 month", agent=hasty)
        waiting = await reached(client, asked.run, lambda update: bool(update.state.approvals()))
        (approval,) = waiting.state.approvals()
        ended = await reached(client, asked.run, lambda update: update.state.phase == "ended")
        assert "Nobody approved this call in time" in (ended.state.answer or "")
        with pytest.raises(TooLate):
            await client.approve(asked.run, approval)
    assert await scripted_stack.effects() == before


async def test_a_cancelled_run_does_nothing_more(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects()
    async with scripted_stack.session() as (client, _):
        asked = await client.ask(f"renew {WEB} for 1 month", agent=OPERATOR)
        waiting = await reached(client, asked.run, lambda update: bool(update.state.approvals()))
        (approval,) = waiting.state.approvals()
        await client.cancel(asked.run, reason="changed my mind")
        ended = await reached(client, asked.run, lambda update: update.state.phase == "ended")
        assert isinstance(ended.stored.fact.body, RunCancelled)
        with pytest.raises(TooLate):
            await client.approve(asked.run, approval)
    assert await scripted_stack.effects() == before


async def test_a_model_that_asks_twice_renews_once(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects(WEB)
    async with scripted_stack.session() as (client, _):
        asked = await client.ask(f"twice renew {WEB} for 2 week", agent=OPERATOR)
        ended = await see_through(client, asked.run)
    calls = [call.name for message in ended.state.messages for call in message.calls]
    assert calls == ["RenewInstance"] * 3, "two at once, and once more after the result"
    assert ended.state.outcome == "completed"
    assert len(await scripted_stack.effects(WEB)) == len(before) + 1


async def test_a_client_that_asks_again_with_its_key_gets_its_run(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects(API)
    async with scripted_stack.session() as (client, world):
        first = await client.ask(f"renew {API} for 1 week", agent=OPERATOR, key="order-4711")
        await see_through(client, first.run)
        second = await client.ask(f"renew {API} for 1 week", agent=OPERATOR, key="order-4711")
        assert (second.run, first.fresh, second.fresh) == (first.run, True, False)
        kinds = [_kind(stored) for stored in await world.log.read(first.run)]
    assert kinds.count(MemoryRecalled) == kinds.count(RunCompleted) == 1
    assert len(await scripted_stack.effects(API)) == len(before) + 1


def _kind(stored: Stored) -> type[Event]:
    return type(stored.fact.body)
