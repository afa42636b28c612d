"""Bearer tokens of an OpenID Connect provider: checked against its published keys, and who they are here.

Claims: `sub` (or another) names the user, others tenant and roles. Sources: RFC 7519, RFC 9068, OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import jwt

from schemas.canonical import JsonObject
from schemas.ids import checked_token
from services.gateway.principal import DOOR_ROLES, DoorRole, NotSignedIn, Principal

Fetch = Callable[[str], Awaitable[JsonObject]]
"""Gives the JSON that stands at an address. Raises Unreachable."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_KEYS_S = 3600.0
_AGAIN_S = 30.0
_LEEWAY_S = 30
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens, and what they must say. roles: the door's roles by what the claim has; tenant: if no claim names it."""

    url: str
    audience: str
    user_claim: str = "sub"
    tenant_claim: str = ""
    roles_claim: str = "roles"
    tenant: str = "default"
    roles: tuple[tuple[str, DoorRole], ...] = ()


class Tokens:
    """Tells whose a bearer token is. The provider's keys are fetched when one is missing, at most every half minute."""

    def __init__(self, issuer: Issuer, fetch: Fetch) -> None:
        self._issuer, self._fetch = issuer, fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    async def who(self, token: str) -> Principal:
        """Raises NotSignedIn, Unreachable."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise NotSignedIn(f"the token is signed with {header.get('alg')}")
            key = await self._key(str(header.get("kid", "")))
            claims: JsonObject = jwt.decode(
                token, key.key, algorithms=[header["alg"]], audience=self._issuer.audience, issuer=self._issuer.url,
                leeway=_LEEWAY_S, options={"require": ["exp", "aud", "iss"]},
            )  # fmt: skip
        except jwt.InvalidTokenError as error:
            raise NotSignedIn(f"the token is not good: {error}") from error
        return self._principal(claims)

    async def _key(self, kid: str) -> jwt.PyJWK:
        async with self._lock:
            age = time.monotonic() - self._fetched
            if age > _KEYS_S or (kid not in self._keys and age > _AGAIN_S):
                about = await self._fetch(self._issuer.url.rstrip("/") + "/.well-known/openid-configuration")
                published = await self._fetch(str(about.get("jwks_uri", "")))
                keys = jwt.PyJWKSet.from_dict(published).keys
                self._keys = {key.key_id or "": key for key in keys if key.public_key_use in (None, "sig")}
                self._fetched = time.monotonic()
        found = self._keys.get(kid) or (next(iter(self._keys.values())) if not kid and len(self._keys) == 1 else None)
        if found is None:
            raise NotSignedIn("the issuer has no key of the name that the token says")
        return found

    def _principal(self, claims: JsonObject) -> Principal:
        issuer = self._issuer
        user = _token(claims.get(issuer.user_claim), issuer.user_claim)
        tenant = _token(claims.get(issuer.tenant_claim), issuer.tenant_claim) if issuer.tenant_claim else issuer.tenant
        said = claims.get(issuer.roles_claim, [])
        names = said.split() if isinstance(said, str) else [str(each) for each in said] if isinstance(said, list) else []
        given = dict(issuer.roles)
        roles = [given.get(name) or (name if not given and name in DOOR_ROLES else None) for name in names]
        return Principal(tenant, user, tuple(dict.fromkeys(role for role in roles if role)), "oidc", str(claims.get("sub", "")))


def _token(value: object, claim: str) -> str:
    """A claim as one of our tokens. What is none loses what a token may not have, and gets a digest: no two become one."""
    if not isinstance(value, str) or not value:
        raise NotSignedIn(f"the token says no {claim}")
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", value)
    if plain == value and len(value) <= _LONGEST:
        return checked_token(value, claim)
    return checked_token(f"{plain[: _LONGEST - 9]}-{hashlib.sha256(value.encode()).hexdigest()[:8]}", claim)
