"""Keys over the bus: asked once, kept for a while, dropped when a person is forgotten; whoever is away is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runtime import keyring
from runtime.bus import ServiceInfo
from runtime.errors import Unreachable
from runtime.keyring import BeingForgotten, BusKeyring, write_forgotten
from runtime.memory_broker import MemoryBroker
from runtime.sealing import UnknownKey
from runtime.service import Service
from schemas import subjects
from schemas.errors import MilepostError
from services.memory.forgetting import Forgetting, Report
from services.memory.keys import answer_for_keys
from services.memory.memory_keys import MemoryKeyStore
from tests.support.builders import NOW, TENANT


class Counted(MemoryKeyStore):
    """A store that counts how often it is asked for a key, and may be broken."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.broken = False

    async def key(self, tenant, id):  # type: ignore[no-untyped-def]
        self.asked += 1
        if self.broken:
            raise MilepostError("The database is away.")
        return await super().key(tenant, id)


@asynccontextmanager
async def served(store: MemoryKeyStore, broker: MemoryBroker) -> AsyncIterator[BusKeyring]:
    service = Service("memory", "gives keys out")
    answer_for_keys(service, store)
    ring = BusKeyring(broker)
    async with broker.serve(ServiceInfo("memory", "1", ""), service.answers, dict), broker.hear("mp.forget.*", ring.on_forget):
        yield ring


async def test_a_key_that_is_destroyed_while_it_is_on_its_way_is_not_kept() -> None:
    store, broker = Counted(), MemoryBroker()
    made = await store.key_of(TENANT, "ann")
    async with served(store, broker) as ring:
        answer, arrived, go_on = store.key, asyncio.Event(), asyncio.Event()

        async def slowly(tenant, id):  # type: ignore[no-untyped-def]
            key = await answer(tenant, id)
            arrived.set()
            await go_on.wait()
            return key

        store.key = slowly  # type: ignore[method-assign]
        asked = asyncio.create_task(ring.key(TENANT, made.id))
        await arrived.wait()
        await broker.tell(subjects.forget(TENANT), write_forgotten(await store.destroy(TENANT, "ann")))
        go_on.set()
        assert (await asked).secret
        assert (await ring.key(TENANT, made.id)).secret is None


async def test_a_key_is_asked_for_once_and_dropped_when_it_was_destroyed() -> None:
    store, broker = Counted(), MemoryBroker()
    async with served(store, broker) as ring:
        made = await ring.key_of(TENANT, "ann")
        assert made == await store.key_of(TENANT, "ann")
        other = BusKeyring(broker)
        assert [await other.key(TENANT, made.id) for _ in range(3)] == [made] * 3 and store.asked == 1
        await store.destroy(TENANT, "ann")
        assert (await ring.key(TENANT, made.id)).secret  # what it does not know yet
        await broker.tell(subjects.forget("other"), write_forgotten((made.id,)))
        assert (await ring.key(TENANT, made.id)).secret  # another tenant's word is not heard
        await broker.tell(subjects.forget(TENANT), write_forgotten((made.id,)))
        assert (await ring.key(TENANT, made.id)).secret is None


async def test_keys_are_kept_only_so_long_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    store, broker = Counted(), MemoryBroker()
    async with served(store, broker) as ring:
        ids = [(await store.key_of(TENANT, f"user{n}")).id for n in range(3)]
        monkeypatch.setattr(keyring, "KEPT", 2)
        for id in (*ids, ids[0]):
            await ring.key(TENANT, id)
        assert store.asked == 4
        monkeypatch.setattr(keyring, "KEPT_S", 0.0)
        await ring.key(TENANT, ids[0])
        assert store.asked == 5


async def test_an_owner_that_is_away_or_broken_is_waited_for_and_an_unknown_key_is_refused() -> None:
    store, broker = Counted(), MemoryBroker()
    with pytest.raises(Unreachable):
        await BusKeyring(broker).key_of(TENANT, "ann")
    async with served(store, broker) as ring:
        key = await store.key_of("other", "ann")
        with pytest.raises(UnknownKey):
            await ring.key(TENANT, key.id)
        store.broken = True
        with pytest.raises(Unreachable):
            await ring.key("other", key.id)


async def test_no_run_begins_for_a_user_who_is_being_forgotten() -> None:
    store, broker = Counted(), MemoryBroker()
    async with served(store, broker) as ring:
        await ring.key_of(TENANT, "ann")
        await store.begin(Forgetting("f", TENANT, "ann", "s", "op", NOW, None, Report()))
        with pytest.raises(BeingForgotten):
            await ring.key_of(TENANT, "ann")


@pytest.mark.parametrize("question", [b"{}", b'{"tenant": "t"}', b'{"tenant": "t", "user": "u", "id": "i"}', b"[]"])
async def test_a_question_for_no_key_or_for_two_is_refused(question: bytes) -> None:
    broker = MemoryBroker()
    async with served(MemoryKeyStore(), broker):
        with pytest.raises(MilepostError):
            await broker.ask(subjects.question("memory", "data_key"), question, 1.0)


async def test_while_the_owner_is_away_the_key_it_last_gave_serves_unless_it_was_destroyed() -> None:
    broker = MemoryBroker()
    async with served(Counted(), broker) as ring:
        made = await ring.key_of(TENANT, "ann")
    assert await ring.key_of(TENANT, "ann") == made
    with pytest.raises(Unreachable):
        await ring.key_of(TENANT, "bob")
    await ring.on_forget(subjects.forget(TENANT), write_forgotten((made.id,)))
    with pytest.raises(Unreachable):
        await ring.key_of(TENANT, "ann")
