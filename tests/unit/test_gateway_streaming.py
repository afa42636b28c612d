"""Event streams: as many at once as somebody may hold, and each place given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from sse_starlette import ServerSentEvent

from services.gateway.door import Reader
from services.gateway.rules import Rules
from services.gateway.streaming import Stream, stream
from tests.support.door import SEED, URL, bare, bearing, browser, gateway, key_for


async def test_a_place_is_held_while_the_stream_lasts_and_not_longer() -> None:
    found, router = gateway(Rules(URL, streams=2)), APIRouter()
    going, closed = asyncio.Event(), []

    @router.get("/t/stream")
    async def streamed(request: Request, who: Reader) -> Stream:
        async def events() -> AsyncIterator[ServerSentEvent]:
            try:
                yield ServerSentEvent(event="a", data="1")
                await going.wait()
            finally:
                closed.append(who.user)

        return stream(request, who, events())

    app = bare(found, router)
    _, other = await key_for(found, "viewer")
    async with browser(found, app, headers=bearing(SEED.local_key)) as web:
        held = [asyncio.create_task(web.get("/t/stream")) for _ in range(2)]
        async with asyncio.timeout(5):
            while app.state.streams.open < 2:
                await asyncio.sleep(0)
            assert (await web.get("/t/stream")).status_code == 429
            theirs = asyncio.create_task(web.get("/t/stream", headers=bearing(other)))
            while app.state.streams.open < 3:
                await asyncio.sleep(0)
            theirs.cancel()  # the client goes
            await asyncio.wait({theirs})
            assert app.state.streams.open == 2
            assert (await web.head("/t/stream")).status_code in (200, 405, 429)
            going.set()
            answers = await asyncio.gather(*held)
        assert [each.status_code for each in answers] == [200, 200] and "event: a" in answers[0].text
        assert app.state.streams.open == 0 and sorted(closed) == ["kim", "me", "me"]
        assert (await web.get("/t/stream")).status_code == 200
