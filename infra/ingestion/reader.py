"""The other end of the process that reads files: it may die or hang, and only the file that it read is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
from pathlib import Path

import orjson

from infra.processes import describe_status, python
from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.limits import LIMITS, MIB, Limits

_LENGTH = struct.Struct(">Q")
_GRACE_S = 2


class Reader:
    """Reads one file at a time in a process that is held to its limits; started at the first file, and again after its end."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._busy = False
        self._free = asyncio.Lock()

    async def read(self, path: Path, name: str) -> Extracted:
        """The text of a file. name: what it is called, for its suffix. Raises UnreadableDocument, UnsupportedDocument."""
        size = (await asyncio.to_thread(path.stat)).st_size
        if size > self._limits.file:
            limit = f"the limit is {self._limits.file // MIB} MiB"
            raise UnreadableDocument(f"It has {size // MIB} MiB.", why=limit, hint="split it")
        async with self._free:
            try:
                async with asyncio.timeout(self._limits.seconds + _GRACE_S):
                    about, text = await self._ask(path, name)
            except TimeoutError as error:
                raise UnreadableDocument(f"It takes more than {self._limits.seconds} s to read.") from error
            finally:
                if self._busy:
                    await self.close()
            said = await asyncio.to_thread(orjson.loads, about)
            if refused := said.get("refused"):
                await self.close()  # the next file gets a process that nothing has tried
                raise UnreadableDocument(refused["what"], why=refused["why"], hint=refused["hint"])
        return await asyncio.to_thread(lambda: Extracted.model_validate({**said, "text": text.decode()}))

    async def close(self) -> None:
        """End the process."""
        process, self._process, self._busy = self._process, None, False
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, path: Path, name: str) -> tuple[bytes, bytes]:
        process = self._process = self._process or await _start(self._limits)
        assert process.stdin is not None and process.stdout is not None
        self._busy = True
        try:
            asked = json.dumps({"path": str(path), "name": name})  # orjson writes no file name that is not UTF-8
            process.stdin.write(asked.encode() + b"\n")
            await process.stdin.drain()
            about = await _part(process.stdout)
            text = await _part(process.stdout)
        except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError) as error:
            status = await process.wait()
            if status == -signal.SIGXCPU:
                raise TimeoutError from error
            why = f"its reader ended with {describe_status(status)}, as it does when its memory is spent"
            raise UnreadableDocument("It cannot be read.", why=why) from error
        self._busy = False
        return about, text


async def _part(stream: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return await stream.readexactly(length)


async def _start(limits: Limits) -> asyncio.subprocess.Process:
    command, environment = python("services.retrieval.loaders", str(limits.memory), str(limits.seconds))
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        *command, env={**environment, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=pipe, stdout=pipe, stderr=null, start_new_session=True,
    )  # fmt: skip
