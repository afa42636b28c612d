"""What the stores promise that keep keys and forget people, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.master_key import MasterKey, MasterKeyError
from infra.postgres.data_keys import PostgresForgettings, PostgresKeyStore
from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect, transaction
from infra.postgres.run_index import PostgresRunIndex
from runtime.keyring import BeingForgotten
from services.memory.forgetting import Forgetting, ForgettingStore, Report
from services.memory.keys import KeyStore
from services.memory.memory_keys import MemoryKeyStore
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import ERASED, EventRow, RunFilter, RunIndex, RunSummary
from services.tools.ledger import FORGOTTEN, Claimed, Done, EffectLedger, Intent
from services.tools.memory_ledger import MemoryEffectLedger

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MASTER = MasterKey(b"m" * 32)
CANARY = "canary-4471-of-ann"


@dataclass
class Stores:
    keys: KeyStore
    forgettings: ForgettingStore
    runs: RunIndex
    ledger: EffectLedger


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        keys = MemoryKeyStore()
        yield Stores(keys, keys, MemoryRunIndex(), MemoryEffectLedger())
        return
    engine = connect(request.getfixturevalue("postgres_url"))
    key_store = PostgresKeyStore(engine, MASTER)
    yield Stores(key_store, PostgresForgettings(engine), PostgresRunIndex(engine), PostgresEffectLedger(engine))
    await engine.dispose()


# --- keys ---


async def test_all_who_ask_for_a_new_users_key_at_once_get_the_same(stores: Stores) -> None:
    made = await asyncio.gather(*(stores.keys.key_of("acme", "ann") for _ in range(12)))
    assert len({(key.id, key.secret) for key in made}) == 1 and len(made[0].secret or b"") == 32


async def test_users_and_tenants_have_keys_of_their_own_and_get_no_others(stores: Stores) -> None:
    ann, bob = await stores.keys.key_of("acme", "ann"), await stores.keys.key_of("acme", "bob")
    other = await stores.keys.key_of("other", "ann")
    assert len({ann.secret, bob.secret, other.secret}) == 3
    assert await stores.keys.key("acme", ann.id) == ann
    assert await stores.keys.key("other", ann.id) is None
    assert await stores.keys.key("acme", "f" * 32) is None


async def test_a_destroyed_key_is_known_by_its_id_and_gone_for_good(stores: Stores) -> None:
    ann, bob = await stores.keys.key_of("acme", "ann"), await stores.keys.key_of("acme", "bob")
    assert await stores.keys.destroy("other", "ann") == ()
    assert await stores.keys.destroy("acme", "ann") == (ann.id,)
    assert await stores.keys.destroy("acme", "ann") == ()
    gone = await stores.keys.key("acme", ann.id)
    assert gone is not None and gone.secret is None
    assert await stores.keys.key("acme", bob.id) == bob
    again = await stores.keys.key_of("acme", "ann")
    assert again.id != ann.id and again.secret != ann.secret


async def test_a_secret_is_not_in_the_database_as_it_is(engine: AsyncEngine) -> None:
    key = await PostgresKeyStore(engine, MASTER).key_of("acme", "ann")
    async with transaction(engine) as connection:
        (wrapped,) = (await connection.execute(text("SELECT wrapped FROM data_keys"))).scalars()
    assert key.secret and key.secret not in bytes(wrapped)
    with pytest.raises(MasterKeyError):
        await PostgresKeyStore(engine, MasterKey(b"n" * 32)).key("acme", key.id)


# --- forgettings ---


def forgetting(id: str = "f1", user: str = "ann") -> Forgetting:
    return Forgetting(id, "acme", user, "subject", "operator", NOW, None, Report())


async def test_asking_twice_is_one_forgetting_and_no_key_is_given_out_meanwhile(stores: Stores) -> None:
    assert (await stores.forgettings.begin(forgetting("f1"))).id == "f1"
    assert (await stores.forgettings.begin(forgetting("f2"))).id == "f1"
    assert [each.id for each in await stores.forgettings.unfinished()] == ["f1"]
    with pytest.raises(BeingForgotten):
        await stores.keys.key_of("acme", "ann")
    assert await stores.keys.key_of("acme", "bob") and await stores.keys.key_of("other", "ann")


async def test_a_finished_forgetting_names_nobody_does_not_change_and_may_be_asked_anew(stores: Stores) -> None:
    await stores.forgettings.begin(forgetting("f1"))
    await stores.forgettings.save("acme", "f1", Report(cancelled=1))
    done = Report(cancelled=1, keys=1, memory={"turns": 2})
    await stores.forgettings.save("acme", "f1", done, NOW)
    await stores.forgettings.save("acme", "f1", Report(), NOW)
    found = await stores.forgettings.get("acme", "f1")
    assert found == replace(forgetting("f1"), user=None, finished=NOW, report=done)
    assert await stores.forgettings.get("other", "f1") is None and await stores.forgettings.unfinished() == []
    assert await stores.keys.key_of("acme", "ann")
    assert (await stores.forgettings.begin(forgetting("f2"))).id == "f2"


# --- the index ---


def summary(run: str, user: str = "ann", **fields: object) -> RunSummary:
    return RunSummary.model_validate({
        "run": run, "tenant": "acme", "status": "completed", "agent": "ops", "user": user, "conversation": "c",
        "task": CANARY, "answer": CANARY, "started": NOW, "tools": ("clock",), "seq": 1, **fields,
    })  # fmt: skip


def event(id: str, run: str) -> EventRow:
    return EventRow(
        id=id, run=run, tenant="acme", type="Generated", role="llm", slot="s", time=NOW, stream="R", seq=1, summary=CANARY,
        bytes=7,
    )  # fmt: skip


async def test_an_erased_run_keeps_its_place_in_the_index_and_loses_what_it_said(stores: Stores) -> None:
    await stores.runs.record([event("e1", "r1"), event("e2", "r2")], [summary("r1"), summary("r2", "bob", sealed=True)])
    erased = await stores.runs.forget("acme", "ann")
    assert (erased.runs, erased.events, erased.unsealed) == (1, 1, 1)
    again = await stores.runs.forget("acme", "ann")
    assert (again.runs, again.events) == (0, 0)
    gone, kept = await stores.runs.show("r1"), await stores.runs.show("r2")
    assert gone and (gone.summary.task, gone.summary.answer, gone.summary.erased) == (ERASED, None, True)
    assert [(each.id, each.type, each.time, each.summary) for each in gone.events] == [("e1", "Generated", NOW, ERASED)]
    assert kept and kept.summary == summary("r2", "bob", sealed=True) and kept.events[0].summary == CANARY
    assert [each.run for each in await stores.runs.list_runs(RunFilter(text="canary"))] == ["r2"]


async def test_what_is_recorded_late_of_an_erased_run_says_nothing(stores: Stores) -> None:
    await stores.runs.record([event("e1", "r1")], [summary("r1")])
    await stores.runs.forget("acme", "ann")
    await stores.runs.record([event("e2", "r1")], [summary("r1", seq=2)])
    record = await stores.runs.show("r1")
    assert record and record.summary.task == ERASED and {each.summary for each in record.events} == {ERASED}


async def test_a_users_runs_are_listed_page_by_page_and_the_open_ones_alone(stores: Stores) -> None:
    states = ["completed", "open", "waiting", "failed", "cancelled"]
    await stores.runs.record([], [summary(f"r{n}", status=state) for n, state in enumerate(states)])
    await stores.runs.record([], [summary("r9", "bob"), summary("r8", tenant="other")])
    first = await stores.runs.runs_of("acme", "ann", limit=3)
    assert first == ["r0", "r1", "r2"]
    assert await stores.runs.runs_of("acme", "ann", after=first[-1]) == ["r3", "r4"]
    assert await stores.runs.runs_of("acme", "ann", open=True) == ["r1", "r2"]


# --- effects ---


async def claim(ledger: EffectLedger, key: str, command: str = "c1", run: str = "r1", tenant: str = "acme") -> object:
    intent = Intent(
        key=key, base=key, tenant=tenant, run=run, conversation=CANARY, user=CANARY, command=command, lane="cloud",
        tool="renew", arguments={"who": CANARY}, planned_state=CANARY,
    )  # fmt: skip
    return await ledger.claim(intent, f"token of {key}", NOW, 0.0)


async def test_a_forgotten_effect_says_nothing_and_still_does_not_repeat(stores: Stores) -> None:
    ledger = stores.ledger
    for key, run in (("done", "r1"), ("open", "r1"), ("theirs", "r2")):
        assert isinstance(await claim(ledger, key, run=run), Claimed)
    await ledger.finish("done", "acme", "c1", {"text": CANARY}, NOW)
    await ledger.finish("theirs", "acme", "c1", {"text": "renewed"}, NOW)
    assert await ledger.forget("other", ["r1"]) == 0
    assert await ledger.forget("acme", ["r1"]) == 2
    assert await ledger.forget("acme", ["r1"]) == 0
    assert await claim(ledger, "done", "c2") == Done(receipt=FORGOTTEN, by="c1")
    assert await claim(ledger, "open") == Claimed(again=True)
    assert await claim(ledger, "theirs", "c2") == Done(receipt={"text": "renewed"}, by="c1")


async def test_nothing_of_a_forgotten_effect_stays_in_the_database(engine: AsyncEngine) -> None:
    ledger = PostgresEffectLedger(engine)
    for key in ("done", "failed", "open", "settled"):
        await claim(ledger, key)
    await ledger.finish("done", "acme", "c1", {"text": CANARY}, NOW)
    await ledger.fail("failed", "acme", "token of failed", {"what": CANARY}, NOW)
    await ledger.settle("settled", "acme", NOW, happened=True, by="bob", note=CANARY, receipt={"text": CANARY})
    await ledger.forget("acme", ["r1"])
    async with transaction(engine) as connection:
        rows = (await connection.execute(text("SELECT e::text FROM effects e"))).scalars().all()
    assert len(rows) == 4 and not any(CANARY in row for row in rows)
