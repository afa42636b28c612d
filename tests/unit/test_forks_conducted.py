"""What a conductor makes of a fork: nothing while it is held, all that is open then, and no write for any host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runtime import forked
from runtime.capability import MATERIAL, Issuer
from runtime.conductor import Conductor
from runtime.forked import is_sent
from runtime.memory_broker import MemoryBroker
from schemas import subjects
from schemas.canonical import canonical
from schemas.commands import CallTool, Generate, RecallMemory, StartTimer
from schemas.envelope import Fact, Order, decode_fact, encode
from schemas.events import CancelRequested
from schemas.ids import CANCEL_SLOT, END_SLOT
from tests.support.builders import RENEW, fact_of
from tests.support.forked_run import ForkUnderTest
from tests.support.rights import KEYS
from tests.support.simulation import LoopClock, in_virtual_time
from tests.unit.test_forks import DONE, GRANTED, original


class Sent(MemoryBroker):
    """Notes what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Order] = []

    async def send(self, order: Order, *, resent: bool = False) -> None:
        self.sent.append(order)
        await super().send(order, resent=resent)


@asynccontextmanager
async def conducting(broker: Sent, sweep_s: float = 5.0) -> AsyncIterator[Conductor]:
    conductor = Conductor(broker, broker, LoopClock(), name="c", sweep_s=sweep_s, issuer=Issuer(KEYS))
    task = asyncio.create_task(conductor.run())
    yield conductor
    task.cancel()
    await asyncio.wait({task})


async def put(broker: Sent, facts: list[Fact]) -> None:
    for fact in facts:
        await broker.append(decode_fact(encode(fact)))


async def settled(conductor: Conductor, facts: int) -> None:
    while conductor.facts < facts:
        await asyncio.sleep(1)
    await asyncio.sleep(20)  # virtual: whatever a sweep sends has been sent


@in_virtual_time
async def test_nothing_is_sent_before_the_last_answer_is_there_and_then_all_that_is_open() -> None:
    fork, broker = ForkUnderTest(original(), DONE), Sent()
    async with conducting(broker, sweep_s=86400) as conductor:  # the facts alone must move it
        await put(broker, [fork.first, *fork.copied[:-1]])
        await settled(conductor, len(fork.copied))
        assert broker.sent == []
        await put(broker, fork.copied[-1:])
        await settled(conductor, len(fork.copied) + 1)
    assert {type(order.body) for order in broker.sent} == {Generate, StartTimer}
    assert {order.id for order in broker.sent} == fork.state.outstanding.keys()


@in_virtual_time
async def test_a_conductor_that_comes_later_sends_what_is_open() -> None:
    fork, broker = ForkUnderTest(original(), DONE), Sent()
    await put(broker, [fork.first, *fork.copied])
    async with conducting(broker) as conductor:
        await settled(conductor, len(fork.copied) + 1)
    assert {order.id for order in broker.sent} == fork.state.outstanding.keys()


@in_virtual_time
async def test_a_held_fork_that_the_recorder_calls_off_ends() -> None:
    fork, broker = ForkUnderTest(original(), DONE), Sent()
    off = CancelRequested(by="the recorder", reason="its past is gone")
    async with conducting(broker) as conductor:
        await put(broker, [fork.first, *fork.copied[:3], fact_of(off, fork.id, CANCEL_SLOT, role="recorder", time=fork.now)])
        while not await broker.holds(fork.id, "acme", "conductor", END_SLOT):
            await asyncio.sleep(1)
        await put(broker, fork.copied[3:])
        await settled(conductor, len(fork.copied) + 3)
    assert broker.sent == []


def test_what_others_would_remember_is_asked_of_nobody() -> None:
    fork = ForkUnderTest(original(), DONE)
    first = next(each.command for each in fork.decided if isinstance(each.command, RecallMemory))
    assert not is_sent(fork.state, first)


@pytest.mark.parametrize("wall", ["none", "the list of what is sent"])
def test_a_fold_that_sends_a_write_to_its_host_gets_no_right_to_it(wall: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile on purpose: the fold decides as if a fork were no fork, and a second wall falls with the first."""
    monkeypatch.setattr("runtime.calls.host_of", lambda state, card: card.lane)
    if wall != "none":
        monkeypatch.setattr("runtime.conductor.is_sent", lambda state, command: True)

    @in_virtual_time
    async def conducted() -> None:
        fork, broker = ForkUnderTest(original(), GRANTED), Sent()
        (command,) = [each for each in fork.state.outstanding.values() if isinstance(each, CallTool)]
        assert command.host == RENEW.lane and command.write_key and forked.writes_the_world(fork.state, command)
        async with conducting(broker) as conductor:
            await put(broker, [fork.first, *fork.copied])
            await settled(conductor, len(fork.copied) + 1)
            asked = {"tenant": "acme", "run": fork.id, "command": fork.id_of(command)}
            told = await broker.ask(subjects.question("conductor", "capability"), canonical(asked), 5.0)
        writes = [order for order in broker.sent if isinstance(order.body, CallTool)]
        assert bool(writes) == (wall != "none")
        assert all(MATERIAL not in order.material for order in writes), "its host refuses it: CapabilityMissing"
        assert json.loads(told) == {"capability": None}, "and nobody vouches for it"

    conducted()
