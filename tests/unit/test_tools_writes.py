"""Writes through the ledger: once each, whoever dies, stops, is late or asks again."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest

from runtime.errors import NotYet, Retryable
from schemas.events import AnyEvent, ToolAsked, ToolFailed, ToolInDoubt, ToolReturned
from schemas.tools import Question, ToolResult, repeated_key, write_key
from services.tools.ledger import Effect, EffectLedger
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.reading import MAX_ATTEMPTS
from services.tools.writing import KEY_WINDOW_S, LEASE_S, Writer
from tests.support.builders import TENANT, run_of
from tests.support.shop import Counter, Shop
from tests.support.simulation import in_virtual_time
from tool_adapters.tool import NeedsAnswer, OutcomeUnknown, ToolRefused, ToolUnavailable

E = TypeVar("E")


def told(event: AnyEvent, kind: type[E]) -> E:
    assert isinstance(event, kind), event
    return event


async def entry(ledger: EffectLedger, key: str) -> Effect:
    found = await ledger.show(TENANT, key)
    assert found is not None
    return found


@in_virtual_time
async def test_a_write_happens_once_however_often_it_is_delivered() -> None:
    counter = Counter(shop := Shop())
    plan = await counter.planned()
    order = counter.sale(plan)
    for attempt in (1, 2, 3):
        event = told(await counter.sell(order, attempt=attempt), ToolReturned)
        assert (event.result.text, event.repeated) == ("sold tea", False)
    assert shop.sold == ["tea"]
    context = shop.contexts[0]
    assert (context.write_key, context.conversation, context.agent, context.command) == (
        plan.write_key,
        "talk",
        "ops",
        "2" * 32,
    )
    effect = await entry(counter.ledger, plan.write_key)
    assert (effect.state, effect.price, effect.lane, effect.conversation, effect.user) == (
        "done",
        "888.00",
        "shop",
        "talk",
        "ann",
    )


@in_virtual_time
async def test_two_runs_that_planned_on_the_same_state_share_one_effect() -> None:
    counter = Counter(shop := Shop())
    one, two = await counter.planned(), await counter.planned(run=run_of("other"))
    assert one.write_key == two.write_key and one.before is None
    events = await asyncio.gather(
        counter.sell(counter.sale(one)), counter.sell(counter.sale(two, id="3" * 32, run=run_of("other")))
    )
    assert [told(event, ToolReturned).repeated for event in events] == [False, True]
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_an_effect_on_a_state_that_came_back_is_a_round_of_its_own() -> None:
    counter = Counter(shop := Shop())
    keys = []
    for round in range(3):
        plan = await counter.planned()
        assert (plan.before.times if plan.before else 0) == round
        keys.append(plan.write_key)
        told(await counter.sell(counter.sale(plan, id=f"{round}" * 32)), ToolReturned)
        shop.stock += 1
        assert (await counter.planned()).before is None  # another state
        shop.stock -= 1
    base = write_key(TENANT, "sell", {"item": "tea"}, plan.state)
    assert keys == [repeated_key(base, round) for round in range(3)]
    assert shop.sold == ["tea"] * 3
    assert plan.before and (plan.before.run, plan.before.conversation, plan.before.text) == (run_of(), "talk", "sold tea")
    effect = await entry(counter.ledger, keys[2])
    assert (effect.base, effect.round) == (base, 2)


@in_virtual_time
async def test_a_round_that_failed_is_not_counted() -> None:
    counter = Counter(shop := Shop(before=[ToolRefused("No.", code="No")]))
    plan = await counter.planned()
    told(await counter.sell(counter.sale(plan)), ToolFailed)
    again = await counter.planned()
    assert (again.before, again.write_key) == (None, plan.write_key)
    told(await counter.sell(counter.sale(again, id="3" * 32)), ToolReturned)
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_world_that_changed_since_the_plan_is_left_alone() -> None:
    counter = Counter(shop := Shop())
    order = counter.sale(await counter.planned())
    shop.stock = 7
    assert told(await counter.sell(order), ToolFailed).failure.type == "StateChanged"
    assert shop.sold == []


@in_virtual_time
async def test_a_key_that_is_not_the_calls_own_claims_nothing_and_sends_nothing() -> None:
    """Under another effect's key it would be answered with that one's receipt, or be done twice under two keys."""
    counter = Counter(shop := Shop())
    tea, rice = await counter.planned("tea"), await counter.planned("rice")
    for key in (rice.write_key, repeated_key(rice.write_key, 1), "k" * 32):
        failure = told(await counter.sell(counter.sale(tea.model_copy(update={"write_key": key}))), ToolFailed).failure
        assert failure.type == "ForeignKey" and key[:12] in failure.why
        assert await counter.ledger.show(TENANT, key) is None
    changed = counter.sale(tea, state='{"stock":9}')  # a key is of one state, too
    assert told(await counter.sell(changed), ToolFailed).failure.type == "ForeignKey"
    assert (shop.sold, shop.contexts) == ([], [])
    told(await counter.sell(counter.sale(tea)), ToolReturned)
    assert shop.sold == ["tea"]


# --- lost answers ---


@in_virtual_time
async def test_a_lost_answer_is_asked_for_and_the_call_not_repeated() -> None:
    counter = Counter(shop := Shop(after=[OutcomeUnknown("Cut off.")]))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    event = told(await counter.sell(order, attempt=2), ToolReturned)
    assert (event.result.text, shop.sold, shop.asked) == ("it was sold", ["tea"], 1)


@in_virtual_time
async def test_a_call_that_never_arrived_is_sent_again_once_the_provider_says_so() -> None:
    counter = Counter(shop := Shop(before=[OutcomeUnknown("Cut off.")]))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    assert told(await counter.sell(order, attempt=2), ToolReturned).result.text == "sold tea"
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_with_a_key_the_same_call_is_simply_made_again_while_the_provider_knows_the_key() -> None:
    counter = Counter(shop := Shop(idempotency="key", after=[OutcomeUnknown("Cut off."), OutcomeUnknown("Cut off.")]))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    with pytest.raises(Retryable):
        await counter.sell(order, attempt=2)
    assert shop.asked == 0
    await asyncio.sleep(KEY_WINDOW_S)
    told(await counter.sell(order, attempt=3), ToolReturned)
    assert (shop.sold, shop.asked, len(shop.contexts)) == (["tea"], 1, 2)


@in_virtual_time
async def test_after_the_window_of_its_key_a_call_that_nobody_knows_of_is_in_doubt() -> None:
    counter = Counter(shop := Shop(idempotency="key", before=[OutcomeUnknown("Cut off.")], knows="unknown"))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    await asyncio.sleep(KEY_WINDOW_S)
    told(await counter.sell(order, attempt=2), ToolInDoubt)
    assert shop.sold == []


@in_virtual_time
async def test_without_key_or_query_a_lost_answer_is_in_doubt_for_everybody() -> None:
    counter = Counter(shop := Shop(idempotency="none", after=[OutcomeUnknown("Cut off.")], knows="unknown"))
    plan = await counter.planned()
    event = told(await counter.sell(counter.sale(plan)), ToolInDoubt)
    assert "milepost effects show" in event.failure.hint
    told(await counter.sell(counter.sale(plan, id="3" * 32)), ToolInDoubt)
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_refusal_after_a_lost_answer_proves_nothing() -> None:
    counter = Counter(Shop(idempotency="key", after=[OutcomeUnknown("Cut off.")]))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    counter.shop.before = [ToolRefused("You have it already.", code="Duplicate")]
    told(await counter.sell(order, attempt=2), ToolInDoubt)


# --- providers that are away, rates ---


@in_virtual_time
async def test_a_provider_that_is_away_is_tried_again_when_it_says_and_the_key_stays_free() -> None:
    busy = ToolUnavailable("Throttled.", retry_after_s=7.0)
    counter = Counter(shop := Shop(before=[busy, busy]))
    plan = await counter.planned()
    order = counter.sale(plan)
    with pytest.raises(NotYet) as later:
        await counter.sell(order)
    assert 7.0 <= later.value.delay_s <= 8.75
    assert (await entry(counter.ledger, plan.write_key)).state == "failed"
    told(await counter.sell(order, attempt=MAX_ATTEMPTS), ToolFailed)
    told(await counter.sell(order, attempt=1), ToolReturned)
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_provider_that_wants_to_be_left_alone_for_long_is_not_waited_for() -> None:
    counter = Counter(Shop(before=[ToolUnavailable("Throttled.", retry_after_s=3600.0)]))
    assert told(await counter.sell(counter.sale(await counter.planned())), ToolFailed).failure.type == "ToolUnavailable"


@in_virtual_time
async def test_a_tool_is_called_no_faster_than_its_card_allows() -> None:
    counter = Counter(shop := Shop(rate_per_min=10))
    box, loop = counter.box(), asyncio.get_running_loop()
    begun, times = loop.time(), []
    for number in range(3):
        plan = await counter.planned(f"tea {number}")
        told(await counter.sell(counter.sale(plan, id=f"{number}" * 32), box), ToolReturned)
        times.append(round(loop.time() - begun))
    assert times == [0, 6, 12]
    orders = [counter.sale(await counter.planned(f"rice {number}"), id=f"a{number}" + "0" * 30) for number in range(6)]
    ends = await asyncio.gather(*(counter.sell(order, box) for order in orders), return_exceptions=True)
    late = [each for each in ends if isinstance(each, NotYet)]
    assert late and all(each.delay_s > 20 for each in late)
    assert len(shop.sold) == 3 + len(ends) - len(late)


# --- questions ---


@in_virtual_time
async def test_a_tool_that_asks_before_it_sells_gives_its_claim_back() -> None:
    question = Question(id="q1", text="Which colour?", fields={"type": "object", "properties": {"colour": {"type": "string"}}})
    counter = Counter(shop := Shop(before=[NeedsAnswer(question)]))
    plan = await counter.planned()
    assert told(await counter.sell(counter.sale(plan)), ToolAsked).question == question
    assert (await entry(counter.ledger, plan.write_key)).state == "failed"
    answered = counter.sale(plan, id="3" * 32, answers={"q1": {"colour": "red"}, "q2": None})
    told(await counter.sell(answered), ToolReturned)
    assert shop.contexts[-1].answers == {"q1": {"colour": "red"}, "q2": None}
    assert shop.sold == ["tea"]


@in_virtual_time
async def test_a_question_after_a_lost_answer_is_in_doubt() -> None:
    counter = Counter(shop := Shop(idempotency="key", after=[OutcomeUnknown("Cut off.")]))
    order = counter.sale(await counter.planned())
    with pytest.raises(Retryable):
        await counter.sell(order)
    shop.before = [NeedsAnswer(Question(id="q1", text="Again?"))]
    told(await counter.sell(order, attempt=2), ToolInDoubt)


# --- workers that stop ---


class Stopping(MemoryEffectLedger):
    """Stops a worker as SIGSTOP does, right before or right after its last look at the ledger."""

    def __init__(self, inner: MemoryEffectLedger, where: str) -> None:
        self.__dict__ = inner.__dict__  # the same rows
        self.where, self.stopped, self.go_on = where, asyncio.Event(), asyncio.Event()

    async def hold(
        self, key: str, tenant: str, token: str, lease_s: float, *, sending: bool,
        price: str | None = None, currency: str | None = None,
    ) -> bool:  # fmt: skip
        held = self.where != "after" or await super().hold(key, tenant, token, lease_s, sending=sending)
        if not self.stopped.is_set():
            self.stopped.set()
            await self.go_on.wait()
        return held if self.where == "after" else await super().hold(key, tenant, token, lease_s, sending=sending)


@pytest.mark.parametrize("idempotency", ["key", "query", "none"])
def test_a_worker_that_was_stopped_before_it_sent_does_not_send_after_another_did(idempotency: str) -> None:
    @in_virtual_time
    async def run() -> None:
        counter = Counter(shop := Shop(idempotency=idempotency))  # type: ignore[arg-type]
        assert isinstance(counter.ledger, MemoryEffectLedger)
        stopping = Stopping(counter.ledger, "before")
        order = counter.sale(await counter.planned())
        first = asyncio.create_task(counter.sell(order, counter.box(stopping)))
        await stopping.stopped.wait()
        second = told(await counter.sell(order, attempt=2), ToolReturned)
        stopping.go_on.set()
        assert told(await first, ToolReturned) == second
        assert (shop.sold, shop.asked, second.repeated) == (["tea"], 0, False)

    run()


@in_virtual_time
async def test_a_worker_that_was_stopped_after_its_last_look_sees_how_late_it_is() -> None:
    counter = Counter(shop := Shop())
    assert isinstance(counter.ledger, MemoryEffectLedger)
    stopping, seconds = Stopping(counter.ledger, "after"), [0.0]
    order, box = counter.sale(await counter.planned()), counter.box(stopping)
    box.writer = Writer(stopping, box.clock, box.rates, lane="shop", monotonic=lambda: seconds[0])
    first = asyncio.create_task(counter.sell(order, box))
    await stopping.stopped.wait()
    second = told(await counter.sell(order, attempt=2), ToolReturned)
    seconds[0] = LEASE_S
    stopping.go_on.set()
    assert told(await first, ToolReturned) == second
    assert (shop.sold, shop.asked) == (["tea"], 1)


@in_virtual_time
async def test_a_slow_call_keeps_its_claim_and_the_other_waits_for_its_receipt() -> None:
    class Slow(Shop):
        async def call(self, arguments: dict[str, object], context: object) -> ToolResult:
            await asyncio.sleep(3 * LEASE_S - 0.5)
            return await super().call(arguments, context)  # type: ignore[arg-type]

    counter = Counter(shop := Slow())
    order = counter.sale(await counter.planned())
    events = await asyncio.gather(counter.sell(order), counter.sell(order, attempt=2))
    assert [told(event, ToolReturned).result.text for event in events] == ["sold tea", "sold tea"]
    assert shop.sold == ["tea"]
