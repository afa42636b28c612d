"""What every index of the log promises about the things that runs used, in memory and in Postgres alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.engine import connect
from infra.postgres.run_index import PostgresRunIndex
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import RunIndex, RunSummary, Use

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CHUNK, DOCUMENT = "8f3a12ab" * 4, "8f3a99cd" * 4


@pytest.fixture(params=["memory", "postgres"])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[RunIndex]:
    if request.param == "memory":
        yield MemoryRunIndex()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_keeper")
    yield PostgresRunIndex(engine)
    await engine.dispose()


def summary(number: int, tenant: str = "acme") -> RunSummary:
    return RunSummary(
        run=f"run{number}", tenant=tenant, status="completed", agent="ops", user="ann", conversation="talk",
        task=f"task {number}", answer="好", started=NOW + timedelta(minutes=number), seq=1,
    )  # fmt: skip


def use(number: int, kind: str, id: str, how: str, tenant: str = "acme", **told: object) -> Use:
    values = {"run": f"run{number}", "tenant": tenant, "kind": kind, "id": id, "how": how, "time": NOW, **told}
    return Use.model_validate(values)


async def fill(index: RunIndex) -> list[Use]:
    uses = [
        use(1, "chunk", CHUNK, "retrieved", hash=CHUNK, name="/docs/guide.md", detail="characters 0-9, version 1"),
        use(1, "document", DOCUMENT, "retrieved", name="/docs/guide.md", detail="version 1"),
        use(1, "tool", "RenewInstance", "offered", hash="aa" * 16),
        use(2, "tool", "RenewInstance", "offered", hash="bb" * 16),
        use(2, "tool", "RenewInstance", "called", hash="bb" * 16, time=NOW + timedelta(seconds=1)),
        use(2, "tool", "Renew", "offered", hash="cc" * 16),
        use(2, "model", "qwen", "asked", hash="dd" * 16),
        use(3, "model", "qwen", "asked", tenant="other", hash="dd" * 16),
    ]
    for _ in range(2):
        await index.record([], [summary(1), summary(2), summary(3, "other")], uses=uses)
    return uses


async def found(index: RunIndex, *names: str, tenant: str = "acme", limit: int = 200) -> list[Use]:
    return [each.use for each in await index.uses(tenant, names, limit)]


async def test_uses_are_found_by_id_name_and_hash_newest_run_first(index: RunIndex) -> None:
    uses = await fill(index)
    assert await found(index, "RenewInstance") == [uses[3], uses[4], uses[2]]
    assert await found(index, "RenewInstance", limit=1) == [uses[3]]
    assert await found(index, "aa" * 16) == [uses[2]]
    assert await found(index, "guide.md", "/docs/guide.md") == uses[:2]
    assert await found(index, CHUNK) == [uses[0]]
    assert (await index.uses("acme", [CHUNK]))[0].run == summary(1)


async def test_a_beginning_of_an_id_or_hash_is_enough_where_nothing_has_that_name(index: RunIndex) -> None:
    uses = await fill(index)
    assert await found(index, "Renew") == [uses[5]]
    assert await found(index, "RenewI") == [uses[3], uses[4], uses[2]]
    assert await found(index, "8f3a12") == [uses[0]]
    assert await found(index, "dddddd") == [uses[6]]
    assert await found(index, "8f3a1") == await found(index, "8f3_12") == await found(index, "") == []


async def test_uses_of_other_tenants_are_not_found(index: RunIndex) -> None:
    uses = await fill(index)
    assert await found(index, "qwen", tenant="other") == [uses[7]]
    assert await found(index, "RenewInstance", tenant="other") == []


async def test_uses_of_a_forgotten_users_runs_are_gone_and_none_comes_back(index: RunIndex) -> None:
    uses = await fill(index)
    await index.record([], [summary(4).model_copy(update={"user": "bob"})], uses=[use(4, "model", "qwen", "asked")])
    assert (await index.forget("acme", "ann")).uses == 7
    assert (await index.forget("acme", "ann")).uses == 0
    await index.record([], [], uses=[use(1, "tool", "RenewInstance", "called")])
    assert await found(index, "RenewInstance", CHUNK, "/docs/guide.md") == []
    assert [each.run for each in await found(index, "qwen")] == ["run4"]
    assert await found(index, "qwen", tenant="other") == [uses[7]]


async def test_recording_a_use_again_keeps_the_first_time(index: RunIndex) -> None:
    uses = await fill(index)
    await index.record([], [], uses=[use(2, "model", "qwen", "asked", hash="dd" * 16, time=NOW + timedelta(hours=1))])
    assert await found(index, "qwen") == [uses[6]]
    earlier = use(2, "model", "qwen", "asked", hash="dd" * 16, time=NOW - timedelta(hours=1), detail="here")
    later = earlier.model_copy(update={"time": NOW, "detail": "there"})
    await index.record([], [], uses=[later, earlier])
    assert await found(index, "qwen") == [earlier]
