"""Processes of this machine: who they are (safe against reused pids), when they end, what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

READY_FILE = "MILEPOST_READY_FILE"
_POLL_SECONDS = 0.05
_ROTATE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Process:
    """One process, known by its pid and its birth, so that a stranger with the same pid is not taken for it."""

    pid: int
    born: str
    child: subprocess.Popen[bytes] | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(pid: int) -> Process | None:
        """The process that has this pid now, or None."""
        birth = _birth(pid)
        return None if birth is None else Process(pid, birth)

    def alive(self) -> bool:
        """True while it runs; a zombie counts as dead."""
        if self.child is not None:
            return self.child.poll() is None
        return _birth(self.pid) == self.born

    def send(self, number: signal.Signals) -> None:
        """Send a signal, to this very process or to nobody."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def gone(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when `timeout` seconds pass first."""
        try:
            async with asyncio.timeout(timeout):
                await _exit_of(self)
        except TimeoutError:
            return not self.alive()
        return True

    async def stop(self, first: signal.Signals = signal.SIGTERM, *, deadline: float) -> bool:
        """Ask it to end, kill it after `deadline` seconds; True if it ended by itself."""
        self.send(first)
        if await self.gone(deadline):
            return True
        self.send(signal.SIGKILL)
        await self.gone(5.0)
        return False

    def ended_by(self) -> str:
        """How it ended ("exit 1", "signal 9"), for one of our own children; else an empty string."""
        status = None if self.child is None else self.child.poll()
        return "" if status is None else describe_status(status)


def describe_status(status: int) -> str:
    """A subprocess return code in words: negative values are signals."""
    return f"signal {-status}" if status < 0 else f"exit {status}"


async def _exit_of(process: Process) -> None:
    """Return when the process has ended: told by the kernel where pidfd exists, else by looking."""
    if not hasattr(os, "pidfd_open"):
        while True:
            if not process.alive():
                return
            await asyncio.sleep(_POLL_SECONDS)
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, ended.set)
        try:
            if process.alive():
                await ended.wait()
                process.alive()  # collects our own child, so that it does not stay a zombie
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def _birth(pid: int) -> str | None:
    """When the process was born, in a form that no later process with this pid can have."""
    if not sys.platform.startswith("linux"):
        return _birth_elsewhere(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    state, started = fields[0], fields[19]  # proc_pid_stat(5): fields 3 and 22
    return None if state in "ZX" else f"{_boot()}:{started}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def _birth_elsewhere(pid: int) -> str | None:
    import psutil  # only needed where there is no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    account: tuple[int, int] | None = None,
    keep: Sequence[int] = (),
) -> Process:
    """Start a program in a session of its own (ctrl-C does not reach it), its output appended to `log`.

    account: (uid, gid) to run as. keep: file descriptors it inherits.
    """
    uid, gid = account or (None, None)
    with open_log(log) as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(os.environ) | dict(environment or {}),
            cwd=directory,
            start_new_session=True,
            pass_fds=keep,
            user=uid,
            group=gid,
            extra_groups=None if account is None else [],
        )
    return Process(child.pid, _birth(child.pid) or "", child)


def python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment that run one of our modules, safe from a user's own folders of the same name.

    `-P` keeps the working directory out of the import path; a source tree that is not installed is put at its end.
    """
    root = Path(__file__).resolve().parent.parent
    environment = {}
    if root.name != "site-packages":
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(root)]))
    return [sys.executable, "-P", "-m", module, *arguments], environment


def lock(path: Path) -> int | None:
    """Take the lock file; its descriptor, or None when somebody holds it.

    A child that inherits the descriptor keeps the lock for as long as it lives, whatever happens to us:
    so a held lock says "the server of this folder is alive" where a pid file can only guess.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def claim(lock_file: Path, pid_file: Path) -> int | Process:
    """The lock of a server's folder, or the server that holds it.

    Waits while neither is to be had: a server that is being started has no pid file yet, and the children of a
    killed one hold the lock until they notice. The caller limits the time.
    """
    while True:
        descriptor = lock(lock_file)
        if descriptor is not None:
            return descriptor
        holder = _named_in(pid_file)
        if holder is not None:
            return holder
        await asyncio.sleep(0.01)


def _named_in(pid_file: Path) -> Process | None:
    try:
        return Process.of(int(pid_file.read_text().splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending by its owner; one that has grown past 16 MiB becomes NAME.log.1 first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _ROTATE_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))


def last_lines(path: Path, count: int = 8, *, limit: int = 4096) -> str:
    """The end of a log, for an error message; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:])


def announce_ready() -> None:
    """Tell the supervisor, if there is one, that this process answers now."""
    name = os.environ.get(READY_FILE)
    if name:
        write_private(Path(name), str(os.getpid()))


def announced(path: Path, process: Process) -> bool:
    """True once that very process has written its ready file."""
    try:
        return path.read_text() == str(process.pid)
    except OSError:
        return False


def proportional_memory(pid: int) -> int | None:
    """Bytes of memory of a process, shared pages divided by their users (PSS); None where the system does not say."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def descendants(pid: int) -> list[int]:
    """The pids of all processes that this one started, directly or not."""
    import psutil  # heavy for a module that every service imports

    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []
