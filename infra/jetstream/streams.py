"""Which streams and consumers exist, declared as data."""

from __future__ import annotations

import json
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


def worker_consumer(role: str, lane: str, subject: str, ack_wait_s: float) -> ConsumerConfig:
    """The workers of a role's lane share this."""
    return ConsumerConfig(
        durable_name=f"{role}-{lane}", filter_subject=subject, ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait_s,
        max_deliver=-1, max_ack_pending=MANY if role == "timer" else 20_000, max_waiting=2048,
    )  # fmt: skip


def group_consumer(name: str, subject: str, ack_wait_s: float) -> ConsumerConfig:
    """The members of a group (conductors, recorders) share this reading of the log."""
    return ConsumerConfig(
        durable_name=name, filter_subject=subject, deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.EXPLICIT,
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
