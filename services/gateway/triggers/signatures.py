"""Signatures of webhooks. Every comparison takes the same time whatever is wrong, and every refusal reads the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from services.gateway.ports.outside import Outside, tenants_own
from services.gateway.principal import NotSignedIn
from services.gateway.seed import Seed
from services.gateway.triggers.trigger import Alarm, Kept, Webhook

SIGNATURE, TIMESTAMP = "x-milepost-signature", "x-milepost-timestamp"
GITHUB, TOKEN = "x-hub-signature-256", "x-milepost-token"
WINDOW_S = 300


class NoHook(NotSignedIn):
    """No trigger of this name takes this request: there is none, or the signature is not its own. Which, is not told."""

    def __init__(self) -> None:
        super().__init__("no hook of this name knows this signature")
        self.what, self.hint = "The request is not let in.", "milepost triggers show NAME tells how to sign"


def secret_of(kept: Kept, seed: Seed, outside: Outside) -> str:
    """The secret of a hook: from the environment, or derived from the door's own; it is kept nowhere. Empty: there is none."""
    source = kept.trigger.source
    if not isinstance(source, Webhook | Alarm):
        return ""
    if source.secret_env is not None:
        return (outside.secret(source.secret_env) or "") if tenants_own(kept.tenant, source.secret_env) else ""
    return derived(seed, kept.tenant, kept.trigger.name, source.secret_version)


def derived(seed: Seed, tenant: str, name: str, version: int) -> str:
    """A secret that this door alone can make."""
    said = f"milepost hook {tenant} {name} {version}".encode()
    return "mps_" + base64.urlsafe_b64encode(hmac.new(seed.secret, said, hashlib.sha256).digest()).rstrip(b"=").decode()


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The milepost scheme: hex of HMAC-SHA256 over `TIMESTAMP.BODY`, seconds since 1970, as `v1=HEX`."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(
    source: Webhook | Alarm, secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime
) -> None:
    """Raises NoHook. headers: by names in lower case."""
    scheme = source.scheme if isinstance(source, Webhook) else "token"
    good = {"milepost": _milepost, "github": _github, "token": _token}[scheme](secret, headers, query, body, now)
    if not good or not secret:
        raise NoHook


def _milepost(secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime) -> bool:
    timestamp = headers.get(TIMESTAMP, "")
    fresh = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 13
    fresh = fresh and abs(now.timestamp() - int(timestamp)) <= WINDOW_S
    return _same(headers.get(SIGNATURE, ""), sign(secret, timestamp, body)) and fresh


def _github(secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime) -> bool:
    return _same(headers.get(GITHUB, ""), "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())


def _token(secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime) -> bool:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    return _same(headers.get(TOKEN) or bearer or query.get("token", ""), secret)


def _same(given: str, expected: str) -> bool:
    """Also where lengths differ, and for the empty secret of a hook that is not there, the same work is done."""
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(expected.encode()).digest())
