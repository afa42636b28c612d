"""Which streams and consumers exist, declared as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import nats.js.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from infra.jetstream.connection import Connection, unreachable
from runtime.errors import Unreachable
from schemas import subjects
from schemas.ids import segment_of

MANY = 1_000_000
PAYLOAD_BUCKET = "PAYLOADS"


def run_stream(segment: str) -> StreamConfig:
    """The log of a segment: nothing leaves it, everything is fsynced (sync_interval of the server)."""
    return StreamConfig(
        name=subjects.run_stream(segment), subjects=[subjects.segment_subjects(segment)],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE, discard=DiscardPolicy.NEW, deny_delete=True, deny_purge=True, allow_direct=True,
        num_replicas=1,
    )  # fmt: skip


def command_stream() -> StreamConfig:
    """Commands: a work queue that is not fsynced, since every command can be decided again from the log."""
    return StreamConfig(
        name=subjects.COMMAND_STREAM, subjects=[subjects.COMMAND_SUBJECTS], retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE, discard=DiscardPolicy.NEW, num_replicas=1,
        persist_mode=PersistMode.ASYNC,
    )  # fmt: skip


def card_stream() -> StreamConfig:
    """The last card of every tool of every host."""
    return StreamConfig(
        name=subjects.CARD_STREAM, subjects=[subjects.CARD_SUBJECTS], storage=StorageType.FILE, max_msgs_per_subject=1,
        num_replicas=1,
    )  # fmt: skip


def dead_stream() -> StreamConfig:
    """What nobody could read, kept for people; at most 64 MiB, then nothing more is taken."""
    return StreamConfig(
        name=subjects.DEAD_STREAM, subjects=[subjects.DEAD_SUBJECTS], storage=StorageType.FILE,
        discard=DiscardPolicy.OLD, max_bytes=64 * 1024 * 1024, num_replicas=1,
    )  # fmt: skip


def payload_stream() -> StreamConfig:
    """The object store of payloads: fsynced as the log is, so that no fact refers to bytes that a power cut took."""
    return StreamConfig(
        name=f"OBJ_{PAYLOAD_BUCKET}", subjects=[f"$O.{PAYLOAD_BUCKET}.C.>", f"$O.{PAYLOAD_BUCKET}.M.>"],
        storage=StorageType.FILE, discard=DiscardPolicy.NEW, allow_rollup_hdrs=True, allow_direct=True, num_replicas=1,
    )  # fmt: skip


def cohort_stream() -> StreamConfig:
    """Work of cohorts and its results: each leaves when it is done with, and a subject takes one at a time."""
    return StreamConfig(
        name=subjects.COHORT_STREAM, subjects=[subjects.COHORT_SUBJECTS], retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE, discard=DiscardPolicy.NEW, max_msgs_per_subject=1, discard_new_per_subject=True,
        num_replicas=1,
    )  # fmt: skip


def cohort_workers() -> ConsumerConfig:
    """All who work on cohorts share this; who says nothing for so long is gone, and its item goes to another."""
    return ConsumerConfig(
        durable_name="cohort-workers", filter_subject=subjects.COHORT_WORK, ack_policy=AckPolicy.EXPLICIT, ack_wait=5.0,
        max_deliver=-1, max_ack_pending=20_000, max_waiting=2048,
    )  # fmt: skip


def cohort_results(cohort: str) -> ConsumerConfig:
    """Whoever began a cohort reads its results."""
    return ConsumerConfig(
        durable_name=f"cohort-{cohort}", filter_subject=subjects.cohort_done(cohort, "*"), ack_policy=AckPolicy.EXPLICIT,
        ack_wait=30.0, max_deliver=-1, max_ack_pending=20_000, inactive_threshold=3600.0,
    )  # fmt: skip


def worker_consumer(role: str, lane: str, subject: str, ack_wait_s: float) -> ConsumerConfig:
    """The workers of a role's lane share this."""
    return ConsumerConfig(
        durable_name=f"{role}-{lane}", filter_subject=subject, ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait_s,
        max_deliver=-1, max_ack_pending=MANY if role == "timer" else 20_000, max_waiting=2048,
    )  # fmt: skip


def group_consumer(name: str, subject: str, ack_wait_s: float, since: datetime | None = None) -> ConsumerConfig:
    """The members of a group (conductors, recorders) share this reading of the log. since: of what came from then on."""
    return ConsumerConfig(
        durable_name=name, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.BY_START_TIME if since else DeliverPolicy.ALL, opt_start_time=since,
        ack_wait=ack_wait_s, max_deliver=-1, max_ack_pending=MANY, max_waiting=2048,
    )  # fmt: skip


def reader_consumer(subject: str, after: int) -> ConsumerConfig:
    """One reader follows one run; the server forgets it a minute after the reader has gone."""
    return ConsumerConfig(
        filter_subject=subject, ack_policy=AckPolicy.NONE, inactive_threshold=60.0, mem_storage=True, max_waiting=8,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1,
    )  # fmt: skip


async def ensure(connection: Connection, now: datetime) -> None:
    """Create what is missing, with this month's segment. Raises Unreachable."""
    month = run_stream(segment_of(now))
    for config in (month, command_stream(), card_stream(), dead_stream(), payload_stream()):
        await ensure_stream(connection, config)


async def ensure_stream(connection: Connection, config: StreamConfig) -> None:
    """Create one stream if it is missing; an existing one is left as it is."""
    js = connection.jetstream
    try:
        await js.add_stream(config)
    except nats.js.errors.BadRequestError as error:
        if error.err_code != 10058:  # stream name already in use with a different configuration
            raise Unreachable(f"The stream {config.name} cannot be created.", why=str(error)) from error
    except (nats.errors.Error, OSError) as error:
        raise unreachable(error) from error


async def segments(connection: Connection) -> list[str]:
    """The segments whose streams exist, oldest first."""
    body = json.dumps({"subject": subjects.segment_subjects("x").replace(".x.", ".*.")}).encode()
    try:
        reply = await connection.client.request("$JS.API.STREAM.NAMES", body, timeout=5)
    except (nats.errors.Error, OSError) as error:
        raise unreachable(error) from error
    names = json.loads(reply.data).get("streams") or []
    prefix = subjects.RUN_STREAM_PREFIX
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


@dataclass(frozen=True, slots=True)
class SegmentState:
    """What the stream of a segment has come to. first, last: sequences; bytes: on the server's disk."""

    segment: str
    created: datetime
    messages: int
    bytes: int
    first: int
    last: int


async def states(connection: Connection) -> list[SegmentState]:
    """The segments whose streams exist, oldest first. Raises Unreachable."""
    found = [await state(connection, segment) for segment in await segments(connection)]
    return [each for each in found if each is not None]


async def state(connection: Connection, segment: str) -> SegmentState | None:
    """One segment's stream; None if there is none. Raises Unreachable."""
    said = await api(connection, f"STREAM.INFO.{subjects.run_stream(segment)}", absent=(10059,))
    if said is None:
        return None
    about = said["state"]
    assert isinstance(about, dict)
    return SegmentState(
        segment, datetime.fromisoformat(str(said["created"])), about["messages"], about["bytes"], about["first_seq"],
        about["last_seq"],
    )  # fmt: skip


async def count(connection: Connection, segment: str, subject: str) -> int:
    """How many messages of a segment stand under a subject; 0 without a stream. Raises Unreachable."""
    config = ConsumerConfig(
        filter_subject=subject, ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, mem_storage=True,
        inactive_threshold=5.0,
    )  # fmt: skip
    try:
        info = await connection.jetstream.add_consumer(subjects.run_stream(segment), config)
        await connection.jetstream.delete_consumer(subjects.run_stream(segment), info.name)
    except nats.js.errors.NotFoundError:
        return 0
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error
    return info.num_pending or 0


async def waiting(connection: Connection, stream: str, consumer: str) -> int | None:
    """How many messages a durable consumer has still to hand out, or to hear the end of; None if there is none."""
    said = await api(connection, f"CONSUMER.INFO.{stream}.{consumer}", absent=(10014, 10059))
    return None if said is None else int(str(said["num_pending"])) + int(str(said["num_ack_pending"]))


async def drop_consumer(connection: Connection, stream: str, consumer: str) -> None:
    """Delete a durable consumer with how far it has read. Raises Unreachable."""
    await api(connection, f"CONSUMER.DELETE.{stream}.{consumer}", absent=(10014, 10059))


async def drop(connection: Connection, segment: str) -> None:
    """Delete the stream of a segment with all that is in it, for good. Raises Unreachable."""
    await api(connection, f"STREAM.DELETE.{subjects.run_stream(segment)}", absent=(10059,))


@dataclass(frozen=True, slots=True)
class Storage:
    """How many bytes all streams have on disk, and how many they may have; None: as many as the disk takes."""

    used: int
    limit: int | None


async def storage(connection: Connection) -> Storage:
    """What the account of this connection uses. Raises Unreachable."""
    said = await api(connection, "INFO") or {}
    limits = said.get("limits")
    limit = limits.get("max_storage", -1) if isinstance(limits, dict) else -1
    used = said.get("storage", 0)
    return Storage(int(str(used)), limit if limit > 0 else None)


async def api(
    connection: Connection, verb: str, absent: Sequence[int] = (), asked: dict[str, object] | None = None
) -> dict[str, object] | None:
    """Ask JetStream; None for an error that says that the thing is not there. Raises Unreachable."""
    body = json.dumps(asked).encode() if asked else b""
    try:
        reply = await connection.client.request(f"$JS.API.{verb}", body, timeout=5)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise unreachable(error) from error
    said: dict[str, object] = json.loads(reply.data)
    if isinstance(refused := said.get("error"), dict):
        if refused.get("err_code") in absent:
            return None
        raise Unreachable("The log's server refused.", why=str(refused.get("description")), hint="milepost doctor")
    return said
