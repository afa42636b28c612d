"""services.gateway.agents.evaluations.Evaluations: one child process at a time (infra.gateway.evaluating)."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from infra.gateway.evaluating import Told, Wanted
from runtime.clock import Clock
from runtime.errors import Busy
from schemas.agent import AgentSpec
from services.gateway.agents.evaluations import Evaluation

log = structlog.get_logger("infra.gateway")

KEPT = 50
LIMIT_S = 1800.0
_LINE = 4 * 1024 * 1024
_ROOT = Path(__file__).parents[2]


class ProcessEvaluations:
    """Begins them, and keeps what the last ones came to while this process lives. environment: of the child, beside ours."""

    def __init__(self, clock: Clock, environment: dict[str, str]) -> None:
        self._clock, self._environment = clock, environment
        self._kept: dict[str, Evaluation] = {}
        self._running: tuple[str, asyncio.Task[None]] | None = None

    async def start(self, tenant: str, spec: AgentSpec, runs: Sequence[str], *, label: str, by: str) -> Evaluation:
        if self._running is not None:
            raise Busy("Another evaluation goes on.", why="they share this machine's models", hint="wait for it, or stop it")
        id = secrets.token_hex(8)
        begun = Evaluation(
            id=id, tenant=tenant, agent=spec.name, label=label, by=by, began=self._clock.now(), of=len(runs)
        )  # fmt: skip
        self._kept[id] = begun
        for old in list(self._kept)[:-KEPT]:
            del self._kept[old]
        wanted = Wanted(tenant=tenant, spec=spec, runs=tuple(runs), label=label)
        self._running = id, asyncio.create_task(self._go(id, wanted))
        return begun

    async def get(self, tenant: str, id: str) -> Evaluation | None:
        found = self._kept.get(id)
        return found if found is not None and found.tenant == tenant else None

    async def stop(self, tenant: str, id: str) -> None:
        if self._running is not None and self._running[0] == id and await self.get(tenant, id) is not None:
            self._running[1].cancel()
            with suppress(asyncio.CancelledError):
                await self._running[1]

    async def _go(self, id: str, wanted: Wanted) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._child(id, wanted)
        except TimeoutError:
            self._set(id, state="failed", trouble=f"it took longer than {LIMIT_S / 60:.0f} minutes")
        except asyncio.CancelledError:
            self._set(id, state="stopped")
            raise
        except Exception as error:  # what goes wrong with a child must not end the door
            log.exception("an evaluation failed", id=id)
            self._set(id, state="failed", trouble=str(error)[:500])
        finally:
            self._running = None

    async def _child(self, id: str, wanted: Wanted) -> None:
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.gateway.evaluating", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, limit=_LINE, env={**os.environ, **self._environment, "PYTHONPATH": path},
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(wanted.model_dump_json(by_alias=True).encode())
            child.stdin.close()
            async for line in child.stdout:
                self._heard(id, line)
            code = await child.wait()
            if self._kept[id].state == "running":
                self._set(id, state="failed", trouble=f"its process ended with {code}")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    def _heard(self, id: str, line: bytes) -> None:
        try:
            told = Told.model_validate_json(line)
        except ValidationError:
            return  # a library that prints
        if told.trouble:
            self._set(id, state="failed", trouble=told.trouble)
        elif told.figures is not None:
            self._set(
                id, state="done", done=told.done, figures=told.figures, changed=told.changed, troubled=told.troubled
            )  # fmt: skip
        else:
            self._set(id, done=told.done)

    def _set(self, id: str, **values: object) -> None:
        if id in self._kept:
            self._kept[id] = self._kept[id].model_copy(update=values)
