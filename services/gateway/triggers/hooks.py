"""Requests to /hooks: a signature instead of a sign-in, and an answer once the run's request is in the log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from schemas.canonical import JsonObject
from schemas.errors import ProtocolError
from schemas.ids import checked_token
from services.gateway.gateway import Gateway
from services.gateway.triggers.alarms import alarms
from services.gateway.triggers.event import Event, digest_of, read_payload
from services.gateway.triggers.firing import fire
from services.gateway.triggers.signatures import NoHook, derived, secret_of, verify
from services.gateway.triggers.sns import notice
from services.gateway.triggers.trigger import Alarm, Firing, Kept, Webhook

DELIVERY = "x-milepost-delivery"
_REPEATED_S = 600.0  # longer than a signature is good
_NOBODY = Webhook()


async def receive(
    gateway: Gateway, tenant: str, name: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> list[Firing]:
    """What a request has begun. Raises NoHook, ProtocolError for what it says, Unreachable: then it may be sent again."""
    kept, now = await _hook(gateway, tenant, name), gateway.clock.now()
    source = kept.trigger.source if kept else _NOBODY
    secret = secret_of(kept, gateway.seed, gateway.outside) if kept else derived(gateway.seed, "", "", 0)
    if not isinstance(source, Webhook | Alarm):
        raise NoHook
    verify(source, secret, headers, query, body, now)
    if kept is None:
        raise NoHook
    said = read_payload(
        body, "json" if isinstance(source, Alarm) and source.source == "aws" else headers.get("content-type", "")
    )
    if isinstance(source, Alarm) and source.source == "aws":
        found = await notice(said, source.topic, gateway.outside)
        if found is None:
            return []
        said = found
    if not kept.trigger.enabled:
        return []
    return [await fire(gateway, kept, event) for event in events(source, said, body, headers, now)]


def events(source: Webhook | Alarm, said: JsonObject, body: bytes, headers: Mapping[str, str], now: datetime) -> list[Event]:
    """What a request tells of. Only what its signature covers tells it from others. Raises ProtocolError."""
    if isinstance(source, Alarm):
        return alarms(source, said, now)
    delivery = headers.get(DELIVERY, "")
    if source.scheme == "github":  # its delivery's id is not signed, nor is the time
        return [Event(payload=said, key=digest_of(body), at=now, kind=headers.get("x-github-event", "")[:100])]
    if source.scheme == "token" and delivery:
        return [Event(payload=said, key=f"id {delivery[:200]}", at=now)]
    return [Event(payload=said, key=digest_of(body), at=now, window_s=_REPEATED_S)]


async def _hook(gateway: Gateway, tenant: str, name: str) -> Kept | None:
    with suppress(ProtocolError):
        return await gateway.triggers.get(checked_token(tenant), checked_token(name))
    return None
