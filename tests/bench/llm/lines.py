"""A long-lived process that is asked in lines of JSON and answers each with one; it loads its model once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from tests.bench.steps.places import ROOT, Missing

Reply: TypeAlias = dict[str, Any]  # what a program says is read field by field

LINE_LIMIT = 1 << 24
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class LineProcess:
    """Begun by `start`, which returns when it says that it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log
        self.pid = process.pid

    @classmethod
    async def start(
        cls, command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, seconds: float = 600.0
    ) -> LineProcess:
        """Raises Missing with the end of what it complains about, if it does not become ready in time."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, limit=LINE_LIMIT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=file, env={**os.environ, **QUIET, **(env or {})},
            )  # fmt: skip
        started = cls(process, log)
        try:
            started.said = await started._reply(seconds)
        except BaseException:
            await started.close()
            raise
        return started

    said: Reply

    async def ask(self, request: Mapping[str, object], *, seconds: float = 600.0) -> Reply:
        """Its answer. Raises Missing when it ends or stays silent."""
        if self._process.stdin is None:
            raise Missing("it takes no requests")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        with suppress(ConnectionError):
            await self._process.stdin.drain()
        return await self._reply(seconds)

    async def close(self) -> None:
        """End it; killed after ten seconds."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 10)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _reply(self, seconds: float) -> Reply:
        """The next line that is JSON; libraries print whatever they like in between."""
        if self._process.stdout is None:
            raise Missing("it says nothing")
        try:
            async with asyncio.timeout(seconds):
                while line := await self._process.stdout.readline():
                    if line.startswith(b"{"):
                        return dict(json.loads(line))
        except TimeoutError as error:
            raise Missing(f"it did not answer within {seconds:.0f} s") from error
        await self._process.wait()
        complaint = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise Missing(f"it ended with {self._process.returncode}: {' '.join(complaint)[:300]}")
