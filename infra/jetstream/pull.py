"""A pull consumer that is never idle with a message waiting: it keeps requests open and counts its room.

nats-py's fetch() can stall with a message ready (nats.py issue 986), so requests are made here, after
https://docs.nats.io/reference/reference-protocols/nats_api_reference and ADR-37 (simplified consumers).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from infra.jetstream.connection import Connection
from runtime.errors import Unreachable

log = structlog.get_logger("infra.jetstream")

EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
_NO_STREAM = 10059


@dataclass(frozen=True, slots=True)
class Pulled:
    """A message with its numbers: tries so far, place in the stream, turn in the consumer.

    old: it was there before this reader began or came back, so it may have been worked on before.
    """

    msg: Msg
    attempt: int
    position: int
    turn: int
    old: bool = False


class Pull:
    """Hands out at most `room` unsettled messages; `settle()` makes room for one more.

    The consumer is created when it is missing, at the start and whenever the server says so. Silence of the
    server for two heartbeats, and every reconnection, make it ask anew. may_end: the stream may be taken away for good, and
    the messages end then; otherwise it is waited for.
    """

    def __init__(
        self, connection: Connection, stream: str, config: Callable[[], ConsumerConfig], *, room: int,
        recreate: Callable[[], Awaitable[None]] | None = None, may_end: bool = False,
    ) -> None:  # fmt: skip
        self._connection, self._stream, self._config, self._room = connection, stream, config, room
        self._enough = max(1, room // 4)  # room worth asking for
        self._recreate, self._may_end = recreate, may_end
        self._ended = False
        self._ready: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._name = ""
        self._asked = 0
        self._unsettled = 0
        self._heard = time.monotonic()
        self._inbox = ""
        self._round = 0
        self._old_up_to = 0

    def settle(self) -> None:
        """One message is done with."""
        self._unsettled -= 1
        if self._free >= self._enough:
            self._wake()

    def put_back(self, pulled: Pulled, delay_s: float) -> None:
        """Hand a message out again after a while; for the server it is still being worked on."""

        def back() -> None:
            self._unsettled -= 1
            self._ready.put_nowait(pulled.msg)

        asyncio.get_running_loop().call_later(delay_s, back)

    async def messages(self) -> AsyncIterator[Pulled]:
        """Messages as they come, without end. Raises Unreachable when the consumer cannot be created at first."""
        client = self._connection.client
        self._inbox = client.new_inbox()
        await self._ensure()
        subscription = await client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        watch = asyncio.get_running_loop().create_task(self._watch())
        self._connection.on_reconnect.append(self._on_reconnect)
        try:
            while True:
                await self._top_up()
                msg = await self._ready.get()
                if msg is None:
                    if self._ended and self._ready.empty():
                        return
                    continue
                self._unsettled += 1
                yield _numbers(msg, self._old_up_to)
        finally:
            watch.cancel()
            self._connection.on_reconnect.remove(self._on_reconnect)
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _ensure(self) -> None:
        config = self._config()
        js = self._connection.jetstream
        if self._recreate:
            await self._recreate()
        try:
            info = await js.add_consumer(self._stream, config)
            if self._recreate:
                self._old_up_to = (await js.stream_info(self._stream)).state.last_seq
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._ended = self._may_end and getattr(error, "err_code", None) == _NO_STREAM
            raise Unreachable(
                f"The consumer {config.durable_name or 'of a reader'} of {self._stream} cannot be created.",
                why=str(error) or type(error).__name__, hint="milepost status",
            ) from error  # fmt: skip
        self._name = info.name

    async def _on_reconnect(self) -> None:
        await self._anew("reconnected")

    @property
    def _free(self) -> int:
        return self._room - self._unsettled - self._asked - self._ready.qsize()

    async def _top_up(self) -> None:
        free = self._free
        if not self._name or free < self._enough:
            return
        body = {"batch": free, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        self._asked += free
        try:
            await self._connection.client.publish(subject, json.dumps(body).encode(), reply=f"{self._inbox}.{self._round}")
        except (nats.errors.Error, OSError):
            self._asked = 0

    async def _on_message(self, msg: Msg) -> None:
        if msg.subject.rsplit(".", 1)[-1] != str(self._round) and not msg.reply:
            return  # a status of requests that were given up
        self._heard = time.monotonic()
        status = msg.headers.get("Status") if msg.headers and not msg.data else None
        if status is None:
            self._asked = max(0, self._asked - 1)
            self._ready.put_nowait(msg)
        elif status != "100":
            await self._on_status(status, msg)

    async def _on_status(self, status: str, msg: Msg) -> None:
        headers = msg.headers or {}
        text = headers.get("Description", "").lower()
        pending = int(headers.get("Nats-Pending-Messages", 0))
        if status == "408" or (status == "409" and "deleted" not in text and "shutdown" not in text):
            self._asked = max(0, self._asked - pending) if pending else 0
            self._wake()
        else:
            await self._anew(f"{status} {text}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._asked and time.monotonic() - self._heard > 2 * HEARTBEAT_S + 1:
                await self._anew("silence")

    async def _anew(self, why: str) -> None:
        self._round += 1
        self._asked = 0
        self._heard = time.monotonic()
        if not self._connection.client.is_connected:
            return
        log.info("asks for messages anew", stream=self._stream, consumer=self._name, why=why)
        try:
            await self._ensure()
        except Unreachable as error:
            if self._ended:
                log.info("the stream is gone", stream=self._stream)
                self._name = ""
            else:
                log.warning("consumer not there yet", stream=self._stream, why=error.why)
                self._asked = 1  # silence brings the watch back here
                return
        self._wake()

    def _wake(self) -> None:
        self._ready.put_nowait(None)


def _numbers(msg: Msg, old_up_to: int) -> Pulled:
    tokens = msg.reply.split(".")
    at = 4 if len(tokens) == 9 else 6  # $JS.ACK v1 has 9 tokens; v2 adds domain and account in front
    position = int(tokens[at + 1])
    return Pulled(msg, int(tokens[at]), position, int(tokens[at + 2]), position <= old_up_to)
