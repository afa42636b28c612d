"""A cohort spread over machines: its runs as items of a work queue, their results as messages that wait to be kept.

An item that a worker took and did not finish goes to another one five seconds after the worker's last sign of life. A subject
takes one message at a time, so an item waits once and has one result; if it was worked on twice, the first is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

import nats.errors
import nats.js.errors
import orjson
import structlog
from pydantic import ValidationError

from infra.cohort.driving import Result, without_content
from infra.cohort.swap import Swap
from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.jetstream.pull import Pull, Pulled
from runtime.errors import Unreachable
from schemas import subjects
from schemas.errors import PayloadTooLarge, ProtocolError
from schemas.ids import Token
from schemas.tools import Value

log = structlog.get_logger("infra.cohort")

ACK_S = 5.0
SIGN_OF_LIFE_S = 1.5
AGAIN_S = 10.0
ITEM = 16
_FULL = 10077  # maximum messages per subject exceeded


class Item(Value):
    """Some runs of a cohort, and what is swapped in them."""

    cohort: Token
    item: int
    tenant: Token
    runs: tuple[str, ...]
    swap: Swap


class Results(Value):
    """What an item came to. by: the worker."""

    cohort: Token
    item: int
    by: str
    results: tuple[Result, ...]


def items_of(cohort: str, tenant: str, runs: Sequence[str], left: Sequence[str], swap: Swap) -> list[Item]:
    """The items of a cohort that still have something to do; a run is always of the same one."""
    wanted = set(left)
    size = 1 if swap.speaks else ITEM
    cut = [runs[start : start + size] for start in range(0, len(runs), size)]
    parts = [(number, tuple(run for run in part if run in wanted)) for number, part in enumerate(cut)]
    return [Item(cohort=cohort, item=number, tenant=tenant, runs=part, swap=swap) for number, part in parts if part]


async def spread(
    connection: Connection, items: Callable[[], Sequence[Item]], cohort: str
) -> AsyncGenerator[tuple[Results, Callable[[], None]], None]:
    """Put items into the queue and give results as they come, each with what is to be called once it is kept.

    items: those that are left; they are put in again every now and then, for the case that the queue was lost. What waits in
    the queue when this ends is taken out. Raises Unreachable.
    """
    await _ensure(connection)
    sending = asyncio.create_task(_send_again_and_again(connection, items))
    config = streams.cohort_results(cohort)
    pull = Pull(connection, subjects.COHORT_STREAM, lambda: config, room=64, recreate=lambda: _ensure(connection))
    try:
        async for pulled in pull.messages():
            if sending.done():
                sending.result()
            try:
                results = Results.model_validate(orjson.loads(pulled.msg.data))
            except (orjson.JSONDecodeError, ValidationError) as error:
                log.warning("no result of a cohort", subject=pulled.msg.subject, why=str(error)[:200])
                _settled(connection, pull, pulled)()
                continue
            yield results, _settled(connection, pull, pulled)
    finally:
        sending.cancel()
        await _take_out(connection, cohort)


def _settled(connection: Connection, pull: Pull, pulled: Pulled) -> Callable[[], None]:
    def settle() -> None:
        connection.acknowledge(pulled.msg.reply)
        pull.settle()

    return settle


async def _ensure(connection: Connection) -> None:
    await streams.ensure_stream(connection, streams.cohort_stream())


async def _send_again_and_again(connection: Connection, items: Callable[[], Sequence[Item]]) -> None:
    while left := items():
        for item in left:
            await _put(connection, subjects.cohort_work(item.cohort, item.item), _message(item))
        await asyncio.sleep(AGAIN_S)


def _message(value: Item | Results) -> bytes:
    return orjson.dumps(value.model_dump(mode="json", by_alias=True, exclude_defaults=True))


async def _put(connection: Connection, subject: str, data: bytes) -> bool:
    """Put a message in its place; False: there is one already. Raises Unreachable, PayloadTooLarge."""
    connection.check_size(None, data)
    try:
        await connection.jetstream.publish(subject, data, timeout=ACK_S)
        return True
    except nats.js.errors.APIError as error:
        if error.err_code == _FULL:
            return False
        raise Unreachable("The queue of cohorts takes nothing.", why=str(error), hint="milepost doctor") from error
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error


async def _take_out(connection: Connection, cohort: str) -> None:
    """Nobody waits for them any more; results that wait stay for the next time."""
    body = json.dumps({"filter": subjects.cohort_work(cohort, "*")}).encode()
    with suppress(nats.errors.Error, OSError, TimeoutError):
        await connection.client.request(f"$JS.API.STREAM.PURGE.{subjects.COHORT_STREAM}", body, timeout=ACK_S)


# --- a worker's side ------------------------------------------------------------------------------


async def taken(connection: Connection, room: int) -> AsyncGenerator[tuple[Item, Taken], None]:
    """Items as they come, at most so many at once, without end. Raises Unreachable."""
    config = streams.cohort_workers
    pull = Pull(connection, subjects.COHORT_STREAM, config, room=room, recreate=lambda: _ensure(connection))
    async for pulled in pull.messages():
        try:
            item = Item.model_validate(orjson.loads(pulled.msg.data))
            if subjects.cohort_work(item.cohort, item.item) != pulled.msg.subject:
                raise ProtocolError("The item says another place than its subject.")
        except (orjson.JSONDecodeError, ValidationError, ProtocolError) as error:
            log.warning("no item of a cohort", subject=pulled.msg.subject, why=str(error)[:200])
            await connection.publish(pulled.msg.reply, b"+TERM")
            pull.settle()
            continue
        yield item, Taken(connection, pull, pulled)


class Taken:
    """An item in a worker's hands. As a context it gives signs of life; left by an error, it goes to another worker."""

    def __init__(self, connection: Connection, pull: Pull, pulled: Pulled) -> None:
        self._connection, self._pull, self._pulled = connection, pull, pulled
        self.attempt = pulled.attempt
        self._living: asyncio.Task[None] | None = None
        self._done = False

    async def __aenter__(self) -> Taken:
        self._living = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._living:
            self._living.cancel()
        if self._done:
            self._connection.acknowledge(self._pulled.msg.reply)
        else:
            with suppress(Unreachable):
                await self._connection.publish(self._pulled.msg.reply, b'-NAK {"delay": 2000000000}')
        self._pull.settle()

    async def done(self, item: Item, results: Sequence[Result], by: str) -> None:
        """Say what the item came to. Raises Unreachable."""
        told = Results(cohort=item.cohort, item=item.item, by=by, results=tuple(results))
        subject = subjects.cohort_done(item.cohort, item.item)
        try:
            await _put(self._connection, subject, _message(told))
        except PayloadTooLarge:
            figures = tuple(without_content(each) for each in told.results)
            await _put(self._connection, subject, _message(told.model_copy(update={"results": figures})))
        self._done = True

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_S)
            with suppress(Unreachable):
                await self._connection.publish(self._pulled.msg.reply, b"+WPI")
