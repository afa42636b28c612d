"""What the store of triggers promises, in memory and in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.engine import connect
from infra.postgres.triggers import PostgresTriggerStore
from services.gateway.answers import Conflict
from services.gateway.triggers.memory_store import MemoryTriggerStore
from services.gateway.triggers.store import Claim, TriggerStore
from services.gateway.triggers.trigger import Cron, Kept, Trigger, Webhook

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CLOCK = Trigger(name="nightly", source=Cron(expression="0 3 * * *"), task="Report.")
HOOK = Trigger(name="hook", source=Webhook(), task="Look at {{ payload.id }}.")


def kept(trigger: Trigger = CLOCK, version: int = 1, tenant: str = "acme") -> Kept:
    return Kept(tenant=tenant, version=version, by="ann", at=NOW, trigger=trigger)


def claim(key: str, after_s: float = 0.0, **more: object) -> Claim:
    return Claim.model_validate(
        {"tenant": "acme", "trigger": "hook", "key": key, "at": NOW + timedelta(seconds=after_s), **more}
    )


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[TriggerStore]:
    if request.param == "memory":
        yield MemoryTriggerStore()
        return
    url = request.getfixturevalue("postgres_url")
    engine, keeper = connect(url, role="milepost_service"), connect(url, role="milepost_keeper")
    yield PostgresTriggerStore(engine, keeper)
    await engine.dispose()
    await keeper.dispose()


async def test_a_trigger_is_kept_changed_and_forgotten(store: TriggerStore) -> None:
    await store.put(kept())
    await store.put(kept())  # the same again, as after a lost answer
    assert await store.get("acme", "nightly") == kept()
    assert await store.get("other", "nightly") is None
    await store.scheduled("acme", "nightly", NOW)
    changed = kept(CLOCK.model_copy(update={"task": "Report in short.", "enabled": False}), 2)
    await store.put(changed)
    assert await store.get("acme", "nightly") == changed.model_copy(update={"scheduled": NOW})
    assert await store.remove("acme", "nightly")
    assert not await store.remove("acme", "nightly")


async def test_who_changes_what_somebody_else_has_changed_is_told(store: TriggerStore) -> None:
    await store.put(kept())
    await store.put(kept(CLOCK.model_copy(update={"task": "One."}), 2))
    with pytest.raises(Conflict):
        await store.put(kept(CLOCK.model_copy(update={"task": "Other."}), 2))
    with pytest.raises(Conflict):
        await store.put(kept(CLOCK.model_copy(update={"task": "Other."})))
    with pytest.raises(Conflict):
        await store.put(kept(HOOK, 2))


async def test_watched_are_the_enabled_clocks_and_subjects_of_all_tenants(store: TriggerStore) -> None:
    await store.put(kept())
    await store.put(kept(tenant="other"))
    await store.put(kept(HOOK))
    await store.put(kept(CLOCK.model_copy(update={"name": "off", "enabled": False})))
    assert [(each.tenant, each.trigger.name) for each in await store.watched()] == [("acme", "nightly"), ("other", "nightly")]
    assert [each.trigger.name for each in await store.triggers("acme")] == ["hook", "nightly", "off"]


async def test_the_same_event_is_claimed_once(store: TriggerStore) -> None:
    await store.put(kept(HOOK))
    first = await store.claim(claim("d-1"))
    assert first.outcome == "pending"
    begun = await store.settle(first, "begun", "202611-0")
    assert await store.claim(claim("d-1", 5)) == begun
    assert (await store.claim(claim("d-2", 5))).outcome == "pending"
    assert [each.key for each in await store.firings("acme")] == ["d-2", "d-1"]
    assert await store.firings("other") == []


async def test_within_a_window_the_same_text_is_the_same_event_and_later_another(store: TriggerStore) -> None:
    await store.put(kept(HOOK))
    claims = await asyncio.gather(*(store.claim(claim("text", number / 10, window_s=60)) for number in range(5)))
    assert len({each.key for each in claims}) == 1
    assert (await store.claim(claim("text", 59, window_s=60))).key == claims[0].key
    assert (await store.claim(claim("text", 120, window_s=60))).key != claims[0].key


async def test_cooldown_and_open_runs_hold_back(store: TriggerStore) -> None:
    await store.put(kept(HOOK))
    await store.settle(await store.claim(claim("a")), "begun", "202611-a")
    early = await store.claim(claim("b", 30, cooldown_s=60))
    assert (early.outcome, "60 s" in early.why) == ("skipped", True)
    assert (await store.claim(claim("c", 61, cooldown_s=60))).outcome == "pending"
    full = await store.claim(claim("d", 62, at_most=2))
    assert (full.outcome, full.why) == ("skipped", "2 runs of it are open")
    assert [each.key for each in await store.open("acme", "hook")] == ["a"]
    await store.ended("acme", "hook", "a")
    assert await store.open("acme", "hook") == []
    assert (await store.claim(claim("e", 63, at_most=2))).outcome == "pending"


async def test_what_somebody_left_pending_holds_nobody_back_for_long(store: TriggerStore) -> None:
    await store.put(kept(HOOK))
    await store.claim(claim("dead"))
    assert (await store.claim(claim("next", 60, at_most=1))).outcome == "skipped"
    assert (await store.claim(claim("later", 200, at_most=1))).outcome == "pending"


async def test_old_firings_go(store: TriggerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("services.gateway.triggers.memory_store", "infra.postgres.triggers"):
        monkeypatch.setattr(f"{module}.FIRINGS_KEPT", 3)
    await store.put(kept(HOOK))
    for number in range(5):
        await store.claim(claim(f"k{number}", number))
    assert [each.key for each in await store.firings("acme", "hook")] == ["k4", "k3", "k2"]
