"""A running stack as other processes see it: its state file, who of it is alive, and how to stop it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from infra.processes import (
    READY_FILE,
    Process,
    descendants,
    last_lines,
    lock,
    proportional_memory,
    spawn,
    write_private,
)
from schemas.errors import MilepostError

VERSION = 1
_SERVERS = ("nats", "postgres", "forkserver")  # what services stand on


class StackError(MilepostError):
    """The stack could not be started, found or stopped."""


class AlreadyRunning(StackError):
    """Another `milepost up` runs in this data directory."""

    def __init__(self, home: Path, pid: int | None) -> None:
        super().__init__(
            f"Milepost is already running in {home}" + (f" (pid {pid})." if pid else "."),
            why="one data directory carries one stack",
            hint="milepost status, or milepost down to stop it",
        )
        self.pid = pid


class NotRunning(StackError):
    """No stack runs in this data directory."""

    def __init__(self, home: Path) -> None:
        beside = (folder / home.name for folder in home.absolute().parents[1:])
        above = next((each for each in beside if (each / "stack.json").exists()), None)
        super().__init__(
            f"Milepost is not running in {home}.", why=f"it was started in {above}" if above else "",
            hint=f"export MILEPOST_HOME={above}" if above else "milepost up",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the stack. state: starting, ready, restarting, failing (its last starts all failed; see why)."""

    name: str
    copy: int = 1
    pid: int = 0
    born: str = ""
    state: str = "starting"
    restarts: int = 0
    version: str = ""
    why: str = ""

    @property
    def label(self) -> str:
        """What it is called in logs and messages: `llm`, and `llm-2` for a second copy."""
        return self.name if self.copy == 1 else f"{self.name}-{self.copy}"

    @property
    def process(self) -> Process:
        return Process(self.pid, self.born)


@dataclass(frozen=True, slots=True)
class Stack:
    """What the state file says. URLs carry their secrets: the file is for its owner only."""

    home: Path
    nats_url: str
    nats_monitor: str
    postgres_url: str
    ready: bool
    members: tuple[Member, ...]
    warnings: tuple[str, ...] = ()

    def running(self) -> bool:
        """True while its supervisor lives."""
        supervisor = self.member("supervisor")
        return supervisor is not None and supervisor.process.alive()

    def member(self, label: str) -> Member | None:
        return next((member for member in self.members if member.label == label), None)


@dataclass(frozen=True, slots=True)
class Health:
    """One process as it is now. memory: bytes, shared pages divided by their users (PSS); None if it cannot be read."""

    member: Member
    alive: bool
    memory: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """A stack and the health of each of its processes."""

    stack: Stack
    running: bool
    processes: tuple[Health, ...] = field(default=())

    @property
    def memory(self) -> int:
        return sum(health.memory or 0 for health in self.processes)


def write(stack: Stack) -> None:
    """Write the state file, readable by its owner only."""
    content = {"version": VERSION} | asdict(stack) | {"home": str(stack.home)}
    write_private(_file(stack.home), json.dumps(content, indent=1))


def read(home: Path) -> Stack | None:
    """What the state file of this data directory says, or None if there is none that can be read."""
    try:
        content = json.loads(_file(home).read_text())
        if content.pop("version") != VERSION:
            return None
        members = tuple(Member(**member) for member in content.pop("members"))
        warnings = tuple(content.pop("warnings"))
        return Stack(**content | {"home": home, "members": members, "warnings": warnings})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(home: Path) -> None:
    """Forget the stack: nothing of it runs any more."""
    _file(home).unlink(missing_ok=True)


def attach(home: Path) -> Stack:
    """The stack that is running and ready here. Raises NotRunning."""
    stack = read(home)
    if stack is None or not stack.ready or not stack.running():
        raise NotRunning(home)
    return stack


def status(home: Path) -> Status:
    """Each process of the stack, alive or not, with its memory. Raises NotRunning if there was never one."""
    stack = read(home)
    if stack is None:
        raise NotRunning(home)
    processes = tuple(_health(member) for member in stack.members)
    return Status(stack, stack.running(), processes)


async def down(home: Path, *, deadline: float = 30.0) -> bool:
    """Stop the stack of this data directory and wait until all of it is gone; False if nothing was running.

    The supervisor stops it in order. If that has died or takes longer than `deadline` seconds, what is left is
    stopped from here, the last started first.
    """
    stack = read(home)
    if stack is None:
        return False
    running, supervisor = stack.running(), stack.member("supervisor")
    if supervisor is not None:
        await supervisor.process.stop(deadline=deadline)
    left = await stop_left_over(home)
    return running or left


async def stop_left_over(home: Path) -> bool:
    """Stop what a killed supervisor has left running; False if there was nothing. Call it when none is running."""
    stack = read(home)
    left = [m for m in stack.members if m.name != "supervisor" and m.process.alive()] if stack else []
    servers = [member for member in left if member.name in _SERVERS]
    await asyncio.gather(*(member.process.stop(deadline=10.0) for member in left if member not in servers))
    for member in reversed(servers):
        await member.process.stop(signal.SIGINT if member.name == "postgres" else signal.SIGTERM, deadline=10.0)
    remove(home)
    return bool(left)


def claim_home(home: Path) -> int:
    """The lock of the data directory, held until it is closed. Raises AlreadyRunning."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = lock(home / "lock")
    if descriptor is None:
        stack = read(home)
        raise AlreadyRunning(home, stack.members[0].pid if stack else None)
    return descriptor


async def start_detached(
    command: Sequence[str], home: Path, *, environment: dict[str, str] | None = None, timeout: float = 120.0
) -> Stack:
    """Run a `milepost up` in the background and return when it accepts runs.

    command: the program and its arguments (`python("infra", "up", ...)`). Raises AlreadyRunning, or StackError
    with the end of what it said.
    """
    os.close(claim_home(home))  # refuse early, with the right error
    log, ready = home / "logs" / "up.log", home / "up.ready"
    ready.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    process = spawn(command, log=log, environment=dict(environment or {}) | {READY_FILE: str(ready)})
    try:
        async with asyncio.timeout(timeout):
            while not ready.exists():
                if not process.alive():
                    raise StackError("milepost up has failed.", why=last_lines(log, 30), hint=f"see {home / 'logs'}")
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        await process.stop(deadline=10.0)
        raise StackError(
            f"milepost up was not ready within {timeout:.0f} s.", why=last_lines(log, 30), hint=f"see {home / 'logs'}"
        ) from error
    return attach(home)


def _health(member: Member) -> Health:
    alive = member.process.alive()
    if not alive:
        return Health(member, False, None)
    pids = [member.pid, *(descendants(member.pid) if member.name == "postgres" else [])]
    parts = [proportional_memory(pid) for pid in pids]
    return Health(member, True, None if None in parts else sum(part or 0 for part in parts))


def _file(home: Path) -> Path:
    return home / "stack.json"
