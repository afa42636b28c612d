"""nats-server and PostgreSQL from wheels, run by Milepost itself when no other servers are named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from infra.processes import Process, last_lines
from schemas.errors import MilepostError


class EmbeddedServerError(MilepostError):
    """An embedded server is missing, or would not start, or does not keep what it promises."""


@dataclass(frozen=True, slots=True)
class Server:
    """An embedded server that answers.

    url: what clients connect to, with its secret. monitor: base URL of its HTTP monitor, empty if it has none.
    reused: it was running already. notes: what a person should hear about how it was started.
    """

    name: str
    url: str
    process: Process
    version: str
    monitor: str = ""
    reused: bool = False
    notes: tuple[str, ...] = ()


def died(name: str, process: Process, log: Path) -> EmbeddedServerError:
    """The error for a program that ended while it was starting, with the end of its log."""
    what = f"{name} ended while starting ({process.ended_by() or 'killed'})."
    return EmbeddedServerError(what, why=last_lines(log), hint=f"the whole log is {log}")


@contextlib.asynccontextmanager
async def patience(name: str, seconds: float, log: Path) -> AsyncIterator[None]:
    """Wait inside for a server to answer, and no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise EmbeddedServerError(
            f"{name} did not answer within {seconds:.0f} s.", why=last_lines(log), hint=f"the whole log is {log}"
        ) from error
