"""Rights to call tools on a real stack: forged, repeated, revoked and outdated orders, and keys that are changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import orjson
from nats.aio.msg import Msg

from infra import capability_keys
from infra.wiring import World
from runtime.capability import MATERIAL, Issuer
from runtime.client import Client
from runtime.log import Stored
from runtime.sealing import Sealing
from schemas import subjects
from schemas.commands import CallTool
from schemas.envelope import DECIDERS, Order, decode, new_order, source_of
from schemas.events import ToolFailed
from schemas.ids import CommandId, RunId
from tests.support.rights import ROGUE
from tests.support.stack import OPERATOR, LocalStack, reached, see_through

WEB = "i-bp1f8k2m9x4q7web01"
DATABASE = "i-bp1h5t9r4y7u1dbm01"


class Wire:
    """The orders for hosts of tools that passed by, opened, and their bytes as they were sent."""

    def __init__(self) -> None:
        self.orders: list[tuple[Order, Msg]] = []

    async def call(self, run: RunId) -> tuple[Order, Msg]:
        """The one call that the run has made."""
        async with asyncio.timeout(10):
            while not (found := [each for each in self.orders if each[0].run == run and isinstance(each[0].body, CallTool)]):
                await asyncio.sleep(0.01)
        (one,) = found
        return one


@asynccontextmanager
async def wire(world: World) -> AsyncIterator[Wire]:
    """Listen in on the orders for hosts of tools, as somebody with the bus's password can."""
    found, sealing = Wire(), Sealing(world.keyring)

    async def hear(msg: Msg) -> None:
        found.orders.append((await sealing.order(decode(msg.data)), msg))

    subscription = await world.connection.client.subscribe("mp.cmd.tools.>", cb=hear)
    await world.connection.reached()
    yield found
    await subscription.unsubscribe()


async def failed(world: World, run: RunId, slot: str) -> ToolFailed:
    """What stands in a slot, as soon as something does."""
    async with asyncio.timeout(30):
        async for stored in world.log.follow(run):
            if stored.fact.slot == slot:
                assert isinstance(stored.fact.body, ToolFailed)
                return stored.fact.body
    raise AssertionError


async def renewed(client: Client, instance: str = WEB, **more: str) -> RunId:
    """A run that has renewed an instance, approved by its user."""
    asked = await client.ask(f"renew {instance} for 1 week", agent=OPERATOR, **more)
    ended = await see_through(client, asked.run)
    assert ended.state.outcome == "completed", ended.state
    return asked.run


def by_a_rogue(order: Order, id: str, decider: str = "4", **material: object) -> Order:
    """The same call once more under another name, as a process sends it that has the bus's password and no more."""
    return new_order(
        order.body, id=CommandId(id), run=order.run, tenant=order.tenant, source=source_of("conductor", "rogue"),
        time=order.time, causes=order.causes, material={**order.material, **material}, decider=decider,
        datakey=order.header.datakey,
    )  # fmt: skip


async def test_a_rogue_process_that_sends_a_call_itself_is_refused(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session() as (client, world), wire(world) as heard:
        run = await renewed(client)
        before = await scripted_stack.effects()
        genuine, _ = await heard.call(run)
        body = genuine.body
        assert isinstance(body, CallTool) and body.write_key
        another = body.model_copy(update={"write_key": "0" * 32, "call": body.call.model_copy(update={"id": "again"})})
        unsigned = replace(genuine, material={name: value for name, value in genuine.material.items() if name != MATERIAL})
        for number, decider in enumerate(DECIDERS):
            id = f"{number:032x}"
            await world.bus.send(by_a_rogue(replace(unsigned, body=another), id, decider))
            assert (await failed(world, run, id)).failure.type == "CapabilityMissing"

        await world.bus.send(by_a_rogue(replace(genuine, body=another), "a" * 32))
        assert (await failed(world, run, "a" * 32)).failure.type == "CapabilityMismatch"

        facts = await world.log.read(run)
        request = facts[0].fact.body
        own = by_a_rogue(replace(unsigned, body=another), "b" * 32)
        right = Issuer(ROGUE).issue(own, request, world.clock.now())  # type: ignore[arg-type]  # the first fact is the request
        await world.bus.send(replace(own, material={**own.material, MATERIAL: right}))
        told = (await failed(world, run, "b" * 32)).failure
        assert (told.type, bool(told.why), bool(told.hint)) == ("UnknownKey", True, True)
    assert await scripted_stack.effects() == before


async def test_an_order_that_is_sent_again_word_for_word_does_nothing(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session() as (client, world), wire(world) as heard:
        run = await renewed(client)
        effects, facts = await scripted_stack.effects(), await told(world, run)
        _, raw = await heard.call(run)
        await world.connection.jetstream.publish(raw.subject, raw.data, headers=dict(raw.headers or {}))
        next_run = await client.ask("What time is it?", agent=OPERATOR)
        await see_through(client, next_run.run)
        async with asyncio.timeout(30):
            while await waiting(world, raw.subject):
                await asyncio.sleep(0.05)
        assert await told(world, run) == facts
    assert await scripted_stack.effects() == effects


async def told(world: World, run: RunId) -> list[Stored]:
    """What a run said; its receipt comes when it likes."""
    return [stored for stored in await world.log.read(run) if stored.fact.role != "recorder"]


async def waiting(world: World, subject: str) -> bool:
    """Whether an order still waits in the queue."""
    info = await world.connection.jetstream.stream_info(subjects.COMMAND_STREAM, subjects_filter=subject)
    return bool(info.state.subjects)


async def test_what_is_revoked_between_approval_and_call_does_not_happen(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects(WEB)
    async with scripted_stack.session(user="rita") as (client, world):
        asked = await client.ask(f"renew {WEB} for 2 weeks", agent=OPERATOR)
        waits = await reached(client, asked.run, lambda update: bool(update.state.approvals()))
        revoked = await revoke(world, user="rita", by="olga", reason="left the company")
        (approval,) = waits.state.approvals()
        await client.approve(asked.run, approval)
        ended = await reached(client, asked.run, lambda update: update.state.phase == "ended")
        facts = [stored.fact.body for stored in await world.log.read(asked.run)]
        (refused,) = [event for event in facts if isinstance(event, ToolFailed)]
        assert refused.failure.type == "Revoked" and "left the company" in refused.failure.why
        assert "nothing was changed" in (ended.state.answer or "")
        assert await scripted_stack.effects(WEB) == before

        question = {"tenant": world.settings.tenant, "id": revoked, "by": "olga"}
        await world.bus.ask(subjects.question("policy", "lift"), orjson.dumps(question), 5.0)
        await renewed(client)
    assert len(await scripted_stack.effects(WEB)) == len(before) + 1


async def revoke(world: World, **about: str) -> str:
    """Take a right back, as the policy service tells it to every host; gives its id."""
    question = {"tenant": world.settings.tenant, **about}
    raw = await world.bus.ask(subjects.question("policy", "revoke"), orjson.dumps(question), 5.0)
    return str(orjson.loads(raw)["id"])


async def test_keys_are_changed_under_a_running_stack(scripted_stack: LocalStack) -> None:
    file = scripted_stack.home / capability_keys.FILE
    async with scripted_stack.session() as (client, world), wire(world) as heard:
        issuers = []
        for withdraw in (False, True):
            new = capability_keys.rotate(file, withdraw=withdraw).id
            run = await renewed(client, DATABASE)
            issuers.append((new, issuer_of((await heard.call(run))[0])))
    assert [used for _, used in issuers] == [new for new, _ in issuers]
    assert list(capability_keys.read_public(capability_keys.public_file(file)) or {}) == [issuers[-1][0]]


def issuer_of(order: Order) -> str:
    import base64

    payload = str(order.material[MATERIAL]).partition(".")[0]
    return str(orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["issuer"])


async def test_an_outdated_order_is_refused_when_its_run_does_not_want_it_any_more(scripted_stack: LocalStack) -> None:
    """The conductor's own signature, an hour old; how one is renewed is in test_tools_gate.py."""
    async with scripted_stack.session() as (client, world), wire(world) as heard:
        run = await renewed(client)
        genuine, _ = await heard.call(run)
        pair = capability_keys.KeysInFiles(scripted_stack.home / capability_keys.FILE)
        request = (await world.log.read(run))[0].fact.body
        late = by_a_rogue(genuine, "c" * 32)
        right = Issuer(pair).issue(late, request, world.clock.now() - timedelta(hours=1))  # type: ignore[arg-type]
        await world.bus.send(replace(late, material={**late.material, MATERIAL: right}))
        assert (await failed(world, run, "c" * 32)).failure.type == "CapabilityExpired"


async def test_an_effect_that_failed_lends_nobody_its_right(scripted_stack: LocalStack) -> None:
    """A write that has begun is seen through without a right; what is over has none, and no other call has ever."""
    async with scripted_stack.session() as (client, world), wire(world) as heard:
        await scripted_stack.fault(how="error", action="RenewInstance", code="IncorrectInstanceStatus", status=403)
        asked = await client.ask(f"renew {WEB} for 3 weeks", agent=OPERATOR)
        await see_through(client, asked.run)
        before = await scripted_stack.effects()
        genuine, raw = await heard.call(asked.run)
        body = genuine.body
        assert isinstance(body, CallTool)
        tried = (await failed(world, asked.run, genuine.id)).failure
        assert "IncorrectInstanceStatus" in f"{tried.type}{tried.what}{tried.why}"
        plain = {name: value for name, value in genuine.material.items() if name != MATERIAL}
        other = body.call.model_copy(update={"arguments": {**body.call.arguments, "InstanceId": DATABASE}})
        for call in (body.call, other):
            forged = replace(genuine, body=body.model_copy(update={"call": call}), material=plain)
            await world.bus.send(forged, resent=False)
            async with asyncio.timeout(30):
                while await waiting(world, raw.subject):
                    await asyncio.sleep(0.05)
    assert await scripted_stack.effects() == before
