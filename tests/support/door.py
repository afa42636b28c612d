"""A gateway in this process for tests of the door alone: behind it an empty log; and a client that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import httpx
from fastapi import APIRouter, FastAPI

from runtime.clock import SystemClock
from runtime.memory_broker import MemoryBroker
from services.gateway import answers
from services.gateway.app import create_app
from services.gateway.gateway import Gateway
from services.gateway.keys import DoorKey, KeyRing, MemoryKeyStore, new_key
from services.gateway.oidc import Tokens
from services.gateway.principal import DoorRole, Principal
from services.gateway.rate import Rates
from services.gateway.rules import Rules
from services.gateway.seed import Seed
from services.gateway.streaming import Streams

SEED = Seed(b"s" * 32)
URL = "http://127.0.0.1:8642"


class _Nothing:
    """Stands where a test of the door needs nothing."""

    async def answers(self) -> None:
        return


def gateway(rules: Rules | None = None, tokens: Tokens | None = None, **parts: Any) -> Gateway:
    """A gateway whose log is empty. parts: ports in place of nothing."""
    keys, clock, broker = MemoryKeyStore(), SystemClock(), MemoryBroker()
    nothing = cast("Any", _Nothing())
    ports = {"agents", "triggers", "history", "library", "workshop", "machinery", "payloads", "evaluations"}
    known = {name: nothing for name in ports if name in Gateway.__dataclass_fields__}
    given: Mapping[str, Any] = {
        "journal": lambda _: broker, "bus": broker, "clock": clock, "rules": rules or Rules(URL, hosts=("127.0.0.1",)),
        "seed": SEED, "keys": keys, "ring": KeyRing(keys, clock, fresh_s=0.0), "tokens": tokens,
        "local": Principal("default", "me", ("admin",), "local"), **known, **parts,
    }  # fmt: skip
    missing = [name for name in Gateway.__dataclass_fields__ if name not in given]
    return Gateway(**given, **{name: nothing for name in missing if name not in ("models", "version", "spans")})


def bare(found: Gateway, *routers: APIRouter) -> FastAPI:
    """An app with these routes alone, guarded as the door's own."""
    app = FastAPI()
    app.state.gateway, app.state.rates = found, Rates(found.rules.per_minute)
    app.state.streams = Streams(found.rules.streams)
    answers.add_to(app)
    for router in routers:
        app.include_router(router)
    return app


def browser(found: Gateway, app: FastAPI | None = None, **options: Any) -> httpx.AsyncClient:
    """A client of this gateway, with cookies. app: in place of the whole one."""
    transport = httpx.ASGITransport(app or create_app(found), raise_app_exceptions=False, client=("127.0.0.1", 5))
    return httpx.AsyncClient(transport=transport, base_url=URL, **options)


async def key_for(found: Gateway, *roles: DoorRole, user: str = "kim", tenant: str = "default") -> tuple[DoorKey, str]:
    """A key that is kept, and its text."""
    kept, text = new_key(tenant, "test", user, roles, found.clock.now())
    await found.keys.put(kept)
    return kept, text


def bearing(text: str) -> dict[str, str]:
    """Headers that bear a key or token."""
    return {"authorization": f"Bearer {text}"}
