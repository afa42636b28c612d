"""Reading ahead: the next few of many things are under way while the one before them is worked on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

AHEAD = 8

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


async def prefetched(
    read: Callable[[_Key], Awaitable[_Found]], keys: Iterable[_Key], ahead: int = AHEAD
) -> AsyncGenerator[_Found, None]:
    """What is read for each key, in their order. ahead: how many reads are under way at most. Raises what `read` raises."""
    under_way: deque[asyncio.Future[_Found]] = deque()
    try:
        for key in keys:
            under_way.append(asyncio.ensure_future(read(key)))
            if len(under_way) == ahead:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
