"""What is in doubt is found out and told: in the background, by a person, and with its run's log gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from runtime.errors import Retryable, Unreachable
from runtime.memory_broker import MemoryBroker
from schemas.canonical import JsonObject, canonical, read_json
from schemas.commands import CallTool
from schemas.envelope import Fact
from schemas.errors import MilepostError, ProtocolError
from schemas.events import EffectSettled, ToolInDoubt, ToolReturned
from schemas.ids import settled_slot
from services.tools.effects import reconcile_verb
from services.tools.ledger import FIRST_LOOK_S, GRACE_S, Effect, NotYours, Settled, UnknownEffect
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.writing import LEASE_S
from tests.support.builders import TENANT, fact_of, run_of
from tests.support.shop import Counter, Shop
from tests.support.simulation import in_virtual_time
from tool_adapters.tool import OutcomeUnknown, ToolUnavailable

COMMAND = "2" * 32


async def in_doubt(shop: Shop, broker: MemoryBroker | None = None) -> tuple[Counter, str]:
    """A sale that nobody knows about, and its key."""
    counter = Counter(shop, broker=broker or MemoryBroker())
    shop.after, shop.knows = [OutcomeUnknown("Cut off.")], "unknown"
    plan = await counter.planned()
    assert isinstance(await counter.sell(counter.sale(plan), attempt=99), ToolInDoubt)
    return counter, plan.write_key


async def settled(counter: Counter) -> EffectSettled | None:
    facts = [stored.fact for stored in await counter.broker.read(run_of())]
    found = [fact for fact in facts if fact.slot == settled_slot(COMMAND)]
    assert len(found) <= 1
    if not found:
        return None
    assert found[0].role == "tools" and isinstance(found[0].body, EffectSettled)
    return found[0].body


async def entry(counter: Counter, key: str) -> Effect:
    found = await counter.ledger.show(TENANT, key)
    assert found is not None
    return found


async def looks(counter: Counter, seconds: float) -> None:
    """A host looks after its entries for a while."""
    work = asyncio.create_task(counter.box().upkeep())
    await asyncio.sleep(seconds)
    work.cancel()


@in_virtual_time
async def test_an_effect_in_doubt_is_asked_about_until_the_provider_knows() -> None:
    counter, key = await in_doubt(shop := Shop())
    await looks(counter, 100)
    asked = shop.asked
    assert 4 <= asked <= 6  # after 5, 15, 35 and 75 seconds or so
    assert await settled(counter) is None
    shop.knows = None
    await looks(counter, 200)
    said = await settled(counter)
    assert said and (said.call, said.write_key, said.happened, said.by) == (COMMAND, key, True, "tools/w1")
    assert said.result and said.result.text == "it was sold"
    effect = await entry(counter, key)
    assert (effect.state, effect.settled_by, effect.told) == ("done", "tools/w1", True)
    again = await counter.sell(counter.sale(await counter.planned(), id="3" * 32))
    assert isinstance(again, ToolReturned)  # a round of its own, planned knowingly
    assert shop.asked == asked + 1


@in_virtual_time
async def test_what_did_not_happen_may_be_done_later() -> None:
    counter, key = await in_doubt(shop := Shop())
    shop.knows, shop.keys, shop.sold = None, [], []
    await looks(counter, 2 * FIRST_LOOK_S)
    said = await settled(counter)
    assert said and not said.happened and said.result is None
    plan = await counter.planned()
    assert plan.write_key == key and plan.before is None
    assert isinstance(await counter.sell(counter.sale(plan, id="3" * 32)), ToolReturned)
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_provider_with_keys_is_given_the_call_again_while_it_surely_knows_the_key() -> None:
    counter, key = await in_doubt(shop := Shop(idempotency="key"))
    await looks(counter, 2 * FIRST_LOOK_S)
    said = await settled(counter)
    assert said and said.happened and said.result and said.result.text == "sold tea"
    assert (shop.sold, [each.write_key for each in shop.contexts]) == (["tea"], [key, key])


@in_virtual_time
async def test_after_the_window_of_its_key_a_person_decides() -> None:
    counter, key = await in_doubt(shop := Shop(idempotency="key"))
    await asyncio.sleep(3600)
    await looks(counter, 8 * 3600)
    assert (shop.sold, len(shop.contexts), await settled(counter)) == (["tea"], 1, None)
    assert shop.asked > 5
    await counter.box().settler.settle(TENANT, key, happened=True, by="ann", note="seen in the console")  # type: ignore[union-attr]
    said = await settled(counter)
    assert said and (said.happened, said.by, said.note) == (True, "ann", "seen in the console")


@in_virtual_time
async def test_a_claim_whose_worker_died_for_good_is_settled() -> None:
    counter = Counter(shop := Shop(planning=None))
    plan = await counter.planned()
    shop.planning = asyncio.Event().wait  # it dies between claim and send
    dying = asyncio.create_task(counter.sell(counter.sale(plan)))
    await asyncio.sleep(1)
    dying.cancel()
    await looks(counter, LEASE_S + GRACE_S - 5)
    assert await settled(counter) is None
    await looks(counter, 20)
    said = await settled(counter)
    assert said and not said.happened
    assert (shop.asked, shop.sold) == (0, [])  # what was never sent need not be asked about


@in_virtual_time
async def test_a_claim_that_may_have_been_sent_and_that_nobody_knows_of_comes_into_doubt() -> None:
    counter = Counter(shop := Shop(idempotency="none", knows="unknown"))
    plan = await counter.planned()
    shop.after = [asyncio.CancelledError()]  # type: ignore[list-item]  # the process dies right after it was sold
    with pytest.raises(asyncio.CancelledError):
        await counter.sell(counter.sale(plan))
    await looks(counter, LEASE_S + GRACE_S + 10)
    assert (await entry(counter, plan.write_key)).state == "in_doubt"
    assert isinstance(await counter.sell(counter.sale(plan), attempt=2), ToolInDoubt)
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_receipt_that_only_the_log_has_is_written_into_the_ledger_again() -> None:
    class Forgetful(MemoryEffectLedger):
        """A database that crashed right after it took the receipt."""

        lost = False

        async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject, now: datetime) -> None:
            if self.lost:
                await super().finish(key, tenant, command, receipt, now)
            self.lost = True

    counter = Counter(shop := Shop(idempotency="none", knows="unknown"), ledger=Forgetful())
    order = counter.sale(await counter.planned())
    event = await counter.sell(order)
    await counter.broker.append(fact_of(event, run_of(), COMMAND))
    assert isinstance(order.body, CallTool) and order.body.write_key
    assert (await entry(counter, order.body.write_key)).state == "committed"
    await looks(counter, LEASE_S + GRACE_S + 10)
    effect = await entry(counter, order.body.write_key)
    assert (effect.state, effect.settled_by, effect.receipt and effect.receipt["text"]) == ("done", None, "sold tea")
    assert (shop.asked, await settled(counter)) == (0, None)


@in_virtual_time
async def test_a_provider_that_is_away_is_asked_again_and_one_that_breaks_too() -> None:
    class Away(Shop):
        async def reconcile(self, arguments: dict[str, object], context: object) -> object:  # type: ignore[override]
            self.asked += 1
            raise (ToolUnavailable("Away.") if self.asked % 2 else ValueError("broken"))

    counter, key = await in_doubt(shop := Away())
    await looks(counter, 100)
    assert shop.asked >= 4 and (await entry(counter, key)).state == "in_doubt"


class Refusing(MemoryBroker):
    """A log that has lost a run's segment, or is away for a while."""

    def __init__(self, error: MilepostError) -> None:
        super().__init__()
        self.error: MilepostError | None = error

    async def append(self, fact: Fact) -> bool:
        if self.error:
            raise self.error
        return await super().append(fact)


@in_virtual_time
async def test_an_effect_is_settled_even_if_its_runs_log_is_gone() -> None:
    counter, key = await in_doubt(shop := Shop(), Refusing(ProtocolError("There is no such segment any more.")))
    shop.knows = None
    await looks(counter, 20)
    effect = await entry(counter, key)
    assert (effect.state, effect.told) == ("done", True)


@in_virtual_time
async def test_what_was_settled_while_the_log_is_away_is_told_when_it_is_back() -> None:
    broker = Refusing(Unreachable("Away."))
    counter, key = await in_doubt(shop := Shop(), broker)
    shop.knows = None
    await looks(counter, 20)
    effect = await entry(counter, key)
    assert (effect.state, effect.told, await settled(counter)) == ("done", False, None)
    broker.error = None
    await looks(counter, 60)
    assert await settled(counter) and (await entry(counter, key)).told


# --- a person ---


def asked(counter: Counter, verb: str) -> Callable[..., Awaitable[object]]:
    async def ask(**question: object) -> object:
        return read_json(await counter.box().service().answers[verb](canonical(question)), limit=1 << 20)

    return ask


@in_virtual_time
async def test_a_person_sees_what_is_in_doubt_and_says_what_became_of_it() -> None:
    counter, key = await in_doubt(Shop())
    listed = await asked(counter, "effects")(tenant=TENANT, which={"states": ["in_doubt"]})
    assert isinstance(listed, list) and [each["key"] for each in listed] == [key]
    assert await asked(counter, "effects")(tenant="globex") == []
    about = {"tenant": TENANT, "key": key[:10]}
    shown = await asked(counter, "effect")(**about)
    assert isinstance(shown, dict) and shown["error"]["type"] == "InDoubt"
    for _ in range(2):
        await asked(counter, "effect_settle")(**about, happened=False, by="ann", note="not in the mailbox")
    said = await settled(counter)
    assert said and (said.happened, said.by) == (False, "ann")
    with pytest.raises(Settled):
        await asked(counter, "effect_settle")(**about, happened=True, by="bob")
    with pytest.raises(UnknownEffect):
        await asked(counter, "effect_settle")(tenant="globex", key=key, happened=True, by="eve")
    with pytest.raises(ProtocolError):
        await asked(counter, "effect_settle")(**about, happened=True)
    await asked(counter, "effect_undone")(**about, run="run9")
    assert (await entry(counter, key)).undone_by == "run9"


@in_virtual_time
async def test_a_person_may_have_the_provider_asked_now() -> None:
    counter, key = await in_doubt(shop := Shop())
    about = {"tenant": TENANT, "key": key}
    still = await asked(counter, reconcile_verb("shop"))(**about)
    assert isinstance(still, dict) and still["state"] == "in_doubt"
    await asyncio.sleep(LEASE_S)
    shop.knows = None
    found = await asked(counter, reconcile_verb("shop"))(**about)
    assert isinstance(found, dict) and (found["state"], found["receipt"]["text"]) == ("done", "it was sold")
    with pytest.raises(NotYours):
        await asked(counter, reconcile_verb("shop"))(**about)
    assert await settled(counter)


@in_virtual_time
async def test_while_a_worker_holds_a_claim_nobody_settles_it() -> None:
    counter = Counter(shop := Shop(after=[OutcomeUnknown("Cut off.")]))
    plan = await counter.planned()
    shop.planning = asyncio.Event().wait
    work = asyncio.create_task(counter.sell(counter.sale(plan)))
    await asyncio.sleep(1)
    with pytest.raises(NotYours):
        await asked(counter, "effect_settle")(tenant=TENANT, key=plan.write_key, happened=True, by="ann")
    work.cancel()
    with pytest.raises((asyncio.CancelledError, Retryable)):
        await work
