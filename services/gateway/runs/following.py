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
_FIRST_S, _LONGEST_S, _MISSING_S = 0.002, 0.25, 20.0
"""A fact is heard a moment before the log has it, a long one where the disk is busy; what is refused there never comes."""


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
        waited = pause = 0.0
        while True:
            some.clear()
            facts = await client.log.read(run, position)
            if facts:
                position, waited, pause = facts[-1].position, 0.0, 0.0
                seen.update(_subject(stored) for stored in facts)
                yield facts
            if heard <= seen or waited > _MISSING_S:
                heard.clear()
                waited = pause = 0.0
                with suppress(TimeoutError):
                    async with asyncio.timeout(
                        LOOK_S
                    ):  # wait_for of Python 3.11 loses a cancellation that comes at this moment
                        await some.wait()
            pause = min(_LONGEST_S, max(_FIRST_S, 2 * pause))
            waited += pause
            await asyncio.sleep(pause)


def _subject(stored: Stored) -> str:
    fact = stored.fact
    return str(subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot))
