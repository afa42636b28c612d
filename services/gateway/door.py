"""Who comes in: a request's key, token or session becomes a principal, and a route names the right it needs."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from services.gateway.gateway import Gateway
from services.gateway.keys import PREFIX
from services.gateway.principal import DOOR_ROLES, DoorRole, NotSignedIn, Principal, Right
from services.gateway.rate import Rates

CSRF = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


async def gateway_of(connection: HTTPConnection) -> Gateway:
    """The gateway that this app is the face of. A coroutine, since FastAPI calls a plain function in another thread."""
    return _gateway(connection)


def _gateway(connection: HTTPConnection) -> Gateway:
    return cast("Gateway", connection.app.state.gateway)


async def principal_of(connection: HTTPConnection) -> Principal:
    """Whose request this is, counted against their rate. Raises NotSignedIn, TooMany, Unreachable."""
    rates = cast("Rates", connection.app.state.rates)
    address = connection.client.host if connection.client else ""
    rates.let_in(f"unknown {address}", look=True)
    try:
        who = await _who(connection)
    except NotSignedIn:
        rates.let_in(f"unknown {address}")
        raise
    rates.let_in(f"{who.tenant} {who.user} {who.key}")
    return who


async def _who(connection: HTTPConnection) -> Principal:
    gateway = _gateway(connection)
    bearer = _bearer(connection)
    if bearer is not None:
        if gateway.rules.local and gateway.seed.is_local_key(bearer):
            return gateway.local
        if bearer.startswith(PREFIX):
            return await gateway.ring.who(bearer)
        if gateway.tokens is not None:
            return await gateway.tokens.who(bearer)
        raise NotSignedIn("this is no key of Milepost, and no issuer of tokens is set")
    session = connection.cookies.get(gateway.seed.cookie)
    if session is None:
        raise NotSignedIn()
    return await _of_session(gateway, connection, session)


def _bearer(connection: HTTPConnection) -> str | None:
    scheme, _, said = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and said:
        return said.strip()
    return connection.headers.get("x-api-key") or None


async def _of_session(gateway: Gateway, connection: HTTPConnection, session: str) -> Principal:
    """A browser's principal: what changes something must bear the session's own mark, which no other page can read."""
    said = gateway.seed.read("session", session)
    if connection.scope.get("method", "GET") not in _SAFE:
        given = connection.headers.get(CSRF, "")
        if not hmac.compare_digest(given.encode(), str(said.get("csrf", "")).encode()):
            raise NotSignedIn(f"the request does not bear this session's {CSRF}")
    via, key = str(said["via"]), str(said["key"])
    if via == "local":
        if not gateway.rules.local:
            raise NotSignedIn("the local key is not good here")
        return gateway.local
    tenant = str(said["tenant"])
    if via == "key":  # a key that was revoked opens nothing, sessions included
        found = await gateway.ring.find(tenant, key)
        if found is None:
            raise NotSignedIn("the key of this session is gone")
        return found.principal()
    roles = said.get("roles")
    known = tuple(cast("DoorRole", each) for each in roles if each in DOOR_ROLES) if isinstance(roles, list) else ()
    return Principal(tenant, str(said["user"]), known, "oidc", key)


def needs(right: Right) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """A dependency that lets only principals in who have this right."""

    async def allowed(connection: HTTPConnection) -> Principal:
        who = await principal_of(connection)
        who.must(right)
        return who

    return allowed


# What routes are annotated with.
Here = Annotated[Gateway, Depends(gateway_of)]
Reader = Annotated[Principal, Depends(needs("read"))]
Asker = Annotated[Principal, Depends(needs("ask"))]
Approver = Annotated[Principal, Depends(needs("approve"))]
Builder = Annotated[Principal, Depends(needs("build"))]
Manager = Annotated[Principal, Depends(needs("manage"))]
Anyone = Annotated[Principal, Depends(principal_of)]

Responses = dict[int | str, dict[str, Any]]  # FastAPI's own type for it
