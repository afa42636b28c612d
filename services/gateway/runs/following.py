"""A run followed for a page: what one follower holds is an ear on the bus; the log is read when something was heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from runtime.client import Client
from runtime.log import Stored
from schemas import subjects
from schemas.ids import RunId

LOOK_S = 30.0
"""The log is looked at so often although nothing was heard: the bus may have been away."""
_SOON_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


async def followed(client: Client, run: RunId) -> AsyncIterator[list[Stored]]:
    """The facts of a run from its first one on, as many together as there are, without end. Raises Unreachable.

    A consumer of the log for each of some hundred followers would cost the server more than it costs to read what is new.
    """
    heard: set[str] = set()
    some = asyncio.Event()

    async def hear(subject: str, data: bytes) -> None:
        heard.add(subject)
        some.set()

    position, seen = 0, set[str]()
    async with client.bus.hear(subjects.run_subjects(run), hear):
        while True:
            for soon in _SOON_S:  # a fact is heard a moment before the log has it
                await asyncio.sleep(soon)
                some.clear()
                facts = await client.log.read(run, position)
                if facts:
                    position = facts[-1].position
                    seen.update(_subject(stored) for stored in facts)
                    yield facts
                if heard <= seen:
                    break
            heard.clear()
            if not some.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(some.wait(), LOOK_S)


def _subject(stored: Stored) -> str:
    fact = stored.fact
    return str(subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot))
