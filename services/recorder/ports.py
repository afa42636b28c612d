"""What the recorder needs of the outside: an index of events and runs that remembers how far it has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from runtime.errors import Retryable
from schemas.runs import (
    OPEN,
    EventRow,
    How,
    Kind,
    Place,
    RunFilter,
    RunRecord,
    RunSummary,
    Status,
    Use,
    Used,
    Watermark,
)
from schemas.tools import Value

__all__ = [
    "OPEN", "EventRow", "How", "Kind", "Place", "RunFilter", "RunRecord", "RunSummary", "Status", "Use", "Used", "Watermark",
]  # fmt: skip


class Erasure(Value):
    """What the index has lost: runs and events that say nothing any more, uses that are gone.

    unsealed: runs that the log still tells of.
    """

    runs: int
    events: int
    unsealed: int
    uses: int = 0


class Rebuilding(Retryable):
    """The index does not hold every run yet, so whoever must find all of them has to wait."""

    def __init__(self) -> None:
        super().__init__(
            "The index of runs is being made anew.",
            why="until it is whole, runs could be overlooked",
            hint="wait for `milepost runs rebuild`, or run it again if it was stopped",
        )


ERASED = "erased on request"
"""What stands in the place of erased text."""


class RunIndex(Protocol):
    """Events and runs, found by what a person asks for. Recording is idempotent: by event id, by a run's newest seq.

    A run that was erased stays erased: what is recorded of it afterwards loses its texts, and its uses are not kept.
    """

    async def record(
        self, events: Sequence[EventRow], runs: Sequence[RunSummary], watermark: Watermark | None = None,
        uses: Sequence[Use] = (), receipts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Add events and uses, renew the runs' summaries, give runs their receipts, move the watermark; all or nothing.

        A summary made from fewer events than the stored one, a lower receipt, a later time of a use, or a lower watermark of
        the same stream changes nothing. receipts: by run; of runs that are not there they are passed over.
        """
        ...

    async def watermark(self, stream: str) -> Watermark | None:
        """How far the stream is indexed; None if it never was."""
        ...

    async def list_runs(self, which: RunFilter, limit: int = 50, after: Place | None = None) -> list[RunSummary]:
        """Runs, newest first, from the one behind `after`."""
        ...

    async def lines(self, tenant: str, runs: Sequence[str], text: str, each: int = 3) -> list[EventRow]:
        """The first events of each of these runs in whose line the text stands, by run and seq."""
        ...

    async def show(self, run: str, tenant: str | None = None) -> RunRecord | None:
        """One run with its events; None if it is not there or another tenant's."""
        ...

    async def runs_of(self, tenant: str, user: str, *, after: str = "", limit: int = 500, open: bool = False) -> list[str]:
        """The ids of a user's runs in their order, from the one behind `after`; open: only those that have not ended.

        Raises Rebuilding.
        """
        ...

    async def forget(self, tenant: str, user: str) -> Erasure:
        """Take all texts and uses of a user's runs out; ids, types, times and counts stay. Again, and there is nothing to do.

        Raises Rebuilding.
        """
        ...

    async def uses(self, tenant: str, names: Sequence[str], limit: int = 200) -> list[Used]:
        """Who used a thing that has one of these ids, names or hashes; if there is none, one whose id or hash begins so.

        Newest runs first, and in a run by time. A beginning has SHORTEST characters at least.
        """
        ...

    async def begin_rebuild(self, *, drop: bool) -> None:
        """From now until end_rebuild the index counts as incomplete, also if whoever rebuilds it dies.

        drop: all that the log can tell again is gone; of runs that were erased, that they were stays.
        """
        ...

    async def end_rebuild(self) -> None:
        """The index is whole again."""
        ...


SHORTEST = 6
"""Fewer characters of an id or hash name nothing."""
