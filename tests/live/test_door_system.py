"""The system page over the door: what runs, what waits, what nobody could read, and who may come in."""

from __future__ import annotations

import asyncio
import secrets

import httpx

from schemas import subjects
from schemas.ids import RunId
from tests.support.gateways import door_of
from tests.support.stack import LocalStack
from tests.support.visitors import visitor


async def letters(http: httpx.AsyncClient, subject: str, others_than: str = "") -> list[dict[str, str]]:
    """The dead letters that were sent there, once there is one of another id."""
    async with asyncio.timeout(30):
        while True:
            every = (await http.get("/api/system/dead")).json()["letters"]
            found = [each for each in every if each["subject"] == subject and each["id"] != others_than]
            if found:
                return found
            await asyncio.sleep(0.05)


async def test_the_stack_tells_what_runs_and_what_waits(two_doors: LocalStack) -> None:
    async with visitor(two_doors, "viewer") as http:
        now = (await http.get("/api/system")).json()
        assert {"nats", "postgres", "gateway", "gateway-2", "recorder"} <= {each["name"] for each in now["processes"]}
        assert all(each["state"] == "ready" and each["memory_mb"] > 0 for each in now["processes"])
        assert {"llm", "retrieval", "memory", "policy", "tools", "recorder"} <= {each["role"] for each in now["services"]}
        lanes = {(each["kind"], each["role"], each["lane"]) for each in now["queues"]}
        assert ("commands", "tools", "builtin") in lanes and any(
            kind == "log" and role == "recorder" for kind, role, _ in lanes
        )
        stored = (await http.get("/api/system/storage")).json()
        assert {"COMMANDS", "CARDS", "DEAD"} <= {each["name"] for each in stored["streams"]} and stored["database"] > 0
        assert len((await http.get("/api/system/activity")).json()["minutes"]) == 15
        for path in ("/api/system/keys", "/api/system/dead"):
            assert (await http.get(path)).status_code == 403
        assert (await http.post("/api/system/keys", json={"name": "x", "roles": ["admin"]})).status_code == 403
    async with visitor(two_doors, "admin", tenant="stranger") as stranger:
        now = (await stranger.get("/api/system")).json()
        assert (now["machine"], now["processes"], now["queues"], now["dead"]) == (False, [], [], 0) and now["services"]
        assert (await stranger.get("/api/system/storage")).json()["streams"] == []


async def test_a_run_counts_in_its_minute(two_doors: LocalStack) -> None:
    async with visitor(two_doors) as http, two_doors.session() as (client, _):
        asked = await client.ask("hello")
        async for _update in client.follow(asked.run):
            pass
        async with asyncio.timeout(30):
            while True:
                minutes = (await http.get("/api/system/activity")).json()["minutes"]
                if any(each["ended"] and each["p95_ms"] for each in minutes):
                    break
                await asyncio.sleep(0.05)
        assert sum(each["started"] for each in minutes) >= 1


async def test_a_dead_letter_is_shown_sent_again_and_discarded(two_doors: LocalStack) -> None:
    run = RunId(f"202611-{secrets.token_hex(16)}")
    place = str(subjects.command("llm", "main", "default", run, "c" + secrets.token_hex(8)))
    async with two_doors.session() as (_, world), visitor(two_doors) as http:
        await world.connection.jetstream.publish(place, b"<b>no command</b>")
        (letter,) = await letters(http, place)
        assert (letter["role"], letter["tenant"], letter["text"]) == ("llm", "default", "<b>no command</b>")
        assert letter["why"] and letter["again"]
        async with visitor(two_doors, "admin", tenant="stranger") as stranger:
            assert (await stranger.get("/api/system/dead")).json()["letters"] == []
            assert (await stranger.post(f"/api/system/dead/{letter['id']}/requeue")).status_code == 404
            assert (await stranger.delete(f"/api/system/dead/{letter['id']}")).status_code == 404
        sent = await http.post(f"/api/system/dead/{letter['id']}/requeue")
        assert sent.json() == {"id": letter["id"], "subject": place}
        (second,) = await letters(http, place, others_than=letter["id"])  # its reader could not read it this time either
        assert (await http.post(f"/api/system/dead/{letter['id']}/requeue")).status_code == 404
        assert (await http.delete(f"/api/system/dead/{second['id']}")).json() == {"id": second["id"]}
        assert (await http.delete(f"/api/system/dead/{second['id']}")).status_code == 404


async def test_a_fact_that_nobody_could_read_is_not_written_again(two_doors: LocalStack) -> None:
    async with two_doors.session() as (_, world), visitor(two_doors) as http:
        place = f"mp.ev.202611.0.202611-{secrets.token_hex(16)}.default.client.request"
        headers = {"Milepost-Why": "unreadable", "Milepost-Subject": place}
        await world.connection.jetstream.publish(subjects.dead("recorder"), b"{}", headers=headers)
        (letter,) = await letters(http, place)
        assert not letter["again"]
        refused = await http.post(f"/api/system/dead/{letter['id']}/requeue")
        assert refused.status_code == 400 and "written once" in refused.json()["error"]["why"]


async def test_a_key_is_made_shown_once_and_opens_nothing_when_it_is_revoked(two_doors: LocalStack) -> None:
    async with visitor(two_doors) as http, httpx.AsyncClient(base_url=door_of(two_doors), trust_env=False, timeout=30) as other:
        made = await http.post("/api/system/keys", json={"name": "ci", "roles": ["viewer"], "user": "robot", "days": 1})
        assert made.status_code == 201
        bearing = {"authorization": f"Bearer {made.json()['text']}"}
        assert (await other.get("/api/session", headers=bearing)).json()["user"] == "robot"
        listed = (await http.get("/api/system/keys")).json()["keys"]
        mine = next(each for each in listed if each["id"] == made.json()["id"])
        assert "text" not in mine and "hash" not in mine and mine["revoked"] is None
        async with visitor(two_doors, "admin", tenant="stranger") as stranger:
            assert mine["id"] not in [each["id"] for each in (await stranger.get("/api/system/keys")).json()["keys"]]
            assert (await stranger.delete(f"/api/system/keys/{mine['id']}")).status_code == 404
        assert (await http.delete(f"/api/system/keys/{mine['id']}")).json()["revoked"]
        async with asyncio.timeout(15):
            while (await other.get("/api/session", headers=bearing)).status_code != 401:
                await asyncio.sleep(0.1)
        assert (await http.post("/api/system/keys", json={"name": " ", "roles": ["viewer"]})).status_code == 422
        assert (await http.post("/api/system/keys", json={"name": "x", "roles": []})).status_code == 422
