"""Keeps the processes of shadows running: those that are to run, each one once, with nothing but what it may know."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import structlog

from infra.processes import last_lines, lock, open_log, python
from infra.settings import Settings
from infra.shadow.environment import PARENT, home_of, scrubbed
from infra.shadow.questions import ShadowStore
from infra.shadow.shadow import Shadow
from runtime.errors import Retryable

log = structlog.get_logger("infra.shadow")

LOOK_S = 5.0
STOP_S = 10.0
SLOWEST_S = 30.0


class ShadowKeeper:
    """Starts a process for each shadow that is to run, starts it again when it ends, and stops those that are not."""

    def __init__(self, store: ShadowStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Others may have to run than before: it looks at once."""
        self._changed.set()

    async def run(self) -> None:
        """Keep them until cancelled; then all are stopped."""
        try:
            while True:
                self._changed.clear()
                with suppress(Retryable):
                    await self._compare(await self._store.running())
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
        finally:
            await self._stop(list(self._kept))

    async def _compare(self, wanted: list[Shadow]) -> None:
        groups = {f"{each.group} {each.created.isoformat()}": each for each in wanted}
        await self._stop([group for group in self._kept if group not in groups])
        for group, shadow in groups.items():
            if group not in self._kept or self._kept[group].done():
                self._kept[group] = asyncio.create_task(self._keep(shadow))

    async def _stop(self, groups: list[str]) -> None:
        tasks = [self._kept.pop(group) for group in groups]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, shadow: Shadow) -> None:
        """One shadow's process, again whenever it ends; slower each time. Another recorder of this machine may have it."""
        pause, path = 0.2, self._settings.home / "logs" / f"shadow-{shadow.name}.log"
        while True:
            held = lock(home_of(self._settings, shadow) / "lock")
            if held is not None:
                try:
                    status = await self._run(shadow, held)
                finally:
                    os.close(held)
                told = last_lines(path, 1)
                log.warning("a shadow has ended, is started again", shadow=shadow.name, status=status, last=told)
                if status > 0:
                    with suppress(Retryable):
                        await self._store.change(shadow.tenant, shadow.name, {"trouble": told[:2000]})
            await asyncio.sleep(pause)
            pause = min(SLOWEST_S, pause * 2)

    async def _run(self, shadow: Shadow, held: int) -> int:
        command, more = _command(shadow.name)
        folder = home_of(self._settings, shadow)
        environment = scrubbed(self._settings, shadow) | more | {PARENT: str(os.getpid())}
        with open_log(self._settings.home / "logs" / f"shadow-{shadow.name}.log") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=folder,
                start_new_session=True, pass_fds=(held,),
            )  # fmt: skip
        log.info("a shadow watches", shadow=shadow.name, pid=process.pid)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
            raise


def _command(name: str) -> tuple[list[str], dict[str, str]]:
    return python("infra.shadow", name)


def become(settings: Settings, shadow: Shadow) -> None:
    """Be a shadow's process from here on, with nothing but what it may know."""
    command, more = _command(shadow.name)
    environment = scrubbed(settings, shadow) | more
    os.chdir(home_of(settings, shadow))
    sys.stdout.flush()
    os.execve(command[0], command, environment)
