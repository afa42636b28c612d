"""The log: every fact of every run, one a slot, in one order per run. The port; NATS and memory implement it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.envelope import Fact, Order
from schemas.ids import RunId

MessageT_co = TypeVar("MessageT_co", bound="Fact | Order", covariant=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """A fact and its position: an order within one segment of one log, never an identity."""

    fact: Fact
    position: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it lies in the log, unread: its subject, its bytes, its position."""

    subject: str
    data: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Delivery(Generic[MessageT_co]):
    """A message handed out to be worked on; it comes again until it is acknowledged.

    attempt: 1 at first. gap: another member of the group was handed something since this member's last
    delivery (or this is its first). resent: it may have been worked on before, since its sender sent it
    again, or it was there before this reader began or came back. size: its bytes as they are stored.
    """

    message: MessageT_co
    position: int
    attempt: int
    gap: bool
    resent: bool
    ack: Callable[[], Awaitable[None]]
    again: Callable[[float], Awaitable[None]]
    working: Callable[[], Awaitable[None]]
    size: int = 0


class Log(Protocol):
    """Append and read facts."""

    async def append(self, fact: Fact) -> bool:
        """Store a fact durably. False: its slot has had its event already, and keeps it. Raises Unreachable."""
        ...

    async def read(self, run: RunId, after: int = 0) -> list[Stored]:
        """The facts of a run in order, from the one after that position. Raises Unreachable."""
        ...

    async def read_raw(self, run: RunId, after: int = 0) -> list[Raw]:
        """The messages of a run as they are stored, sealed or not, readable or not, in order. Raises Unreachable."""
        ...

    async def holds(self, run: RunId, tenant: str, role: str, slot: str) -> bool:
        """Whether a slot has had its event. Raises Unreachable."""
        ...

    def facts(self, group: str) -> AsyncIterator[Delivery[Fact]]:
        """Every fact in order, shared out among the members of a group; survives all of them dying."""
        ...

    def requests(self, group: str, every_s: float) -> AsyncIterator[Delivery[Fact]]:
        """The first fact of every run, again after every_s seconds until it is acknowledged."""
        ...

    def follow(self, run: RunId) -> AsyncIterator[Stored]:
        """The facts of a run from its first one on, as they come, without end."""
        ...
