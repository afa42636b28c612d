"""Runs as they are listed, found and shown: what the recorder answers, and what it is asked."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import Field

from schemas.ids import Token
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
    currency. forks: only forks, or none of them; fork_of: those alone that left this run. runs: these alone.
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
    runs: tuple[str, ...] | None = Field(default=None, max_length=500)

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that are asked for; none: any."""
        return (self.status,) if isinstance(self.status, str) else self.status or ()


class Place(Value):
    """Where a run stands in a list: lists go on behind it."""

    started: datetime
    run: str


OPEN: tuple[Status, ...] = ("open", "waiting")


class ListRuns(Value):
    """A question for runs. after: from the one behind this place."""

    which: RunFilter = RunFilter()
    limit: int = Field(default=50, ge=1, le=1000)
    after: Place | None = None


class FindLines(Value):
    """A question for the events of runs in whose line a text stands, so many of each run at most."""

    tenant: Token
    runs: tuple[str, ...] = Field(max_length=1000)
    text: str = Field(min_length=1)
    each: int = Field(default=3, ge=1, le=100)


class FindUses(Value):
    """A question for the runs that used a thing, by its ids, names or hashes."""

    tenant: Token = "default"
    names: tuple[str, ...] = Field(min_length=1, max_length=8)
    limit: int = Field(default=200, ge=1, le=500)
