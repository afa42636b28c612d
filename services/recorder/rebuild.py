"""The index made anew from the log: read in order, folded, written in large batches. Memory does not grow with the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from runtime.log import Raw, Stored
from schemas.envelope import Fact
from schemas.errors import ProtocolError
from schemas.events import RunSealed
from schemas.ids import RunId
from services.recorder.ports import RunIndex
from services.recorder.summing import Rows, Said, Sums, rows_of

OPEN_RUNS = 2_000

Batches: TypeAlias = AsyncGenerator[Sequence[Raw], None]
"""Messages of the log; those of a run in their order, and all of them in one such stretch."""

Restore: TypeAlias = Callable[[Sequence[Fact]], Awaitable[None]]
"""Gives the store of receipts back what these facts (RunSealed) state."""


@dataclass(slots=True)
class Rebuilt:
    """What came of it. events: indexed; receipts: how many of them state one; unreadable: no facts for this version."""

    events: int = 0
    receipts: int = 0
    unreadable: int = 0

    def add(self, other: Rebuilt) -> None:
        """Count what another stretch of the log came to."""
        self.events += other.events
        self.receipts += other.receipts
        self.unreadable += other.unreadable


class Reindexing:
    """Indexes stretches of the log; others may write to the index meanwhile, and several of these side by side.

    opened: a message as it was said (raises ProtocolError). read: the facts of a run after a position.
    """

    def __init__(
        self, index: RunIndex, opened: Callable[[Raw], Awaitable[Fact]],
        read: Callable[[RunId, int], Awaitable[Sequence[Stored]]], restore: Restore | None = None,
    ) -> None:  # fmt: skip
        self._index, self._opened, self._restore = index, opened, restore
        self._sums = Sums(read, open=OPEN_RUNS, ended=0)

    async def add(self, stretch: Batches, moved: Callable[[int], None]) -> Rebuilt:
        """Index a stretch of the log: a batch is written while the next one is read and folded. Raises Unreachable.

        moved: hears how many messages more were read.
        """
        done = Rebuilt()
        writing: asyncio.Task[None] | None = None
        try:
            async with aclosing(stretch) as batches:
                async for batch in batches:
                    rows = await self._rows(batch, done)
                    if writing:
                        await writing
                    writing = asyncio.create_task(self._write(rows))
                    moved(len(batch))
            if writing:
                await writing
        finally:
            if writing:
                writing.cancel()
        return done

    async def _rows(self, batch: Sequence[Raw], done: Rebuilt) -> Rows:
        facts: list[Said] = []
        for raw in batch:
            try:
                facts.append(Said(Stored(await self._opened(raw), raw.position), len(raw.data)))
            except ProtocolError:  # its reader in the feed has buried it
                done.unreadable += 1
        sealed = [said.stored.fact for said in facts if isinstance(said.stored.fact.body, RunSealed)]
        if sealed and self._restore:
            await self._restore(sealed)
        done.events += len(facts)
        done.receipts += len(sealed)
        return await rows_of(self._sums, facts, in_order=True)

    async def _write(self, rows: Rows) -> None:
        await self._index.record(rows.events, rows.runs, uses=rows.uses, receipts=rows.receipts)
