"""services.gateway.telemetry.metrics.Readings: what the bus, its streams and the database tell when Prometheus asks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime

import nats.errors
import structlog
from nats.aio.msg import Msg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.embedded import nats_server
from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.postgres.engine import transaction
from infra.wiring import World, open_engine
from runtime.errors import Unreachable
from schemas import subjects
from schemas.canonical import Json, JsonObject, read_json
from schemas.errors import MilepostError, ProtocolError
from services.gateway.telemetry.metrics import Queue, Reading, Told
from services.recorder.service import GROUP as RECORDER

log = structlog.get_logger("infra.metrics")

ALL_IN_S = 1.0
QUIET_S = 0.1
FRESH_S = 2.0
COUNTS_FRESH_S = 15.0
_ANSWER_BYTES = 4 * 1024 * 1024
_API_S = 5.0
_PREFIX = "milepost-"

_RUNS = text("SELECT status, count(*) FROM runs GROUP BY status")
_COUNTS = text("""
    SELECT (SELECT count(*) FROM effects WHERE state = 'in_doubt') AS effects_in_doubt,
           (SELECT count(*) FROM effects WHERE state = 'committed') AS effects_under_way,
           (SELECT count(*) FROM receipts_due WHERE at <= now()) AS receipts_due,
           (SELECT coalesce(extract(epoch FROM now() - min(at)), 0) FROM receipts_due WHERE at <= now())
             AS receipts_due_oldest_seconds,
           (SELECT count(*) FROM receipts WHERE NOT published) AS receipts_unpublished
""")
_PATIENCE = text("SET LOCAL statement_timeout = 3000")


class StackReadings:
    """Asks no more often than every FRESH_S seconds, whoever reads; what counts rows every COUNTS_FRESH_S."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine: AsyncEngine | None = None
        self._lock = asyncio.Lock()
        self._read: tuple[float, Reading] | None = None
        self._counted: tuple[float, Mapping[str, int], Mapping[str, float]] | None = None

    async def read(self) -> Reading:
        async with self._lock:
            now = time.monotonic()
            if self._read is None or now - self._read[0] > FRESH_S:
                self._read = now, await self._anew()
            return self._read[1]

    async def _anew(self) -> Reading:
        up: dict[str, bool] = {}

        async def part(name: str, work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
                up[name] = True
            except MilepostError as error:
                log.warning("figures not read", part=name, what=error.what, why=error.why)
                up[name] = False

        told: list[Told] = []
        queues: list[Queue] = []
        runs: dict[str, int] = {}
        figures: dict[str, float] = {}
        connection = self._world.connection

        async def bus() -> None:
            told.extend(await everybody(connection))

        async def log_() -> None:
            figures.update(await self._of_streams())
            queues.extend(await all_queues(connection))

        async def database() -> None:
            found, counts = await self._counts()
            runs.update(found)
            figures.update(counts)
            figures["approvals_waiting"] = found.get("waiting", 0)

        await asyncio.gather(part("bus", bus), part("log", log_), part("database", database))
        return Reading(dict(sorted(up.items())), told, queues, runs, figures)

    async def _of_streams(self) -> dict[str, float]:
        connection = self._world.connection
        segments, storage = await streams.states(connection), await streams.storage(connection)
        behind = [await streams.waiting(connection, subjects.run_stream(each.segment), RECORDER) for each in segments]
        found: dict[str, float] = {
            "log_bytes": sum(each.bytes for each in segments), "log_facts": sum(each.messages for each in segments),
            "storage_used_bytes": storage.used, "index_lag_facts": sum(each or 0 for each in behind),
            "dead_letters": await _messages(connection, subjects.DEAD_STREAM),
        }  # fmt: skip
        monitor = self._world.settings.nats.monitor
        limit = storage.limit or (await nats_server.most_stored(monitor) if monitor else None)
        return {**found, "storage_limit_bytes": limit} if limit is not None else found

    async def _counts(self) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """Runs by status, and figures; counting rows takes longer than all the rest, so it is done less often."""
        now = time.monotonic()
        if self._counted is None or now - self._counted[0] > COUNTS_FRESH_S:
            self._engine = self._engine or open_engine(self._world.settings, "milepost_keeper")
            async with transaction(self._engine) as connection:
                await connection.execute(_PATIENCE)
                runs = {str(status): int(count) for status, count in (await connection.execute(_RUNS)).all()}
                row = (await connection.execute(_COUNTS)).mappings().one()
            self._counted = now, runs, {name: float(value) for name, value in row.items()}
        return self._counted[1], self._counted[2]


async def everybody(connection: Connection) -> list[Told]:
    """What every service of every process tells of itself; whoever does not answer at once is left out. Raises Unreachable."""
    found: list[JsonObject] = []
    some = asyncio.Event()

    async def on_reply(msg: Msg) -> None:
        with suppress(ProtocolError):
            said = read_json(msg.data, limit=_ANSWER_BYTES)
            if isinstance(said, dict):
                found.append(said)
                some.set()

    client = connection.client
    inbox = client.new_inbox()
    try:
        subscription = await client.subscribe(inbox, cb=on_reply)
        await client.publish("$SRV.STATS", b"", reply=inbox)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error
    try:
        async with asyncio.timeout(ALL_IN_S):
            while True:
                some.clear()
                async with asyncio.timeout(QUIET_S if found else ALL_IN_S):
                    await some.wait()
    except TimeoutError:
        pass
    finally:
        with suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()
    return named([each for each in map(_told, found) if each is not None])


def _told(said: JsonObject) -> Told | None:
    """Of what a service of ours answers: every endpoint tells the same statistics."""
    name, about, endpoints = said.get("name"), said.get("metadata"), said.get("endpoints")
    if not isinstance(name, str) or not name.startswith(_PREFIX) or not isinstance(endpoints, list) or not endpoints:
        return None
    first = endpoints[0]
    stats = first.get("data") if isinstance(first, dict) else None
    labels: Mapping[str, Json] = about if isinstance(about, dict) else {}
    lane, instance = str(labels.get("lane", "main")), str(labels.get("instance", said.get("id", "")))
    return Told(name.removeprefix(_PREFIX), lane, instance, stats if isinstance(stats, dict) else {})


def named(told: list[Told]) -> list[Told]:
    """Each once, by a name that stays when its process is started anew: llm-1, not llm-1-4711, where that is one alone."""
    short = [each.instance.rpartition("-")[0] or each.instance for each in told]
    taken = [(each.role, each.lane, name) for each, name in zip(told, short, strict=True)]
    found = {}
    for each, name in zip(told, short, strict=True):
        instance = name if taken.count((each.role, each.lane, name)) == 1 else each.instance
        found[each.role, each.lane, instance] = Told(each.role, each.lane, instance, each.stats)
    return [found[key] for key in sorted(found)]


async def all_queues(connection: Connection) -> list[Queue]:
    """Every lane that has had a worker. Raises Unreachable."""
    found, offset = [], 0
    while True:
        said = await _api(connection, f"CONSUMER.LIST.{subjects.COMMAND_STREAM}", {"offset": offset})
        consumers = said.get("consumers") or []
        assert isinstance(consumers, list)
        for each in consumers:
            role, _, lane = str(each["name"]).partition("-")
            waiting, working = int(each["num_pending"]), int(each["num_ack_pending"])
            filter_subject = str(each.get("config", {}).get("filter_subject", ""))
            aged = (waiting or working) and role != "timer"  # a timer waits because it is to wait
            oldest = await _age(connection, filter_subject) if aged else 0.0
            found.append(Queue(role, lane, waiting, working, oldest))
        offset += len(consumers)
        if not consumers or offset >= int(str(said.get("total", 0))):
            return sorted(found, key=lambda each: (each.role, each.lane))


async def _age(connection: Connection, subject: str) -> float:
    """Of the oldest message under a subject that is still there, in seconds."""
    said = await _api(connection, f"STREAM.MSG.GET.{subjects.COMMAND_STREAM}", {"seq": 1, "next_by_subj": subject})
    message = said.get("message")
    if not isinstance(message, dict):
        return 0.0
    begun = datetime.fromisoformat(str(message["time"]))
    return max(0.0, (datetime.now(begun.tzinfo) - begun).total_seconds())


async def _messages(connection: Connection, stream: str) -> float:
    state = (await _api(connection, f"STREAM.INFO.{stream}")).get("state")
    return float(state.get("messages", 0)) if isinstance(state, dict) else 0.0


async def _api(connection: Connection, verb: str, body: object = None) -> dict[str, object]:
    """JetStream's answer; empty for one that says that something is not there. Raises Unreachable."""
    try:
        reply = await connection.client.request(f"$JS.API.{verb}", json.dumps(body or {}).encode(), timeout=_API_S)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error
    said: dict[str, object] = json.loads(reply.data)
    refused = said.get("error")
    if isinstance(refused, dict):
        if refused.get("code") == 404:
            return {}
        raise Unreachable("The log's server refused.", why=str(refused.get("description")), hint="milepost doctor")
    return said
