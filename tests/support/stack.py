"""A whole stack on this machine for tests: real servers, every service its own process, a model that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from infra import stack as stacks
from infra.local_stack import CLOUD_PORT, start_detached
from infra.session import session
from infra.settings import Loaded, load
from infra.stack import Member, Stack
from infra.wiring import World
from runtime.client import Client, TooLate, Update
from runtime.errors import Unreachable
from runtime.log import Stored
from runtime.timeline import summary
from schemas.agent import AgentSpec
from schemas.ids import CommandId, RunId
from tests.support.script import RULES

T = TypeVar("T")
Decide = Callable[[RunId, CommandId], Awaitable[None]]

OPERATOR = AgentSpec(
    name="ops", tools=("RenewInstance", "ModifyInstanceAttribute", "DescribeInstances", "current_time"), tool_k=0
)


@dataclass(frozen=True, slots=True)
class LocalStack:
    """One `milepost up -d` in a folder of its own."""

    loaded: Loaded

    @classmethod
    async def start(cls, home: Path, rules: list[dict[str, object]] | None = None, **flags: object) -> LocalStack:
        """Start it; returns when it accepts runs. flags: settings by dotted key with `__` for the dot."""
        script = home / "script.json"
        script.write_text(json.dumps({"rules": rules or RULES}, ensure_ascii=False))
        given: dict[str, object] = {"home": str(home / "stack"), "model.scripted": str(script)}
        given |= {"services.gateway": 0, "door.port": 0}  # a test that goes through the door says so
        given |= {name.replace("__", "."): value for name, value in flags.items()}
        found = cls(load(given, directory=home))
        await found.up()
        return found

    async def up(self) -> None:
        """Start it, or start it again after its supervisor was killed."""
        await start_detached(self.loaded)

    async def down(self) -> None:
        await stacks.down(self.home)

    @property
    def home(self) -> Path:
        return self.loaded.settings.home

    @property
    def now(self) -> Stack:
        """What its state file says at this moment."""
        found = stacks.read(self.home)
        assert found is not None, f"no stack in {self.home}"
        return found

    def member(self, label: str) -> Member:
        found = self.now.member(label)
        assert found is not None, f"no member {label}"
        return found

    def session(self, user: str = "me") -> AbstractAsyncContextManager[tuple[Client, World]]:
        """A client of this stack."""
        return session(self.loaded.settings, user=user)

    async def kill(self, label: str) -> float:
        """kill -9 one member; seconds until the supervisor has it ready again."""
        began, before = time.monotonic(), self.member(label)
        before.process.send(signal.SIGKILL)
        await self.ready_again(before)
        return time.monotonic() - began

    async def ready_again(self, before: Member, limit_s: float = 60.0) -> None:
        """Wait until another process has this member's place."""
        async with asyncio.timeout(limit_s):
            while (member := self.member(before.label)).pid == before.pid or member.state != "ready":
                await asyncio.sleep(0.02)

    async def effects(self, instance: str | None = None) -> list[dict[str, object]]:
        """The demo cloud's journal, or what of it is about one instance."""
        answer = await self._cloud("GET", "/-/effects")
        found: list[dict[str, object]] = answer.json()["effects"]
        return [effect for effect in found if instance in (None, effect["resource"])]

    async def fault(self, **fault: object) -> None:
        """Let the demo cloud's next requests go wrong (infra.demo_cloud.faults)."""
        (await self._cloud("POST", "/-/faults", fault)).raise_for_status()

    async def _cloud(self, method: str, path: str, body: object = None) -> httpx.Response:
        port = (self.home / CLOUD_PORT).read_text()
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.request(method, f"http://127.0.0.1:{port}{path}", json=body)


@contextmanager
def open_folder() -> Iterator[Path]:
    """An empty folder with a short path that the account of Postgres may enter; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def scripted_stack() -> Iterator[LocalStack]:
    """The session's stack. Instances of its cloud are shared: a test looks at what it adds to the journal."""
    yield from for_the_session()


@pytest.fixture(scope="session")
def doubled_stack() -> Iterator[LocalStack]:
    """A stack with two conductors and two copies of every service."""
    names = ("conductor", "llm", "retrieval", "memory", "policy", "tools", "recorder")
    yield from for_the_session(**{f"services__{name}": 2 for name in names})


def for_the_session(rules: list[dict[str, object]] | None = None, **flags: object) -> Iterator[LocalStack]:
    """A stack for a fixture that lives longer than a test."""
    with open_folder() as home, ThreadPoolExecutor(1) as pool:  # a thread: the test's own loop is not to be touched
        found = pool.submit(asyncio.run, LocalStack.start(home, rules, **flags)).result()
        try:
            yield found
        finally:
            pool.submit(asyncio.run, found.down()).result()


@asynccontextmanager
async def local_stack(home: Path, rules: list[dict[str, object]] | None = None, **flags: object) -> AsyncIterator[LocalStack]:
    """A stack for the time of the block."""
    found = await LocalStack.start(home, rules, **flags)
    try:
        yield found
    finally:
        await found.down()


async def persist(work: Callable[[], Awaitable[T]], limit_s: float = 120.0) -> T:
    """Do it again while the bus is away, as a client does that wants to be sure."""
    async with asyncio.timeout(limit_s):
        while True:
            try:
                return await work()
            except Unreachable:
                await asyncio.sleep(0.1)


async def see_through(client: Client, run: RunId, decide: Decide | None = None, limit_s: float = 120.0) -> Update:
    """Follow a run to its end, approving what it asks (or what `decide` decides); gives its last update."""
    asked: set[CommandId] = set()

    async def follow() -> Update:
        last = None
        async for update in client.follow(run):
            last = update
            for approval in update.state.approvals().keys() - asked:
                with contextlib.suppress(TooLate):
                    await (decide or client.approve)(run, approval)
                asked.add(approval)
        assert last is not None
        return last

    return await persist(follow, limit_s)


async def reached(client: Client, run: RunId, holds: Callable[[Update], bool], limit_s: float = 60.0) -> Update:
    """Follow a run until something holds."""
    async with asyncio.timeout(limit_s):
        async for update in client.follow(run):
            if holds(update):
                return update
    raise AssertionError(f"run {run} ended before that")


def timeline(facts: list[Stored]) -> str:
    """A run for a person who asks what went wrong."""
    return "\n".join(
        f"{stored.fact.time:%H:%M:%S.%f} {stored.position:>6} {stored.fact.role:<9} "
        f"{type(stored.fact.body).__name__:<18} {summary(stored.fact)}"
        for stored in facts
    )
