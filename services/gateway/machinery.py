"""The machine behind the door: processes, queues, dead letters. The port."""

from __future__ import annotations

from typing import Protocol

from schemas.canonical import JsonObject
from schemas.tools import Value


class ProcessNow(Value):
    """A process of this stack. memory_mb: with shared pages divided by their users."""

    name: str
    state: str
    pid: int = 0
    restarts: int = 0
    memory_mb: float = 0.0
    why: str = ""


class QueueNow(Value):
    """Commands that wait for a role's lane, and those that somebody works on. waiting_s: of the oldest, if it is known."""

    role: str
    lane: str
    waiting: int
    working: int


class DeadLetter(Value):
    """A message that nobody could read, as it came. id: what requeues it."""

    id: str
    role: str
    at: str
    why: str
    subject: str = ""
    text: str = ""


class Machinery(Protocol):
    """What a person asks who runs the stack."""

    async def answers(self) -> None:
        """Whether the bus answers. Raises Unreachable."""
        ...

    async def processes(self) -> list[ProcessNow]:
        """Those that the supervisor here keeps; none where there is no supervisor."""
        ...

    async def queues(self) -> list[QueueNow]:
        """Every lane with what waits in it."""
        ...

    async def statistics(self) -> list[JsonObject]:
        """What each service on the bus tells of itself."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Newest first."""
        ...

    async def requeue(self, id: str) -> bool:
        """Send a dead letter where it was sent first; False if it is gone or can be sent nowhere."""
        ...
