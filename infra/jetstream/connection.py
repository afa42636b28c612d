"""One connection to NATS: how it is made, guarded and given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.errors import Unreachable
from schemas.errors import MilepostError, PayloadTooLarge

log = structlog.get_logger("infra.jetstream")

ACK_WITHIN_S = 0.01
CONNECT_S = 5


class FastClient(Client):
    """nats-py looks at a header's name character by character, which is half of what it costs to read a message of the log."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """What the method of nats-py gives (2.16); a later version that does not call it is as right, and slower."""
        headers: dict[str, str] = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon and name.isascii():
                key = name.strip().decode()
                if not key or key.split() == [key]:
                    headers[key] = value.strip().decode("utf-8", "replace")
        return headers


class Connection:
    """A NATS client that reconnects for ever and never sends what would make the server close it.

    on_reconnect: called after each reconnection. Raises Unreachable when the first connection fails.
    """

    def __init__(self, client: Client, max_payload: int) -> None:
        self.client = client
        self.jetstream = client.jetstream()
        self.max_payload = max_payload
        self.closing = False
        self.on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._acks: list[str] = []

    def reconnected(self) -> None:
        """Run every on_reconnect on its own: nats-py is not connected again before its own callback has returned."""
        for callback in list(self.on_reconnect):
            self._start(_guarded(callback))

    def check_size(self, headers: dict[str, str] | None, data: bytes) -> None:
        """PayloadTooLarge if headers and body together pass the server's limit, which nats-py does not check."""
        size = len(data) + sum(len(key) + len(value) + 4 for key, value in (headers or {}).items()) + 12
        if size > self.max_payload:
            raise PayloadTooLarge(actual=size, limit=self.max_payload)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Core publish: whoever listens hears it. Raises Unreachable, PayloadTooLarge."""
        self.check_size(headers, data)
        try:
            await self.client.publish(subject, data, headers=headers)
        except (nats.errors.Error, OSError) as error:
            raise unreachable(error) from error

    def acknowledge(self, reply: str) -> None:
        """Say that a message is done with, soon and together with others: it wakes the server once for all of them.

        Who dies before gets the message again, as if it had died a moment earlier.
        """
        self._acks.append(reply)
        if len(self._acks) == 1:
            self._start(self._acknowledge_soon())

    async def _acknowledge_soon(self) -> None:
        await asyncio.sleep(ACK_WITHIN_S)
        await self._acknowledge_all()

    async def _acknowledge_all(self) -> None:
        acks, self._acks = self._acks, []
        with suppress(nats.errors.Error, OSError):  # what is not acknowledged comes again
            for reply in acks:
                await self.client.publish(reply, b"+ACK")

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reached(self) -> None:
        """Wait until the server has acted on all that was sent before, subscriptions above all.

        nats-py's flush() does not tell that: its PING goes out ahead of what is still buffered. A message to
        ourselves takes the same way as the rest.
        """
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        await self.client.publish(inbox, b"")
        await subscription.next_msg(timeout=CONNECT_S)
        await subscription.unsubscribe()

    async def close(self) -> None:
        """Flush and close."""
        self.closing = True
        await self._acknowledge_all()
        if not self.client.is_closed:
            try:
                await self.client.drain()
            except (nats.errors.Error, OSError, TimeoutError):
                await self.client.close()


async def connect(url: str, *, name: str, token: str | None = None, on_closed: Callable[[], None] | None = None) -> Connection:
    """Connect to nats-server. on_closed: called when the connection is lost for good."""
    client = FastClient()
    connection = Connection(client, 1024 * 1024)

    async def reconnected() -> None:
        log.info("reconnected to nats")
        connection.reconnected()

    async def disconnected() -> None:
        if not connection.closing:
            log.warning("disconnected from nats")

    async def closed() -> None:
        if on_closed and not connection.closing:
            on_closed()

    try:
        await client.connect(
            url, name=name, token=token, max_reconnect_attempts=-1, reconnect_time_wait=0.2,  # type: ignore[arg-type]
            connect_timeout=CONNECT_S, ping_interval=10, max_outstanding_pings=2, allow_reconnect=True,
            error_cb=_on_error, disconnected_cb=disconnected, reconnected_cb=reconnected, closed_cb=closed,
            pending_size=16 * 1024 * 1024, inbox_prefix=f"_INBOX_{name.replace('.', '_')}",
        )  # fmt: skip
    except (nats.errors.Error, OSError, TimeoutError) as error:
        await client.close()
        raise Unreachable(
            f"NATS does not answer at {url}.",
            why=str(error) or type(error).__name__,
            hint="milepost up, or check --nats",
        ) from error
    connection.max_payload = client.max_payload
    return connection


async def hear_always(connection: Connection, subject: str, receive: Callable[[str, bytes], Awaitable[None]]) -> None:
    """Hear a subject for as long as the connection lives. Raises Unreachable."""

    async def on_message(msg: Msg) -> None:
        await receive(msg.subject, msg.data)

    try:
        await connection.client.subscribe(subject, cb=on_message)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error


def unreachable(error: BaseException) -> Unreachable:
    """A foreign error of the connection as ours."""
    return Unreachable("NATS does not answer.", why=str(error) or type(error).__name__, hint="milepost status")


async def _guarded(callback: Callable[[], Awaitable[None]]) -> None:
    try:
        await callback()
    except MilepostError as error:
        log.warning("after the reconnection", error=error.what, why=error.why)


async def _on_error(error: Exception) -> None:
    log.warning("nats", error=str(error) or type(error).__name__)
