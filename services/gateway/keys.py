"""API keys: what one looks like, how it is kept (only its hash), and whose it is.

A key reads `mp_TENANT.ID.SECRET`: the tenant is part of it, so that looking one up needs no right to see all tenants' keys.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Protocol

from pydantic import Field

from runtime.clock import Clock
from schemas.errors import ProtocolError
from schemas.ids import Token, checked_token
from schemas.tools import Value
from services.gateway.principal import DoorRole, NotSignedIn, Principal

PREFIX = "mp_"
_SECRET_BYTES = 32


class DoorKey(Value):
    """An API key as it is kept. hash: SHA-256 of its secret, hex; the secret itself is shown once and kept nowhere."""

    tenant: Token
    id: Token
    name: str = Field(min_length=1, max_length=200)
    user: Token
    roles: tuple[DoorRole, ...] = Field(min_length=1)
    hash: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def principal(self) -> Principal:
        """Whom it stands for."""
        return Principal(self.tenant, self.user, self.roles, "key", self.id)


class KeyStore(Protocol):
    """Where keys are kept."""

    async def put(self, key: DoorKey) -> None:
        """Keep a new key."""
        ...

    async def get(self, tenant: str, id: str) -> DoorKey | None:
        """One key, revoked or not."""
        ...

    async def keys(self, tenant: str) -> list[DoorKey]:
        """All of a tenant, newest first."""
        ...

    async def revoke(self, tenant: str, id: str, at: datetime) -> bool:
        """It is good for nothing any more; False if it was not there or revoked before."""
        ...


def new_key(
    tenant: str, name: str, user: str, roles: tuple[DoorRole, ...], now: datetime, expires: datetime | None = None
) -> tuple[DoorKey, str]:
    """A key to keep, and its text to show once."""
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(_SECRET_BYTES)
    kept = DoorKey(tenant=tenant, id=id, name=name, user=user, roles=roles, hash=_hash(secret), created=now, expires=expires)
    return kept, f"{PREFIX}{checked_token(tenant, 'tenant')}.{id}.{secret}"


def parts(text: str) -> tuple[str, str, str] | None:
    """Tenant, id and secret of a key's text; None if it is none."""
    found = text.removeprefix(PREFIX).split(".")
    return (found[0], found[1], found[2]) if text.startswith(PREFIX) and len(found) == 3 and all(found) else None


class KeyRing:
    """Tells whose a key is. Looked up anew after `fresh_s`, so a revoked key opens nothing after that."""

    def __init__(self, store: KeyStore, clock: Clock, fresh_s: float = 5.0) -> None:
        self._store, self._clock, self._fresh_s = store, clock, fresh_s
        self._known: dict[tuple[str, str], tuple[datetime, DoorKey]] = {}

    async def who(self, text: str) -> Principal:
        """Raises NotSignedIn."""
        found = parts(text)
        if found is None:
            raise NotSignedIn("this is no key of Milepost")
        tenant, id, secret = found
        try:
            key = await self._kept(checked_token(tenant, "tenant"), checked_token(id, "key"))
        except ProtocolError:
            key = None
        if not hmac.compare_digest(key.hash if key else "", _hash(secret)) or key is None:
            raise NotSignedIn("nobody has this key")  # what a key is like, only who has it is told
        return self._good(key).principal()

    async def find(self, tenant: str, id: str) -> DoorKey | None:
        """A key that is good now. Raises NotSignedIn for one that was revoked or has expired."""
        key = await self._kept(checked_token(tenant, "tenant"), checked_token(id, "key"))
        return None if key is None else self._good(key)

    async def _kept(self, tenant: str, id: str) -> DoorKey | None:
        now = self._clock.now()
        seen = self._known.get((tenant, id))
        if seen is None or (now - seen[0]).total_seconds() > self._fresh_s:
            key = await self._store.get(tenant, id)
            if key is None:
                return None
            if len(self._known) > 10_000:
                self._known.clear()
            seen = self._known[tenant, id] = now, key
        return seen[1]

    def _good(self, key: DoorKey) -> DoorKey:
        if key.revoked is not None:
            raise NotSignedIn("the key was revoked")
        if key.expires is not None and key.expires <= self._clock.now():
            raise NotSignedIn("the key has expired")
        return key


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class MemoryKeyStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], DoorKey] = {}

    async def put(self, key: DoorKey) -> None:
        self._keys.setdefault((key.tenant, key.id), key)

    async def get(self, tenant: str, id: str) -> DoorKey | None:
        return self._keys.get((tenant, id))

    async def keys(self, tenant: str) -> list[DoorKey]:
        return sorted((key for key in self._keys.values() if key.tenant == tenant), key=lambda key: key.created, reverse=True)

    async def revoke(self, tenant: str, id: str, at: datetime) -> bool:
        key = self._keys.get((tenant, id))
        if key is None or key.revoked is not None:
            return False
        self._keys[tenant, id] = key.model_copy(update={"revoked": at})
        return True
