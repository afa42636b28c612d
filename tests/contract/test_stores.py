"""What every store promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect
from infra.postgres.run_index import PostgresRunIndex
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import EventRow, RunFilter, RunIndex, RunSummary, Watermark
from services.tools.ledger import Claim, Claimed, Done, EffectLedger, InProgress, MemoryEffectLedger, Mine, NotYours

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)


@dataclass
class Stores:
    runs: RunIndex
    ledger: EffectLedger


def stores_in_postgres(engine: AsyncEngine) -> Stores:
    return Stores(
        PostgresRunIndex(engine),
        PostgresEffectLedger(engine),
    )


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield Stores(MemoryRunIndex(), MemoryEffectLedger())
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
    assert await stores.runs.show("run3", "acme") is None
    assert await stores.runs.show("nothing") is None


# --- effects ---


async def claim(ledger: EffectLedger, command: str, key: str = "k", now: datetime = NOW) -> Claim:
    return await ledger.claim(key, "acme", f"run of {command}", command, "RenewInstance", {"Period": 3}, "v1", now)


async def test_a_finished_effect_answers_with_its_receipt(stores: Stores) -> None:
    ledger = stores.ledger
    assert await claim(ledger, "c1") == Claimed()
    await ledger.finish("k", "acme", "c1", {"text": "续", "n": 1})
    await ledger.finish("k", "acme", "c1", {"text": "another"})
    for command in ("c1", "c2"):
        assert await claim(ledger, command) == Done(receipt={"text": "续", "n": 1}, by="c1")


async def test_a_claimed_effect_is_in_progress_for_others_and_mine_for_its_command(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    assert await claim(ledger, "c2", now=LATER) == InProgress(by="c1", since=NOW)
    assert await claim(ledger, "c1", now=LATER) == Mine(since=NOW)
    assert await claim(ledger, "c2", key="another") == Claimed()


async def test_a_failed_effect_may_be_claimed_again(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.fail("k", "acme", "c1", {"type": "Throttled"})
    await ledger.fail("k", "acme", "c1", {"type": "Throttled"})
    assert await claim(ledger, "c2", now=LATER) == Claimed()
    assert await claim(ledger, "c1") == InProgress(by="c2", since=LATER)
    with pytest.raises(NotYours):
        await ledger.finish("k", "acme", "c1", {})


async def test_an_effect_in_doubt_is_for_nobody_until_it_is_settled(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.doubt("k", "acme", "c1", {"type": "Timeout"})
    await ledger.doubt("k", "acme", "c1", {"type": "Timeout"})
    assert await claim(ledger, "c2") == InProgress(by="c1", since=NOW, in_doubt=True)
    assert await claim(ledger, "c1") == Mine(since=NOW, in_doubt=True)
    await ledger.finish("k", "acme", "c1", {"n": 1})
    assert await claim(ledger, "c2") == Done(receipt={"n": 1}, by="c1")


async def test_what_is_done_stays_done_and_others_entries_are_not_changed(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    for change in (ledger.finish, ledger.fail, ledger.doubt):
        with pytest.raises(NotYours):
            await change("k", "acme", "c2", {})
        with pytest.raises(NotYours):
            await change("unknown", "acme", "c1", {})
    await ledger.finish("k", "acme", "c1", {"n": 1})
    for change in (ledger.fail, ledger.doubt):
        with pytest.raises(NotYours):
            await change("k", "acme", "c1", {})
    assert await claim(ledger, "c3") == Done(receipt={"n": 1}, by="c1")


@pytest.mark.parametrize("after_failure", [False, True])
async def test_of_many_claims_at_once_one_wins(stores: Stores, after_failure: bool) -> None:
    ledger = stores.ledger
    for key in ("k1", "k2", "k3"):
        if after_failure:
            await claim(ledger, "c0", key)
            await ledger.fail(key, "acme", "c0", {})
        claims = await asyncio.gather(*(claim(ledger, f"c{number}", key) for number in range(1, 13)))
        assert claims.count(Claimed()) == 1
        winner = f"c{claims.index(Claimed()) + 1}"
        assert all(each == InProgress(by=winner, since=NOW) for each in claims if each != Claimed())
