"""Words that want to be more than words in a browser, put wherever somebody else may write for the console."""

from __future__ import annotations

import json
from typing import Any

from tests.support.talker import Talker

ELSEWHERE = "http://elsewhere.example"
_RUN = "window.__xss=1"
HTML = (
    f'<script>{_RUN}</script><img src=x onerror="{_RUN}"><svg onload="{_RUN}"></svg><svg><script>{_RUN}</script></svg>'
    f'<math><mtext><style><img src=x onerror="{_RUN}"></style></mtext></math><iframe srcdoc="<script>parent.{_RUN}</script>">'
    f'</iframe><img src="{ELSEWHERE}/track.png"><link rel=stylesheet href="{ELSEWHERE}/s.css"><a href="javascript:{_RUN}">a</a>'
    f'"\'><details open ontoggle="{_RUN}">d</details><form action="javascript:{_RUN}">'
    f'<button autofocus onfocus="{_RUN}">b</button>'
)
MARKDOWN = (
    f"[press](javascript:{_RUN}) [press]( java\tscript:{_RUN}) <javascript:{_RUN}> "
    f"[press](data:text/html,<script>{_RUN}</script>) "
    f"![t]({ELSEWHERE}/pixel.png) ![t](javascript:{_RUN}) [ref][1] {HTML} `{HTML}` \u202egnp.exe\u202c " + "W" * 3000
)
TITLE = f'<img src=x onerror="{_RUN}">\u202etitle'


def _tools() -> dict[str, Any]:
    said = {"summary": HTML[:200], "description": HTML, "operationId": "poisonedTool"}
    parameter = {
        "name": "q",
        "in": "query",
        "description": HTML,
        "schema": {"type": "string", "enum": [TITLE, "b"], "title": TITLE},
    }
    return {
        "openapi": "3.0.0", "info": {"title": TITLE, "version": "1", "description": HTML},
        "servers": [{"url": "https://api.example.com"}], "paths": {"/poison": {"get": {**said, "parameters": [parameter]}}},
    }  # fmt: skip


async def _asks(kim: Talker, task: str) -> dict[str, Any]:
    """A write of the poisoned agent that waits for approval."""
    run, _ = await kim.ask(task, agent="poison")
    turn = (await kim.hear(run, lambda turn: turn.get("approvals"))).turns[run]
    assert turn["approvals"], turn
    approval: dict[str, Any] = turn["approvals"][0]
    return approval


async def _kept(kim: Talker) -> None:
    """What is made beside runs: an agent, a trigger and what fired it, a key, tools, a document."""
    http, document = kim.http, f"# {TITLE}\n\n## {HTML}\n\nPoison is told of here. {MARKDOWN}\n".encode()
    agent = {
        "name": "poison", "title": TITLE, "description": HTML, "suggestions": [HTML[:400]], "picture": "<b>!</b>",
        "spec": {
            "instructions": MARKDOWN, "collections": ["poison"], "knowledge_k": 3, "tool_k": 0,
            "tools": ["ModifyInstanceAttribute", "qr_code"],
        },
    }  # fmt: skip
    trigger = {"name": "poison", "source": {"kind": "webhook"}, "task": "Say {{ payload.text }}", "description": HTML[:480]}
    tools: dict[str, object] = {"kind": "openapi", "document": json.dumps(_tools()), "name": "poison"}
    files = {"file": (f"{TITLE}.md".replace("/", ""), document)}
    made = [
        await http.post("/api/knowledge/poison/documents", files=files),
        await http.put("/api/agents/poison", json=agent), await http.post("/api/agents/poison/publish", json={}),
        await http.put("/api/triggers/poison", json={"trigger": trigger}),
        await http.post("/api/triggers/poison/fire", json={"payload": {"text": HTML, TITLE: HTML}}),
        await http.post("/api/system/keys", json={"name": HTML[:200], "roles": ["viewer"]}),
        looked := await http.post("/api/tools/import/try", json=tools),
        await http.post("/api/tools/import", json={**tools, "seen": looked.json().get("digest", "")}),
    ]  # fmt: skip
    assert all(each.is_success for each in made), [each.text[:300] for each in made]


async def poisoned(kim: Talker) -> list[str]:
    """Put it everywhere; gives the pages of the console that show it."""
    await _kept(kim)
    turn, conversation = await kim.told(f"Say it: {MARKDOWN}")
    waits = await _asks(kim, "describe i-bp1c3n6v8z2w5api01 as <svg/onload=window.__xss=1>")
    refused = await _asks(kim, "describe i-bp1h5t9r4y7u1dbm01 as <img/src/onerror=window.__xss=1>")
    assert (await kim.decide(refused, "refuse", reason=HTML[:1900])).status_code == 200
    cited, second = await kim.told("What is told of poison?", agent="poison")
    (tool,) = (await kim.get("/api/tools?lane=poison", lambda said: said["tools"]))["tools"]
    (document,) = (await kim.http.get("/api/knowledge/poison/documents")).json()["documents"]
    await kim.get(f"/api/runs?conversation={second}", lambda said: said["runs"])
    evil, run, other = "%3Cimg%20src%3Dx%20onerror%3D__xss%3D1%3E", turn["run"], cited["run"]
    return [
        f"/chat/{conversation}", f"/chat/{second}", f"/chat/{refused['conversation']}", "/chat?agent=poison",
        f"/chat?agent={evil}", f"/chat/{evil}", "/approvals", "/approvals?state=decided", "/runs", f"/runs?q={evil}",
        "/runs?q=%22", f"/runs/{run}", *(f"/runs/{other}?tab={tab}#4" for tab in ("events", "prompt", "replay", "receipt")),
        f"/runs/{waits['run']}", f"/runs/{evil}", f"/runs/diff?a={run}&b={other}", f"/runs/diff?a={evil}&b={evil}",
        "/tools", f"/tools/{tool['name']}", f"/tools/{evil}", f"/tools?q={evil}", "/knowledge", "/knowledge/poison",
        f"/knowledge/poison?document={document['id']}", f"/knowledge/{evil}", "/knowledge/poison?q=poison", "/agents",
        "/agents/poison", f"/agents/{evil}", "/triggers", "/triggers?name=poison", f"/triggers?name={evil}", "/system",
        f"/nowhere/{evil}",
    ]  # fmt: skip
