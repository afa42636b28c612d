"""What the recorder needs of the outside: an index of events and runs that remembers how far it has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from runtime.errors import Retryable
from schemas.tools import Value

Status: TypeAlias = Literal["open", "waiting", "completed", "failed", "cancelled"]


class EventRow(Value):
    """One event as the index holds it. summary: one line for a person; bytes: its size as it is stored."""

    id: str
    run: str
    tenant: str
    type: str
    role: str
    slot: str
    time: datetime
    stream: str
    seq: int
    summary: str
    bytes: int


class RunSummary(Value):
    """A run as lists show it. seq: the last event it was made from; tools: names that were called, in order.

    sealed: the log keeps its content sealed. erased: its user was forgotten, and what it said with them. events: how many a
    receipt would count, which are all but RunSealed. tokens: read and written by the models that were asked in it, `cached` of
    them not computed again; money: what its writes cost, by currency, as decimal text; what a fork copies costs nothing again.
    parent: the run whose tool it was; fork_of: the run it left. receipt: its number in the tenant's chain, once it is sealed.
    """

    run: str
    tenant: str
    status: Status
    agent: str
    user: str
    conversation: str
    task: str
    answer: str | None = None
    started: datetime
    ended: datetime | None = None
    steps: int = 0
    tools: tuple[str, ...] = ()
    seq: int
    sealed: bool = False
    erased: bool = False
    events: int = 0
    models: tuple[str, ...] = ()
    tokens: int = 0
    cached: int = 0
    writes: int = 0
    money: dict[str, str] = Field(default_factory=dict)
    parent: str | None = None
    fork_of: str | None = None
    receipt: int | None = None


class RunRecord(Value):
    """A run with all its events in the log's order."""

    summary: RunSummary
    events: tuple[EventRow, ...]


Kind: TypeAlias = Literal["chunk", "document", "tool", "model"]
How: TypeAlias = Literal["retrieved", "offered", "planned", "called", "failed", "in doubt", "asked"]


class Use(Value):
    """Something that a run used. id: a chunk's hash, a document's id, a tool's or model's name.

    hash: which version of it, where it has one. name: a document's path or address. time: when it was first used so.
    """

    run: str
    tenant: str
    kind: Kind
    id: str
    how: How
    hash: str = ""
    name: str = ""
    detail: str = ""
    time: datetime


class Used(Value):
    """A use, and the run it belongs to."""

    use: Use
    run: RunSummary


class Watermark(Value):
    """How far a stream is indexed. created: when the stream was made, which tells a remade one of the same name."""

    stream: str
    seq: int
    created: datetime | None = None


class RunFilter(Value):
    """Which runs to list; what is None does not matter.

    status: one, or any of several. text: stands in task or answer; deep: or in a line of its events. since, before: when it
    started. tool, model: called or asked in it. tokens_over: more tokens than that; cost_over: more money than that, of any
    currency. forks: only forks, or none of them; fork_of: those alone that left this run.
    """

    tenant: str | None = None
    status: Status | tuple[Status, ...] | None = None
    agent: str | None = None
    user: str | None = None
    text: str | None = None
    deep: bool = False
    since: datetime | None = None
    before: datetime | None = None
    conversation: str | None = None
    tool: str | None = None
    model: str | None = None
    tokens_over: int | None = Field(default=None, ge=0)
    cost_over: float | None = Field(default=None, ge=0)
    forks: bool | None = None
    fork_of: str | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that are asked for; none: any."""
        return (self.status,) if isinstance(self.status, str) else self.status or ()


class Place(Value):
    """Where a run stands in a list: lists go on behind it."""

    started: datetime
    run: str


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


OPEN: tuple[Status, ...] = ("open", "waiting")
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
