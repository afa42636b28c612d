"""The port Machinery over the supervisor's state file, JetStream's figures, the services' own, and the disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import nats.errors
from nats.aio.msg import Msg
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncEngine

from infra import stack as stacks
from infra.jetstream import dead, streams
from infra.jetstream.connection import unreachable
from infra.stack import NotRunning
from infra.wiring import World, open_engine
from schemas import subjects
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from services.gateway.answers import NotThere
from services.gateway.ports.machinery import (
    DeadLetter,
    Gpu,
    ProcessNow,
    QueueNow,
    ServiceNow,
    StorageNow,
    StreamNow,
)

T = TypeVar("T")

FRESH_S = 1.5
"""How long an answer is good for all who ask, however many pages are open."""
STORED_FRESH_S = 30.0
GPU_FRESH_S = 5.0
GATHER_S, QUIET_S = 0.5, 0.1
TEXT = 4000
_SERVICE = "milepost-"


class StackMachinery:
    """The stack of this data directory; on another machine what the bus tells."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, tuple[float, object]] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._engine: AsyncEngine | None = None

    async def answers(self) -> None:
        try:
            await self._world.connection.client.flush(2)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(error) from error

    async def processes(self) -> list[ProcessNow]:
        return await self._fresh("processes", FRESH_S, lambda: asyncio.to_thread(self._processes))

    async def queues(self) -> list[QueueNow]:
        return await self._fresh("queues", FRESH_S, self._queues)

    async def services(self) -> list[ServiceNow]:
        return await self._fresh("services", FRESH_S, self._services)

    async def storage(self) -> StorageNow:
        return await self._fresh("storage", STORED_FRESH_S, self._storage)

    async def gpus(self) -> list[Gpu]:
        return await self._fresh("gpus", GPU_FRESH_S, _gpus)

    async def dead_count(self) -> int:
        return await self._fresh("dead", FRESH_S, lambda: dead.count(self._world.connection))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return [_told(each) for each in await dead.newest(self._world.connection, limit)]

    async def dead_letter(self, id: str) -> DeadLetter | None:
        letter = await self._letter(id)
        return _told(letter) if letter else None

    async def requeue(self, id: str) -> str:
        letter = await self._letter(id)
        if letter is None:
            raise NotThere(f"There is no dead letter {id}.", why="it was sent again or discarded")
        await dead.send_again(self._world.connection, letter)
        return letter.subject

    async def discard(self, id: str) -> bool:
        return id.isdecimal() and await dead.discard(self._world.connection, int(id))

    async def _letter(self, id: str) -> dead.Letter | None:
        return await dead.one(self._world.connection, int(id)) if id.isdecimal() and len(id) < 19 else None

    async def _fresh(self, name: str, good_s: float, ask: Callable[[], Awaitable[T]]) -> T:
        """What was found a moment ago, or what is found now; never by two at once."""
        async with self._asking.setdefault(name, asyncio.Lock()):
            at, found = self._kept.get(name, (float("-inf"), None))
            if time.monotonic() - at > good_s:
                found = await ask()
                self._kept[name] = time.monotonic(), found
        return found  # type: ignore[return-value]  # each name has one kind of answer

    # --- how it is found ---

    def _processes(self) -> list[ProcessNow]:
        try:
            found = stacks.status(self._world.settings.home)
        except NotRunning:
            return []
        return [
            ProcessNow(
                name=each.member.label, state=each.member.state if each.alive else "dead", pid=each.member.pid,
                restarts=each.member.restarts, memory_mb=round((each.memory or 0) / 1e6, 1), why=each.member.why,
            )
            for each in found.processes
        ]  # fmt: skip

    async def _queues(self) -> list[QueueNow]:
        found = [_lane(each) for each in await self._consumers(subjects.COMMAND_STREAM)]
        for segment in await streams.segments(self._world.connection):
            for each in await self._consumers(subjects.run_stream(segment)):
                if each.get("config", {}).get("durable_name"):  # type: ignore[attr-defined]  # an object of JetStream's
                    waiting, working = _numbers(each, "num_pending", "num_ack_pending")
                    name = str(each["name"])
                    found.append(QueueNow(kind="log", role=name, lane=segment, waiting=waiting, working=working))
        return [each for each in found if each is not None]

    async def _consumers(self, stream: str) -> list[JsonObject]:
        """All consumers of a stream, page by page."""
        found: list[JsonObject] = []
        while True:
            asked: dict[str, object] = {"offset": len(found)}
            said = await streams.api(self._world.connection, f"CONSUMER.LIST.{stream}", absent=(10059,), asked=asked) or {}
            page = said.get("consumers")
            if not isinstance(page, list) or not page:
                return found
            found.extend(page)
            total = said.get("total", 0)
            if len(found) >= int(str(total)):
                return found

    async def _services(self) -> list[ServiceNow]:
        """Ask all services of NATS's services API at once; who has not answered in half a second is not shown."""
        client = self._world.connection.client
        inbox, answers = client.new_inbox(), asyncio.Queue[Msg]()

        async def heard(msg: Msg) -> None:
            answers.put_nowait(msg)

        found: list[ServiceNow] = []
        try:
            subscription = await client.subscribe(inbox, cb=heard)
            await client.publish("$SRV.STATS", b"", reply=inbox)
            try:
                async with asyncio.timeout(GATHER_S):
                    while True:
                        async with asyncio.timeout(QUIET_S if found else GATHER_S):
                            msg = await answers.get()
                        with suppress(ValueError, KeyError, TypeError):
                            found.append(_service(json.loads(msg.data)))
            except TimeoutError:
                pass
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise unreachable(error) from error
        ours = (each for each in found if each.role)
        return sorted(ours, key=lambda each: (each.role, each.lane, each.started, each.id))

    async def _storage(self) -> StorageNow:
        connection, home = self._world.connection, self._world.settings.home
        account = await streams.storage(connection)
        said = await streams.api(connection, "STREAM.LIST") or {}
        listed = said.get("streams")
        disk = await asyncio.to_thread(shutil.disk_usage, home)
        return StorageNow(
            streams=tuple(_stream(each) for each in listed) if isinstance(listed, list) else (), used=account.used,
            limit=account.limit, database=await self._database(), disk_free=disk.free, disk_total=disk.total,
            notes=await self._notes(),
        )  # fmt: skip

    async def _database(self) -> int | None:
        """How many bytes the database has; None if it does not say."""
        try:
            self._engine = self._engine or open_engine(self._world.settings)
            async with asyncio.timeout(5), self._engine.connect() as connection:
                return int((await connection.execute(sql("SELECT pg_database_size(current_database())"))).scalar_one())
        except Exception:  # whatever a database can say: its size is a nicety, and /healthz tells more
            return None

    async def _notes(self) -> tuple[tuple[str, str, str], ...]:
        """What `milepost doctor` would say of the log's safety: name, text, next step."""
        from infra.cli.checks import archive

        try:
            found = await archive(self._world)
        except (MilepostError, OSError) as error:
            return (("archive", str(error), "milepost doctor"),)
        return tuple((each.name, each.text, each.next) for each in found)


def _lane(consumer: JsonObject) -> QueueNow | None:
    config = consumer.get("config")
    place = str(config.get("filter_subject", "")).split(".") if isinstance(config, dict) else []
    if place[:2] != [subjects.ROOT, "cmd"] or len(place) < 4:
        return None
    waiting, working = _numbers(consumer, "num_pending", "num_ack_pending")
    return QueueNow(role=place[2], lane=place[3], waiting=waiting, working=working)


def _numbers(said: JsonObject, *names: str) -> list[int]:
    return [int(str(said.get(name) or 0)) for name in names]


def _service(said: JsonObject) -> ServiceNow:
    """From a reply of NATS's services API; the role is empty for a service that is none of ours."""
    name, endpoints, about = str(said["name"]), said.get("endpoints") or [], said.get("metadata") or {}
    assert isinstance(endpoints, list) and isinstance(about, dict)
    asked, errors, spent = (sum(each.get(key) or 0 for each in endpoints) for key in _ENDPOINT)
    told: JsonObject = next((each["data"] for each in endpoints if isinstance(each.get("data"), dict)), {})
    return ServiceNow(
        role=name.removeprefix(_SERVICE) if name.startswith(_SERVICE) else "", lane=str(about.get("lane", "main")),
        id=str(said["id"]), version=str(said.get("version", "")), started=str(said.get("started", "")), questions=asked,
        errors=errors, question_ms=round(spent / asked / 1e6, 2) if asked else 0.0, told=told,
    )  # fmt: skip


_ENDPOINT = ("num_requests", "num_errors", "processing_time")


def _stream(said: JsonObject) -> StreamNow:
    config, state = said["config"], said["state"]
    assert isinstance(config, dict) and isinstance(state, dict)
    return StreamNow(name=str(config["name"]), messages=state["messages"], bytes=state["bytes"])


def _told(letter: dead.Letter) -> DeadLetter:
    trouble = letter.trouble()
    return DeadLetter(
        id=str(letter.sequence), role=letter.role, at=letter.at, why=letter.why, subject=letter.subject,
        tenant=letter.tenant(), text=letter.data[:TEXT].decode("utf-8", "replace"), bytes=len(letter.data),
        again=not trouble, why_not=trouble,
    )  # fmt: skip


async def _gpus() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = ("--query-gpu=name,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")
    try:
        process = await asyncio.create_subprocess_exec(
            program, *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await asyncio.wait_for(process.communicate(), 5)
    except (OSError, TimeoutError):
        return []
    return [gpu for line in said.decode(errors="replace").splitlines() if (gpu := _gpu(line))]


def _gpu(line: str) -> Gpu | None:
    parts = [each.strip() for each in line.split(",")]
    if len(parts) != 4:
        return None
    memory, total, load = (int(each) if each.isdecimal() else 0 for each in parts[1:])
    return Gpu(name=parts[0], memory=memory, memory_total=total, load=load)
