"""Generated text on its way: pieces with offsets, asked for again when one was missed, until the fact holds it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from runtime.bus import Bus
from schemas import subjects
from schemas.errors import ProtocolError
from schemas.ids import RunId


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text. offset: characters of this attempt before it.

    attempt: grows with every new beginning (the command came again, or another model took over); the text of an
    earlier one is to be replaced.
    """

    command: str
    attempt: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The model takes no more for now; the command is tried again after so many seconds."""

    command: str
    retry_after_s: float
    limit: int


def write_delta(delta: Delta) -> bytes:
    """A piece of text as it is told on the bus."""
    return orjson.dumps({"attempt": delta.attempt, "offset": delta.offset, "text": delta.text})


def read_delta(data: bytes, command: str) -> Delta:
    """A piece of text as it was heard on the bus. Raises ProtocolError."""
    match _object(data):
        case {"attempt": int(attempt), "offset": int(offset), "text": str(text)} if attempt > 0 and offset >= 0:
            return Delta(command, attempt, offset, text)
    raise ProtocolError("A piece of text is malformed.", why=repr(data[:100]))


def write_missed(attempt: int, offset: int) -> bytes:
    """What a listener says who has so many characters of an attempt and heard later ones."""
    return orjson.dumps({"attempt": attempt, "offset": offset})


def read_missed(data: bytes) -> tuple[int, int]:
    """Attempt and offset of a listener who missed something. Raises ProtocolError."""
    match _object(data):
        case {"attempt": int(attempt), "offset": int(offset)} if offset >= 0:
            return attempt, offset
    raise ProtocolError("A question for missed text is malformed.", why=repr(data[:100]))


def write_busy(busy: Busy) -> bytes:
    """Back-pressure as it is told on the bus."""
    return orjson.dumps({"retry_after_s": busy.retry_after_s, "limit": busy.limit})


def read_busy(data: bytes, command: str) -> Busy:
    """Back-pressure as it was heard. Raises ProtocolError."""
    match _object(data):
        case {"retry_after_s": float() | int() as seconds, "limit": int(limit)}:
            return Busy(command, float(seconds), limit)
    raise ProtocolError("A notice of back-pressure is malformed.", why=repr(data[:100]))


def _object(data: bytes) -> object:
    try:
        said: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("A message is no JSON.", why=str(error)) from error
    return said


class Listener:
    """Puts the pieces of a run's texts in order: each character once, a new attempt from its beginning."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int, int]] = {}

    def hear(self, delta: Delta) -> Delta | None:
        """What is new in a piece; None for one that is old, or that comes after a gap (see `missing`)."""
        attempt, length = self._heard.get(delta.command, (0, 0))
        if delta.attempt < attempt:
            return None
        if delta.attempt > attempt:
            self._heard[delta.command] = delta.attempt, (length := 0)
        new = delta.text[max(0, length - delta.offset) :]
        if delta.offset > length or not new:
            return None
        self._heard[delta.command] = delta.attempt, length + len(new)
        return Delta(delta.command, delta.attempt, length, new)

    def missing(self, delta: Delta) -> tuple[int, int] | None:
        """Attempt and offset to ask from when a piece shows that others were missed."""
        attempt, length = self._heard.get(delta.command, (0, 0))
        return (attempt, length) if delta.attempt == attempt and delta.offset > length else None


@asynccontextmanager
async def hear_text(bus: Bus, tenant: str, run: RunId, receive: Callable[[Delta], None]) -> AsyncIterator[None]:
    """Hear the text of a run while the context is open: in order, without gaps, from the beginning of a text under way."""
    listener = Listener()

    async def hear(subject: str, data: bytes) -> None:
        delta = read_delta(data, subject.rsplit(".", 1)[-1])
        new = listener.hear(delta)
        if new:
            receive(new)
        elif missing := listener.missing(delta):
            await bus.tell(subjects.missed(tenant, run, delta.command), write_missed(*missing))

    async with bus.hear(subjects.delta(tenant, run, "*"), hear):
        yield
