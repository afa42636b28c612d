"""Pulled messages become deliveries; what cannot be read is buried and never comes again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import nats.errors
import nats.js.errors
import structlog

from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.jetstream.pull import Pull, Pulled
from runtime.errors import Unreachable
from runtime.log import Delivery
from runtime.sealing import PAUSE_S, Erased
from schemas import subjects
from schemas.envelope import Fact, Order, UnknownType
from schemas.errors import ProtocolError

log = structlog.get_logger("infra.jetstream")

M = TypeVar("M", Fact, Order)
RESENT = "Milepost-Resent"
WHY, WHERE = "Milepost-Why", "Milepost-Subject"
KEPT = 512 * 1024
"""Bytes that are kept of a message that nobody could read."""
FIRST = {"Nats-Expected-Last-Subject-Sequence": "0"}  # the broker takes it only if its subject holds nothing
TAKEN = (10071, 10164)  # wrong last sequence: the subject holds a message


async def deliveries(
    connection: Connection, pull: Pull, read: Callable[[str, bytes], Awaitable[M]], *, role: str, park_s: float = 60.0
) -> AsyncIterator[Delivery[M]]:
    """Decode what is pulled. A message of an unknown type is parked: it comes again after park_s seconds.

    One that cannot be opened now is kept here and looked at again, which is no attempt; one that never can be again, since
    its user was forgotten, is dropped.
    """
    turn, gap = -1, False
    async for pulled in pull.messages():
        gap, turn = gap or pulled.turn != turn + 1, pulled.turn
        try:
            message = await read(pulled.msg.subject, pulled.msg.data)
        except UnknownType as error:
            log.warning("parked", subject=pulled.msg.subject, why=error.what)
            await _settle(connection, pull, pulled, _nak(park_s))
            continue
        except ProtocolError as error:
            await put_away(connection, pull, pulled, role, error)
            continue
        except Erased:
            await _settle(connection, pull, pulled, b"+TERM")
            continue
        except Unreachable as error:
            log.warning("not opened yet", subject=pulled.msg.subject, why=error.what)
            with suppress(Unreachable):
                await connection.publish(pulled.msg.reply, b"+WPI")
            pull.put_back(pulled, PAUSE_S)
            continue
        yield _delivery(connection, pull, pulled, message, gap)
        gap = False


async def put_away(connection: Connection, pull: Pull, pulled: Pulled, role: str, error: ProtocolError) -> None:
    """Bury a message, or let it come again when it cannot be buried now; its reader goes on either way."""
    word = b"+TERM"
    try:
        await bury(connection, role, pulled.msg.data, f"{error.what} {error.why}".strip(), pulled.msg.subject)
    except Unreachable as trouble:
        log.warning("not buried yet", subject=pulled.msg.subject, why=trouble.why)
        word = _nak(10.0)
    await _settle(connection, pull, pulled, word)


def _delivery(connection: Connection, pull: Pull, pulled: Pulled, message: M, gap: bool) -> Delivery[M]:
    settled = False

    async def settle(word: bytes) -> None:
        nonlocal settled
        if settled:
            await connection.publish(pulled.msg.reply, word)
            return
        settled = True
        await _settle(connection, pull, pulled, word)

    async def ack() -> None:
        nonlocal settled
        connection.acknowledge(pulled.msg.reply)
        if not settled:
            settled = True
            pull.settle()

    async def again(delay_s: float) -> None:
        await settle(_nak(delay_s))

    async def working() -> None:
        await connection.publish(pulled.msg.reply, b"+WPI")

    resent = pulled.old or bool(pulled.msg.headers and pulled.msg.headers.get(RESENT))
    return Delivery(message, pulled.position, pulled.attempt, gap, resent, ack, again, working, len(pulled.msg.data))


async def _settle(connection: Connection, pull: Pull, pulled: Pulled, word: bytes) -> None:
    try:
        await connection.publish(pulled.msg.reply, word)
    finally:
        pull.settle()


def _nak(delay_s: float) -> bytes:
    return b'-NAK {"delay": %d}' % max(1, int(delay_s * 1e9))


async def bury(connection: Connection, role: str, raw: bytes, why: str, subject: str = "") -> None:
    """Keep what nobody could read, cut to what the bus carries, with the reason in a header."""
    log.error("buried", role=role, why=why, subject=subject, bytes=len(raw))
    headers = {WHY: _header(why), WHERE: _header(subject)}
    js = connection.jetstream
    try:
        try:
            await js.publish(subjects.dead(role), raw[:KEPT], headers=headers)
        except nats.js.errors.NoStreamResponseError:
            await streams.ensure_stream(connection, streams.dead_stream())
            await js.publish(subjects.dead(role), raw[:KEPT], headers=headers)
    except (nats.errors.Error, OSError) as error:
        raise unreachable(error) from error


def _header(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")[:500]
