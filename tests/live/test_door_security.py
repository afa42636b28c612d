"""The door under attack: who may what, what another tenant learns, and requests that are meant to break something."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
from fastapi import FastAPI
from playwright.async_api import Page

from infra.gateway import serving
from infra.settings import Door
from services.gateway.app import create_app
from services.gateway.door import CSRF
from services.gateway.gateway import Gateway
from services.gateway.principal import DOOR_ROLES, RIGHTS
from services.gateway.rules import Rules
from services.gateway.seed import COOKIE
from tests.support.chromium import chromium
from tests.support.door import URL, bearing, browser, gateway, key_for
from tests.support.door_property import CHANNEL, TRIGGER, WORD, Property, acquired, looked_at
from tests.support.door_routes import OPEN, READING, RIGHTS_OF, UNSAFE, Route, filled, guarded, routes
from tests.support.gateways import door_of
from tests.support.poison import poisoned
from tests.support.stack import LocalStack
from tests.support.talker import talker


def _door() -> tuple[Gateway, FastAPI]:
    """The whole app with nothing behind it, and no limit to how often it is asked."""
    found = gateway(Rules(URL, hosts=("127.0.0.1",), per_minute=1_000_000))
    return found, create_app(found)


def test_every_route_that_changes_something_says_which_right_it_needs() -> None:
    unsafe = {route for route in routes() if route[0] in UNSAFE}
    assert unsafe - set(RIGHTS_OF) - set(READING) - set(OPEN) == set(), "say in tests/support/door_routes.py what they are"
    assert set(RIGHTS_OF) | set(READING) | set(OPEN) <= set(routes())


async def test_nobody_comes_in_unknown() -> None:
    found, app = _door()
    async with browser(found, app) as http:
        for method, path in guarded():
            said = await http.request(method, filled(path), json={} if method in UNSAFE else None)
            assert said.status_code == 401, (method, path, said.text)
            assert said.headers["www-authenticate"] == "Bearer"


async def test_each_role_is_refused_what_it_has_no_right_to() -> None:
    found, app = _door()
    for role in DOOR_ROLES:
        _, text = await key_for(found, role, user=f"a-{role}")
        async with browser(found, app, headers=bearing(text)) as http:
            for (method, path), right in RIGHTS_OF.items():
                if right not in RIGHTS[role]:
                    said = await http.request(method, filled(path), json={} if method != "GET" else None)
                    assert said.status_code == 403, (role, method, path, said.text)


async def test_a_session_changes_nothing_without_its_own_mark() -> None:
    found, app = _door()
    async with browser(found, app) as http:
        said = await http.post("/api/session", json={"key": found.seed.local_key})
        cookie = said.headers["set-cookie"].lower()
        assert COOKIE in cookie and "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        for method, path in guarded():
            if method in UNSAFE:
                for mark in (b"", b"guessed", "é".encode()):
                    told = await http.request(method, filled(path), json={}, headers={CSRF.encode(): mark})
                    assert told.status_code == 401, (method, path, told.text)
        assert (await http.get("/api/session")).json()["csrf"] == said.json()["csrf"]


async def test_a_cookie_crosses_tls_alone_where_there_is_tls() -> None:
    found = gateway(dataclasses.replace(Rules(URL), secure=True))
    async with browser(found) as http:
        said = await http.post("/api/session", json={"key": found.seed.local_key})
        assert "secure" in said.headers["set-cookie"].lower()


async def test_what_is_wrong_with_a_key_is_told_to_nobody_but_its_owner() -> None:
    """Else anybody could find out which tenants and keys there are."""
    found, app = _door()
    kept, text = await key_for(found, "viewer")
    await found.keys.revoke("default", kept.id, found.clock.now())
    other = f"mp_default.{kept.id}.{'x' * 43}"
    guesses = (other, "mp_default.ffffffffffff.x", "mp_nobody.ffffffffffff.x", "mp_no body.f f.x", "mp_é.ü.x")
    async with browser(found, app) as http:
        said = [(await http.get("/api/runs", headers={b"authorization": f"Bearer {each}".encode()})) for each in guesses]
        assert {(each.status_code, each.text) for each in said} == {(401, said[0].text)}
        assert "revoked" in (await http.get("/api/runs", headers=bearing(text))).text


async def test_pages_elsewhere_call_only_where_they_are_named() -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for origins, allowed in (((), ""), (("https://app.example",), "https://app.example")):
        found = gateway(Rules(URL, hosts=("127.0.0.1",), origins=origins))
        async with browser(found) as http:
            for origin in ("https://app.example", "https://evil.example", "null", "https://app.example.evil.example"):
                for said in (
                    await http.options("/v1/chat/completions", headers={"origin": origin, **ask}),
                    await http.get("/v1/models", headers={"origin": origin}),
                ):
                    told = said.headers.get("access-control-allow-origin", "")
                    assert told == (allowed if origin == allowed else ""), (origin, told)
                    assert "access-control-allow-credentials" not in said.headers


# --- another tenant ------------------------------------------------------------------------------


def _of_another(own: Property) -> dict[Route, tuple[dict[str, str], object, set[int]]]:
    """Every route with a name in its path: the owner's names, what to send, and the answers that give nothing away.

    200: a list of what is the stranger's own under that name, which is nothing; or something of their own that is made.
    """
    done, run = {"run": own.done}, {"run": own.waiting}
    command = {**run, "command": own.command}
    document = {"collection": own.collection, "id": own.document}
    agent, hook, channel = {"name": "sec-agent"}, {"name": "sec-hook"}, {"name": "secdoor"}
    evaluation = {**agent, "id": own.evaluation}
    response = {"id": f"resp_{own.done}"}
    gone = {404}
    return {
        ("GET", "/v1/responses/{id}"): (response, None, gone), ("DELETE", "/v1/responses/{id}"): (response, None, gone),
        ("POST", "/v1/responses/{id}/cancel"): ({"id": f"resp_{own.waiting}"}, {}, gone),
        ("GET", "/v1/models/{model}"): ({"model": "sec-agent"}, None, gone),
        ("GET", "/v1/files/{id}"): ({"id": own.document}, None, gone),
        ("DELETE", "/v1/files/{id}"): ({"id": own.document}, None, gone),
        ("GET", "/api/runs/{run}"): (done, None, gone), ("GET", "/api/runs/{run}/events/{n}"): (done, None, gone),
        ("GET", "/api/runs/{run}/events/{n}/prompt"): (done, None, gone), ("GET", "/api/runs/{run}/at/{n}"): (done, None, gone),
        ("GET", "/api/runs/{run}/tree"): (done, None, gone), ("GET", "/api/runs/{run}/follow"): (done, None, gone),
        ("POST", "/api/runs/{run}/replay"): (done, {}, gone), ("GET", "/api/runs/{run}/verify"): (done, None, gone),
        ("GET", "/api/runs/{run}/export"): (done, None, gone), ("GET", "/api/runs/{run}/fork"): (done, {"at": 2}, gone),
        ("POST", "/api/runs/{run}/fork"): (done, {"at": 2}, gone),
        ("POST", "/api/approvals/{run}/{command}"): (command, {"decision": "approve"}, gone),
        ("POST", "/api/questions/{run}/{command}"): (command, {"accepted": False}, gone),
        ("GET", "/api/conversations/{id}"): ({"id": own.conversation}, None, {200}),
        ("POST", "/api/conversations/{id}/turns"): ({"id": "mine"}, {"task": "hello", "replaces": own.done}, gone),
        ("GET", "/api/conversations/turns/{run}/stream"): (done, None, gone),
        ("POST", "/api/runs/{run}/cancel"): (run, {}, gone),
        ("POST", "/api/conversations/{id}/files"): ({"id": own.conversation}, None, {422}),
        ("GET", "/api/runs/{run}/payloads/{ref}"): ({**done, "ref": own.payload}, None, gone),
        ("DELETE", "/api/tools/sources/{lane}"): ({"lane": "builtin"}, None, gone),
        ("GET", "/api/tools/named/{name}"): ({"name": "NoSuchTool"}, None, gone),
        ("POST", "/api/tools/named/{name}/try"): ({"name": "NoSuchTool"}, {}, gone),
        ("GET", "/api/tools/tries/{run}"): (done, None, gone),
        ("GET", "/api/knowledge/{collection}/documents"): (document, None, {200}),
        ("POST", "/api/knowledge/{collection}/documents"): (document, None, {422}),
        ("DELETE", "/api/knowledge/{collection}/documents/{id}"): (document, None, gone),
        ("GET", "/api/knowledge/{collection}/documents/{id}/chunks"): (document, None, gone),
        ("POST", "/api/agents/{name}/evaluate"): (agent, {}, gone),
        ("GET", "/api/agents/{name}/evaluations/{id}"): (evaluation, None, gone),
        ("DELETE", "/api/agents/{name}/evaluations/{id}"): (evaluation, None, gone),
        ("GET", "/api/agents/{name}"): (agent, None, gone), ("GET", "/api/agents/{name}/versions"): (agent, None, {200, 404}),
        ("GET", "/api/agents/{name}/diff"): (agent, {"before": 1}, gone),
        ("GET", "/api/agents/{name}/export"): (agent, None, gone),
        ("POST", "/api/agents/{name}/publish"): (agent, {}, gone), ("POST", "/api/agents/{name}/unpublish"): (agent, {}, gone),
        ("DELETE", "/api/agents/{name}"): (agent, None, gone),
        ("PUT", "/api/agents/{name}"): (agent, {"name": "sec-agent", "title": "mine"}, {200}),
        ("GET", "/api/triggers/{name}"): (hook, None, gone), ("GET", "/api/triggers/{name}/firings"): (hook, None, gone),
        ("GET", "/api/triggers/{name}/secret"): (hook, None, gone), ("POST", "/api/triggers/{name}/fire"): (hook, {}, gone),
        ("POST", "/api/triggers/{name}/enabled"): (hook, {"enabled": False}, gone),
        ("DELETE", "/api/triggers/{name}"): (hook, None, gone),
        ("PUT", "/api/triggers/{name}"): (hook, {"trigger": {**TRIGGER, "task": "mine", "description": ""}}, {200}),
        ("DELETE", "/api/channels/{name}"): (channel, None, gone),
        ("PUT", "/api/channels/{name}"): (channel, {"channel": CHANNEL}, {400, 403}),
        ("POST", "/hooks/{tenant}/{name}"): ({"tenant": "default", **hook}, {}, {401}),
        ("POST", "/channels/{tenant}/{name}"): ({"tenant": "default", **channel}, {}, {401}),
        ("POST", "/api/system/dead/{id}/requeue"): ({"id": "1"}, {}, gone),
        ("DELETE", "/api/system/dead/{id}"): ({"id": "1"}, None, gone),
        ("DELETE", "/api/system/keys/{id}"): ({"id": own.key}, None, gone),
    }  # fmt: skip


def _beside(own: Property) -> list[tuple[str, str, object, set[int]]]:
    """Names of the owner's elsewhere than in a path."""
    resp, ask = f"resp_{own.done}", {"model": "assistant", "input": "and then?"}
    calls = [{"id": own.call, "type": "function", "function": {"name": "approve", "arguments": "{}"}}]
    chat = [
        {"role": "user", "content": "renew"}, {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": own.call, "content": '{"approved": true}'},
    ]  # fmt: skip
    shown = [
        {"role": "user", "content": "renew"},
        {"role": "assistant", "content": f"Approve? {own.call}"},
        {"role": "user", "content": "yes"},
    ]
    approval = [{"type": "mcp_approval_response", "approval_request_id": own.call.replace("call_", "mcpr_"), "approve": True}]
    return [
        ("POST", "/v1/responses", {**ask, "previous_response_id": resp}, {404}),
        ("POST", "/v1/responses", {**ask, "conversation": own.conversation}, {200}),
        ("POST", "/v1/responses", {"model": "assistant", "input": approval}, {404}),
        ("POST", "/v1/chat/completions", {"model": "assistant", "messages": chat}, {200}),
        ("POST", "/v1/chat/completions", {"model": "assistant", "messages": shown}, {200}),
        ("POST", "/v1/chat/completions", {"model": "sec-agent", "messages": shown[:1]}, {404}),
        ("GET", f"/api/diff?a={own.done}&b={own.done}", None, {404}),
        ("GET", f"/api/runs?fork-of={own.done}", None, {200, 404}),
        ("GET", f"/api/runs?conversation={own.conversation}", None, {200}), ("GET", f"/api/runs/{own.done[:20]}", None, {404}),
        ("GET", f"/api/knowledge/search?text=treasure&collections={own.collection}", None, {200}),
        ("GET", f"/api/knowledge/used?name={own.document}", None, {200}),
        ("GET", f"/v1/files?collection={own.collection}", None, {200}),
        ("POST", "/api/triggers/test", {"name": "sec-hook"}, {404}),
        *(("GET", path, None, {200}) for path in (
            "/v1/models", "/v1/files", "/api/runs", "/api/approvals", "/api/approvals?state=decided", "/api/conversations",
            "/api/tools", "/api/tools/sources", "/api/knowledge", "/api/agents", "/api/triggers", "/api/channels",
            "/api/system",
            "/api/system/activity", "/api/system/storage", "/api/system/dead", "/api/system/keys",
        )),
        ("GET", "/metrics", None, {403}),
    ]  # fmt: skip


async def test_another_tenants_administrator_learns_and_changes_nothing(two_doors: LocalStack) -> None:
    async with (
        talker(two_doors, "admin", user="sec-kim") as kim, talker(two_doors, "admin", user="sec-kim", tenant="rival") as rival,
    ):  # fmt: skip
        own = await acquired(kim)
        cases = _of_another(own)
        assert {route for route in routes() if "{" in route[1]} == set(cases), "every route with a name in it has its case"
        before = await looked_at(kim, own)
        told = [(method, filled(path, **names), body, good) for (method, path), (names, body, good) in cases.items()]
        for method, path, body, good in (*_beside(own), *told):  # then things of the same names are made
            given = {"params": body} if method == "GET" else {"json": body} if body is not None else {}
            said = await rival.http.request(method, path, **given)  # type: ignore[arg-type]
            assert said.status_code in good, (method, path, said.status_code, said.text[:500])
            assert WORD not in said.text and own.command not in said.text.replace(own.call, ""), (method, path, said.text[:500])
        assert await looked_at(kim, own) == before
        assert json.loads((await kim.http.get(f"/api/runs/{own.waiting}")).text)["ended"] is False
        await kim.http.post(f"/api/runs/{own.waiting}/cancel", json={})


async def test_another_user_of_the_tenant_reads_no_conversation_that_is_not_theirs(two_doors: LocalStack) -> None:
    async with (
        talker(two_doors, "admin", user="sec-ann") as ann, talker(two_doors, "operator", user="sec-bob") as bob,
    ):  # fmt: skip
        _, id = await ann.told("My number is 4711.")
        await ann.get("/api/conversations", lambda said: any(each["id"] == id for each in said["conversations"]))
        assert id not in (await bob.http.get("/api/conversations")).text
        assert (await bob.http.get(f"/api/conversations/{id}")).status_code == 404
        assert (await bob.http.post(f"/api/conversations/{id}/turns", json={"task": "What is my number?"})).status_code == 404
        asked = {
            "model": "assistant",
            "messages": [{"role": "user", "content": "What is my number?"}],
            "metadata": {"conversation": id},
        }
        assert (await bob.http.post("/v1/chat/completions", json=asked)).status_code == 404
        said = {"model": "assistant", "input": "What is my number?", "conversation": id}
        assert (await bob.http.post("/v1/responses", json=said)).status_code == 404
        assert (await ann.http.post("/v1/responses", json=said)).status_code == 200


# --- what others wrote, in a browser -----------------------------------------------------------------

_WATCH = """
window.__broken = [];
addEventListener("securitypolicyviolation", (event) => window.__broken.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


_SHOWN = "!!document.querySelector('main')?.innerText.trim() && !document.querySelector('main .loading, main [aria-busy=true]')"
_FOUND = "[window.__xss ?? null, window.__broken, document.querySelectorAll('main script, main iframe').length]"


async def _settled(page: Page, path: str) -> None:
    """Wait until the page shows what it has. Its own policy lets Playwright wait for no expression."""
    for _ in range(300):
        if await page.evaluate(_SHOWN):
            return
        await asyncio.sleep(0.03)
    raise AssertionError(f"{path} shows nothing: {(await page.content())[:1500]}")


async def test_what_others_wrote_stays_text_on_every_page(two_doors: LocalStack) -> None:
    """Tasks, answers, tools, documents, agents, triggers, keys, reasons and addresses that all want to run a script."""
    async with talker(two_doors, "admin", user="sec-eve") as eve, chromium() as browser:
        pages, key = await poisoned(eve), eve.http.headers["authorization"].removeprefix("Bearer ")
        home = door_of(two_doors)
        context = await browser.new_context(base_url=home)
        await context.add_init_script(_WATCH)
        assert (await context.request.post("/api/session", data={"key": key})).ok
        page, told = await context.new_page(), list[str]()
        page.on("request", lambda each: told.append(each.url) if not each.url.startswith((home, "data:", "blob:")) else None)
        page.on("dialog", lambda each: told.append(f"dialog {each.message}"))
        page.on("pageerror", lambda each: told.append(f"error {each}"))
        for path in pages:
            await page.goto(path)
            await _settled(page, f"{path} {told}")
            closed = "main details:not([open]) > summary"
            await page.evaluate(f"document.querySelectorAll('{closed}').forEach((each) => each.click())")
            links = await page.evaluate("[...document.querySelectorAll('main .markdown a[href]')].map((each) => each.href)")
            assert all(re.match(r"(https?|mailto):", link) for link in links), path
            await page.evaluate("new Promise((then) => requestAnimationFrame(() => setTimeout(then, 50)))")
            found = await page.evaluate(
                "[window.__xss ?? null, window.__broken, document.querySelectorAll('main script, main iframe').length]"
            )
            assert found == [None, [], 0], (path, found)
            assert not told, (path, told)
        await context.close()


# --- requests that are meant to break something ------------------------------------------------------

_HOSTILE = {
    "broken": b'{"a":', "deep lists": b"[" * 100_000, "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "NaN": b'{"model":"assistant","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "a long integer": b'{"model":"assistant","seed":' + b"9" * 5000 + b"}", "no UTF-8": b'{"model":"\xff"}', "nothing": b"",
    "NUL": b'{"model":"assistant","messages":[{"role":"user","content":"a\\u0000b"}]}', "a list": b"[]",
    "half a character": b'{"model":"assistant","messages":[{"role":"user","content":"a\\ud800b"}]}',
    "an unknown role": b'{"model":"assistant","messages":[{"role":"god","content":"x"}]}',
    "too many messages": json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "x"}] * 10_000}).encode(),
    "too deep a schema": b'{"model":"assistant","messages":[{"role":"user","content":"x"}],"response_format":'
    b'{"type":"json_schema","json_schema":{"schema":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}}}",
}  # fmt: skip
_PATHS = (
    "/..%2f..%2fapp.py", "/%2e%2e/%2e%2e/app.py", "/core/..%2f..%2fapp.py", "/core/%c0%ae%c0%ae/app.py", "/a%00b.js",
    "/api/runs/%00", "/api/runs/%2e%2e", "/v1/models/%2e%2e%2fx", "/api/runs/a%0d%0aX:1/export", "/\\elsewhere.example",
    "/v1/files/%ff",
)  # fmt: skip


async def test_hostile_bodies_and_paths_are_refused(two_doors: LocalStack) -> None:
    async with talker(two_doors, "admin", user="sec-mallory", tenant="rival") as mallory:
        http, json_ = mallory.http, {"content-type": "application/json"}
        for name, body in _HOSTILE.items():
            said = await http.post("/v1/chat/completions", content=body, headers=json_)
            assert said.status_code in (400, 422), (name, said.status_code, said.text[:300])
            assert "Traceback" not in said.text and "site-packages" not in said.text and len(said.text) < 5000, name
        packed = gzip.compress(b'{"model":"assistant","messages":[{"role":"user","content":"x"}]}')
        said = await http.post("/v1/chat/completions", content=packed, headers={**json_, "content-encoding": "gzip"})
        assert said.status_code == 400, "a packed body is not unpacked, so none is a bomb"
        for path in _PATHS:
            found = await http.get(path)
            assert found.status_code in (400, 404, 405, 422) and "import" not in found.text, (path, found.status_code)
        for path in ("//elsewhere.example/", "//elsewhere.example/%2e%2e", "/core", "/pages/", "/api/runs/"):
            assert "elsewhere" not in (await http.get(path)).headers.get("location", ""), path


async def test_texts_that_are_nested_without_end_are_refused_at_once(two_doors: LocalStack) -> None:
    """They took the gateway's time for minutes, and its stack: PyYAML puts a text together by recursion."""
    async with talker(two_doors, "builder", user="sec-mallory", tenant="rival") as mallory:
        for piece in ("[", "{a: ", "- ", "? ", "[\n"):
            text = piece * 15_000
            for path, body in (
                ("/api/agents/read", {"text": text}), ("/api/triggers/read", {"yaml": text[:60_000]}),
                ("/api/tools/import/try", {"kind": "openapi", "document": piece * 200_000}),
            ):  # fmt: skip
                async with asyncio.timeout(10):
                    said = await mallory.http.post(path, json=body)
                assert said.status_code == 400 and "deep" in said.text, (piece, path, said.text[:300])


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(two_doors: LocalStack) -> None:
    async with talker(two_doors, "operator", user="sec-mallory", tenant="rival") as mallory:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 1_000_000

        big = b'{"a":"' + b"x" * 20_000_000 + b'"}'
        for content in (big, pieces()):
            said = await mallory.http.post("/v1/chat/completions", content=content)
            assert (said.status_code, said.headers["connection"]) == (413, "close")
        assert (await mallory.http.get("/v1/models")).status_code == 200


async def test_so_many_streams_and_no_more_and_each_is_given_back() -> None:
    found = gateway(Rules(URL, hosts=("127.0.0.1",), streams=3, per_minute=1_000_000))
    app, ready = create_app(found), asyncio.Event()
    listening = serving.listen(Door(port=0))
    served = asyncio.create_task(serving.serve_app(app, Door(port=0), listening, ready))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        await ready.wait()
        async with httpx.AsyncClient(base_url=url, headers=bearing(found.seed.local_key), trust_env=False) as http:
            for _ in range(3):
                async with AsyncExitStack() as held:
                    for _ in range(3):
                        assert (await held.enter_async_context(http.stream("GET", "/api/live"))).status_code == 200
                    over = await http.get("/api/live")
                    assert over.status_code == 429 and int(over.headers["retry-after"]) > 0
                    assert app.state.streams.open == 3
                async with asyncio.timeout(10):
                    while app.state.streams.open:
                        await asyncio.sleep(0.01)
    finally:
        served.cancel()
        await asyncio.wait({served})
