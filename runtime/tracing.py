"""Traces: every run is one, and its ids follow from the run's own, so that nobody needs to hand them on to find it.

The form that travels is W3C's trace context (https://www.w3.org/TR/trace-context/). What makes spans of it is a port: without
a sink nothing is made.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from schemas.envelope import Order
from schemas.events import RunRequested
from schemas.ids import REQUEST_SLOT, RunId, event_id

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}$")
_LONGEST = 512
CANCELLED = "cancelled"

Attribute: TypeAlias = str | int | float | bool | tuple[str, ...]
Kind: TypeAlias = Literal["internal", "client", "server", "consumer"]


@dataclass(frozen=True, slots=True)
class Place:
    """A span's place in the world: its trace (32 hex digits) and itself (16)."""

    trace: str
    span: str

    @property
    def traceparent(self) -> str:
        """As it travels in headers."""
        return f"00-{self.trace}-{self.span}-01"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time. parent: the span in the same trace that it is part of; service: the role that did it.

    error: the type of what went wrong; empty if nothing did.
    """

    name: str
    place: Place
    start: datetime
    end: datetime
    service: str
    parent: str | None = None
    kind: Kind = "internal"
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    links: tuple[Place, ...] = ()
    error: str = ""


Spans = Callable[[Span], None]


@dataclass(slots=True)
class Caller:
    """Where runs are begun. began: the first spans of those that were."""

    place: Place
    began: list[Place] = field(default_factory=list)


_caller: ContextVar[Caller | None] = ContextVar("milepost_caller", default=None)


@contextmanager
def calling(place: Place) -> Iterator[Caller]:
    """Runs that are begun within the block know that it was here."""
    caller = Caller(place)
    token = _caller.set(caller)
    try:
        yield caller
    finally:
        _caller.reset(token)


def begun(run: RunId, tenant: str, event: RunRequested) -> str | None:
    """A run is being begun: the traceparent of who does so, if that is known; they are told of it."""
    caller = _caller.get()
    if caller is None:
        return None
    caller.began.append(root_of(run, tenant, event))
    return caller.place.traceparent


def read(traceparent: str | None) -> Place | None:
    """The place that a header names; None if it is none, or malformed: then the trace begins anew, as W3C says."""
    if traceparent is None or len(traceparent) > _LONGEST:
        return None
    found = _TRACEPARENT.match(traceparent[:55])
    if found is None or (len(traceparent) > 55 and (traceparent[:2] == "00" or traceparent[55] != "-")):
        return None
    return Place(found[1], found[2])


def trace_of(run: str, request: RunRequested | None) -> str:
    """The trace of a run: that of the run which began it all. It is that run's id without its segment."""
    root = request.parent.root if request is not None and request.parent else run
    return root[-32:]


def span_of(id: str) -> str:
    """The span of what an id names: a command, or an event."""
    return id[:16]


def root_of(run: RunId, tenant: str, request: RunRequested | None) -> Place:
    """The first span of a run."""
    return Place(trace_of(run, request), span_of(event_id(run, tenant, RunRequested.role, REQUEST_SLOT)))


def step_of(run: str, command: str, request: RunRequested | None) -> Place:
    """The span of a command, from when it was decided until its answer was in the log."""
    return Place(trace_of(run, request), span_of(command))


def within(parent: Place) -> Place:
    """A new place in a trace."""
    return Place(parent.trace, secrets.token_hex(8))


def anew() -> Place:
    """A new place in a new trace."""
    return Place(secrets.token_hex(16), secrets.token_hex(8))


def handled(order: Order, start: datetime, end: datetime, *, attempt: int, error: str = "") -> Span | None:
    """A service had a command in hand; None where its sender traces nothing.

    It is part of the command's step; of one that was called off there is none in the log, so it is part of the run.
    """
    step = read(order.header.traceparent)
    if step is None:
        return None
    role, lane = order.body.role, order.body.lane
    attributes: dict[str, Attribute] = {
        "messaging.system": "nats", "messaging.operation.type": "process", "messaging.operation.name": "process",
        "messaging.destination.name": f"{role}.{lane}", "messaging.message.id": order.id, "milepost.run.id": order.run,
        "milepost.command": order.body.kind, "milepost.attempt": attempt,
        "milepost.queue.wait": max(0.0, (start - order.time).total_seconds()),
    }  # fmt: skip
    parent = root_of(order.run, order.tenant, None).span if error == CANCELLED else step.span
    return Span(
        f"process {order.body.kind}", within(step), start, max(start, end), role, parent, "consumer", attributes, error=error
    )
