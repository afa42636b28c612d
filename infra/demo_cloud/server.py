"""The demo cloud over HTTP: signed RPC requests on `/`, and on `/-/` what drills need."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import ValidationError

from infra.demo_cloud.actions import act, is_read
from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.faults import Fault, Faults, When
from infra.demo_cloud.request import Request
from infra.demo_cloud.seed import fill
from infra.demo_cloud.signature import Signed, Verifier
from infra.demo_cloud.world import World

log = logging.getLogger(__name__)

VERSION = "2014-05-26"
Clock = Callable[[], datetime]

# Not secrets: the demo cloud listens on loopback and sells nothing.
DEMO_ACCESS_KEY_ID = "demo-access-key-id"
DEMO_ACCESS_KEY_SECRET = "demo-access-key-secret"


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


async def serve(host: str, port: int, state: Path, access_keys: dict[str, str]) -> None:
    """Serve until cancelled. host: a loopback address. state: the SQLite file. access_keys: secret by key id."""
    async with running(host, port, state, access_keys):
        await asyncio.Event().wait()


@asynccontextmanager
async def running(
    host: str,
    port: int,
    state: Path,
    access_keys: Mapping[str, str],
    *,
    clock: Clock = utc_now,
    transition_s: float = 2.0,
) -> AsyncIterator[int]:
    """A demo cloud for the time of the block; gives the port it listens on (port 0 takes a free one)."""
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"the demo cloud listens on loopback only, not on {host}")
    world = World(state)
    fill(world, clock())
    cloud = _Cloud(world, Verifier(access_keys), clock, transition_s)
    runner = web.AppRunner(cloud.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        world.close()


class _Cut(Exception):
    """A fault ended the request without an answer."""


class _Cloud:
    def __init__(self, world: World, verifier: Verifier, clock: Clock, transition_s: float) -> None:
        self._world = world
        self._verifier = verifier
        self._clock = clock
        self._transition_s = transition_s
        self._faults = Faults()
        self._closing = asyncio.Event()

    async def close(self, app: web.Application) -> None:
        """Let go of the requests that hang."""
        self._closing.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.on_shutdown.append(self.close)
        app.router.add_route("*", "/", self.rpc)
        app.router.add_get("/-/effects", self.effects)
        app.router.add_get("/-/faults", self.show_faults)
        app.router.add_post("/-/faults", self.add_fault)
        app.router.add_delete("/-/faults", self.clear_faults)
        return app

    async def rpc(self, http: web.Request) -> web.StreamResponse:
        request_id = str(uuid.uuid4()).upper()
        body = await http.read()
        try:
            request = self._request(http, body, request_id)
            await self._fail(http, request.action, "before")
            late = self._faults.take(request.action, "before", "lag") if is_read(request.action) else None
            answer = act(self._world, request, lag_s=late.seconds if late else 0.0)
            await self._fail(http, request.action, "after")
        except CloudError as error:
            return _error(error, request_id)
        except _Cut:
            return web.Response()  # to nobody: the connection is gone
        return web.json_response({"RequestId": request_id, **answer})

    def _request(self, http: web.Request, body: bytes, request_id: str) -> Request:
        now = self._clock()
        skew = self._faults.take(http.headers.get("x-acs-action", ""), "before", "skew")
        seen = now + timedelta(seconds=skew.seconds) if skew else now
        headers = {name.lower(): value for name, value in http.headers.items()}
        signed = Signed(http.method, http.path, http.url.raw_query_string, headers, body)
        self._verifier.verify(signed, seen)
        params = dict(parse_qsl(signed.query, keep_blank_values=True))
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            params |= dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        if headers.get("x-acs-version", params.get("Version")) != VERSION:
            raise CloudError(400, "InvalidVersion", "Specified parameter Version is not valid.")
        action = headers.get("x-acs-action") or params.get("Action", "")
        return Request(action, params, request_id, now, self._transition_s)

    async def _fail(self, http: web.Request, action: str, when: When) -> None:
        fault = self._faults.take(action, when)
        if fault is None:
            return
        log.info("fault: %s %s %s", action, fault.how, when)
        if fault.how == "error":
            raise CloudError(fault.status, fault.code, f"A fault was asked for: {fault.code}.")
        if fault.how == "slow":
            await asyncio.sleep(fault.seconds)
            return
        if fault.how == "hang":
            await self._closing.wait()
        elif http.transport is not None:
            http.transport.abort()
        raise _Cut

    async def effects(self, http: web.Request) -> web.Response:
        return web.json_response({"effects": self._world.effects()})

    async def show_faults(self, http: web.Request) -> web.Response:
        return web.json_response({"faults": [fault.model_dump() for fault in self._faults.coming()]})

    async def add_fault(self, http: web.Request) -> web.Response:
        try:
            self._faults.add(Fault.model_validate(json.loads(await http.text())))
        except (ValidationError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return await self.show_faults(http)

    async def clear_faults(self, http: web.Request) -> web.Response:
        self._faults.clear()
        return await self.show_faults(http)


def _error(error: CloudError, request_id: str) -> web.Response:
    body = {
        "RequestId": request_id,
        "HostId": "ecs.demo.local",
        "Code": error.code,
        "Message": error.message,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={error.code}&product=Ecs",
    }
    return web.json_response(body, status=error.status)
