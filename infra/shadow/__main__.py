"""The process of a shadow: `python -m infra.shadow NAME`, started by the recorder or by `milepost shadow run`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog

from infra import logs
from infra.settings import Settings, load
from infra.shadow.candidates import bring
from infra.shadow.environment import PARENT, check_scrubbed
from infra.shadow.watching import Watch, the_shadow
from infra.wiring import open_world
from runtime.service import serve
from schemas.errors import MilepostError, first_error

log = structlog.get_logger("infra.shadow")

LOOK_S = 1.0


def main(name: str) -> None:
    """Be a shadow until SIGTERM, SIGINT, or until who started it is gone. Exits 1 with a reason when it cannot go on."""
    import uvloop

    settings = load().settings
    logs.configure(f"shadow-{name}", level=settings.log_level, format=settings.log_format)
    try:
        uvloop.run(_host(settings, name))
    except* MilepostError as group:
        error = first_error(group)
        log.error("cannot go on", what=error.what, why=error.why, hint=error.hint)
        sys.exit(1)


async def _host(settings: Settings, name: str) -> None:
    stopping, lost = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    world = await open_world(settings, f"shadow-{name}-{os.getpid()}", on_closed=lost.set)
    try:
        shadow = await the_shadow(world, settings.tenant, name)
        check_scrubbed(settings, shadow)
        asker, close = await bring(shadow.candidate, world)
        log.info("watches", of=shadow.said, share=shadow.share)
        watch = Watch(world, shadow, asker)
        try:
            await watch.well()
            await serve(_together(watch, stopping, lost), stopping)
        finally:
            await close()
    finally:
        await world.connection.close()


async def _together(watch: Watch, stopping: asyncio.Event, lost: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run())
        group.create_task(_give_up_when(lost, stopping))
        if parent := os.environ.get(PARENT):
            group.create_task(_end_with(int(parent), stopping))


async def _give_up_when(lost: asyncio.Event, stopping: asyncio.Event) -> None:
    await lost.wait()
    if not stopping.is_set():
        raise MilepostError("The connection to NATS is closed for good.", why="the server refused to go on with it")


async def _end_with(parent: int, stopping: asyncio.Event) -> None:
    """Who started it was killed: another one starts it again."""
    while os.getppid() == parent:  # noqa: ASYNC110  # nothing tells a process that its parent is gone, everywhere
        await asyncio.sleep(LOOK_S)
    stopping.set()


if __name__ == "__main__":
    main(sys.argv[1])
