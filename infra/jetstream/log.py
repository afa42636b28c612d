"""The log on JetStream: one stream a segment, one literal subject a slot, one message a subject."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import nats.errors
import nats.js.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.jetstream.deliveries import FIRST, TAKEN, deliveries
from infra.jetstream.pull import Pull
from runtime.errors import Unreachable
from runtime.log import Delivery, Raw, Stored
from runtime.sealing import Sealing, in_time
from schemas import subjects
from schemas.envelope import Envelope, Fact, Order, decode, encode
from schemas.errors import ProtocolError
from schemas.ids import RunId, segment_of_run
from schemas.sealing import Sealed

log = structlog.get_logger("infra.jetstream")

ForSegment = Callable[[str], ConsumerConfig]

ACK_S = 5.0
TRIES = 3
READ_BATCH = 500
FEED_ROOM = 512
NEW_SEGMENT_S = 5.0


class JetStreamLog:
    """runtime.log.Log over NATS. sealing: between what is said and what is stored."""

    def __init__(self, connection: Connection, sealing: Sealing | None = None) -> None:
        self._connection = connection
        self._sealing = sealing or Sealing()

    async def append(self, fact: Fact) -> bool:
        subject = str(subjects.fact(fact.run, fact.tenant, fact.role, fact.slot))  # type: ignore[arg-type]
        headers = FIRST  # and no Nats-Msg-Id: whoever used a fact's id first, for anything, would swallow the fact
        data = encode(await self._sealing.sealed(fact))
        self._connection.check_size(headers, data)
        js = self._connection.jetstream
        for attempt in range(TRIES):
            try:
                await js.publish(subject, data, timeout=ACK_S, headers=headers)
                return True
            except nats.js.errors.NoStreamResponseError:
                await streams.ensure_stream(self._connection, streams.run_stream(segment_of_run(fact.run)))
            except nats.js.errors.APIError as error:
                if error.err_code in TAKEN:
                    return False
                raise Unreachable("The log refused a fact.", why=str(error), hint="milepost doctor") from error
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if attempt + 1 == TRIES:
                    raise unreachable(error) from error
        raise Unreachable("The log did not take a fact.", why=f"{TRIES} tries", hint="milepost doctor")

    async def read(self, run: RunId, after: int = 0) -> list[Stored]:
        return [stored for stored, _ in await self.read_both(run, after)]

    async def read_both(self, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        """As read, with the bytes of each fact exactly as they are stored, sealed or not."""
        found: list[tuple[Stored, bytes]] = []
        for raw in await self.read_raw(run, after):
            with suppress(ProtocolError):  # its reader in the feed buries it
                found.append((Stored(await self._read(raw.subject, raw.data), raw.position), raw.data))
        return found

    async def read_raw(self, run: RunId, after: int = 0) -> list[Raw]:
        return [raw async for raw in self.messages(segment_of_run(run), subjects.run_subjects(run), after)]

    async def messages(self, segment: str, subject: str, after: int = 0) -> AsyncIterator[Raw]:
        """The messages of a segment under a subject as they are stored, in order, from the one after that position."""
        more = True
        while more:
            batch, more = await self._read_batch(segment, subject, after)
            for msg in batch:
                headers = msg.headers or {}
                after = int(headers["Nats-Sequence"])
                yield Raw(headers["Nats-Subject"], msg.data, after)

    async def _read_batch(self, segment: str, which: str, after: int) -> tuple[list[Msg], bool]:
        """Direct get in batches (ADR-31): one request, many replies, an end of batch."""
        client = self._connection.client
        subject = f"$JS.API.DIRECT.GET.{subjects.run_stream(segment)}"
        body = {"batch": READ_BATCH, "seq": after + 1, "next_by_subj": which}
        inbox = client.new_inbox()
        batch: list[Msg] = []
        ended: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

        async def on_reply(msg: Msg) -> None:  # next_msg() makes a task a message, and may swallow a cancel
            if "Status" not in (msg.headers or {}):
                batch.append(msg)
            elif not ended.done():
                ended.set_result(msg.headers or {})

        subscription = None
        try:
            subscription = await client.subscribe(inbox, cb=on_reply)
            await client.publish(subject, json.dumps(body).encode(), reply=inbox)
            end = await _in_steps(ended, batch)
            status = end["Status"]
            if status not in ("204", "404", "503"):
                raise Unreachable("The log cannot be read.", why=end.get("Description", status))
            return batch, status == "204" and int(end.get("Nats-Num-Pending", 0)) > 0
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error
        finally:
            if subscription is not None:
                with suppress(nats.errors.Error, OSError):
                    await subscription.unsubscribe()

    async def holds(self, run: RunId, tenant: str, role: str, slot: str) -> bool:
        stream = subjects.run_stream(segment_of_run(run))
        subject = str(subjects.FactSubject(run, tenant, role, slot))
        try:
            reply = await self._connection.client.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout=ACK_S)
        except nats.errors.NoRespondersError:
            return False
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error
        return not (reply.headers or {}).get("Status")

    def facts(self, group: str, *, since: datetime | None = None, room: int = FEED_ROOM) -> AsyncIterator[Delivery[Fact]]:
        """runtime.log.Log.facts. since: what came before then is passed over; room: for so many that are not acknowledged."""

        def config(segment: str) -> ConsumerConfig:
            return streams.group_consumer(group, subjects.segment_subjects(segment), 5.0, since)

        return self._feed(config, room)

    def requests(self, group: str, every_s: float) -> AsyncIterator[Delivery[Fact]]:
        return self._feed(
            lambda segment: streams.group_consumer(f"{group}-open", subjects.request_subjects(segment), every_s),
            FEED_ROOM,
        )

    def ends(self, group: str) -> AsyncIterator[Delivery[Fact]]:
        """The end of every run that ends from the group's first reading on, shared out among its members."""

        def config(segment: str) -> ConsumerConfig:
            reading = streams.group_consumer(f"{group}-ends", subjects.end_subjects(segment), 30.0)
            return replace(reading, deliver_policy=DeliverPolicy.NEW)

        return self._feed(config, FEED_ROOM)

    async def _feed(self, config: ForSegment, room: int) -> AsyncIterator[Delivery[Fact]]:
        """All segments as one feed; segments that appear later join."""
        merged: asyncio.Queue[Delivery[Fact]] = asyncio.Queue()
        pumps: dict[str, asyncio.Task[None]] = {}
        watch = asyncio.get_running_loop().create_task(self._join_segments(config, room, merged, pumps))
        try:
            while True:
                yield await merged.get()
        finally:
            for task in (watch, *pumps.values()):
                task.cancel()

    async def _join_segments(
        self, config: ForSegment, room: int, merged: asyncio.Queue[Delivery[Fact]], pumps: dict[str, asyncio.Task[None]]
    ) -> None:
        while True:
            try:
                for segment in await streams.segments(self._connection):
                    if segment not in pumps or pumps[segment].done():
                        pumps[segment] = asyncio.create_task(self._pump(segment, config, room, merged))
            except Unreachable as error:
                log.warning("segments not listed", why=error.why)
            await asyncio.sleep(NEW_SEGMENT_S if pumps else 0.1)

    async def _pump(self, segment: str, config: ForSegment, room: int, merged: asyncio.Queue[Delivery[Fact]]) -> None:
        pull = Pull(self._connection, subjects.run_stream(segment), lambda: config(segment), room=room, may_end=True)
        try:
            async for delivery in deliveries(self._connection, pull, self._read_in_time, role="conductor"):
                merged.put_nowait(delivery)
        except Unreachable as error:
            log.warning("segment not read yet", segment=segment, why=error.why)

    async def follow(self, run: RunId) -> AsyncIterator[Stored]:
        seen = 0
        stream = subjects.run_stream(segment_of_run(run))
        pull = Pull(self._connection, stream, lambda: streams.reader_consumer(subjects.run_subjects(run), seen), room=64)
        async for pulled in pull.messages():
            pull.settle()
            if pulled.position <= seen:
                continue
            seen = pulled.position
            with suppress(ProtocolError):
                yield Stored(await self._read_in_time(pulled.msg.subject, pulled.msg.data), seen)

    async def _read(self, subject: str, raw: bytes) -> Fact:
        return await self._sealing.fact(_placed(subject, raw))

    async def _read_in_time(self, subject: str, raw: bytes) -> Fact:
        fact = _placed(subject, raw)
        return await in_time(lambda: self._sealing.fact(fact))


async def _in_steps(ended: asyncio.Future[dict[str, str]], batch: list[Msg]) -> dict[str, str]:
    """The end of a batch; TimeoutError when nothing more of it has come for a while."""
    while True:
        before = len(batch)
        done, _ = await asyncio.wait((ended,), timeout=ACK_S)
        if done:
            return ended.result()
        if len(batch) == before:
            raise TimeoutError(f"{before} messages came, and not the end of them")


def _placed(subject: str, raw: bytes) -> Fact | Order | Envelope[Sealed]:
    """A message that says of itself where it lies; whether it may is for `Sealing.fact` to check."""
    fact = decode(raw)
    if str(subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot)) != subject:
        raise ProtocolError("The fact says other things than its subject.", why=subject)
    return fact
