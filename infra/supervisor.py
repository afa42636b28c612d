"""`milepost up`: starts the embedded servers and every service, keeps them running, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra import stack as stacks
from infra.embedded import Server, nats_server, postgres
from infra.forkserver import ForkServer
from infra.logs import logger
from infra.processes import READY_FILE, Process, announce_ready, announced, last_lines, python, spawn
from infra.stack import Member, Stack, StackError
from schemas.errors import MilepostError

_FIRST_TRIES = 3
_LATER_TRIES = 5
_SETTLED_SECONDS = 2.0
_SLOW_RETRY_SECONDS = 30.0
_WATCH_SECONDS = 2.0
_KILLED = "signal 9"
_LOW_DISK = 256 * 1024 * 1024

Prepare = Callable[[Stack], Awaitable[None]]
Report = Callable[[str], None]
Launch = Callable[[Member], Awaitable[Process]]


def _service_command(name: str, copy: int) -> tuple[list[str], dict[str, str]]:
    return python("infra", "service", name, "--copy", str(copy))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    services: name -> copies. entry: "module:function", called as function(name, copy) in each service's process.
    prepare: called once when both servers answer, before any service starts (migrations, streams).
    first: the same as a process of its own: the name of a service that is run to its end, exit 0, before the others;
    it finds the shared modules imported, so it costs the supervisor neither their time nor their memory.
    environment: variables for the services, beside MILEPOST_HOME, _NATS_URL, _NATS_MONITOR and _POSTGRES_URL.
    secrets: variables that only the service of that name gets; in all others they are empty.
    preload: modules that services share; none may start a thread. fork=False starts each by `command` instead.
    """

    home: Path
    services: Mapping[str, int]
    entry: str
    prepare: Prepare | None = None
    first: str | None = None
    nats_url: str | None = None
    nats_monitor: str | None = None
    postgres_url: str | None = None
    sync_always: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    preload: Sequence[str] = ()
    fork: bool = True
    command: Callable[[str, int], tuple[list[str], dict[str, str]]] = _service_command
    ready_seconds: float = 60.0
    stop_seconds: float = 15.0


async def up(plan: Plan, *, report: Report = lambda _: None, ready: Callable[[Stack], None] = lambda _: None) -> None:
    """Run the stack until SIGTERM or SIGINT, or until it cannot go on.

    report: told in one line what a person should know. ready: called once, when runs are accepted.
    Raises AlreadyRunning, EmbeddedServerError or StackError, after everything that had been started is stopped.
    """
    claimed = stacks.claim_home(plan.home)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    supervisor = Supervisor(plan, report)
    try:
        if await stacks.stop_left_over(plan.home):
            report("an earlier supervisor was killed: what it had left running was stopped")
        if await _unless(stopping, supervisor.start()):
            ready(supervisor.stack)
            announce_ready()
            await _unless(stopping, supervisor.failed())
    finally:
        await supervisor.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        os.close(claimed)


async def _unless(stopping: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Do the work, or give it up when asked to stop; True if it was done."""
    doing, asked = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        for task in (doing, asked):
            task.cancel()
        await asyncio.gather(doing, asked, return_exceptions=True)


class Supervisor:
    """Starts, watches and stops the members of one stack; the state file follows every change."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._log = logger("supervisor")
        self._forks: ForkServer | None = None
        self._processes: dict[str, Process] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._stop_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ourselves = Process.of(os.getpid())
        assert ourselves is not None
        us = Member("supervisor", pid=os.getpid(), born=ourselves.born, state="ready")
        nats_monitor = plan.nats_monitor or ""
        self.stack = Stack(plan.home, plan.nats_url or "", nats_monitor, plan.postgres_url or "", False, (us,))

    async def start(self) -> None:
        """Bring everything up; returns when every member is ready."""
        (self._plan.home / "run").mkdir(parents=True, exist_ok=True)
        stacks.write(self.stack)
        async with _first_error(), asyncio.TaskGroup() as group:
            group.create_task(self._start_nats())
            group.create_task(self._start_postgres())
            if self._plan.fork:
                group.create_task(self._start_forks())
        if self._plan.prepare is not None:
            await self._plan.prepare(self.stack)
        if self._plan.first is not None:
            await self._run_to_end(Member(self._plan.first))
        async with _first_error(), asyncio.TaskGroup() as group:
            for name, copies in self._plan.services.items():
                for copy in range(1, copies + 1):
                    group.create_task(self._bring_up(Member(name, copy), self._launch_service))
        if self.stack.nats_monitor:
            self._keep(self._watch_health())
        self._save(ready=True)

    async def failed(self) -> None:
        """Wait for ever, unless the stack cannot go on: then raise why."""
        await asyncio.shield(self._stop_failed)

    async def stop(self) -> None:
        """Stop every member: services together, then what they stand on."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._save(ready=False)
        servers = ("postgres", "nats", "forkserver")
        seconds = self._plan.stop_seconds
        services = [process for label, process in self._processes.items() if label not in servers]
        ended = await asyncio.gather(*(process.stop(deadline=seconds) for process in services))
        if not all(ended):
            self._report(f"{ended.count(False)} services did not stop within {seconds:.0f} s and were killed")
        if self._forks is not None:
            self._forks.close()
        for label in ("forkserver", "postgres", "nats"):
            if label in self._processes:
                number = signal.SIGINT if label == "postgres" else signal.SIGTERM
                await self._processes[label].stop(number, deadline=seconds)
        stacks.remove(self._plan.home)

    async def _start_nats(self) -> None:
        if self._plan.nats_url:
            await nats_server.check_answers(self._plan.nats_url)
            if self._plan.nats_monitor:
                await nats_server.check_durable(self._plan.nats_monitor)
            return
        await self._bring_up(Member("nats"), self._launch_nats)

    async def _start_postgres(self) -> None:
        if self._plan.postgres_url:
            await postgres.check_answers(self._plan.postgres_url)
            return
        await self._bring_up(Member("postgres"), self._launch_postgres)

    async def _start_forks(self, *, again: bool = False) -> None:
        member = Member("forkserver")
        self._forks = await ForkServer.start(self._plan.entry, self._plan.preload, log=self._log_of(member))
        self._is_now(member, self._forks.process, restarted=again)
        self._keep(self._keep_forks(member, self._forks.process))

    async def _keep_forks(self, member: Member, process: Process) -> None:
        """Start the fork server again when it is killed. Its children go on; when it gave up by itself, do without."""
        await process.gone()
        why = process.ended_by()
        self._log.warning("fork server ended", how=why, last=last_lines(self._log_of(member)))
        self._forks = None
        if why.startswith("signal"):
            await asyncio.sleep(0.1)
            await self._start_forks(again=True)
        else:
            self._put(replace(member, state="failing", why="services are started without sharing memory"))

    async def _launch_nats(self, member: Member) -> Process:
        home, log = self._plan.home, self._log_of(member)
        server = await nats_server.start(home, sync_always=self._plan.sync_always, log=log)
        self._heard(server)
        self.stack = replace(self.stack, nats_url=server.url, nats_monitor=server.monitor)
        return server.process

    async def _launch_postgres(self, member: Member) -> Process:
        server = await postgres.start(self._plan.home, log=self._log_of(member))
        self._heard(server)
        self.stack = replace(self.stack, postgres_url=server.url)
        return server.process

    def _heard(self, server: Server) -> None:
        for note in server.notes:
            self._report(note)
        self._put(replace(self.stack.member(server.name) or Member(server.name), version=server.version))

    async def _launch_service(self, member: Member) -> Process:
        ready, log = self._plan.home / "run" / f"{member.label}.ready", self._log_of(member)
        ready.unlink(missing_ok=True)
        process = await self._begin(member, self._environment(member, ready), log)
        self._processes[member.label] = process
        self._put(replace(self._current(member), pid=process.pid, born=process.born))
        try:
            async with asyncio.timeout(self._plan.ready_seconds):
                while not announced(ready, process):
                    if not process.alive():
                        how = await self._ended_by(process)
                        raise StackError(
                            f"{member.label} ended before it was ready{how and f' ({how})'}.",
                            why=last_lines(log),
                            hint=f"the whole log is {log}",
                        )
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            await process.stop(deadline=2.0)
            raise StackError(
                f"{member.label} was not ready within {self._plan.ready_seconds:.0f} s.",
                why=last_lines(log),
                hint=f"the whole log is {log}",
            ) from error
        return process

    async def _run_to_end(self, member: Member) -> None:
        log = self._log_of(member)
        ready = self._plan.home / "run" / f"{member.label}.ready"
        process = await self._begin(member, self._environment(member, ready), log)
        self._processes[member.label] = process  # so that a stop meanwhile ends it
        await process.gone()
        del self._processes[member.label]
        how = await self._ended_by(process)
        if how != "exit 0":
            raise StackError(f"{member.label} failed ({how}).", why=last_lines(log), hint=f"the whole log is {log}")

    async def _begin(self, member: Member, environment: Mapping[str, str], log: Path) -> Process:
        """By fork where that works, else as a program of its own."""
        if self._forks is not None:
            with contextlib.suppress(OSError):
                return await self._forks.fork(member.name, member.copy, environment=environment, log=log)
        command, more = self._plan.command(member.name, member.copy)
        return spawn(command, log=log, environment={**more, **environment})

    async def _ended_by(self, process: Process) -> str:
        return process.ended_by() or (await self._forks.ended_by(process) if self._forks is not None else "")

    def _environment(self, member: Member, ready: Path) -> dict[str, str]:
        known = {
            "MILEPOST_HOME": str(self._plan.home),
            "MILEPOST_NATS_URL": self.stack.nats_url,
            "MILEPOST_NATS_MONITOR": self.stack.nats_monitor,
            "MILEPOST_POSTGRES_URL": self.stack.postgres_url,
            READY_FILE: str(ready),
        }
        return {**self._plan.environment, **secrets_of(self._plan, member.name), **known}

    async def _bring_up(self, member: Member, launch: Launch) -> None:
        """The first start: a few tries, then the whole stack is refused with the reason."""
        began = time.monotonic()
        self._put(member)
        for left in reversed(range(_FIRST_TRIES)):
            try:
                process = await launch(member)
                break
            except MilepostError as error:
                self._log.warning("did not start", member=member.label, why=str(error), tries_left=left)
                if left == 0:
                    raise
                await asyncio.sleep(0.1)
        self._is_now(member, process)
        self._log.info("ready", member=member.label, pid=process.pid, seconds=round(time.monotonic() - began, 3))
        self._keep(self._restart(member, process, launch))

    async def _restart(self, member: Member, process: Process, launch: Launch) -> None:
        """Start a member again whenever it ends: at once at first, slower when it cannot stay up."""
        failures = 0
        while True:
            began, bus = time.monotonic(), self.stack.nats_url
            await process.gone()
            how, last = await self._ended_by(process), last_lines(self._log_of(member))
            if time.monotonic() - began > _SETTLED_SECONDS:
                failures = 0
            elif how != _KILLED:  # somebody else's doing says nothing about its health
                failures += 1
            self._log.warning("ended, is started again", member=member.label, how=how, last=last)
            while True:
                await self._wait_before_retry(member, failures, last)
                try:
                    process = await launch(member)
                    break
                except (MilepostError, OSError) as error:
                    failures, last = failures + 1, str(error)
            self._is_now(member, process, restarted=True)
            self._log.info("ready again", member=member.label, pid=process.pid)
            if member.name == "nats" and self.stack.nats_url != bus:
                self._move_services()

    def _move_services(self) -> None:
        """A stranger took the bus's port: services that hold the old address are started again with the new one."""
        self._report("nats-server has another address: every service is started again")
        for label, process in self._processes.items():
            if label not in ("nats", "postgres", "forkserver"):
                process.send(signal.SIGKILL)  # they could not say anything any more; what they did is in the log

    async def _wait_before_retry(self, member: Member, failures: int, why: str) -> None:
        failing = failures >= _LATER_TRIES
        if failing:
            self._log.error("cannot stay up", member=member.label, failures=failures, why=why)
            if failures == _LATER_TRIES:
                self._report(f"{member.label} cannot stay up, it is tried every {_SLOW_RETRY_SECONDS:.0f} s: {why}")
        state = "failing" if failing else "restarting"
        self._put(replace(self._current(member), state=state, why=why if failing else ""))
        await asyncio.sleep(_SLOW_RETRY_SECONDS if failing else 0.05 * 2**failures)

    async def _watch_health(self) -> None:
        """Say when the log's server reports trouble or its disk runs full: it would only stop answering."""
        while True:
            warnings = []
            member = self.stack.member("nats")
            if member is None or member.state == "ready":
                warnings.append(await nats_server.trouble(self.stack.nats_monitor))
            if member and nats_server.FROZEN in (warnings or [""])[0] and nats_server.has_room(self._plan.home):
                self._report("there is room on the disk again: nats-server is started again")
                self._processes[member.label].send(signal.SIGTERM)
            free = shutil.disk_usage(self._plan.home).free
            if free < _LOW_DISK:
                warnings.append(f"only {free // 1024**2} MiB are free on the disk of {self._plan.home}")
            known = tuple(filter(None, warnings))
            for warning in set(known) - set(self.stack.warnings):
                self._log.error("trouble", what=warning)
                self._report(warning)
            if known != self.stack.warnings:
                self._save(warnings=known)
            await asyncio.sleep(_WATCH_SECONDS)

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._keepers.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keepers.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._stop_failed.done():
            self._stop_failed.set_exception(error)

    def _current(self, member: Member) -> Member:
        return self.stack.member(member.label) or member

    def _is_now(self, member: Member, process: Process, *, restarted: bool = False) -> None:
        self._processes[member.label] = process
        now = self._current(member)
        restarts = now.restarts + restarted
        self._put(replace(now, pid=process.pid, born=process.born, state="ready", restarts=restarts, why=""))

    def _put(self, member: Member) -> None:
        """Replace a member in the state, or add it: the order is the order of the first start."""
        members = {known.label: known for known in self.stack.members} | {member.label: member}
        self._save(members=tuple(members.values()))

    def _save(self, **changes: object) -> None:
        self.stack = replace(self.stack, **changes)  # type: ignore[arg-type]  # fields of Stack
        try:
            stacks.write(self.stack)
        except OSError as error:  # a full disk is no reason to stop what still runs
            self._log.error("the state file cannot be written", why=str(error))

    def _log_of(self, member: Member) -> Path:
        return self._plan.home / "logs" / f"{member.label}.log"


def secrets_of(plan: Plan, service: str) -> dict[str, str]:
    """The variables that hide every other service's secrets from a service, and give it its own."""
    hidden = {variable: "" for secrets in plan.secrets.values() for variable in secrets}
    return {**hidden, **plan.secrets.get(service, {})}


@contextlib.asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """A task group's first error by itself: the others are its consequences."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
