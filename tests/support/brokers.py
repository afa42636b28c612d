"""The two implementations of log and bus, behind one fixture, so that they are held to the same promises."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from infra.jetstream import streams
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import Connection, connect
from infra.jetstream.log import JetStreamLog
from runtime.bus import Bus
from runtime.errors import Unreachable
from runtime.log import Delivery, Log
from runtime.memory_broker import MemoryBroker
from schemas.envelope import Fact, Order
from tests.support.builders import NOW
from tests.support.servers import RealNats

T = TypeVar("T")
M = TypeVar("M", Fact, Order)


@dataclass
class Member:
    """One process's way to the log and the bus; `connection` where there is one."""

    log: Log
    bus: Bus
    connection: Connection | None = None


class Place:
    """A log and a bus for one test. `member()` is the way of one more process."""

    def __init__(self, member: Callable[[], Awaitable[Member]], stack: AsyncExitStack) -> None:
        self._member, self._stack = member, stack

    async def member(self) -> Member:
        return await self._member()


@pytest.fixture(scope="module")
def nats_alone() -> Iterator[RealNats]:
    """A nats-server of this module's own, fsync always, that may be killed."""
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        Path(folder).chmod(0o711)
        server = RealNats(Path(folder))
        yield server
        server.close()


@pytest.fixture(params=["memory", "nats"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Both implementations, empty."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            broker = MemoryBroker()

            async def same() -> Member:
                return Member(broker, broker)

            yield Place(same, stack)
        else:
            yield await nats_place(request.getfixturevalue("nats_alone"), stack)


@pytest.fixture
async def nats(nats_alone: RealNats) -> AsyncIterator[Place]:
    """The real implementation alone, empty."""
    async with AsyncExitStack() as stack:
        yield await nats_place(nats_alone, stack)


async def nats_place(server: RealNats, stack: AsyncExitStack) -> Place:
    number = 0

    async def member() -> Member:
        nonlocal number
        number += 1
        connection = await connect(server.url, name=f"test-{number}")
        stack.push_async_callback(connection.close)
        return Member(JetStreamLog(connection), JetStreamBus(connection), connection)

    first = await member()
    assert first.connection
    await empty(first.connection)
    async with asyncio.timeout(20):
        while True:
            try:
                await streams.ensure(first.connection, NOW)
                break
            except Unreachable:  # a stream's store is still being taken away
                await asyncio.sleep(0.05)
    return Place(member, stack)


async def empty(connection: Connection) -> None:
    """Delete every stream."""
    reply = await connection.client.request("$JS.API.STREAM.NAMES", b"", timeout=5)
    for name in json.loads(reply.data).get("streams") or []:
        await connection.client.jetstream().delete_stream(name)


class Feed:
    """One reader of deliveries, as a member of a group: they are taken as they come and wait in a list."""

    def __init__(self, deliveries: AsyncIterator[Delivery[M]], changed: asyncio.Condition | None = None) -> None:
        self.got: list[Delivery[M]] = []
        self._changed = changed or asyncio.Condition()
        self._task = asyncio.create_task(self._read(deliveries))

    async def _read(self, deliveries: AsyncIterator[Delivery[M]]) -> None:
        async with aclosing(deliveries):  # type: ignore[type-var]  # every feed is an async generator
            async for delivery in deliveries:
                async with self._changed:
                    self.got.append(delivery)
                    self._changed.notify_all()

    async def have(self, count: int, limit_s: float = 10.0) -> list[Delivery[M]]:
        """Wait until `count` were delivered to this reader."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def shared(changed: asyncio.Condition, feeds: list[Feed], count: int, limit_s: float = 10.0) -> None:
    """Wait until feeds with one condition have been given `count` deliveries together."""
    async with asyncio.timeout(limit_s), changed:
        await changed.wait_for(lambda: sum(len(feed.got) for feed in feeds) >= count)


async def first(items: AsyncIterator[T], count: int, limit_s: float = 10.0) -> list[T]:
    """The first items of an endless stream."""
    found: list[T] = []
    async with asyncio.timeout(limit_s), aclosing(items):  # type: ignore[type-var]  # every stream is an async generator
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found
