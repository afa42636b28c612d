"""Signing in with a browser: a key or a short-lived link becomes a cookie; and who one is."""

from __future__ import annotations

import secrets
from datetime import timedelta

from fastapi import APIRouter, Response
from starlette.requests import Request

from schemas.canonical import JsonObject
from schemas.tools import Value
from services.gateway.door import Anyone, Here
from services.gateway.keys import PREFIX
from services.gateway.principal import NotSignedIn, Principal
from services.gateway.seed import SESSION

router = APIRouter()


class SignIn(Value):
    """One of them: an API key, a provider's token, or what stood in a link of `milepost open`."""

    key: str = ""
    link: str = ""


class Session(Value):
    """Who is signed in. csrf: what requests that change something must bear as x-csrf-token."""

    tenant: str
    user: str
    roles: tuple[str, ...]
    rights: tuple[str, ...]
    via: str
    csrf: str = ""
    models: tuple[str, ...] = ()
    version: str = ""


@router.post("/api/session")
async def sign_in(said: SignIn, request: Request, response: Response, gateway: Here) -> Session:
    """Raises NotSignedIn, TooMany."""
    address = request.client.host if request.client else ""
    request.app.state.rates.let_in(f"sign-in {address}")
    who = await _who(gateway, said)
    now, csrf = gateway.clock.now(), secrets.token_urlsafe(24)
    claims: JsonObject = {
        "via": who.via, "tenant": who.tenant, "user": who.user, "roles": list(who.roles), "key": who.key, "csrf": csrf,
    }  # fmt: skip
    response.set_cookie(
        gateway.seed.cookie, gateway.seed.sign("session", claims, now), max_age=int(SESSION / timedelta(seconds=1)), path="/",
        httponly=True, samesite="strict", secure=gateway.rules.secure,
    )  # fmt: skip
    return _session(gateway, who, csrf)


@router.get("/api/session")
async def session(request: Request, gateway: Here, who: Anyone) -> Session:
    """Who is signed in. Raises NotSignedIn."""
    cookie = request.cookies.get(gateway.seed.cookie)
    csrf = str(gateway.seed.read("session", cookie).get("csrf", "")) if cookie else ""
    return _session(gateway, who, csrf)


@router.delete("/api/session", status_code=204)
async def sign_out(response: Response, gateway: Here) -> None:
    """Take the cookie back."""
    response.delete_cookie(gateway.seed.cookie, path="/")


async def _who(gateway: Here, said: SignIn) -> Principal:
    if said.link:
        gateway.seed.read("link", said.link)
        if not gateway.rules.local:
            raise NotSignedIn("links of this machine are not good here")
        return gateway.local
    if gateway.rules.local and gateway.seed.is_local_key(said.key):
        return gateway.local
    if said.key.startswith(PREFIX):
        return await gateway.ring.who(said.key)
    if gateway.tokens is not None and said.key:
        return await gateway.tokens.who(said.key)
    raise NotSignedIn("nobody has this key")


def _session(gateway: Here, who: Principal, csrf: str) -> Session:
    return Session(
        tenant=who.tenant, user=who.user, roles=who.roles, rights=tuple(sorted(who.rights)), via=who.via, csrf=csrf,
        models=gateway.models, version=gateway.version,
    )  # fmt: skip
