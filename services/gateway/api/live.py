"""What changes while a page is open, as server-sent events: which runs, and how many wait for a person."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from sse_starlette import ServerSentEvent
from starlette.requests import Request

from services.gateway.door import Reader
from services.gateway.streaming import Stream, stream
from services.gateway.ticks import Ticks

router = APIRouter()


@router.get("/api/live", response_class=Stream)
async def live(request: Request, who: Reader) -> Stream:
    """Events `changed`, {"runs": [...], "waiting": n}: runs of the tenant that changed, and how many of all wait."""
    ticks: Ticks = request.app.state.ticks

    async def events() -> AsyncIterator[ServerSentEvent]:
        async with aclosing(ticks.of(who.tenant)) as changes:  # type: ignore[type-var]  # a generator
            async for tick in changes:
                said = {"runs": sorted(tick.runs), "waiting": tick.waiting}
                yield ServerSentEvent(event="changed", data=json.dumps(said))

    return stream(request, who, events())
