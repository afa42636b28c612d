"""What every store of the door's keys promises, in memory and in Postgres alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.door_keys import PostgresKeyStore
from infra.postgres.engine import connect
from services.gateway.keys import DoorKey, KeyStore, MemoryKeyStore, new_key

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_service")
    yield PostgresKeyStore(engine)
    await engine.dispose()


def key(tenant: str = "acme", minutes: int = 0) -> DoorKey:
    return new_key(
        tenant, "a name 名", "kim", ("operator", "approver"), NOW + timedelta(minutes=minutes), NOW + timedelta(days=9)
    )[0]


async def test_a_key_comes_back_as_it_was_put_and_the_newest_is_first(store: KeyStore) -> None:
    old, new = key(), key(minutes=5)
    await store.put(old)
    await store.put(new)
    await store.put(old.model_copy(update={"roles": ("admin",)}))  # a key never changes
    assert await store.get("acme", old.id) == old
    assert await store.keys("acme") == [new, old]


async def test_a_key_of_another_tenant_is_not_there(store: KeyStore) -> None:
    mine = key()
    await store.put(mine)
    assert await store.get("rival", mine.id) is None and await store.keys("rival") == []
    assert not await store.revoke("rival", mine.id, NOW)
    assert await store.get("acme", mine.id) == mine


async def test_a_key_is_revoked_once(store: KeyStore) -> None:
    mine = key()
    await store.put(mine)
    assert await store.revoke("acme", mine.id, NOW)
    assert not await store.revoke("acme", mine.id, NOW + timedelta(hours=1))
    found = await store.get("acme", mine.id)
    assert found is not None and found.revoked == NOW
