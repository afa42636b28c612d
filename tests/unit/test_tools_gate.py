"""The gate of a host of tools: what it refuses, what it has vouched for, and what it sees through all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from runtime.bus import ServiceInfo
from runtime.errors import NotAsked, NotYet, Unreachable
from runtime.memory_broker import MemoryBroker
from schemas import subjects
from schemas.canonical import canonical
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Order
from schemas.events import Failure
from schemas.policy import Revocation
from schemas.tools import write_key
from services.tools.gate import Gate, keys_from_the_bus
from services.tools.ledger import Intent
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.revocations import Revocations
from tests.support.builders import CLOCK, NOW, RENEW, TENANT, call, order_for, run_of
from tests.support.rights import KEYS, ROGUE, KeysInMemory, Voucher, context, gate, signed, trusting
from tests.support.simulation import LoopClock, in_virtual_time

READ = CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")
PLAN = PlanCall(call=call("renew", months=1), card_hash=RENEW.hash(), host="cloud")
WRITE = CallTool(call=PLAN.call, card_hash=RENEW.hash(), host="cloud", plan="p" * 32, approval="a" * 32, write_key="k" * 32)


def revocation(id: str = "r1", **about: object) -> Revocation:
    return Revocation.model_validate({"id": id, "tenant": TENANT, "by": "olga", "reason": "audit", "since": NOW, **about})


@asynccontextmanager
async def bus(
    voucher: Voucher | None = None, revoked: Callable[[], list[Revocation]] | None = None, keys: KeysInMemory = KEYS
) -> AsyncIterator[MemoryBroker]:
    """A bus on which a conductor vouches and a policy service tells what is revoked."""
    broker = MemoryBroker()

    async def told(raw: bytes) -> bytes:
        assert json.loads(raw) == {"tenant": TENANT}
        return canonical([each.model_dump(mode="json") for each in (revoked or list)()])

    async def public(_: bytes) -> bytes:
        import base64

        return canonical({"keys": {id: base64.b64encode(raw).decode() for id, raw in keys.trusted().items()}})

    conductor = {"capability": voucher or Voucher(), "capability_keys": public}
    async with (
        broker.serve(ServiceInfo("conductor", "1", "-"), conductor, dict),
        broker.serve(ServiceInfo("policy", "1", "-"), {"revocations": told}, dict),
    ):
        yield broker


async def asked(gate: Gate, order: Order, broker: MemoryBroker, attempt: int = 1) -> Failure | None:
    assert isinstance(order.body, PlanCall | CallTool)
    return await gate(order.body, context(order, broker, attempt))


def id_of(order: Order, id: str) -> Order:
    return replace(order, header=order.header.model_copy(update={"id": id, "subject": id}))


@in_virtual_time
async def test_what_the_conductor_has_signed_passes() -> None:
    async with bus() as broker:
        guard = gate(broker, LoopClock())
        for number, command in enumerate((READ, PLAN, WRITE)):
            assert await asked(guard, signed(order_for(command, id=f"{number:032x}")), broker) is None


@in_virtual_time
async def test_what_carries_no_right_is_refused_whatever_version_it_claims() -> None:
    async with bus() as broker:
        guard = gate(broker, LoopClock())
        for decider in ("3", "4"):
            order = order_for(WRITE)
            order = replace(order, header=order.header.model_copy(update={"decider": decider}))
            failure = await asked(guard, order, broker)
            assert failure and failure.type == "CapabilityMissing" and failure.why and failure.hint


@in_virtual_time
async def test_forged_and_altered_orders_are_refused() -> None:
    genuine = signed(order_for(WRITE))
    altered = replace(genuine, body=WRITE.model_copy(update={"call": call("renew", months=12)}))
    elsewhere = replace(genuine, header=genuine.header.model_copy(update={"run": run_of("other")}))
    async with bus() as broker:
        guard = gate(broker, LoopClock())
        for order, kind in (
            (signed(order_for(WRITE), ROGUE), "UnknownKey"),
            (altered, "CapabilityMismatch"),
            (elsewhere, "CapabilityMismatch"),
            (id_of(genuine, "d" * 32), "CapabilityMismatch"),
        ):
            failure = await asked(guard, order, broker)
            assert failure and failure.type == kind


@in_virtual_time
async def test_a_right_that_ran_out_in_the_queue_is_renewed_while_its_run_wants_the_call() -> None:
    late = NOW - timedelta(hours=1)
    fresh = signed(order_for(WRITE))
    voucher = Voucher(fresh)
    async with bus(voucher) as broker:
        guard = gate(broker, LoopClock())
        assert await asked(guard, signed(order_for(WRITE), now=late), broker) is None
        assert voucher.asked == 1
        failure = await asked(guard, signed(order_for(READ, id="d" * 32), now=late), broker)
        assert failure and failure.type == "CapabilityExpired"


@in_virtual_time
async def test_an_order_in_the_name_of_another_is_dropped_without_an_answer() -> None:
    """An answer would take the place of the genuine one's."""
    genuine = signed(order_for(WRITE))
    altered = replace(genuine, body=WRITE.model_copy(update={"call": call("renew", months=12)}))
    async with bus(Voucher(genuine)) as broker:
        guard = gate(broker, LoopClock())
        with pytest.raises(NotAsked):
            await asked(guard, altered, broker)
        assert await asked(guard, genuine, broker) is None


@in_virtual_time
async def test_an_order_of_an_earlier_version_passes_if_the_conductor_vouches_for_it() -> None:
    old = order_for(READ)
    async with bus(Voucher(signed(old))) as broker:
        assert await asked(gate(broker, LoopClock()), old, broker) is None


@in_virtual_time
async def test_while_the_conductor_is_away_nothing_is_refused_for_good() -> None:
    broker = MemoryBroker()
    with pytest.raises(Unreachable):
        await asked(gate(broker, LoopClock()), order_for(READ), broker)


@in_virtual_time
async def test_a_right_is_used_once() -> None:
    """What comes again as new is looked at as a repeated delivery: those ask the log first."""
    order = signed(order_for(READ))
    async with bus() as broker:
        guard = gate(broker, LoopClock())
        assert await asked(guard, order, broker) is None
        with pytest.raises(NotYet):
            await asked(guard, order, broker)
        assert await asked(guard, order, broker, attempt=2) is None


@in_virtual_time
async def test_keys_are_changed_while_hosts_work() -> None:
    keys = KeysInMemory(1)
    async with bus() as broker:
        guard = gate(broker, LoopClock(), trusting(keys))
        assert await asked(guard, signed(order_for(READ), keys), broker) is None
        await asyncio.sleep(2)  # the last look was a while ago
        keys.pairs.insert(0, KeysInMemory(2).pairs[0])
        assert await asked(guard, signed(order_for(READ, id="d" * 32), keys), broker) is None, "a new key is looked for"
        old = KeysInMemory(1)
        assert await asked(guard, signed(order_for(READ, id="e" * 32), old), broker) is None, "the old one is still good"
        keys.pairs.pop()
        await asyncio.sleep(61)
        failure = await asked(guard, signed(order_for(READ, id="f" * 32), old), broker)
        assert failure and failure.type == "UnknownKey"


@in_virtual_time
async def test_a_key_that_is_changed_right_after_the_last_look_is_found_too() -> None:
    keys = KeysInMemory(1)
    new = KeysInMemory(2)
    order = signed(order_for(READ, id="d" * 32), new)
    async with bus(Voucher(order)) as broker:
        guard = gate(broker, LoopClock(), trusting(keys))
        assert await asked(guard, signed(order_for(READ), keys), broker) is None
        keys.pairs[:] = new.pairs
        assert await asked(guard, order, broker) is None


@in_virtual_time
async def test_a_host_without_keys_of_its_own_asks_its_bus() -> None:
    async with bus() as broker:
        guard = gate(broker, LoopClock(), keys_from_the_bus(broker))
        assert await asked(guard, signed(order_for(READ)), broker) is None
        failure = await asked(guard, signed(order_for(READ, id="d" * 32), ROGUE), broker)
        assert failure and failure.type == "UnknownKey"


ABOUT: list[tuple[Mapping[str, object], bool]] = [
    ({}, True),
    ({"tool": "renew"}, True),
    ({"tool": "clock"}, False),
    ({"user": "ann"}, True),
    ({"user": "bob"}, False),
    ({"agent": "assistant"}, True),
    ({"run": run_of()}, True),
    ({"run": run_of("other")}, False),
    ({"tool": "renew", "user": "bob"}, False),
    ({"until": NOW - timedelta(seconds=1)}, False),
    ({"until": NOW + timedelta(hours=1)}, True),
    ({"tenant": "umbrella"}, False),
]


@pytest.mark.parametrize(("about", "refused"), ABOUT)
def test_what_is_revoked_is_refused_at_once(about: Mapping[str, object], refused: bool) -> None:
    @in_virtual_time
    async def run() -> None:
        told = revocation(**about)
        async with bus() as broker:
            guard = gate(broker, LoopClock())
            async with broker.hear(*next(iter(guard.hears.items()))):
                assert await asked(guard, signed(order_for(PLAN)), broker) is None
                await broker.tell(subjects.revoke(told.tenant), told.model_dump_json().encode())
                failure = await asked(guard, signed(order_for(WRITE, id="d" * 32)), broker)
                assert (failure is not None and failure.type == "Revoked") == refused
                if failure:
                    assert "olga" in failure.why and "audit" in failure.why
                    lifted = told.model_copy(update={"until": NOW - timedelta(seconds=1)})
                    await broker.tell(subjects.revoke(told.tenant), lifted.model_dump_json().encode())
                    assert await asked(guard, signed(order_for(WRITE, id="e" * 32)), broker) is None

    run()


@in_virtual_time
async def test_a_revocation_under_another_tenants_subject_counts_for_nothing() -> None:
    async with bus() as broker:
        guard = gate(broker, LoopClock())
        await guard.revocations.heard(subjects.revoke("umbrella"), revocation().model_dump_json().encode())
        await guard.revocations.heard(subjects.revoke(TENANT), b"{")
        assert await asked(guard, signed(order_for(WRITE)), broker) is None


@in_virtual_time
async def test_what_was_revoked_before_the_host_began_is_asked_for() -> None:
    async with bus(revoked=lambda: [revocation(tool="renew")]) as broker:
        failure = await asked(gate(broker, LoopClock()), signed(order_for(WRITE)), broker)
        assert failure and failure.type == "Revoked"


@in_virtual_time
async def test_a_write_waits_a_moment_for_the_policy_service_and_then_goes_on() -> None:
    broker, clock = MemoryBroker(), LoopClock()
    guard = Gate(trusting(), broker, clock, Revocations(broker, patience_s=5.0))
    begun = clock.now()
    assert await asked(guard, signed(order_for(READ)), broker) is None
    assert clock.now() == begun, "a read does not wait"
    assert await asked(guard, signed(order_for(WRITE, id="d" * 32)), broker) is None
    assert timedelta(seconds=5) <= clock.now() - begun < timedelta(seconds=6)


KEY = write_key(TENANT, "renew", {"months": 1}, "s1")
BEGUN = WRITE.model_copy(update={"write_key": KEY})


def planned(command: CallTool = BEGUN, *, state: str = "s1") -> Order:
    return replace(order_for(command), material={"state": state})


@in_virtual_time
async def test_a_write_that_has_begun_is_seen_through() -> None:
    """Its outcome must be known; that it was sent stands in the ledger."""
    ledger, order = MemoryEffectLedger(), signed(planned())
    async with bus(revoked=lambda: [revocation()]) as broker:
        guard = Gate(trusting(), broker, LoopClock(), Revocations(broker), ledger)
        await ledger.claim(intent(order), "token", NOW, 60.0)
        failure = await asked(guard, order, broker)
        assert failure and failure.type == "Revoked", "what is claimed and was not sent has not begun"
        await ledger.hold(KEY, TENANT, "token", 60.0, sending=True)
        assert await asked(guard, order, broker, attempt=2) is None
        other = await asked(guard, id_of(order, "d" * 32), broker)
        assert other, "another command has not begun it"


@in_virtual_time
async def test_what_has_begun_opens_the_gate_for_nothing_else() -> None:
    """Ids and keys of effects are no secrets: whoever asks the ledger's questions knows them."""
    ledger, order = MemoryEffectLedger(), signed(planned())
    async with bus() as broker:
        guard = Gate(trusting(), broker, LoopClock(), Revocations(broker), ledger)
        await ledger.claim(intent(order), "token", NOW, 60.0)
        await ledger.hold(KEY, TENANT, "token", 60.0, sending=True)
        for number, forged in enumerate((
            planned(BEGUN.model_copy(update={"call": call("renew", months=12)})),
            planned(BEGUN.model_copy(update={"call": call("destroy", months=1)})),
            planned(BEGUN.model_copy(update={"write_key": KEY[:8]})),
            planned(state="s2"),
            replace(planned(), header=planned().header.model_copy(update={"run": run_of("other")})),
        )):  # fmt: skip
            failure = await asked(guard, forged, broker)
            assert failure and failure.type == "CapabilityMissing", number
        assert await asked(guard, planned(), broker) is None


@in_virtual_time
async def test_a_write_that_failed_is_not_begun_again_without_a_right() -> None:
    ledger, order = MemoryEffectLedger(), planned()
    async with bus() as broker:
        guard = Gate(trusting(), broker, LoopClock(), Revocations(broker), ledger)
        await ledger.claim(intent(order), "token", NOW, 60.0)
        await ledger.hold(KEY, TENANT, "token", 60.0, sending=True)
        await ledger.fail(KEY, TENANT, "token", {}, NOW)
        failure = await asked(guard, order, broker)
        assert failure and failure.type == "CapabilityMissing"


def intent(order: Order) -> Intent:
    return Intent(key=KEY, base=KEY, tenant=TENANT, run=order.run, command=order.id, lane="cloud", tool="renew")
