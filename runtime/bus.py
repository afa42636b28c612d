"""The bus: commands that wait for a worker, words that pass by, questions and answers. The port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from runtime.log import Delivery
from schemas.commands import Role
from schemas.envelope import Order
from schemas.ids import RunId
from schemas.tools import ToolCard

Hear = Callable[[str, bytes], Awaitable[None]]
Reply = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """How a service presents itself to whoever lists the services on the bus."""

    role: Role
    version: str
    description: str
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def stats_verb(self) -> str:
        """What asks for its statistics. Of a role's workers any answers a verb, so hosts of further lanes have one each."""
        lane = self.metadata.get("lane", "main")
        return "stats" if lane in ("main", "builtin") else f"stats-{lane}"


@dataclass(frozen=True, slots=True)
class CardChange:
    """A card was published (or withdrawn: card is None). attempt: 1 when it comes for the first time."""

    tenant: str
    lane: str
    name: str
    card: ToolCard | None
    ack: Callable[[], Awaitable[None]]
    again: Callable[[float], Awaitable[None]]
    attempt: int = 1


class Bus(Protocol):
    """Orders wait in a queue for a role; everything else passes by."""

    async def send(self, order: Order, *, resent: bool = False) -> None:
        """Put a command where its role waits. Sending it twice is harmless. Raises Unreachable."""
        ...

    def orders(self, role: Role, lane: str, *, ack_wait_s: float, at_once: int) -> AsyncIterator[Delivery[Order]]:
        """The commands of a role's lane, shared out among its workers; again after ack_wait_s without a sign."""
        ...

    async def forget(self, run: RunId) -> None:
        """Drop what still waits for a run that has ended."""
        ...

    async def tell(self, subject: str, data: bytes) -> None:
        """Say something to whoever listens now."""
        ...

    def hear(self, subject: str, receive: Hear) -> AbstractAsyncContextManager[None]:
        """Listen while the context is open; it is entered once the listening has begun."""
        ...

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask a service. Raises NobodyAnswers when there is none, Unreachable when it does not answer in time, MilepostError
        when it answers with an error."""
        ...

    def serve(
        self, info: ServiceInfo, answers: dict[str, Reply], stats: Callable[[], dict[str, object]]
    ) -> AbstractAsyncContextManager[None]:
        """Be listed as a service and answer its questions (verb -> reply) while the context is open."""
        ...

    async def publish_card(self, tenant: str, card: ToolCard) -> None:
        """Make a tool known to the catalogue. Raises Unreachable."""
        ...

    async def withdraw_card(self, tenant: str, card: ToolCard) -> None:
        """Take a tool out of the catalogue."""
        ...

    async def drop_cards(self, tenant: str, lane: str, tool: str = "*") -> None:
        """Forget the published cards of a lane, or one of them, without telling anybody: nobody answers them any more."""
        ...

    def cards(self, group: str) -> AsyncIterator[CardChange]:
        """Every card, and every change from then on, shared out among the members of a group.

        What is no card is buried, and its refusal told.
        """
        ...

    async def bury(self, role: str, raw: bytes, why: str) -> None:
        """Keep a message that nobody could read, with the reason."""
        ...
