"""The door: who comes in and with which right, what browsers are kept from, and what no request may do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from fastapi import APIRouter

from runtime.client import UnknownRun
from runtime.errors import Unreachable
from services.gateway import keys as door_keys
from services.gateway.api import session
from services.gateway.app import create_app
from services.gateway.door import Approver, Manager, Reader
from services.gateway.guards import BodyLimit
from services.gateway.principal import DOOR_ROLES, RIGHTS, NotSignedIn
from services.gateway.rate import Rates, TooMany
from services.gateway.rules import Rules
from services.gateway.seed import LINK, SESSION, Seed
from tests.support.door import SEED, URL, bare, bearing, browser, gateway, key_for

LOCAL = bearing(SEED.local_key)


async def test_nobody_comes_in_without_a_key() -> None:
    async with browser(gateway()) as web:
        answer = await web.get("/api/session")
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["hint"].startswith("send Authorization")


@pytest.mark.parametrize("text", ["", "x", "mp_", "mp_a.b", "mp_default.nokey.secret", "mp_a*.b.c", "mp_local.0.AAAA", "a.b.c"])
async def test_what_is_no_key_opens_nothing(text: str) -> None:
    async with browser(gateway()) as web:
        for headers in (bearing(text), {"x-api-key": text}):
            assert (await web.get("/api/session", headers=headers)).status_code in (400, 401)
        assert (await web.post("/api/session", json={"key": text})).status_code in (400, 401)


async def test_a_key_lets_its_user_in_until_it_is_revoked_or_has_expired() -> None:
    found = gateway()
    kept, text = await key_for(found, "operator", tenant="acme")
    async with browser(found) as web:
        said = (await web.get("/api/session", headers=bearing(text))).json()
        assert (said["tenant"], said["user"], said["rights"]) == ("acme", "kim", ["ask", "read"])
        wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
        assert (await web.get("/api/session", headers=bearing(wrong))).status_code == 401
        await found.keys.revoke("acme", kept.id, found.clock.now())
        answer = await web.get("/api/session", headers=bearing(text))
        assert answer.status_code == 401 and "revoked" in answer.json()["error"]["why"]
        late, text = door_keys.new_key(
            "acme", "n", "kim", ("viewer",), found.clock.now(), found.clock.now() - timedelta(seconds=1)
        )
        await found.keys.put(late)
        answer = await web.get("/api/session", headers=bearing(text))
        assert answer.status_code == 401 and "expired" in answer.json()["error"]["why"]


async def test_each_right_is_asked_for_by_its_routes_alone() -> None:
    found, router = gateway(), APIRouter()

    @router.get("/t/read")
    async def read(who: Reader) -> str:
        return who.user

    @router.get("/t/approve")
    async def approve(who: Approver) -> str:
        return who.user

    @router.get("/t/manage")
    async def manage(who: Manager) -> str:
        return who.user

    async with browser(found, bare(found, router)) as web:
        for role in DOOR_ROLES:
            _, text = await key_for(found, role)
            for right in ("read", "approve", "manage"):
                status = (await web.get(f"/t/{right}", headers=bearing(text))).status_code
                assert status == (200 if right in RIGHTS[role] else 403), (role, right)


async def test_a_session_acts_only_with_its_own_mark() -> None:
    found, router = gateway(), APIRouter()

    @router.post("/t/act")
    async def act(who: Reader) -> str:
        return who.user

    async with browser(found, bare(found, router, session.router)) as web:
        said = (await web.post("/api/session", json={"key": SEED.local_key})).json()
        cookie = next(each for each in web.cookies.jar if each.name == SEED.cookie)
        assert "HttpOnly" in cookie._rest and cookie._rest["SameSite"] == "strict"  # type: ignore[attr-defined]
        assert (await web.get("/api/session")).json()["csrf"] == said["csrf"]
        for mark in ({}, {"x-csrf-token": "x"}, {"x-csrf-token": said["csrf"] + "x"}, {"x-csrf-token": ""}):
            answer = await web.post("/t/act", headers=mark)
            assert answer.status_code == 401, mark
        assert (await web.post("/t/act", headers={"x-csrf-token": said["csrf"]})).json() == "me"
        await web.delete("/api/session")
        assert (await web.get("/api/session")).status_code == 401


async def test_a_session_ends_with_its_key_and_with_its_time() -> None:
    found = gateway()
    kept, text = await key_for(found, "viewer")
    async with browser(found) as web:
        await web.post("/api/session", json={"key": text})
        assert (await web.get("/api/session")).json()["user"] == "kim"
        await found.keys.revoke("default", kept.id, found.clock.now())
        assert (await web.get("/api/session")).status_code == 401
    old = SEED.sign("session", {"via": "local", "tenant": "default", "user": "me", "key": ""}, found.clock.now() - SESSION)
    async with browser(found, cookies={SEED.cookie: old}) as web:
        assert "expired" in (await web.get("/api/session")).json()["error"]["why"]


async def test_a_link_signs_in_for_two_minutes_and_is_nothing_else() -> None:
    found = gateway()
    now = found.clock.now()
    async with browser(found) as web:
        assert (await web.post("/api/session", json={"link": SEED.sign("link", {}, now)})).json()["via"] == "local"
    for link in (
        SEED.sign("link", {}, now - LINK),
        SEED.sign("session", {}, now),
        Seed(b"o" * 32).sign("link", {}, now),
        "x.y.z",
    ):
        async with browser(found) as web:
            assert (await web.post("/api/session", json={"link": link})).status_code == 401
    async with browser(found, cookies={SEED.cookie: SEED.sign("link", {}, now)}) as web:
        assert (await web.get("/api/session")).status_code == 401


async def test_the_local_key_is_good_only_where_the_rules_say_so() -> None:
    async with browser(gateway(Rules(URL, local=False))) as web:
        assert (await web.get("/api/session", headers=LOCAL)).status_code == 401
        assert (await web.post("/api/session", json={"link": SEED.sign("link", {}, gateway().clock.now())})).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1]", "localhost.evil"])
async def test_no_other_name_leads_here(host: str) -> None:
    async with browser(gateway()) as web:
        assert (await web.get("/api/session", headers={**LOCAL, "host": host})).status_code == 421
        assert (await web.get("/api/session", headers={**LOCAL, "host": "127.0.0.1:99"})).status_code == 200


async def test_every_answer_keeps_browsers_safe() -> None:
    async with browser(gateway()) as web:
        for path in ("/", "/app.js", "/runs/x", "/api/session", "/nothing.js", "/openapi.json"):
            headers = (await web.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy, path
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert (await web.get("/api/session", headers=LOCAL)).headers["cache-control"] == "no-store"


async def test_addresses_of_the_console_lead_to_its_page_and_others_nowhere() -> None:
    async with browser(gateway()) as web:
        for path in ("/", "/runs", "/runs/202611-0000", "/agents/new"):
            assert '<div id="app">' in (await web.get(path)).text, path
        for path in ("/api/nothing", "/v1/nothing", "/none.js", "/../services/gateway/keys.py", "/%2e%2e/keys.py"):
            answer = await web.get(path)
            assert answer.status_code in (404, 401) and "app.js" not in answer.text, path


@pytest.mark.parametrize("said", ["length", "chunks"])
async def test_a_body_that_is_too_large_is_refused(said: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    async with browser(gateway(Rules(URL, body_bytes=10_000))) as web:
        content = b"x" * 20_000 if said == "length" else pieces()
        answer = await web.post("/api/session", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    sent: list[dict[str, object]] = []

    async def never() -> dict[str, object]:
        import asyncio

        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    app = BodyLimit(create_app(gateway()), Rules(URL, body_s=0.05))
    scope = {
        "type": "http", "method": "POST", "path": "/api/session", "raw_path": b"/api/session", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")], "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await app(scope, never, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


async def test_errors_say_what_and_what_next_and_never_more() -> None:
    found, router = gateway(), APIRouter()
    raised: list[Exception] = [UnknownRun("No run.", hint="look"), Unreachable("Away."), ValueError("a secret")]

    @router.get("/v1/fails")
    async def fails(n: int) -> None:
        raise raised[n]

    async with browser(found, bare(found, router)) as web:
        answers = [await web.get("/v1/fails", params={"n": n}) for n in range(3)]
        unfit = await web.get("/v1/fails", params={"n": "x"})
    assert [each.status_code for each in answers] == [404, 503, 500]
    assert answers[0].json()["error"] == {
        "message": "No run. Next: look",
        "type": "not_found_error",
        "param": None,
        "code": "UnknownRun",
    }
    assert "secret" not in answers[2].text
    assert unfit.status_code == 422 and "query.n" in unfit.json()["error"]["message"]


async def test_who_asks_too_fast_waits_and_nobody_else() -> None:
    found = gateway(Rules(URL, per_minute=5))
    _, other = await key_for(found, "viewer")
    async with browser(found) as web:
        statuses = [(await web.get("/api/session", headers=LOCAL)).status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        answer = await web.get("/api/session", headers=LOCAL)
        assert int(answer.headers["retry-after"]) >= 1
        assert (await web.get("/api/session", headers=bearing(other))).status_code == 200
        guesses = [(await web.get("/api/session", headers=bearing(f"mp_default.a.{n}"))).status_code for n in range(7)]
        assert guesses == [401] * 5 + [429] * 2


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    for _ in range(60):
        rates.let_in("a")
    with pytest.raises(TooMany) as refused:
        rates.let_in("a")
    assert refused.value.after_s == 1.0
    now[0] = 1.0
    rates.let_in("a")
    with pytest.raises(TooMany):
        rates.let_in("a")


def test_keys_of_one_seed_tell_nothing_of_each_other() -> None:
    other = Seed(b"o" * 32)
    assert not SEED.is_local_key(other.local_key) and SEED.is_local_key(SEED.local_key)
    raw = base64.urlsafe_b64decode(SEED.local_key.rsplit(".", 1)[1] + "=")
    assert len(raw) == 32 and raw != SEED.secret
    with pytest.raises(NotSignedIn):
        other.read("session", SEED.sign("session", {}, gateway().clock.now()))


async def test_two_doors_of_one_machine_do_not_sign_each_other_out() -> None:
    """Cookies belong to a host, whatever the port: one browser, two stacks."""
    one, two = gateway(), gateway(seed=Seed(b"t" * 32))
    async with browser(one) as web, browser(two, cookies=web.cookies) as other:
        await web.post("/api/session", json={"key": SEED.local_key})
        other.cookies.update(web.cookies)
        assert (await other.get("/api/session")).status_code == 401
        await other.post("/api/session", json={"key": two.seed.local_key})
        web.cookies.update(other.cookies)
        assert (await web.get("/api/session")).status_code == (await other.get("/api/session")).status_code == 200
