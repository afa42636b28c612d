"""What changes while a page is open, as server-sent events: which runs, and how many wait for a person."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request

from schemas.runs import ListRuns, RunFilter
from services.gateway.door import Here, Reader
from services.gateway.ticks import Ticks

router = APIRouter()

PING_S = 15


@router.get("/api/live")
async def live(request: Request, gateway: Here, who: Reader) -> EventSourceResponse:
    """Events `changed`, {"runs": [...], "waiting": n}: runs of the tenant that changed, and how many of all wait."""
    ticks: Ticks = request.app.state.ticks

    async def waiting() -> int:
        asked = ListRuns(which=RunFilter(tenant=who.tenant, status="waiting"), limit=1000)
        return len(await gateway.ask_list("recorder", "runs", asked.model_dump(mode="json")))

    async def events() -> AsyncIterator[ServerSentEvent]:
        yield _event([], await waiting())
        async with aclosing(ticks.of(who.tenant)) as changes:  # type: ignore[type-var]  # a generator
            async for changed in changes:
                yield _event(sorted(changed), await waiting())

    return EventSourceResponse(events(), ping=PING_S, headers={"x-accel-buffering": "no"})


def _event(runs: list[str], waiting: int) -> ServerSentEvent:
    return ServerSentEvent(event="changed", data=json.dumps({"runs": runs, "waiting": waiting}))
