"""What every store of agents promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from infra.postgres.agents import PostgresAgentStore
from infra.postgres.engine import connect
from schemas.agent import AgentSpec, Budget
from schemas.policy import Hours, Rule, When
from services.gateway.agents.agent import Agent, AgentStore
from services.gateway.agents.memory_store import MemoryAgentStore
from services.gateway.answers import Conflict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AgentStore]:
    if request.param == "memory":
        yield MemoryAgentStore()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_service")
    yield PostgresAgentStore(engine)
    await engine.dispose()


def agent(name: str = "ops", version: int = 1, tenant: str = "acme", **more: object) -> Agent:
    spec = AgentSpec(name=name, version=str(version), instructions=f"Be {name}.", tools=("RenewInstance",))
    values = {"tenant": tenant, "name": name, "version": version, "spec": spec, "by": "ann", "at": NOW}
    return Agent.model_validate({**values, **more})


async def test_a_version_comes_back_as_it_was_put(store: AgentStore) -> None:
    rule = Rule(name="night", when=When(outside_hours=Hours(from_="22:00", to="06:00")), then="deny")
    spec = AgentSpec(name="ops", policy=(rule,), budget=Budget(money={"CNY": 12.5}), instructions="行\n\n  two\n")
    put = agent(title="运维", picture="🛠", suggestions=("a", "b"), note="first", description="d", spec=spec)
    await store.put(put)
    assert await store.get("acme", "ops") == put
    assert await store.get("acme", "ops", 1) == put


async def test_versions_follow_one_another(store: AgentStore) -> None:
    for version in (1, 2, 3):
        await store.put(agent(version=version, note=str(version)))
    assert [each.version for each in await store.versions("acme", "ops")] == [3, 2, 1]
    newest = await store.get("acme", "ops")
    assert newest is not None and newest.version == 3
    assert await store.get("acme", "ops", 4) is None


@pytest.mark.parametrize("version", [1, 3])
async def test_a_version_that_is_not_the_next_is_a_conflict(store: AgentStore, version: int) -> None:
    await store.put(agent())
    with pytest.raises(Conflict):
        await store.put(agent(version=version, note="another"))
    assert [each.note for each in await store.versions("acme", "ops")] == [""]


async def test_the_first_version_is_one(store: AgentStore) -> None:
    with pytest.raises(Conflict):
        await store.put(agent(version=2))
    assert await store.agents("acme") == []


async def test_of_two_who_save_at_once_one_does(store: AgentStore) -> None:
    await store.put(agent())
    saved = await asyncio.gather(*(store.put(agent(version=2, note=str(who))) for who in range(4)), return_exceptions=True)
    assert sum(each is None for each in saved) == 1
    assert sum(isinstance(each, Conflict) for each in saved) == 3


async def test_to_put_the_same_again_is_harmless(store: AgentStore) -> None:
    await store.put(agent())
    await store.publish("acme", "ops", 1)
    await store.put(agent())
    again = await store.published("acme", "ops")
    assert again is not None and again.version == 1


async def test_a_new_version_is_not_published(store: AgentStore) -> None:
    await store.put(agent(published=True))
    assert await store.published("acme", "ops") is None
    assert await store.serving("acme") == []


async def test_one_version_is_published_at_a_time(store: AgentStore) -> None:
    for version in (1, 2):
        await store.put(agent(version=version))
    await store.put(agent("bare"))
    for version in (2, 1):
        assert await store.publish("acme", "ops", version)
        found = await store.published("acme", "ops")
        assert found is not None and found.version == version
    assert [each.published for each in await store.versions("acme", "ops")] == [False, True]
    assert [(each.name, each.version) for each in await store.serving("acme")] == [("ops", 1)]
    assert [(each.name, each.version, each.published) for each in await store.agents("acme")] == [
        ("bare", 1, False), ("ops", 2, False),
    ]  # fmt: skip


async def test_what_is_not_there_cannot_be_published(store: AgentStore) -> None:
    await store.put(agent())
    await store.publish("acme", "ops", 1)
    assert not await store.publish("acme", "ops", 2)
    assert not await store.publish("acme", "other", None)
    kept = await store.published("acme", "ops")
    assert kept is not None, "a version that is missing took the good one away"
    assert await store.publish("acme", "ops", None)
    assert await store.published("acme", "ops") is None


async def test_a_tenant_has_its_own(store: AgentStore) -> None:
    await store.put(agent())
    await store.put(agent(tenant="globex", title="theirs"))
    await store.publish("globex", "ops", 1)
    assert await store.published("acme", "ops") is None
    assert [each.title for each in await store.agents("acme")] == [""]
    assert await store.remove("globex", "ops")
    assert await store.get("acme", "ops") == agent()


async def test_what_is_removed_is_gone_and_may_come_again(store: AgentStore) -> None:
    for version in (1, 2):
        await store.put(agent(version=version))
    assert await store.remove("acme", "ops")
    assert not await store.remove("acme", "ops")
    assert await store.versions("acme", "ops") == []
    await store.put(agent(note="again"))
    assert [each.note for each in await store.agents("acme")] == ["again"]
