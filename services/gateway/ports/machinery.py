"""The machine behind the door: processes, queues, dead letters. The port."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from schemas.canonical import JsonObject
from schemas.tools import Value


class ProcessNow(Value):
    """A process of this stack. state: starting, ready, restarting, failing or dead.

    memory_mb: with shared pages divided by their users.
    """

    name: str
    state: str
    pid: int = 0
    restarts: int = 0
    memory_mb: float = 0.0
    why: str = ""


class QueueNow(Value):
    """What waits for a role's lane, and what somebody works on; of the log, what a reader of it has still to read."""

    kind: Literal["commands", "log"] = "commands"
    role: str
    lane: str
    waiting: int
    working: int


class ServiceNow(Value):
    """One copy of a service as it tells of itself, since its start.

    questions, errors, question_ms: what it was asked, and how long an answer took on average. told: its own figures, such as
    done, failed and busy_s of its commands, or the models it has loaded.
    """

    role: str
    lane: str
    id: str
    version: str
    started: str
    questions: int
    errors: int
    question_ms: float
    told: JsonObject = Field(default_factory=dict)


class StreamNow(Value):
    """A stream on the bus's disk."""

    name: str
    messages: int
    bytes: int


class StorageNow(Value):
    """What is stored, in bytes. limit: of the bus, if it has one; notes: what a person should know, with the next step."""

    streams: tuple[StreamNow, ...] = ()
    used: int = 0
    limit: int | None = None
    database: int | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    notes: tuple[tuple[str, str, str], ...] = ()


class Gpu(Value):
    """A graphics processor. Memory in MiB, load from 0 to 100."""

    name: str
    memory: int
    memory_total: int
    load: int


class DeadLetter(Value):
    """A message that nobody could read, as it came. id: what requeues it; subject: where it was sent first.

    tenant: whose it was, if the subject tells. again: whether it can be sent again; else why_not.
    """

    id: str
    role: str
    at: str
    why: str
    subject: str = ""
    tenant: str = ""
    text: str = ""
    bytes: int = 0
    again: bool = False
    why_not: str = ""


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

    async def services(self) -> list[ServiceNow]:
        """What each copy of each service on the bus tells of itself."""
        ...

    async def storage(self) -> StorageNow:
        """What is stored where."""
        ...

    async def gpus(self) -> list[Gpu]:
        """The graphics processors of this machine, if any."""
        ...

    async def dead_count(self) -> int:
        """How many messages nobody could read."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Newest first."""
        ...

    async def dead_letter(self, id: str) -> DeadLetter | None:
        """One of them; None if it is gone."""
        ...

    async def requeue(self, id: str) -> str:
        """Send a dead letter where it was sent first, and say where that is. Raises MilepostError if it cannot be."""
        ...

    async def discard(self, id: str) -> bool:
        """Forget a dead letter; False if it is gone."""
        ...
