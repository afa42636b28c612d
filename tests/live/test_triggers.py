"""Triggers over a whole stack with two gateways: a webhook, a subject and an alarm each begin a run, and one only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from infra.wiring import World
from schemas.ids import RunId
from services.gateway.triggers.signatures import SIGNATURE, TIMESTAMP, sign
from tests.support.dingtalk import HookedStack
from tests.support.stack import OPERATOR, reached, see_through

HEALTHY, NAMED = "i-bp1f8k2m9x4q7web02", "i-bp1c3n6v8z2w5api01"
AGENT = OPERATOR.model_dump(mode="json", by_alias=True)


async def keep(door: httpx.AsyncClient, name: str, source: dict[str, Any], task: str, **more: Any) -> dict[str, Any]:
    trigger = {"name": name, "source": source, "task": task, "agent": AGENT, **more}
    answer = await door.put(f"/api/triggers/{name}", json={"trigger": trigger})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def firings(door: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await door.get(f"/api/triggers/{name}/firings")).json()
    return found


async def test_a_signed_webhook_begins_one_run_whose_writes_are_asked_about(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, hooked_stack.stack.session("ann") as (client, _):
        rule = {"name": "renewals", "when": {"tools": ["RenewInstance"]}, "then": "allow"}
        await keep(door, "renewal", {"kind": "webhook"}, "Renew {{ payload.instance }} for 1 month", policy=[rule])
        hook = (await door.get("/api/triggers/renewal/secret")).json()
        body, stamp = json.dumps({"instance": HEALTHY}).encode(), str(int(time.time()))
        headers = {TIMESTAMP: stamp, SIGNATURE: sign(hook["secret"], stamp, body), "content-type": "application/json"}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            answers = await asyncio.gather(*(http.post(hook["url"], content=body, headers=headers) for _ in range(4)))
            bad = await http.post(hook["url"], content=body, headers=headers | {SIGNATURE: "v1=0"})
        assert [each.status_code for each in answers] == [202] * 4 and bad.status_code == 401
        (run,) = {each.json()["run"] for each in answers}
        waits = await reached(client, RunId(run), lambda update: bool(update.state.approvals()))
        (asked,) = waits.state.approvals().values()  # its rule allows renewals; but of whom, only the event said
        assert asked.ungrounded == ("InstanceId",)
        await client.cancel(RunId(run))
        assert await hooked_stack.stack.effects(HEALTHY) == []


async def test_what_the_builder_named_its_own_rule_lets_through(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, hooked_stack.stack.session("ann") as (client, _):
        rule = {"name": "renewals", "when": {"tools": ["RenewInstance"]}, "then": "allow"}
        alarm = {"kind": "alarm", "source": "prometheus"}
        await keep(door, "expiry", alarm, f"Renew {NAMED} for 1 month", policy=[rule], when="severity == 'page'")
        hook = (await door.get("/api/triggers/expiry/secret")).json()
        told = [
            {"status": "firing", "labels": {"alertname": "Expiry", "severity": level}, "startsAt": "2026-11-22T11:00:00Z"}
            for level in ("page", "info")
        ]  # fmt: skip
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            url = f"{hook['url']}?token={hook['secret']}"
            first, again = [(await http.post(url, json={"alerts": told})).json() for _ in range(2)]
        assert [each["outcome"] for each in first["firings"]] == ["begun", "skipped"] and again["run"] == first["run"]
        update = await see_through(client, RunId(first["run"]), decide=_nobody)
        assert update.state.outcome == "completed" and update.state.request is not None
        assert update.state.request.user == "trigger-expiry"
        assert len(await hooked_stack.stack.effects(NAMED)) == 1


async def _nobody(run: RunId, id: object) -> None:
    raise AssertionError(f"run {run} asks a person")


async def test_a_message_on_a_subject_begins_one_run_though_two_gateways_hear_it(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, hooked_stack.stack.session("ann") as (client, world):
        await keep(door, "orders", {"kind": "subject", "pattern": "shop.orders.*"}, "You heard {{ payload.id }}")
        await _told(world, door, "orders", b'{"id": "o-1"}')
        (fired,) = await firings(door, "orders")
        assert fired["outcome"] == "begun"
        update = await see_through(client, RunId(fired["run"]))
        assert update.state.answer == "You said: You heard o-1"
        assert (await door.post("/api/triggers/orders/enabled", json={"enabled": False})).json()["trigger"]["enabled"] is False


async def _told(world: World, door: httpx.AsyncClient, name: str, said: bytes) -> None:
    """Say it until somebody listens: within moments the same words are the same event."""

    async def heard() -> bool:
        await world.bus.tell("shop.orders.new", said)
        return any(each["run"] for each in await firings(door, name))

    await until(heard)


async def test_a_clock_begins_runs_and_a_trial_begins_none(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, hooked_stack.stack.session("ann") as (client, _):
        yaml = "name: tick\nsource: {kind: cron, expression: '* * * * * *'}\ntask: Tell {{ payload.scheduled }}\n"
        (trial,) = (await door.post("/api/triggers/test", json={"yaml": yaml})).json()
        assert (
            trial["fires"]
            and trial["task"].startswith("Tell 20")
            and trial["said"] == "Tell"
            and trial["user"] == "trigger-tick"
        )
        assert (await door.get("/api/triggers/tick")).status_code == 404
        kept = (await door.put("/api/triggers/tick", json={"yaml": yaml})).json()
        assert len(kept["next"]) == 5

        async def some() -> bool:
            return len(await firings(door, "tick")) >= 2

        await until(some)
        await door.post("/api/triggers/tick/enabled", json={"enabled": False})
        found = [each for each in await firings(door, "tick") if each["run"]]
        assert len({each["key"] for each in found}) == len(found) == len({each["run"] for each in found})
        await see_through(client, RunId(found[-1]["run"]))


async def test_triggers_are_a_tenants_own_and_a_builders_to_change(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, httpx.AsyncClient(base_url=hooked_stack.url, trust_env=False) as nobody:
        await keep(door, "mine", {"kind": "webhook"}, "Hello")
        assert (await nobody.get("/api/triggers")).status_code == 401
        conflict = {"trigger": {"name": "mine", "source": {"kind": "webhook"}, "task": "Other"}, "based_on": 0}
        assert (await door.put("/api/triggers/mine", json=conflict)).status_code == 409
        stolen = {"kind": "webhook", "secret_env": "AWS_SECRET_ACCESS_KEY"}
        refused = await door.put("/api/triggers/mine", json={"trigger": {"name": "mine", "source": stolen, "task": "x"}})
        assert refused.status_code == 400 and "MILEPOST_SECRET_DEFAULT__" in refused.text
        assert (await door.delete("/api/triggers/mine")).status_code == 204
        assert (await door.get("/api/triggers/mine")).status_code == 404
