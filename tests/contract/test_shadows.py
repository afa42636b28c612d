"""What the store of shadows promises, through the questions that people and shadows ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cohort.swap import Swap
from infra.postgres.engine import connect, transaction
from infra.postgres.shadows import PostgresShadowStore
from infra.shadow.questions import (
    AskResults,
    AskShadow,
    ChangeShadow,
    KeepCompared,
    PutShadow,
    ShadowQuestions,
)
from infra.shadow.shadow import Candidate, Compared, Shadow, ShadowTaken, UnknownShadow
from runtime.clock import SystemClock
from schemas.canonical import Json, read_json
from schemas.errors import ProtocolError
from schemas.policy import Policy, Rule, When
from schemas.tools import Value

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Asking:
    """Somebody who asks the questions. changes: how often the keeper of processes was told."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self.store = PostgresShadowStore(engine, keeper)
        self.engine = engine
        self.changes = 0
        self._questions = ShadowQuestions(self.store, SystemClock(), self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def ask(self, verb: str, question: Value) -> Json:
        answer = await getattr(self._questions, verb)(question.model_dump_json(by_alias=True).encode())
        return read_json(answer, limit=2**20)


@pytest.fixture
async def asking(postgres_url: str) -> AsyncIterator[Asking]:
    engine, keeper = connect(postgres_url, role="milepost_service"), connect(postgres_url, role="milepost_keeper")
    yield Asking(engine, keeper)
    await engine.dispose()
    await keeper.dispose()


def shadow(name: str = "new", tenant: str = "acme", **more: object) -> Shadow:
    rules = Policy(rules=(Rule(name="none", when=When(tools=("Renew*",)), then="deny"),))
    values = {"tenant": tenant, "name": name, "said": "policy=deny.yaml", "since": NOW, "by": "ann", "created": NOW}
    return Shadow.model_validate({**values, "candidate": Candidate(swap=Swap(policy=rules)), **more})


def compared(run: str, event: int, risk: str = "same", tokens: int = 0, at: datetime = NOW, task: str = "") -> Compared:
    result = {"run": run, "tenant": "acme", "task": task}
    return Compared.model_validate({"run": run, "event": event, "risk": risk, "tokens": tokens, "at": at, "result": result})


def kept(one: Compared, name: str = "new", tenant: str = "acme") -> KeepCompared:
    return KeepCompared(tenant=tenant, name=name, compared=one)


async def told(asking: Asking, name: str | None = None, tenant: str = "acme") -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", await asking.ask("shadows", AskShadow(tenant=tenant, name=name)))


async def test_a_shadow_comes_back_as_it_was_put(asking: Asking) -> None:
    put = shadow(share=0.25, tokens_per_hour=1000)
    await asking.ask("put", PutShadow(shadow=put))
    (found,) = await told(asking)
    assert Shadow.model_validate(found["shadow"]) == put
    assert await asking.store.running() == [put]
    assert await told(asking, tenant="other") == []
    await asking.ask("put", PutShadow(shadow=put))  # its answer was lost, and it is asked again
    with pytest.raises(ShadowTaken):
        await asking.ask("put", PutShadow(shadow=shadow(created=NOW + timedelta(seconds=1))))
    with pytest.raises(UnknownShadow):
        await told(asking, "nobody")


async def test_its_state_changes_only_from_what_was_seen(asking: Asking) -> None:
    await asking.ask("put", PutShadow(shadow=shadow()))
    await asking.ask("change", ChangeShadow(tenant="acme", name="new", expected="running", state="stopped"))
    assert await asking.store.running() == []
    with pytest.raises(ProtocolError):
        await asking.ask("change", ChangeShadow(tenant="acme", name="new", expected="running", state="promoted"))
    with pytest.raises(UnknownShadow):
        await asking.ask("change", ChangeShadow(tenant="other", name="new", state="running"))
    before = {"version": 3, "promoted": 4}
    await asking.ask("change", ChangeShadow(tenant="acme", name="new", state="promoted", before=before, promoted=NOW))
    (found,) = await told(asking, "new")
    assert Shadow.model_validate(found["shadow"]).before == before
    assert asking.changes == 3


async def test_what_is_told_twice_counts_once_and_only_for_its_tenant(asking: Asking) -> None:
    await asking.ask("put", PutShadow(shadow=shadow()))
    for _ in range(2):
        await asking.ask("keep", kept(compared("202611-a", 4)))
    await asking.ask("keep", kept(compared("202611-a", 5, "new_write")))
    (found,) = await told(asking)
    assert found["counts"] == {"same": 1, "new_write": 1}
    with pytest.raises(UnknownShadow):
        await asking.ask("keep", kept(compared("202611-a", 6), tenant="other"))
    assert await asking.ask("results", AskResults(tenant="other", name="new")) == []


async def test_tokens_of_the_last_hour_are_counted(asking: Asking) -> None:
    await asking.ask("put", PutShadow(shadow=shadow()))
    now = datetime.now(UTC)
    await asking.ask("keep", kept(compared("202611-a", 4, tokens=500, at=now - timedelta(hours=2))))
    assert await asking.ask("keep", kept(compared("202611-a", 5, tokens=30, at=now))) == {"tokens": 30}
    assert await asking.ask("tokens", AskShadow(tenant="acme", name="new")) == {"tokens": 30}


async def test_pages_hold_what_a_message_takes_and_miss_nothing(asking: Asking) -> None:
    await asking.ask("put", PutShadow(shadow=shadow()))
    wanted = [(f"202611-{number:04}", 4) for number in range(7)]
    for run, event in wanted:
        await asking.ask("keep", kept(compared(run, event, task="x" * 200_000)))
    found: list[tuple[str, int]] = []
    pages = 0
    while True:
        run, event = found[-1] if found else ("", 0)
        page = await asking.ask("results", AskResults(tenant="acme", name="new", run=run, event=event))
        assert isinstance(page, list)
        if not page:
            break
        pages += 1
        rows = [Compared.model_validate(each) for each in page]
        found += [(each.run, each.event) for each in rows]
    assert found == wanted
    assert pages > 2


async def test_what_is_forgotten_is_gone(asking: Asking) -> None:
    await asking.ask("put", PutShadow(shadow=shadow()))
    await asking.ask("keep", kept(compared("202611-a", 4)))
    await asking.ask("drop", AskShadow(tenant="other", name="new"))
    assert len(await told(asking)) == 1, "another tenant removed it"
    await asking.ask("drop", AskShadow(tenant="acme", name="new"))
    assert await told(asking) == []
    async with transaction(asking.engine, "acme") as connection:
        assert await connection.scalar(text("SELECT count(*) FROM shadow_differences")) == 0
