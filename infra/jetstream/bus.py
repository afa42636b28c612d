"""The bus on NATS: orders in a work queue, words on core subjects, services listed by NATS's services API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Literal

import nats.errors
import nats.js.errors
import nats.micro
import orjson
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.micro.request import Request
from nats.micro.service import EndpointStats
from pydantic import ValidationError

from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.jetstream.deliveries import FIRST, RESENT, TAKEN, bury, deliveries, put_away
from infra.jetstream.pull import Pull, Pulled
from runtime.bus import CardChange, Hear, Reply, ServiceInfo
from runtime.errors import NobodyAnswers, Retryable, Unreachable
from runtime.log import Delivery
from runtime.sealing import Sealing
from schemas import subjects
from schemas.canonical import read_json
from schemas.commands import Role
from schemas.envelope import Order, decode, encode
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import RunId
from schemas.tools import Refusal, ToolCard

log = structlog.get_logger("infra.jetstream")

ACK_S = 5.0
TRIES = 3
CARDS_AT_ONCE = 2000
CARD_DOTS = 4
ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"
LATER: Literal["503"] = "503"
TRACE = "traceparent"  # for whoever else reads the queue; ours read it in the command


class JetStreamBus:
    """runtime.bus.Bus over NATS. sealing: between what is asked and what waits in the queue."""

    def __init__(self, connection: Connection, sealing: Sealing | None = None) -> None:
        self._connection = connection
        self._sealing = sealing or Sealing()

    async def send(self, order: Order, *, resent: bool = False) -> None:
        subject = str(subjects.command(order.body.role, order.body.lane, order.tenant, order.run, order.id))
        data = encode(await self._sealing.sealed(order))
        first = {**FIRST, TRACE: order.header.traceparent} if order.header.traceparent else FIRST
        self._connection.check_size({**first, RESENT: "1"}, data)
        js = self._connection.jetstream
        for attempt in range(TRIES):
            headers = {**first, RESENT: "1"} if resent or attempt else first
            try:
                await js.publish(subject, data, timeout=ACK_S, headers=headers)
                return
            except nats.js.errors.NoStreamResponseError:
                await streams.ensure_stream(self._connection, streams.command_stream())
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if isinstance(error, nats.js.errors.APIError) and error.err_code in TAKEN:
                    return  # it waits in the queue, or is being worked on
                if attempt + 1 == TRIES:
                    raise unreachable(error) from error
        raise Unreachable("The queue did not take a command.", why=f"{TRIES} tries", hint="milepost doctor")

    def orders(self, role: Role, lane: str, *, ack_wait_s: float, at_once: int) -> AsyncIterator[Delivery[Order]]:
        config = streams.worker_consumer(role, lane, subjects.role_commands(role, lane), ack_wait_s)

        async def stream() -> None:
            await streams.ensure_stream(self._connection, streams.command_stream())

        pull = Pull(self._connection, subjects.COMMAND_STREAM, lambda: config, room=at_once, recreate=stream)
        return deliveries(self._connection, pull, self._read, role=role)

    async def _read(self, subject: str, raw: bytes) -> Order:
        order, place = await self._sealing.order(decode(raw)), subjects.parse_command(subject)
        said = subjects.CommandSubject(order.body.role, order.body.lane, order.tenant, order.run, order.id)
        if said != place:
            raise ProtocolError("The command says other things than its subject.", why=subject)
        return order

    async def forget(self, run: RunId) -> None:
        body = json.dumps({"filter": f"{subjects.ROOT}.cmd.*.*.*.{run}.>"}).encode()
        with suppress(nats.errors.Error, OSError, TimeoutError):  # what is left is dropped by its worker or its timer
            await self._connection.client.request(f"$JS.API.STREAM.PURGE.{subjects.COMMAND_STREAM}", body, timeout=ACK_S)

    async def tell(self, subject: str, data: bytes) -> None:
        await self._connection.publish(subject, data)

    @asynccontextmanager
    async def hear(self, subject: str, receive: Hear) -> AsyncIterator[None]:
        async def on_message(msg: Msg) -> None:
            await receive(msg.subject, msg.data)

        client = self._connection.client
        try:
            subscription = await client.subscribe(subject, cb=on_message)
            await self._connection.reached()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error
        try:
            yield
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        try:
            reply = await self._connection.client.request(subject, data, timeout=timeout_s)
        except nats.errors.NoRespondersError as error:
            raise NobodyAnswers(f"Nobody answers {subject}.", hint="milepost status") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error
        headers = reply.headers or {}
        if ERROR_CODE in headers:
            said = orjson.loads(reply.data) if reply.data else {}
            refusal = Unreachable if headers[ERROR_CODE] == LATER else MilepostError
            raise refusal(said.get("what", headers.get(ERROR_TEXT, "")), why=said.get("why", ""), hint=said.get("hint", ""))
        return reply.data

    @asynccontextmanager
    async def serve(
        self, info: ServiceInfo, answers: dict[str, Reply], stats: Callable[[], dict[str, object]]
    ) -> AsyncIterator[None]:
        client = self._connection.client

        def with_orders(_: EndpointStats) -> dict[str, object]:
            return stats()

        service = await nats.micro.add_service(
            client, name=f"milepost-{info.role}", version=info.version, description=info.description,
            metadata=info.metadata, stats_handler=with_orders,
        )  # fmt: skip
        try:
            for verb, reply in {**answers, info.stats_verb: _stats_reply(stats)}.items():
                await service.add_endpoint(name=verb, subject=subjects.question(info.role, verb), handler=_handler(reply))
            await self._connection.reached()
            yield
        finally:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await service.stop()

    async def publish_card(self, tenant: str, card: ToolCard) -> None:
        await self._put_card(subjects.card(tenant, card.lane, card.name), card.model_dump_json().encode())

    async def withdraw_card(self, tenant: str, card: ToolCard) -> None:
        await self._put_card(subjects.card(tenant, card.lane, card.name), b"")

    async def _put_card(self, subject: str, data: bytes) -> None:
        self._connection.check_size(None, data)
        js = self._connection.jetstream
        for attempt in range(TRIES):
            try:
                await js.publish(subject, data, timeout=ACK_S)
                return
            except nats.js.errors.NoStreamResponseError:
                await streams.ensure_stream(self._connection, streams.card_stream())
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if attempt + 1 == TRIES:
                    raise unreachable(error) from error
        raise Unreachable("The catalogue did not take a card.", why=f"{TRIES} tries", hint="milepost doctor")

    async def drop_cards(self, tenant: str, lane: str, tool: str = "*") -> None:
        body = json.dumps({"filter": subjects.card_pattern(tenant, lane, tool)}).encode()
        try:
            await self._connection.client.request(f"$JS.API.STREAM.PURGE.{subjects.CARD_STREAM}", body, timeout=ACK_S)
        except nats.errors.NoRespondersError:
            return  # no stream, no cards
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error

    async def cards(self, group: str) -> AsyncIterator[CardChange]:
        config = ConsumerConfig(
            durable_name=group, filter_subject=subjects.CARD_SUBJECTS, ack_policy=AckPolicy.EXPLICIT, ack_wait=30.0,
            max_ack_pending=streams.MANY,
        )  # fmt: skip

        async def stream() -> None:
            await streams.ensure_stream(self._connection, streams.card_stream())

        pull = Pull(self._connection, subjects.CARD_STREAM, lambda: config, room=CARDS_AT_ONCE, recreate=stream)
        async for pulled in pull.messages():
            try:
                change = _card_change(self._connection, pull, pulled)
            except ProtocolError as error:
                await put_away(self._connection, pull, pulled, "retrieval", error)
                await self._refuse_card(pulled.msg.subject, error)
                continue
            yield change

    async def _refuse_card(self, subject: str, error: ProtocolError) -> None:
        if subject.count(".") != CARD_DOTS:
            return
        _, _, owner, lane, name = subject.split(".")
        refusal = Refusal(
            tenant=subjects.card_owner(owner), lane=lane, tool=name, what=error.what, why=error.why, hint=error.hint
        )
        with suppress(Unreachable):
            await self.tell(subjects.refused(subject), refusal.model_dump_json().encode())

    async def bury(self, role: str, raw: bytes, why: str) -> None:
        await bury(self._connection, role, raw, why)


def _card_change(connection: Connection, pull: Pull, pulled: Pulled) -> CardChange:
    if pulled.msg.subject.count(".") != CARD_DOTS:
        raise ProtocolError("The subject is none of a card.", why=pulled.msg.subject)
    _, _, owner, lane, name = pulled.msg.subject.split(".")
    card = None
    if pulled.msg.data:
        try:
            card = ToolCard.model_validate(read_json(pulled.msg.data, limit=1024 * 1024))
        except ValidationError as error:
            raise ProtocolError("The message is no card of a tool.", why=str(error)[:500]) from error
        if (card.lane, card.name) != (lane, name):
            raise ProtocolError("The card says another tool or lane than its subject.", why=pulled.msg.subject)

    async def ack() -> None:
        connection.acknowledge(pulled.msg.reply)
        pull.settle()

    async def again(delay_s: float) -> None:
        await connection.publish(pulled.msg.reply, b'-NAK {"delay": %d}' % int(delay_s * 1e9))
        pull.settle()

    return CardChange(subjects.card_owner(owner), lane, name, card, ack, again, pulled.attempt)


def _handler(reply: Reply) -> Callable[[Request], Coroutine[None, None, None]]:
    async def handle(request: Request) -> None:
        try:
            await request.respond(await reply(request.data))
        except MilepostError as error:
            code = LATER if isinstance(error, Retryable) else "400"
            await _refuse(request, code, error.what, error.why, error.hint)
        except Exception as error:
            log.exception("question failed")
            await _refuse(request, "500", "The service failed unexpectedly.", f"{type(error).__name__}: {error}", "")

    return handle


async def _refuse(request: Request, code: Literal["400", "500", "503"], what: str, why: str, hint: str) -> None:
    said = orjson.dumps({"what": what, "why": why, "hint": hint})
    text = what.encode("ascii", "replace").decode().replace("\n", " ")[:200] or "error"
    await request.respond_error(code, text, data=said)


def _stats_reply(stats: Callable[[], dict[str, object]]) -> Reply:
    async def reply(_: bytes) -> bytes:
        return orjson.dumps(stats())

    return reply
