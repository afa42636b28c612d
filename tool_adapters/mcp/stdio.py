"""A server as a process of ours: one JSON-RPC message a line on its standard input and output, its standard error in our log.

The SDK's own transport buffers a line without end and gives standard error to a file; this one bounds the first and reads
the second. Shutdown follows the MCP specification (2025-11-25, lifecycle): close its input, wait, then end its whole group.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import structlog

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

log = structlog.get_logger("tool_adapters.mcp")

LINE_BYTES = 32 * 1024 * 1024
GARBAGE_LINES = 1_000
TOLD_LINES = 20
TOLD_BYTES = 500
GRACE_S = 2.0
INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""All that a server's process gets of our environment; the rest is given to it by name."""


class ErrorLines:
    """The last lines that a server wrote to its standard error, without the secrets that it was given."""

    def __init__(self, lane: str, secrets: tuple[str, ...]) -> None:
        self._lane = lane
        self._secrets = tuple(each for each in secrets if len(each) >= 4)
        self._last: deque[str] = deque(maxlen=TOLD_LINES)

    def add(self, raw: bytes) -> None:
        """Log one line."""
        line = raw.decode("utf-8", "replace").rstrip()
        for secret in self._secrets:
            line = line.replace(secret, "***")
        if line:
            self._last.append(line[:TOLD_BYTES])
            log.info("server says", lane=self._lane, line=line[:TOLD_BYTES])

    def __str__(self) -> str:
        return " | ".join(list(self._last)[-3:])


@asynccontextmanager
async def stdio(
    command: str, args: tuple[str, ...], env: Mapping[str, str], cwd: str | None, errors: ErrorLines, gone: asyncio.Event
) -> AsyncIterator[TransportStreams]:  # fmt: skip
    """The process and the streams to it; gone is set when it says no more. Raises OSError if it cannot be started."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        command, *args, env={**inherited, **env}, cwd=cwd, start_new_session=True, limit=LINE_BYTES,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    heard_in, heard = anyio.create_memory_object_stream["SessionMessage | Exception"](0)
    said, said_out = anyio.create_memory_object_stream["SessionMessage"](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hear, process, heard_in, gone)
            tasks.start_soon(_say, process, said_out, gone)
            tasks.start_soon(_errors, process, errors)
            try:
                yield heard, said
            finally:
                with anyio.CancelScope(shield=True):
                    await said.aclose()
                    await heard.aclose()
                    await _stop(process)
                tasks.cancel_scope.cancel()
    finally:
        for stream in (heard_in, heard, said, said_out):
            stream.close()


async def _hear(
    process: asyncio.subprocess.Process, heard: MemoryObjectSendStream[SessionMessage | Exception], gone: asyncio.Event
) -> None:
    from mcp.shared.message import SessionMessage
    from mcp_types.jsonrpc import jsonrpc_message_adapter

    assert process.stdout is not None
    garbage = 0
    try:
        async with heard:
            while garbage < GARBAGE_LINES:
                line = await process.stdout.readline()
                if not line:
                    return
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    garbage += 1
                    if garbage <= 3 and line.strip():
                        log.warning("server wrote a line that is no message", line=repr(line[:100]))
                    continue
                await heard.send(SessionMessage(message))
            log.warning("server writes no messages", lines=garbage)
    except ValueError:
        log.warning("server wrote a line that is too long", limit=LINE_BYTES)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    finally:
        gone.set()


async def _say(
    process: asyncio.subprocess.Process, said: MemoryObjectReceiveStream[SessionMessage], gone: asyncio.Event
) -> None:  # fmt: skip
    assert process.stdin is not None
    try:
        async with said:
            async for each in said:
                process.stdin.write(each.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
    except (ConnectionError, OSError, RuntimeError):
        gone.set()


async def _errors(process: asyncio.subprocess.Process, errors: ErrorLines) -> None:
    """Read in pieces: a line may have no end."""
    assert process.stderr is not None
    rest = b""
    while piece := await process.stderr.read(8192):
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[-8192:]
        for line in lines:
            errors.add(line)
    errors.add(rest)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End it and all that it started."""
    if process.stdin is not None:
        with suppress(ConnectionError, OSError, RuntimeError):
            process.stdin.close()
    if not await _ended(process, GRACE_S):
        _signal(process.pid, signal.SIGTERM)
        await _ended(process, GRACE_S)
    _signal(process.pid, signal.SIGKILL)
    await _ended(process, GRACE_S)


async def _ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    """Looked at, not awaited: wait() also waits for pipes that a grandchild may hold open."""
    until = anyio.current_time() + within_s
    while process.returncode is None and anyio.current_time() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return process.returncode is not None


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
