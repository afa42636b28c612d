"""Three providers of the drill, each an HTTP API that somebody pays for: one takes keys, one can be asked, one neither.

POST /payments        the same Idempotency-Key pays once, and answers the same
PUT  /orders/{order}  no key; GET of it tells how it stands
POST /letters         no key, and nobody can be asked whether a letter went out

Now and then a connection is cut before or after the effect. The journal is the truth that the drill judges by.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

CUT = 0.03
SLOW_S = 0.03


@dataclass(slots=True)
class Providers:
    """The world outside, which never dies. effects: (provider, resource, what tells it apart), in order."""

    draw: random.Random
    effects: list[tuple[str, str, str]] = field(default_factory=list)
    answered: dict[str, tuple[object, dict[str, object]]] = field(default_factory=dict)
    orders: dict[str, dict[str, object]] = field(default_factory=dict)
    cuts: int = 0
    port: int = 0

    def of(self, provider: str, resource: str) -> list[str]:
        """What happened to one resource, in order."""
        return [what for name, place, what in self.effects if (name, place) == (provider, resource)]

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/payments", self.pay)
        app.router.add_put("/orders/{order}", self.order)
        app.router.add_get("/orders/{order}", self.look)
        app.router.add_post("/letters", self.letter)
        return app

    async def pay(self, http: web.Request) -> web.StreamResponse:
        body, key = await http.json(), http.headers.get("Idempotency-Key", "")
        if not key:
            return web.json_response({"error": "Idempotency-Key is missing"}, status=400)
        await self._maybe_cut(http)
        if key in self.answered:
            known, answer = self.answered[key]
            if known != body:
                return web.json_response({"error": "another payment has this key"}, status=422)
            return web.json_response(answer)
        answer = {"id": f"pay_{len(self.answered) + 1}", **body}
        self.answered[key] = body, answer
        self.effects.append(("payments", str(body["account"]), str(body["amount"])))
        await self._maybe_cut(http)
        return web.json_response(answer, status=201)

    async def order(self, http: web.Request) -> web.StreamResponse:
        body, name = await http.json(), http.match_info["order"]
        await self._maybe_cut(http)
        self.orders[name] = body
        self.effects.append(("orders", name, str(body["quantity"])))
        await self._maybe_cut(http)
        return web.json_response({"order": name, **body})

    async def look(self, http: web.Request) -> web.StreamResponse:
        name = http.match_info["order"]
        if name not in self.orders:
            return web.json_response({"error": "there is no such order"}, status=404)
        return web.json_response({"order": name, **self.orders[name]})

    async def letter(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        await self._maybe_cut(http)
        self.effects.append(("letters", str(body["to"]), str(body["text"])))
        await self._maybe_cut(http)
        return web.json_response({"sent": True})

    async def _maybe_cut(self, http: web.Request) -> None:
        await asyncio.sleep(self.draw.uniform(0, SLOW_S))
        if self.draw.random() < CUT and http.transport is not None:
            self.cuts += 1
            http.transport.abort()
            raise ConnectionResetError


@asynccontextmanager
async def serving(draw: random.Random) -> AsyncIterator[Providers]:
    """The providers on a free port of this machine, for the time of the block."""
    providers = Providers(draw)
    runner = web.AppRunner(providers.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        providers.port = int(runner.addresses[0][1])
        yield providers
    finally:
        await runner.cleanup()


def document(port: int) -> dict[str, object]:
    """The providers as an OpenAPI document."""
    return {
        "openapi": "3.1.0", "info": {"title": "Drill providers", "version": "1"},
        "servers": [{"url": f"http://127.0.0.1:{port}"}],
        "paths": {
            "/payments": {"post": {
                "operationId": "create_payment", "summary": "Pay an amount to an account",
                "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}],
                **_body(account="string", amount="string", currency="string"),
            }},
            "/orders/{order}": {
                "get": {"operationId": "get_order", "summary": "How an order stands", "parameters": [_ORDER], **_ANSWER},
                "put": {
                    "operationId": "place_order", "summary": "Place or change an order", "parameters": [_ORDER],
                    **_body(item="string", quantity="integer"), "x-milepost": {"idempotency": "query"},
                },
            },
            "/letters": {"post": {
                "operationId": "send_letter", "summary": "Send a letter", **_body(to="string", text="string"),
            }},
        },
    }  # fmt: skip


_ORDER = {"name": "order", "in": "path", "required": True, "schema": {"type": "string"}}
_ANSWER = {"responses": {"200": {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}}}}


def _body(**fields: str) -> dict[str, object]:
    schema = {
        "type": "object", "properties": {name: {"type": kind} for name, kind in fields.items()}, "required": list(fields),
    }  # fmt: skip
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}, **_ANSWER}
