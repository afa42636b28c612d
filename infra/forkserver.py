"""Start services by fork: the modules they share are imported once, and their memory is shared.

The server is one plain process without threads or an event loop, so that a fork of it is safe; it listens on a
socket to the supervisor, forks a child for each request and ends its children when the supervisor is gone.
A service can always be started without it: `python -m infra service NAME`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.processes import Process, describe_status, open_log, python, spawn

_GRACE_SECONDS = 10.0
_TELL_SECONDS = 1.0
_LINE = 64 * 1024
_OURS = (signal.SIGCHLD, signal.SIGTERM)


class ForkServer:
    """The supervisor's side. Lines to the server: a request as JSON. Lines from it: "began PID", "ended PID STATUS"."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self._writer = writer
        self._asked: deque[asyncio.Future[int]] = deque()
        self._ends: defaultdict[int, asyncio.Future[int]] = defaultdict(asyncio.get_running_loop().create_future)
        self._listening: asyncio.Task[None] | None = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(cls, entry: str, preload: Sequence[str], *, log: Path) -> ForkServer:
        """Start it; it imports `preload` at once and then forks `entry` ("module:function") for each request."""
        ours, theirs = socket.socketpair()
        with theirs:
            command, environment = python("infra.forkserver", str(theirs.fileno()), entry, *preload)
            process = spawn(command, log=log, environment=environment, keep=[theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE)
        return cls(process, reader, writer)

    async def fork(self, name: str, copy: int, *, environment: Mapping[str, str], log: Path) -> Process:
        """Fork one service; ConnectionError when the server is gone."""
        if self._listening is None:
            raise ConnectionError("the fork server is gone")
        began: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(began)
        request = {"name": name, "copy": copy, "environment": dict(environment), "log": str(log)}
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()
        pid = await began
        return Process.of(pid) or Process(pid, "ended at once")

    async def ended_by(self, process: Process) -> str:
        """How a forked service ended ("exit 1", "signal 9"); empty if the server cannot tell any more."""
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                return describe_status(await asyncio.shield(self._ends[process.pid]))
        except TimeoutError:
            return ""

    def close(self) -> None:
        """Let it go: it ends its children, then itself."""
        self._writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                match line.split():
                    case [b"began", pid]:
                        self._answer(int(pid))
                    case [b"ended", pid, status] if not self._ends[int(pid)].done():
                        self._ends[int(pid)].set_result(int(status))
        self._listening = None
        for began in self._asked:
            if not began.done():
                began.set_exception(ConnectionError("the fork server is gone"))

    def _answer(self, pid: int) -> None:
        self._ends.pop(pid, None)  # of an earlier process with this pid
        began = self._asked.popleft()
        if not began.done():  # done: whoever asked was cancelled
            began.set_result(pid)


def serve(control: socket.socket, entry: str, preload: Sequence[str]) -> None:
    """Fork on request until the other side closes, then end all children."""
    start = _imported(entry, preload)
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: control.shutdown(socket.SHUT_RDWR))
    children: set[int] = set()
    pending = b""
    watched: list[socket.socket | int] = [control, wake]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if wake in readable:
            os.read(wake, 4096)
            _collect(children, control)
        if control in readable:
            received = control.recv(_LINE)
            if not received:
                break
            *requests, pending = (pending + received).split(b"\n")
            for request in requests:
                pid = _fork(json.loads(request), start, [control.fileno(), wake, write])
                children.add(pid)
                _tell(control, f"began {pid}")
    _end(children, control)


def _imported(entry: str, preload: Sequence[str]) -> Callable[[str, int], None]:
    gc.disable()
    for module in preload:
        importlib.import_module(module)
    module, _, function = entry.partition(":")
    start: Callable[[str, int], None] = getattr(importlib.import_module(module), function)
    gc.collect()
    gc.freeze()  # the collector of a child leaves these pages alone, so they stay shared
    gc.enable()
    return start


def _fork(request: dict[str, object], start: Callable[[str, int], None], ours: Sequence[int]) -> int:
    name, copy, log = str(request["name"]), int(str(request["copy"])), Path(str(request["log"]))
    environment = request["environment"]
    assert isinstance(environment, dict)
    threads = _threads()
    if threads > 1:
        print(f"cannot fork safely: a preloaded module has started threads ({threads})", file=sys.stderr, flush=True)
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)  # until the child has handlers of its own
    pid = os.fork()
    if pid == 0:
        os._exit(_service(name, copy, environment, log, start, ours))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
    return pid


def _service(
    name: str,
    copy: int,
    environment: Mapping[str, str],
    log: Path,
    start: Callable[[str, int], None],
    inherited: Sequence[int],
) -> int:
    """The child: as near to a fresh process as a fork can be. Returns its exit status."""
    signal.set_wakeup_fd(-1)
    for number in _OURS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
    for descriptor in inherited:
        os.close(descriptor)
    with open_log(log) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"mp-{name}")  # what ps and top show
    try:
        start(name, copy)
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()


def _threads() -> int:
    """Threads of this process as the kernel counts them: those of C libraries too."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Threads:"):
                return int(line.split()[1])
    return 1


def _collect(children: set[int], control: socket.socket) -> None:
    """Take leave of the children that have ended, and tell how."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _tell(control, f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _tell(control: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: the next read says so
        control.sendall(line.encode() + b"\n")


def _end(children: set[int], control: socket.socket) -> None:
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 1.0)):
        for pid in children:
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while children and time.monotonic() < deadline:
            _collect(children, control)
            time.sleep(0.02)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
