"""How far behind the log a shadow is."""

from __future__ import annotations

from infra.jetstream import streams
from infra.jetstream.connection import Connection
from schemas import subjects


async def lag(connection: Connection, group: str) -> int | None:
    """How many facts of the log it has still to look at; None if it has never looked. Raises Unreachable."""
    waiting = [
        await streams.waiting(connection, subjects.run_stream(each), group) for each in await streams.segments(connection)
    ]
    known = [each for each in waiting if each is not None]
    return sum(known) if known else None


async def forget_group(connection: Connection, group: str) -> None:
    """Forget how far it has read. Raises Unreachable."""
    for each in await streams.segments(connection):
        await streams.drop_consumer(connection, subjects.run_stream(each), group)
