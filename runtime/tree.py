"""A run and the runs below it, followed as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

from runtime.children import children_of
from runtime.client import Client, Update
from runtime.sealing import Erased
from schemas.ids import RunId

_Heard: TypeAlias = Update | Exception | None


async def follow_tree(client: Client, run: RunId) -> AsyncIterator[Update]:
    """Every fact of a run and of the runs that it waits for, as they come, until the first of them has ended.

    Facts of one run come in their order; `update.state.run` says whose they are. Raises what Client.follow raises.
    """
    heard: asyncio.Queue[_Heard] = asyncio.Queue()
    tasks = {run: asyncio.create_task(_hear(client, run, heard, top=True))}
    try:
        while (update := await heard.get()) is not None:
            if isinstance(update, Exception):
                raise update
            for child in children_of(update.state).values():
                if child not in tasks:
                    tasks[child] = asyncio.create_task(_hear(client, child, heard, top=False))
            yield update
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _hear(client: Client, run: RunId, heard: asyncio.Queue[_Heard], *, top: bool) -> None:
    try:
        async with aclosing(client.follow(run)) as updates:  # type: ignore[type-var]  # a generator
            async for update in updates:
                heard.put_nowait(update)
    except Erased as error:
        if top:
            heard.put_nowait(error)
    except Exception as error:
        heard.put_nowait(error)
    if top:
        heard.put_nowait(None)
