"""How answers go out in both APIs: whose run it is, what a failed one says, and what becomes of it when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Annotated, Literal, TypeAlias, TypeVar

import structlog
from fastapi import Header
from pydantic import StringConstraints
from starlette.requests import Request

from runtime.client import TooLate, UnknownRun
from schemas.errors import MilepostError
from services.gateway.gateway import Gateway
from services.gateway.openai.course import Course, Ended, Piece

log = structlog.get_logger("services.gateway.openai")

T = TypeVar("T")

Key: TypeAlias = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")] | None,
    Header(alias="idempotency-key", description="The same key with the same request is the same run."),
]
OnDisconnect: TypeAlias = Annotated[
    Literal["continue", "cancel"],
    Header(alias="x-milepost-on-disconnect", description="What becomes of the run when the client goes away."),
]

_cancelling: set[asyncio.Task[None]] = set()


class RunEnded(MilepostError):
    """The run has no answer. kind: of its failure."""

    def __init__(self, ended: Ended, run: str, url: str) -> None:
        failure = ended.failure
        super().__init__(
            failure.what if failure else f"The run was {ended.outcome}.", why=failure.why if failure else "",
            hint=f"see {url}/runs/{run}",
        )  # fmt: skip
        self.kind = failure.type if failure else ended.outcome


def headers_of(gateway: Gateway, run: str) -> dict[str, str]:
    """What says which run an answer is."""
    return {"x-milepost-run": run, "link": f'<{gateway.rules.public_url}/runs/{run}>; rel="run"'}


async def heard(course: Course, on_disconnect: str) -> AsyncIterator[Piece]:
    """The pieces of a stream; if it is left before its end, the run is cancelled where that is wanted."""
    try:
        async with aclosing(course.pieces()) as pieces:  # type: ignore[type-var]  # a generator
            async for piece in pieces:
                yield piece
    finally:
        if on_disconnect == "cancel" and not course.finished:
            _cancel_soon(course)


def _cancel_soon(course: Course) -> None:
    """In a task of its own: the one that listened is being cancelled itself."""

    async def cancel() -> None:
        with suppress(TooLate, UnknownRun):
            await course.client.cancel(course.run, reason="its client went away")

    task = asyncio.get_running_loop().create_task(cancel())
    _cancelling.add(task)
    task.add_done_callback(_cancelling.discard)


class Gone(Exception):
    """Whoever asked has gone away."""


async def while_there(request: Request, work: Coroutine[None, None, T]) -> T:
    """What the work gives; it is broken off when the client goes away. Raises Gone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
