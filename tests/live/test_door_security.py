"""The door under attack: who may what, what another tenant learns, and requests that are meant to break something."""

from __future__ import annotations

import dataclasses

from fastapi import FastAPI

from services.gateway.app import create_app
from services.gateway.door import COOKIE, CSRF
from services.gateway.gateway import Gateway
from services.gateway.principal import DOOR_ROLES, RIGHTS
from services.gateway.rules import Rules
from tests.support.door import URL, bearing, browser, gateway, key_for
from tests.support.door_routes import OPEN, READING, RIGHTS_OF, UNSAFE, filled, guarded, routes


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
                for headers in ({}, {CSRF: "guessed"}, {CSRF: "é".encode()}):
                    told = await http.request(method, filled(path), json={}, headers=headers)
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
        said = [(await http.get("/api/runs", headers={"authorization": f"Bearer {each}".encode()})) for each in guesses]
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
