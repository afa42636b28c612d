"""Runs through the door: found, shown, computed again, verified, exported, forked, compared, followed; and nobody else's."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.receipt_keys import key_file, public_file, read_public
from infra.verifying import verify_file
from runtime.client import Client
from services.gateway.principal import DoorRole
from tests.support.gateways import door_of, key_of
from tests.support.stack import OPERATOR, LocalStack, reached, see_through

SERVER = "i-bp1f8k2m9x4q7web02"


class Reader:
    """Somebody who looks into runs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, expected: int = 200, /, **query: object) -> Any:
        said = await self.http.get(path, params={name.replace("_", "-"): str(value) for name, value in query.items()})
        assert said.status_code == expected, said.text
        return said.json()

    async def post(self, path: str, body: object = None, status: int = 200) -> Any:
        said = await self.http.post(path, json=body)
        assert said.status_code == status, said.text
        return said.json()

    async def listed(self, **query: object) -> list[dict[str, Any]]:
        """Runs that match, once the index has some: it follows the log by a moment."""
        async with asyncio.timeout(30):
            while not (found := (await self.get("/api/runs", **query))["runs"]):
                await asyncio.sleep(0.05)
        return list(found)

    async def proved(self, run: str) -> dict[str, Any]:
        """What verifying says, once the run is sealed."""
        async with asyncio.timeout(30):
            while not (found := await self.get(f"/api/runs/{run}/verify"))["receipts"]:
                await asyncio.sleep(0.05)
        return dict(found)

    async def lines(self, run: str, after: str | None = None) -> tuple[list[int], dict[str, Any] | None]:
        """The numbers that a stream of events tells, and its end."""
        numbers, name, headers = [], "", {"last-event-id": after} if after else {}
        async with asyncio.timeout(60), self.http.stream("GET", f"/api/runs/{run}/follow", headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:") and name == "line":
                    numbers.append(json.loads(line[5:])["n"])
                elif line.startswith("data:") and name == "end":
                    return numbers, json.loads(line[5:])
        return numbers, None


@asynccontextmanager
async def reader(stack: LocalStack, *roles: DoorRole, tenant: str = "default") -> AsyncIterator[Reader]:
    key = await key_of(stack, *roles, tenant=tenant)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=door_of(stack), headers=headers, trust_env=False, timeout=60) as http:
        yield Reader(http)


async def renewed(client: Client, word: str = "") -> str:
    """A renewal that was approved, at its end."""
    asked = await client.ask(f"Renew {SERVER} for 1 week {word}", agent=OPERATOR)
    await see_through(client, asked.run)
    return asked.run


async def test_runs_are_found_by_the_words_of_the_command_line(two_doors: LocalStack) -> None:
    word = f"w{secrets.token_hex(4)}"
    async with two_doors.session(f"ann-{word}") as (client, _), reader(two_doors, "viewer") as kim:
        runs = [await renewed(client, word), await renewed(client, word)]
        async with asyncio.timeout(30):
            while len(found := await kim.listed(q=f"{word} status:completed tool:RenewInstance")) < 2:
                await asyncio.sleep(0.05)
        assert [each["run"] for each in found] == runs[::-1], "newest first"
        assert found[0]["user"] == f"ann-{word}" and found[0]["agent"] == "ops"
        first = await kim.get("/api/runs", text=word, limit=1)
        rest = await kim.get("/api/runs", text=word, limit=1, after=first["next"])
        assert [first["runs"][0]["run"], rest["runs"][0]["run"]] == runs[::-1]
        assert (await kim.get("/api/runs", q=f"{word} status:failed"))["runs"] == []
        assert (await kim.get("/api/runs", user=f"ann-{word}", status="failed,completed", since="1h", forks=False))["runs"]
        for wrong in ({"q": "nobody:me"}, {"q": "status:odd"}, {"zone": "No/Where"}, {"after": "x"}, {"since": "soonish"}):
            assert (await kim.get("/api/runs", 400, **wrong))["error"]["type"] == "BadQuery"


async def test_a_run_is_shown_computed_again_verified_and_exported(two_doors: LocalStack, tmp_path: Path) -> None:
    async with two_doors.session() as (client, _), reader(two_doors, "viewer") as kim:
        run = await renewed(client)
        view = await kim.get(f"/api/runs/{run}")
        lines = {each["type"]: each for each in view["events"]}
        assert view["ended"] and view["summary"]["status"] == "completed" and view["agent"]["name"] == "ops"
        approved, turn = lines["ApprovalGranted"], lines["Generated"]
        planned = max(lines["CallPlanned"]["n"], lines["CallJudged"]["n"])
        assert approved["wait"] == "person" and approved["under"] == planned
        assert lines["ToolReturned"]["role"] == "tools" and lines["ToolReturned"]["took_ms"] > 0
        chinese = await kim.get(f"/api/runs/{run[:12]}%23{turn['n']}", language="zh")
        assert chinese["run"] == run and chinese["selected"] == turn["n"]
        assert chinese["events"][0]["line"] != view["events"][0]["line"]

        event = await kim.get(f"/api/runs/{run}/events/{approved['n']}")
        assert event["data"]["by"] == "me" and event["sealed"] and event["causes"][0]["n"] == approved["under"]
        prompt = await kim.get(f"/api/runs/{run}/events/{turn['n']}/prompt")
        assert prompt["same"] and prompt["messages"][-1]["role"] == "tool" and SERVER in prompt["messages"][1]["text"]
        shared = sum(each["tokens"] for each in (*prompt["messages"], *prompt["tools"]))
        assert prompt["estimated"] and shared == prompt["usage"]["prompt_tokens"] > 0
        before, after = [await kim.get(f"/api/runs/{run}/at/{n}") for n in (approved["n"] - 1, approved["n"])]
        assert before["outcome"] == "waiting" and after["outcome"] == "open"
        assert [each["kind"] for each in after["outstanding"] if each["fresh"]] == ["CallTool"]
        tree = await kim.get(f"/api/runs/{run}/tree")
        assert sorted(each["i"] for each in tree["branches"]) == list(range(len(tree["branches"])))
        verdict = await kim.post(f"/api/runs/{run}/replay")
        assert verdict["same"] and verdict["divergence"] is None and verdict["decisions"] > 5

        proof = await kim.proved(run)
        assert proof["verdict"] == "proved" and proof["content"] and proof["events"] == view["count"]
        export = await kim.http.get(f"/api/runs/{run}/export")
        assert f'filename="{run}.jsonl"' in export.headers["content-disposition"]
        file = tmp_path / "run.jsonl"
        file.write_bytes(export.content)
        keys = read_public(public_file(key_file(two_doors.loaded.settings)))
        assert keys is not None and verify_file(file, keys.by_id()).proof.verdict == "proved"


async def test_a_fork_refuses_what_was_approved_and_differs_there(two_doors: LocalStack) -> None:
    async with two_doors.session() as (client, _), reader(two_doors, "operator") as kim:
        run = await renewed(client)
        effects = await two_doors.effects(SERVER)
        events = (await kim.get(f"/api/runs/{run}"))["events"]
        approved = next(each["n"] for each in events if each["type"] == "ApprovalGranted")
        offer = await kim.get(f"/api/runs/{run}/fork", at=approved)
        assert offer["exact"] and offer["answers"][-1]["n"] == approved and offer["answers"][-1]["type"] == "ApprovalGranted"
        fork = await kim.post(f"/api/runs/{run}/fork", {"at": approved, "answers": {str(approved): "refuse:too dear"}})
        await see_through(client, fork["run"])
        view = await kim.get(f"/api/runs/{fork['run']}")
        assert view["fork"]["run"] == run and view["fork"]["at"] == approved and "too dear" in view["fork"]["changed"][0]
        assert any(each.get("changed") and each["type"] == "ApprovalRefused" for each in view["events"])
        turn = next(each["n"] for each in view["events"] if each["type"] == "Generated" and each.get("copied"))
        assert (await kim.get(f"/api/runs/{fork['run']}/events/{turn}/prompt"))["same"], "of a copied turn, too"
        diff = await kim.get("/api/diff", a=run, b=fork["run"])
        assert not diff["same"] and diff["fork"]["which"] == "b" and diff["fork"]["at"] == approved
        parted = diff["steps"][diff["first"]]
        assert (parted["how"], parted["a"]["type"], parted["b"]["type"]) == ("changed", "ApprovalGranted", "ApprovalRefused")
        assert [each["how"] for each in diff["effects"]] == ["only a"]
        assert await two_doors.effects(SERVER) == effects, "nothing of a fork happens in the world"
        wrong = {
            "NoDecision": {"at": 2}, "BeyondTheEnd": {"at": 999}, "NotForked": {"at": approved, "model": "nobody"},
            "NoAnswer": {"at": approved, "answers": {"1": "x"}}, "UnfittingContent": {"answers": {str(approved): "maybe"}},
        }  # fmt: skip
        for kind, body in wrong.items():
            assert (await kim.post(f"/api/runs/{run}/fork", body, 400))["error"]["type"] == kind
        await kim.post(f"/api/runs/{run}/fork", {"answers": {"first": "x"}}, 422)
        async with reader(two_doors, "viewer") as viewer:
            await viewer.post(f"/api/runs/{run}/fork", {"at": approved}, 403)


async def test_a_stream_of_events_goes_on_where_it_broke_off(two_doors: LocalStack) -> None:
    async with two_doors.session() as (client, _), reader(two_doors, "viewer") as kim:
        asked = await client.ask(f"Renew {SERVER} for 2 weeks", agent=OPERATOR)
        waiting = await reached(client, asked.run, lambda update: bool(update.state.approvals()))
        view = await kim.get(f"/api/runs/{asked.run}")
        assert [each["kind"] for each in view["asking"] if each["person"]] == ["RequestApproval"]
        following = asyncio.create_task(kim.lines(asked.run))
        resumed = asyncio.create_task(kim.lines(asked.run, str(view["count"])))
        await client.approve(asked.run, next(iter(waiting.state.approvals())))
        numbers, end = await following
        assert end is not None and end["status"] == "completed" and numbers == list(range(1, end["count"] + 1))
        assert await resumed == (numbers[view["count"] :], end)
        assert await kim.lines(asked.run, str(end["count"])) == ([], end)


async def test_what_is_not_there_and_what_is_anothers_is_told_alike(two_doors: LocalStack) -> None:
    async with two_doors.session() as (client, _), reader(two_doors, "viewer", "operator") as kim:
        run = await renewed(client)
        for place, status in ((f"{run}%23999", 400), (f"{run}%230", 400), (f"{run}/events/0", 422), (f"{run}/at/99999", 400),
                              (f"{run}/events/2/prompt", 400), ("nonsense", 400), (f"{run[:7]}{'0' * 32}", 404)):  # fmt: skip
            await kim.get(f"/api/runs/{place}", status)
        async with reader(two_doors, "admin", tenant="runs-rival") as rival:
            paths = ("", "/events/1", "/at/1", "/tree", "/verify", "/export", "/follow", "/fork?at=1", "/events/5/prompt")
            for path in paths:
                told = await rival.http.get(f"/api/runs/{run}{path}")
                assert (told.status_code, told.json()["error"]["type"]) == (404, "UnknownRun"), path
            await rival.post(f"/api/runs/{run}/fork", {"at": 4}, 404)
            await rival.post(f"/api/runs/{run}/replay", None, 404)
            await rival.get("/api/diff", 404, a=run, b=run)
            assert (await rival.get("/api/runs"))["runs"] == []
            await rival.get(f"/api/runs/{run[:14]}", 404)
