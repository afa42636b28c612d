"""Agents as services on NATS, as the Synadia Agent Protocol has them: one service an agent, told apart by their subjects.

Every copy of the gateway has one for every agent; they share a queue group, so each prompt is one copy's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import nats.errors
import nats.micro
import orjson
import structlog
from nats.micro.request import Request
from nats.micro.service import Service

from infra.jetstream.connection import Connection, unreachable
from runtime.clock import Clock
from runtime.errors import Busy, Retryable
from schemas.errors import MilepostError
from services.gateway.bus.agent_protocol import SERVICE, Exchange, NoAnswer, Question, Station

log = structlog.get_logger("infra.jetstream")

AT_ONCE = 500
ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"
STOP_S = 1.0
_SEMVER = re.compile(r"\d+\.\d+\.\d+")

Receive = Callable[[Station, bytes, Mapping[str, str], Exchange], Awaitable[None]]
"""Takes a prompt through; what it raises is told to the caller."""
Cancel = Callable[[Station, bytes], Awaitable[None]]
"""Stops the run that a message names."""


class NatsExchange:
    """services.gateway.bus.agent_protocol.Exchange over the reply subject of a request."""

    def __init__(self, connection: Connection, reply: str) -> None:
        self._connection, self._reply = connection, reply

    async def send(self, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        await self._connection.publish(self._reply, data, dict(headers) if headers else None)

    async def ask(self, question: Question) -> bytes:
        client = self._connection.client
        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox)
        except (nats.errors.Error, OSError) as error:
            raise unreachable(error) from error
        try:
            await self.send(question(inbox))
            return (await subscription.next_msg(timeout=None)).data
        except (nats.errors.Error, OSError) as error:
            raise unreachable(error) from error
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def refuse(self, error: MilepostError) -> None:
        """Tell the caller what went wrong: 400 where they can send something better, else 500."""
        code = "500" if isinstance(error, Retryable | NoAnswer) else "400"
        await self.send(_body(error), {ERROR_TEXT: _line(error), ERROR_CODE: code})


class AgentEndpoints:
    """The agents that answer here. receive: takes a prompt; cancel: stops a run."""

    def __init__(self, connection: Connection, clock: Clock, version: str, receive: Receive, cancel: Cancel) -> None:
        self._connection, self._clock, self._receive, self._cancel = connection, clock, receive, cancel
        self._version = version if _SEMVER.fullmatch(version) else "0.0.0"
        self._services: dict[Station, Service] = {}
        self._prompts: set[asyncio.Task[None]] = set()

    async def serve(self, stations: frozenset[Station]) -> None:
        """Answer for these agents from now on, and for no others. Raises Unreachable."""
        for station in self._services.keys() - stations:
            await self._stop(station)
        for station in stations - self._services.keys():
            self._services[station] = await self._begin(station)
            await self._beat(station)

    async def beat(self) -> None:
        """Say that all of them are there. Raises Unreachable."""
        for station in list(self._services):
            await self._beat(station)

    async def close(self) -> None:
        """Take no more prompts, and tell whoever waits for an answer that none comes from here."""
        for station in list(self._services):
            await self._stop(station)
        for task in self._prompts:
            task.cancel()
        if self._prompts:
            await asyncio.wait(self._prompts, timeout=STOP_S)

    async def _begin(self, station: Station) -> Service:
        client, limit = self._connection.client, f"{self._connection.max_payload}B"
        try:
            service = await nats.micro.add_service(
                client, name=SERVICE, version=self._version, description=station.description or station.title or station.name,
                metadata=station.metadata, queue_group=SERVICE,
            )  # fmt: skip
            await service.add_endpoint(
                name="prompt", subject=station.subject("prompt"), handler=self._on_prompt(station),
                metadata={"max_payload": limit, "attachments_ok": "true"},
            )  # fmt: skip
            await service.add_endpoint(
                name="status", subject=station.subject("status"), handler=self._on_status(station), metadata={}
            )
            await service.add_endpoint(
                name="cancel", subject=station.subject("cancel"), handler=self._on_cancel(station), metadata={}
            )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error
        return service

    async def _stop(self, station: Station) -> None:
        with suppress(nats.errors.Error, OSError, TimeoutError):
            await self._services.pop(station).stop()

    async def _beat(self, station: Station) -> None:
        beat = station.beat(self._services[station].id, self._clock.now())
        await self._connection.publish(station.subject("hb"), beat)

    # --- requests ---

    def _on_prompt(self, station: Station) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            reply = request._msg.reply  # not told otherwise
            if not reply:
                log.warning("a prompt that wants no answer", subject=request.subject)
                return
            exchange = NatsExchange(self._connection, reply)
            work = self._answer(station, request.data, request.headers or {}, exchange)
            task = asyncio.get_running_loop().create_task(work)  # the next prompt does not wait for it
            self._prompts.add(task)
            task.add_done_callback(self._prompts.discard)

        return handle

    async def _answer(self, station: Station, data: bytes, headers: Mapping[str, str], exchange: NatsExchange) -> None:
        """Have a prompt answered; whatever happens, the reply ends as the protocol says: empty, without headers."""
        try:
            if len(self._prompts) > AT_ONCE:
                raise Busy("Too many prompts at once.", why=f"{AT_ONCE} are being answered here", hint="send it again later")
            await self._receive(station, data, headers, exchange)
        except asyncio.CancelledError:
            await _told(exchange, Busy("This gateway stops.", hint="ask again; with the same Milepost-Key it is the same run"))
            raise
        except MilepostError as error:
            await _told(exchange, error)
        except Exception as error:
            log.exception("prompt failed", subject=station.subject("prompt"))
            await _told(exchange, NoAnswer("The gateway failed.", why=type(error).__name__, hint="its log says why"))
        finally:
            with suppress(MilepostError):
                await exchange.send(b"")

    def _on_status(self, station: Station) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            await request.respond(station.beat(self._services[station].id, self._clock.now()))

        return handle

    def _on_cancel(self, station: Station) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            try:
                await self._cancel(station, request.data)
                await request.respond(orjson.dumps({"cancelled": True}))
            except MilepostError as error:
                await request.respond_error("400", _line(error), data=_body(error))

        return handle


async def _told(exchange: NatsExchange, error: MilepostError) -> None:
    with suppress(MilepostError):
        await exchange.refuse(error)


def _body(error: MilepostError) -> bytes:
    return orjson.dumps({"what": error.what, "why": error.why, "hint": error.hint})


def _line(error: MilepostError) -> str:
    """An error as a header may hold it: one line of ASCII."""
    return " ".join(error.what.encode("ascii", "replace").decode().split())[:200] or "error"
