"""Agents through the door: built by talking, tried without harm, kept, published, evaluated; another's are not there."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import httpx
import pytest

from schemas.ids import RunId
from services.gateway.agents.file import read_agent
from tests.support.stack import LocalStack
from tests.support.talker import RENEW, talker

WORDS = "I want an assistant that renews ECS instances for our ops team. Always say the price first."
OPS = {"tools": ["RenewInstance"], "tool_k": 0, "knowledge_k": 0}


@pytest.fixture
def name() -> str:
    """A name that no other test gives."""
    return f"a-{secrets.token_hex(4)}"


async def built(http: httpx.AsyncClient, words: str, draft: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """A turn of talking: the jobs of its runs, and what it came to."""
    said, told = {"words": words, "draft": draft}, []
    async with http.stream("POST", "/api/agents/build", json=said) as stream:
        assert stream.status_code == 200, await stream.aread()
        told = [json.loads(line[5:]) async for line in stream.aiter_lines() if line.startswith("data:")]
    return [each["what"] for each in told[:-1]], told[-1]


async def saved(http: httpx.AsyncClient, name: str, based_on: int = 0, **more: Any) -> dict[str, Any]:
    said = await http.put(f"/api/agents/{name}", json={"name": name, "spec": OPS, "based_on": based_on, **more})
    assert said.status_code == 200, said.text
    found: dict[str, Any] = said.json()
    return found


async def test_an_agent_is_built_by_talking_saved_published_and_asked(two_doors: LocalStack, name: str) -> None:
    async with talker(two_doors, "builder") as kim, two_doors.session() as (client, _):
        jobs, turn = await built(kim.http, WORDS, {"name": "draft"})
        patch = turn["patch"]
        assert jobs[0] == "profile" and (patch["title"], patch["name"]) == ("Renewal Desk", "renewal-desk")
        assert patch["instructions"].splitlines() == [
            "You are the renewal desk of the ops team.", "Always say the price first.",
        ], "what it only was shown is dropped, and what it forgot is put in"  # fmt: skip
        assert patch["tools"] == ["RenewInstance"] and "I am a desk." not in patch["suggestions"]
        draft = {
            "name": name, "title": patch["title"], "suggestions": patch["suggestions"],
            "spec": {"instructions": patch["instructions"], "tools": patch["tools"], "tool_k": 0},
        }  # fmt: skip
        jobs, turn = await built(kim.http, "call it Otto", draft)
        assert (jobs, turn["patch"]["title"], turn["patch"]["instructions"]) == (["change"], "Otto", None)
        kept = await kim.http.put(f"/api/agents/{name}", json={**draft, "title": "Otto", "based_on": 0, "note": "first"})
        assert (kept.status_code, kept.json()["version"], kept.json()["serves"]) == (200, 1, None)
        assert (
            await kim.http.post(f"/api/conversations/c-{name}/turns", json={"task": "hi", "agent": name})
        ).status_code == 404
        assert (await kim.http.post(f"/api/agents/{name}/publish", json={})).json()["serves"] == 1
        run, _ = await kim.ask("hello", agent=name)
        request = (await kim.hear(run), (await client.folded(RunId(run))).state.request)[1]
        assert request is not None and (request.agent.name, request.agent.version) == (name, "1")
        assert request.agent.instructions == patch["instructions"]


async def test_a_model_that_gives_nothing_leaves_the_form_alone(two_doors: LocalStack) -> None:
    async with talker(two_doors, "builder") as kim:
        jobs, turn = await built(kim.http, "whatever it may be", {"name": "draft", "spec": {"instructions": "Be kind."}})
        assert jobs == ["change"] and not any(turn["patch"].values())
        assert "the form is as you left it" in turn["said"] and turn["trouble"]
        jobs, turn = await built(kim.http, "要更简短", {"name": "draft", "spec": {"instructions": "Be kind."}})
        assert "表单保持原样" in turn["said"], "in the language of the person"


async def test_a_preview_writes_nothing_even_where_it_would_be_allowed(two_doors: LocalStack, name: str) -> None:
    instance = "i-bp1c3n6v8z2w5api01"
    async with talker(two_doors, "builder") as kim:
        before = await two_doors.effects(instance)
        draft = {"name": name, "spec": {**OPS, "approval": "never"}}
        asked = {"draft": draft, "conversation": "c-1", "task": RENEW.format(n=2)}
        begun = await kim.http.post("/api/agents/preview", json=asked)
        assert begun.status_code == 200, begun.text
        turn = (await kim.hear(begun.json()["run"])).turns[begun.json()["run"]]
        assert [item["state"] for item in turn["items"] if item["kind"] == "call"] == ["not_done"]
        assert turn["status"] == "completed" and await two_doors.effects(instance) == before


async def test_two_who_edit_at_once_do_not_overwrite_each_other(two_doors: LocalStack, name: str) -> None:
    async with talker(two_doors, "builder") as kim, talker(two_doors, "builder", user="lee") as lee:
        await saved(kim.http, name, title="One")
        await saved(lee.http, name, 1, title="Two")
        late = await kim.http.put(f"/api/agents/{name}", json={"name": name, "spec": OPS, "based_on": 1, "title": "Three"})
        assert (late.status_code, late.json()["error"]["type"]) == (409, "Conflict")
        assert (await saved(kim.http, name, 2, title="Two"))["version"] == 2, "nothing new is no new version"
        told = (await kim.http.get(f"/api/agents/{name}/versions")).json()
        assert [(each["version"], each["by"]) for each in told] == [(2, "lee"), (1, "kim")]
        diff = (await kim.http.get(f"/api/agents/{name}/diff?before=1")).json()
        assert [(each["field"], each["before"], each["after"]) for each in diff["changes"]] == [("title", "One", "Two")]
        for version in (2, 1):
            assert (await kim.http.post(f"/api/agents/{name}/publish", json={"version": version})).json()["serves"] == version
        assert (await kim.http.post(f"/api/agents/{name}/publish", json={"version": 9})).status_code == 404
        assert (await kim.http.delete(f"/api/agents/{name}")).status_code == 204
        assert (await kim.http.get(f"/api/agents/{name}")).status_code == 404


async def test_an_agent_goes_to_git_and_comes_back_the_same(two_doors: LocalStack, name: str) -> None:
    spec = {
        **OPS,
        "instructions": '行\n  two: "x"\n',
        "policy": [{"name": "r", "when": {"hours": {"from": "22:00"}}, "then": "deny"}],
    }
    async with talker(two_doors, "builder") as kim:
        await saved(kim.http, name, title="On", spec=spec, suggestions=["a"])
        text = (await kim.http.get(f"/api/agents/{name}/export")).text
        draft = read_agent(text.encode(), "yaml")
        assert draft.name == name and draft.spec.policy[0].when.hours is not None
        again = await kim.http.post("/api/agents/import", json={"text": text})
        assert (again.status_code, again.json()["version"]) == (200, 1), "the same is no new version"
        other = await kim.http.post("/api/agents/import", json={"text": text, "name": f"{name}-2"})
        assert other.json()["spec"]["instructions"] == spec["instructions"]
        assert (await kim.http.get(f"/api/agents/{name}-2/export")).text == text.replace(name, f"{name}-2")
        for wrong, said in (("bugdet: {}", "bugdet"), ("budget: {steps: 0}", "budget.steps"), ("name: [", "no YAML")):
            refused = await kim.http.post("/api/agents/import", json={"text": wrong})
            assert refused.status_code == 400 and said in refused.text.replace("holds no agent", "no YAML"), refused.text


async def test_a_viewer_reads_and_nobody_else_builds(two_doors: LocalStack, name: str) -> None:
    async with talker(two_doors, "builder") as kim, talker(two_doors, "viewer") as viewer, talker(two_doors, "operator") as op:
        await saved(kim.http, name)
        for each in (viewer, op):
            assert (await each.http.get(f"/api/agents/{name}")).status_code == 200
            body = {"name": name, "spec": OPS}
            assert (await each.http.put(f"/api/agents/{name}", json=body)).status_code == 403
            for path in (f"{name}/publish", f"{name}/unpublish", f"{name}/evaluate", "import", "build", "preview", "read"):
                assert (await each.http.post(f"/api/agents/{path}", json={})).status_code == 403, path
            assert (await each.http.delete(f"/api/agents/{name}")).status_code == 403


async def test_another_tenants_agent_is_not_there(two_doors: LocalStack, name: str) -> None:
    async with talker(two_doors, "builder") as kim, talker(two_doors, "admin", tenant="globex") as lee:
        await saved(kim.http, name)
        await kim.http.post(f"/api/agents/{name}/publish", json={})
        for path in ("", "/export", "/diff?before=1"):
            assert (await lee.http.get(f"/api/agents/{name}{path}")).status_code == 404
        assert (await lee.http.get(f"/api/agents/{name}/versions")).json() == []
        assert (await lee.http.post(f"/api/agents/{name}/publish", json={})).status_code == 404
        assert (await lee.http.delete(f"/api/agents/{name}")).status_code == 404
        assert [each["name"] for each in (await lee.http.get("/api/agents")).json()] == ["assistant"]
        assert (await saved(lee.http, name, title="theirs"))["version"] == 1
        assert (await kim.http.get(f"/api/agents/{name}")).json()["title"] == ""


async def test_recorded_runs_tell_how_another_version_would_have_done(two_doors: LocalStack, name: str) -> None:
    async with talker(two_doors, "builder") as kim, talker(two_doors, "viewer", tenant="globex") as lee:
        await saved(kim.http, name)
        await kim.http.post(f"/api/agents/{name}/publish", json={})
        nothing = await kim.http.post(f"/api/agents/{name}/evaluate", json={})
        assert (nothing.status_code, nothing.json()["error"]["type"]) == (404, "NotThere")
        turn, _ = await kim.told("what time is it", agent=name)
        assert turn["status"] == "completed"
        begun = await kim.http.post(f"/api/agents/{name}/evaluate", json={"runs": 5})
        while begun.status_code == 404:  # the index hears of the run a moment later
            await asyncio.sleep(0.1)
            begun = await kim.http.post(f"/api/agents/{name}/evaluate", json={"runs": 5})
        place = f"/api/agents/{name}/evaluations/{begun.json()['id']}"
        found = await kim.get(place, lambda said: said["state"] != "running", limit_s=60.0)
        assert (found["state"], found["done"], found["figures"]["runs"], found["trouble"]) == ("done", 1, 1, "")
        assert found["figures"]["tokens"][0] > 0
        assert (await lee.http.get(place)).status_code == 404
