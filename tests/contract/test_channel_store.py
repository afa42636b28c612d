"""What the store of channels promises: answers are owed to chats, and seen to by one at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.channels import PostgresChannelStore
from infra.postgres.engine import connect
from services.gateway.answers import Conflict
from services.gateway.channels.channel import Channel, KeptChannel, Person, Target
from services.gateway.channels.store import SEEN_FOR, ChannelStore, Owed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TARGET = Target(address="https://oapi.dingtalk.com/robot/sendBySession?session=x", until=NOW + timedelta(hours=1), at="alice")


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[ChannelStore]:
    engine, keeper = connect(postgres_url, role="milepost_service"), connect(postgres_url, role="milepost_keeper")
    found = PostgresChannelStore(engine, keeper)
    await found.put(kept())
    yield found
    await engine.dispose()
    await keeper.dispose()


def kept(version: int = 1, tenant: str = "acme", **more: object) -> KeptChannel:
    channel = Channel.model_validate({"secret_env": "MILEPOST_SECRET_ACME__DING", **more})
    return KeptChannel(tenant=tenant, version=version, by="ann", at=NOW, channel=channel)


def owed(run: str = "202611-1", chat: str = "c") -> Owed:
    return Owed(tenant="acme", channel="dingtalk", run=run, chat=chat, user="dingtalk-alice", target=TARGET, at=NOW)


async def test_a_channel_is_kept_changed_and_forgotten(store: ChannelStore) -> None:
    await store.put(kept())  # the same again, as after a lost answer
    changed = kept(2, people={"boss": Person(user="carol", roles=("approver",))})
    await store.put(changed)
    assert await store.get("acme", "dingtalk") == changed and await store.channels("acme") == [changed]
    assert await store.get("other", "dingtalk") is None
    for late in (kept(2), kept(), kept(3, name="none")):
        with pytest.raises(Conflict):
            await store.put(late)
    await store.put(kept(tenant="other"))
    assert [each.tenant for each in await store.every()] == ["acme", "other"]
    assert await store.remove("acme", "dingtalk") and not await store.remove("acme", "dingtalk")


async def test_an_answer_that_is_owed_is_seen_to_by_one_until_it_is_given(store: ChannelStore) -> None:
    await store.owe(owed())
    await store.owe(owed())
    assert await store.take(NOW, 30, 10) == [owed()]
    assert await store.take(NOW + timedelta(seconds=29), 30, 10) == []
    await store.hold([owed()], NOW + timedelta(seconds=29), 30)
    assert await store.take(NOW + timedelta(seconds=58), 30, 10) == []
    assert await store.take(NOW + timedelta(seconds=60), 30, 10) == [owed()]  # whoever had it has died
    await store.settle(owed())
    assert await store.take(NOW + timedelta(seconds=120), 30, 10) == []


async def test_what_a_chat_was_told_is_known_and_an_address_ends(store: ChannelStore) -> None:
    await store.owe(owed())
    await store.owe(owed("202611-2", "elsewhere"))
    assert [await store.told(owed(), "a1"), await store.told(owed(), "a1"), await store.told(owed(), "a2")] == [
        True,
        False,
        True,
    ]
    (found,) = await store.owed("acme", "dingtalk", "c")
    assert found.told == ("a1", "a2")
    assert await store.owed("other", "dingtalk", "c") == []
    assert await store.take(NOW + timedelta(hours=2), 30, 10) == []


async def test_a_message_is_read_once_and_forgotten_when_it_is_old(store: ChannelStore) -> None:
    assert not await store.seen("acme", "dingtalk", "m")
    assert await store.see("acme", "dingtalk", "m", NOW)
    assert await store.seen("acme", "dingtalk", "m") and not await store.see("acme", "dingtalk", "m", NOW)
    assert not await store.seen("other", "dingtalk", "m")
    assert await store.see("acme", "dingtalk", "n", NOW + SEEN_FOR + timedelta(seconds=1))
    assert not await store.seen("acme", "dingtalk", "m")
