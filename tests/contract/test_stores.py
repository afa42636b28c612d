"""What every store promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect
from infra.postgres.run_index import PostgresRunIndex
from schemas.canonical import JsonObject
from schemas.tools import Before, repeated_key
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import ERASED, EventRow, Place, Rebuilding, RunFilter, RunIndex, RunSummary, Watermark
from services.tools.ledger import (
    Claim,
    Claimed,
    Done,
    Effect,
    EffectFilter,
    EffectLedger,
    InProgress,
    Intent,
    Mine,
    NotYours,
    Settled,
    UnknownEffect,
    before_of,
)
from services.tools.memory_ledger import MemoryEffectLedger

T = TypeVar("T")

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)
GRACE_S = 0.02


@dataclass
class Stores:
    runs: RunIndex
    ledger: EffectLedger


def stores_in_postgres(engine: AsyncEngine) -> Stores:
    return Stores(
        PostgresRunIndex(engine),
        PostgresEffectLedger(engine, grace_s=GRACE_S),
    )


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield Stores(MemoryRunIndex(), MemoryEffectLedger(grace_s=GRACE_S))
        return
    engine = connect(request.getfixturevalue("postgres_url"))
    yield stores_in_postgres(engine)
    await engine.dispose()


# --- runs ---


def event(number: int, run: str = "run1") -> EventRow:
    return EventRow(
        id=f"{run}-{number}", run=run, tenant="acme", type="ToolReturned", role="tools", slot=f"s{number}",
        time=NOW + timedelta(seconds=number), stream="RUNS_202611", seq=number, summary=f"事 {number}", bytes=100,
    )  # fmt: skip


def summary(run: str = "run1", seq: int = 1, **fields: object) -> RunSummary:
    values: dict[str, object] = {
        "run": run, "tenant": "acme", "status": "open", "agent": "ops", "user": "ann", "conversation": "talk",
        "task": f"task of {run}", "started": NOW, "seq": seq,
    }  # fmt: skip
    return RunSummary.model_validate(values | fields)


async def test_recording_again_changes_nothing(stores: Stores) -> None:
    for _ in range(2):
        await stores.runs.record([event(2), event(1)], [summary(seq=2)], Watermark(stream="RUNS_202611", seq=2))
    record = await stores.runs.show("run1", "acme")
    assert record is not None
    assert [each.seq for each in record.events] == [1, 2]
    assert record.events[0] == event(1)
    assert record.summary == summary(seq=2)
    assert await stores.runs.watermark("RUNS_202611") == Watermark(stream="RUNS_202611", seq=2)


async def test_an_older_summary_or_watermark_does_not_win(stores: Stores) -> None:
    done = summary(seq=9, status="completed", answer="好", ended=SOON, steps=4, tools=("RenewInstance", "calculator"))
    await stores.runs.record([event(9)], [done], Watermark(stream="s", seq=9, created=NOW))
    await stores.runs.record([event(3)], [summary(seq=3)], Watermark(stream="s", seq=3, created=NOW))
    record = await stores.runs.show("run1")
    assert record is not None and record.summary == done and len(record.events) == 2
    assert await stores.runs.watermark("s") == Watermark(stream="s", seq=9, created=NOW)


async def test_the_watermark_of_a_remade_stream_starts_again(stores: Stores) -> None:
    assert await stores.runs.watermark("s") is None
    await stores.runs.record([], [], Watermark(stream="s", seq=9, created=NOW))
    await stores.runs.record([], [], Watermark(stream="s", seq=1, created=SOON))
    assert await stores.runs.watermark("s") == Watermark(stream="s", seq=1, created=SOON)


async def test_runs_are_listed_newest_first_by_what_is_asked(stores: Stores) -> None:
    runs = [
        summary("run1", task="renew 100% of i-bp1", status="completed", answer="done"),
        summary("run2", started=NOW + timedelta(minutes=1), agent="chat"),
        summary("run3", started=NOW + timedelta(minutes=2), user="bob", tenant="other", task="续费实例"),
    ]
    await stores.runs.record([], runs)

    async def listed(limit: int = 9, **which: object) -> list[str]:
        return [run.run for run in await stores.runs.list_runs(RunFilter.model_validate(which), limit)]

    assert await listed() == ["run3", "run2", "run1"]
    assert await listed(limit=1) == ["run3"]
    assert await listed(tenant="acme") == ["run2", "run1"]
    assert await listed(status="completed") == ["run1"]
    assert await listed(agent="chat") == ["run2"]
    assert await listed(user="bob") == ["run3"]
    assert await listed(text="续费") == ["run3"]
    assert await listed(text="RENEW 100%") == ["run1"]
    assert await listed(text="100_") == []
    assert await listed(before=NOW + timedelta(minutes=1)) == ["run1"]
    assert await listed(since=NOW + timedelta(minutes=1)) == ["run3", "run2"]
    assert await stores.runs.show("run3", "acme") is None
    assert await stores.runs.show("nothing") is None


BOTH = {"USD": "3", "CNY": "1200.00"}


async def test_runs_are_listed_by_what_they_used_and_cost(stores: Stores) -> None:
    await stores.runs.record([], [
        summary("run1", tools=("RenewInstance", "clock"), models=("qwen",), tokens=500, writes=1, money={"CNY": "99.50"}),
        summary("run2", tools=("clock",), models=("qwen", "gpt"), tokens=20, money=BOTH, status="failed"),
        summary("run3", fork_of="run1", parent="run2", conversation="other", status="waiting"),
        summary("run4", fork_of="run2", tokens=2**40),
    ])  # fmt: skip

    async def listed(**which: object) -> list[str]:
        return sorted(run.run for run in await stores.runs.list_runs(RunFilter.model_validate(which)))

    assert await listed(tool="clock") == ["run1", "run2"]
    assert await listed(tool="cloc") == []
    assert await listed(model="gpt") == ["run2"]
    assert await listed(conversation="other") == ["run3"]
    assert await listed(tokens_over=20) == ["run1", "run4"]
    assert await listed(cost_over=0) == ["run1", "run2"]
    assert await listed(cost_over=99.5) == ["run2"]
    assert await listed(status=("failed", "waiting")) == ["run2", "run3"]
    assert await listed(forks=False) == ["run1", "run2"]
    assert await listed(forks=True) == ["run3", "run4"]
    assert await listed(fork_of="run1") == await listed(fork_of="run1", forks=False) == ["run3"]
    assert await listed(tool="clock", tokens_over=20, tenant="acme") == ["run1"]
    (found,) = await stores.runs.list_runs(RunFilter(model="gpt"))
    assert found.money == BOTH and found.models == ("qwen", "gpt")
    await stores.runs.record([], [summary("run5", money={"CNY": "1" + 400 * "0"})])  # whatever a tool may say
    assert await listed(cost_over=1e300) == ["run5"]


async def test_lists_go_on_behind_a_place_also_among_runs_that_began_at_once(stores: Stores) -> None:
    await stores.runs.record([], [summary(f"run{n}", started=NOW + timedelta(minutes=n // 3)) for n in range(9)])
    found: list[str] = []
    after = None
    while page := await stores.runs.list_runs(RunFilter(tenant="acme"), 2, after):
        found += [run.run for run in page]
        after = Place(started=page[-1].started, run=page[-1].run)
    assert found == [f"run{n}" for n in reversed(range(9))]


async def test_a_text_is_found_in_lines_of_events_too(stores: Stores) -> None:
    events = [event(n, run) for run in ("run1", "run2") for n in range(1, 6)]
    await stores.runs.record(events, [summary("run1", task="续费", seq=5), summary("run2", answer="50% off", seq=5)])

    async def listed(**which: object) -> list[str]:
        return sorted(run.run for run in await stores.runs.list_runs(RunFilter.model_validate(which)))

    assert await listed(text="事 3") == []
    assert await listed(text="事 3", deep=True) == ["run1", "run2"]
    assert await listed(text="续", deep=True) == ["run1"]
    assert await listed(text="0% OFF", deep=True, tenant="acme") == ["run2"]
    assert await listed(text="事 3", deep=True, tenant="other") == []
    assert await stores.runs.lines("acme", ["run2", "run1", "run3"], "事 ", each=2) == [
        event(1), event(2), event(1, "run2"), event(2, "run2")
    ]  # fmt: skip
    assert await stores.runs.lines("other", ["run1"], "事 ") == await stores.runs.lines("acme", ["run1"], "_ ") == []


async def test_a_receipt_stays_and_a_later_one_takes_its_place(stores: Stores) -> None:
    await stores.runs.record([], [summary(seq=3)], receipts={"run1": 7, "nobody": 8})
    await stores.runs.record([], [summary(seq=4, answer="late")])
    await stores.runs.record([], [summary(seq=4, answer="late", receipt=5)], receipts={"run1": 6})
    (found,) = await stores.runs.list_runs(RunFilter())
    assert (found.answer, found.receipt) == ("late", 7)
    await stores.runs.forget("acme", "ann")
    await stores.runs.record([], [], receipts={"run1": 9})
    assert [run.receipt for run in await stores.runs.list_runs(RunFilter())] == [9]


async def test_a_forgotten_run_says_no_models_and_keeps_its_counts(stores: Stores) -> None:
    await stores.runs.record([], [summary(models=("qwen",), tools=("clock",), tokens=9, events=4, money={"CNY": "3"})])
    await stores.runs.forget("acme", "ann")
    (found,) = await stores.runs.list_runs(RunFilter())
    assert (found.models, found.tools, found.tokens, found.events, found.money) == ((), (), 9, 4, {"CNY": "3"})


async def test_while_the_index_is_made_anew_nobody_is_forgotten_by_half_of_it(stores: Stores) -> None:
    await stores.runs.record([event(1)], [summary(), summary("run2", user="bob")])
    await stores.runs.forget("acme", "ann")
    await stores.runs.begin_rebuild(drop=False)
    assert len(await stores.runs.list_runs(RunFilter())) == 2
    await stores.runs.begin_rebuild(drop=True)
    assert [(run.run, run.erased) for run in await stores.runs.list_runs(RunFilter())] == [("run1", True)]
    for refused in (stores.runs.forget("acme", "bob"), stores.runs.runs_of("acme", "bob")):
        with pytest.raises(Rebuilding):
            await refused
    await stores.runs.record([event(1)], [summary(seq=9, task="again"), summary("run2", user="bob")])
    await stores.runs.end_rebuild()
    record = await stores.runs.show("run1")
    assert record and (record.summary.task, record.events[0].summary) == (ERASED, ERASED)
    assert await stores.runs.runs_of("acme", "bob") == ["run2"]
    assert (await stores.runs.forget("acme", "bob")).runs == 1


# --- effects ---

K = "k" * 8
LEASE_S = 30.0
OVER = 0.02  # a lease that a test waits for


def intent(command: str, **fields: object) -> Intent:
    values: dict[str, object] = {
        "key": K, "base": K, "tenant": "acme", "run": f"run of {command}", "conversation": "talk",
        "user": "ann", "command": command, "lane": "cloud", "tool": "RenewInstance", "arguments": {"Period": 3},
        "planned_state": "v1", "approval": "a1", "datakey": "d1",
    }  # fmt: skip
    return Intent.model_validate(values | fields)


async def claim(ledger: EffectLedger, command: str, token: str = "", lease_s: float = LEASE_S, **fields: object) -> Claim:
    return await ledger.claim(intent(command, **fields), token or f"t-{command}", NOW, lease_s)


async def until(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until there is something: leases run by the ledger's own clock."""
    async with asyncio.timeout(5):
        while True:
            found = await ask()
            if found:
                return found
            await asyncio.sleep(0.005)


async def test_a_finished_effect_answers_with_its_receipt(stores: Stores) -> None:
    ledger = stores.ledger
    assert await claim(ledger, "c1") == Claimed()
    await ledger.finish(K, "acme", "c1", {"text": "续", "n": 1}, LATER)
    await ledger.finish(K, "acme", "c1", {"text": "another"}, LATER)
    for command in ("c1", "c2"):
        assert await claim(ledger, command) == Done(receipt={"text": "续", "n": 1}, by="c1")
    effect = await ledger.show("acme", K)
    assert effect and (effect.state, effect.since, effect.finished) == ("done", NOW, LATER)
    assert effect.model_dump(include=set(Intent.model_fields)) == intent("c1").model_dump()


async def test_a_claim_is_held_by_one_until_its_lease_ends(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    assert await claim(ledger, "c2") == InProgress(by="c1", since=NOW)
    assert await claim(ledger, "c1", "another worker") == InProgress(by="c1", since=NOW)
    assert await claim(ledger, "c2", key="another") == Claimed()


async def test_what_was_never_sent_is_claimed_again_and_the_first_worker_can_send_no_more(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1", "first", OVER)

    async def taken() -> Claim | None:
        found = await claim(ledger, "c1", "second")
        return None if isinstance(found, InProgress) else found

    assert await until(taken) == Claimed(again=True)
    assert not await ledger.hold(K, "acme", "first", LEASE_S, sending=True)
    with pytest.raises(NotYours):
        await ledger.fail(K, "acme", "first", {}, NOW)
    with pytest.raises(NotYours):
        await ledger.doubt(K, "acme", "first", {}, NOW)
    assert await ledger.hold(K, "acme", "second", LEASE_S, sending=True)
    effect = await ledger.show("acme", K)
    assert effect and effect.attempts == 2


async def test_what_may_have_been_sent_is_mine_and_says_since_when(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1", "first")
    assert await ledger.hold(K, "acme", "first", LEASE_S, sending=True, price="888.00", currency="CNY")
    await ledger.release(K, "acme", "nobody")
    assert isinstance(await claim(ledger, "c1", "second"), InProgress)
    await ledger.release(K, "acme", "first")
    mine = await claim(ledger, "c1", "second")
    assert isinstance(mine, Mine) and mine.since == NOW and 0 <= mine.last_s <= mine.first_s < 5
    assert await claim(ledger, "c2") == InProgress(by="c1", since=NOW)
    assert await ledger.hold(K, "acme", "second", LEASE_S, sending=False)
    effect = await ledger.show("acme", K)
    assert effect and (effect.price, effect.currency, effect.sent_s is not None) == ("888.00", "CNY", True)
    await ledger.finish(K, "acme", "c1", {"n": 1}, NOW)  # the first worker's receipt: it is true whoever holds the claim
    assert await claim(ledger, "c1", "third") == Done(receipt={"n": 1}, by="c1")
    assert not await ledger.hold(K, "acme", "second", LEASE_S, sending=True)


async def test_a_failed_effect_may_be_claimed_again(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.hold(K, "acme", "t-c1", LEASE_S, sending=True, price="1", currency="CNY")
    await ledger.fail(K, "acme", "t-c1", {"type": "Throttled"}, NOW)
    await ledger.fail(K, "acme", "t-c1", {"type": "Throttled"}, NOW)
    assert await ledger.claim(intent("c2"), "t-c2", LATER, OVER) == Claimed()
    assert await claim(ledger, "c1") == InProgress(by="c2", since=LATER)
    with pytest.raises(NotYours):
        await ledger.finish(K, "acme", "c1", {}, NOW)
    effect = await ledger.show("acme", K)
    assert effect and (effect.sent_s, effect.price, effect.error, effect.run) == (None, None, None, "run of c2")


async def test_a_receipt_that_comes_late_counts_even_after_a_failure_of_the_same_command(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.fail(K, "acme", "t-c1", {"type": "Throttled"}, NOW)
    await ledger.finish(K, "acme", "c1", {"n": 1}, NOW)
    assert await claim(ledger, "c2") == Done(receipt={"n": 1}, by="c1")


async def test_an_effect_in_doubt_is_for_nobody_until_it_is_settled(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.doubt(K, "acme", "t-c1", {"type": "Timeout"}, NOW)
    await ledger.doubt(K, "acme", "t-c1", {"type": "Timeout"}, NOW)
    for command in ("c1", "c2"):
        assert await claim(ledger, command, "new") == InProgress(by="c1", since=NOW, in_doubt=True)
    await ledger.finish(K, "acme", "c1", {"n": 1}, NOW)
    assert await claim(ledger, "c2") == Done(receipt={"n": 1}, by="c1")


async def test_what_is_done_stays_done_and_others_entries_are_not_changed(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    for key, who in ((K, "c2"), ("unknown", "c1")):
        for change in (ledger.finish, ledger.fail, ledger.doubt):
            with pytest.raises(NotYours):
                await change(key, "acme", who, {}, NOW)
    await ledger.finish(K, "acme", "c1", {"n": 1}, NOW)
    for change in (ledger.fail, ledger.doubt):
        with pytest.raises(NotYours):
            await change(K, "acme", "t-c1", {}, NOW)
    with pytest.raises(Settled):
        await ledger.settle(K, "acme", NOW, happened=False, by="ann")
    assert await claim(ledger, "c3") == Done(receipt={"n": 1}, by="c1")


@pytest.mark.parametrize("after_failure", [False, True])
async def test_of_many_claims_at_once_one_wins(stores: Stores, after_failure: bool) -> None:
    ledger = stores.ledger
    for key in ("k1", "k2", "k3"):
        if after_failure:
            await claim(ledger, "c0", key=key)
            await ledger.fail(key, "acme", "t-c0", {}, NOW)
        claims = await asyncio.gather(*(claim(ledger, f"c{number}", key=key) for number in range(1, 13)))
        assert claims.count(Claimed()) == 1
        winner = f"c{claims.index(Claimed()) + 1}"
        assert all(each == InProgress(by=winner, since=NOW) for each in claims if each != Claimed())


async def test_of_many_who_take_a_claim_up_again_one_holds_it(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1", "t0", 0.0)
    claims = await asyncio.gather(*(claim(ledger, "c1", f"t{number}") for number in range(1, 13)))
    assert claims.count(Claimed(again=True)) == 1 and claims.count(InProgress(by="c1", since=NOW)) == 11
    winner = claims.index(Claimed(again=True)) + 1
    held = [await ledger.hold(K, "acme", f"t{number}", LEASE_S, sending=True) for number in range(13)]
    assert held == [number == winner for number in range(13)]


async def test_rounds_of_an_effect_are_counted_by_the_last_that_happened(stores: Stores) -> None:
    ledger = stores.ledger
    assert await ledger.last_done("acme", K) is None
    for number in range(3):
        key = repeated_key(K, number)
        await claim(ledger, f"c{number}", key=key, round=number)
        await ledger.finish(key, "acme", f"c{number}", {"text": f"round {number}"}, NOW)
    await claim(ledger, "c3", key=repeated_key(K, 3), round=3)
    done = await ledger.last_done("acme", K)
    assert done and (done.round, done.command, done.receipt) == (2, "c2", {"text": "round 2"})
    assert before_of(done) == Before(run="run of c2", conversation="talk", at=NOW.isoformat(), text="round 2", times=3)
    assert await ledger.last_done("globex", K) is None


async def test_an_entry_in_doubt_is_looked_after_once_at_a_time_with_growing_pauses(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    assert await ledger.look_after("cloud", "s1", 9, LEASE_S) == []
    await ledger.doubt(K, "acme", "t-c1", {"type": "Timeout"}, NOW)
    assert await ledger.look_after("cloud", "s1", 9, LEASE_S) == []  # not yet: it was asked about just now
    effect = await ledger.take(K, "acme", "s2", OVER)
    assert (effect.state, effect.error) == ("in_doubt", {"type": "Timeout"})
    with pytest.raises(UnknownEffect):
        await ledger.take("unknown", "acme", "s3", OVER)
    await ledger.finish(K, "acme", "c1", {}, NOW)
    with pytest.raises(NotYours):
        await ledger.take(K, "acme", "s3", OVER)


async def test_a_claim_whose_worker_died_for_good_is_looked_after(stores: Stores) -> None:
    ledger = stores.ledger  # its grace is short
    await claim(ledger, "c1", lease_s=0.0, lane="elsewhere", key="other")
    await claim(ledger, "c1", lease_s=0.0)

    async def taken() -> list[Effect]:
        return await ledger.look_after("cloud", "s1", 9, OVER)

    (effect,) = await until(taken)
    assert (effect.key, effect.state, effect.sent_s) == (K, "committed", None)
    assert await taken() == []
    await ledger.doubt(K, "acme", "s1", {"type": "InDoubt"}, NOW)
    assert await claim(ledger, "c1", "late") == InProgress(by="c1", since=NOW, in_doubt=True)


@pytest.mark.parametrize("happened", [True, False])
async def test_what_was_found_out_is_told_once_and_stays(stores: Stores, happened: bool) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    with pytest.raises(NotYours):
        await ledger.settle(K, "acme", NOW, happened=happened, by="ann")
    await ledger.doubt(K, "acme", "t-c1", {"type": "Timeout"}, NOW)
    with pytest.raises(UnknownEffect):
        await ledger.settle(K, "globex", NOW, happened=happened, by="ann")
    receipt: JsonObject | None = {"text": "it is there"} if happened else None
    for _ in range(2):
        effect = await ledger.settle(K, "acme", LATER, happened=happened, by="ann", note="looked", receipt=receipt)
        assert (effect.settled_by, effect.note, effect.told, effect.finished) == ("ann", "looked", False, LATER)
        assert (effect.state, effect.receipt) == ("done" if happened else "failed", receipt)
    with pytest.raises(Settled):
        await ledger.settle(K, "acme", LATER, happened=not happened, by="bob")

    (told,) = await ledger.look_after("cloud", "s1", 9, 0.0)
    assert told.key == K
    if not happened:  # nobody claims it before its run has been told
        assert await claim(ledger, "c2") == InProgress(by="c1", since=NOW)
    await ledger.told(K, "acme")
    assert await ledger.look_after("cloud", "s1", 9, 0.0) == []
    assert await claim(ledger, "c2") == (Done(receipt={"text": "it is there"}, by="c1") if happened else Claimed())


async def test_of_two_who_settle_at_once_one_is_believed(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.doubt(K, "acme", "t-c1", {}, NOW)
    said = await asyncio.gather(
        *(ledger.settle(K, "acme", NOW, happened=number % 2 == 0, by=f"p{number}") for number in range(8)),
        return_exceptions=True,
    )
    states = {each.state for each in said if isinstance(each, Effect)}
    assert len(states) == 1 and sum(isinstance(each, Settled) for each in said) == 4


async def test_effects_are_listed_and_found_by_the_beginning_of_their_key(stores: Stores) -> None:
    ledger = stores.ledger
    for number in range(3):
        one = intent(f"c{number}", key=f"{number}0000000-{number}", tool="stop" if number == 2 else "renew")
        await ledger.claim(one, f"t{number}", NOW + timedelta(minutes=number), LEASE_S)
    await ledger.doubt("10000000-1", "acme", "t1", {}, NOW)

    async def listed(limit: int = 9, tenant: str = "acme", **which: object) -> list[str]:
        return [each.command for each in await ledger.list_effects(tenant, EffectFilter.model_validate(which), limit)]

    assert await listed() == ["c2", "c1", "c0"]
    assert await listed(1) == ["c2"]
    assert await listed(states=("in_doubt",)) == ["c1"]
    assert await listed(tool="renew") == ["c1", "c0"]
    assert await listed(run="run of c0") == ["c0"]
    assert await listed(conversation="another") == []
    assert await listed(before=NOW + timedelta(minutes=1)) == ["c0"]
    assert await listed(tenant="globex") == []
    found = await ledger.show("acme", "10000000")
    assert found and found.command == "c1"
    assert await ledger.show("acme", "1000") is None
    assert await ledger.show("acme", "%0000000") is None
    assert await ledger.show("globex", "10000000-1") is None
    await ledger.undone("10000000-1", "acme", "run9")
    found = await ledger.show("acme", "10000000")
    assert found and found.undone_by == "run9"
    await ledger.claim(intent("c9", key="10000000-9"), "t9", NOW, LEASE_S)
    with pytest.raises(UnknownEffect):
        await ledger.show("acme", "10000000")


async def test_a_fresh_claim_may_be_a_hold_as_well(stores: Stores) -> None:
    ledger = stores.ledger
    assert await ledger.claim(intent("c1"), "t1", NOW, LEASE_S, sending=True) == Claimed(sending=True)
    shown = await ledger.show("acme", K)
    assert shown is not None and shown.sent_s is not None
    await ledger.release(K, "acme", "t1")
    assert isinstance(await ledger.claim(intent("c1"), "t2", NOW, LEASE_S, sending=True), Mine)


async def test_a_claim_that_is_no_hold_was_never_sent(stores: Stores) -> None:
    ledger = stores.ledger
    assert await ledger.claim(intent("c1"), "t1", NOW, LEASE_S) == Claimed()
    shown = await ledger.show("acme", K)
    assert shown is not None and shown.sent_s is None
    await ledger.release(K, "acme", "t1")
    assert await ledger.claim(intent("c1"), "t2", NOW, LEASE_S, sending=True) == Claimed(again=True)
