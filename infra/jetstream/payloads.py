"""Blobs in a JetStream object store: chunks on a file stream of the same server as the log, fsynced as it is."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors
from nats.js.api import ObjectMeta, ObjectMetaOptions
from nats.js.object_store import ObjectStore

from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from runtime.errors import Unreachable
from runtime.payloads import Blob

T = TypeVar("T")

CHUNK = 512 * 1024
DATA_KEY = "datakey"
AT_LEAST_S = 10.0
BYTES_PER_S = 4 * 1024 * 1024
"""As slow as a store may be that still answers: a lost chunk would otherwise be waited for without end."""
TRIES = 3


class JetStreamBlobs:
    """runtime.payloads.Blobs in the bucket PAYLOADS."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def has(self, tenant: str, name: str) -> bool:
        async def look(store: ObjectStore) -> bool:
            await store.get_info(_object(tenant, name))
            return True

        return bool(await self._patiently(look, AT_LEAST_S))

    async def put(self, tenant: str, name: str, blob: Blob) -> None:
        headers = {DATA_KEY: blob.datakey} if blob.datakey else None
        meta = ObjectMeta(name=_object(tenant, name), headers=headers, options=ObjectMetaOptions(max_chunk_size=self._chunk()))

        async def store_it(store: ObjectStore) -> bool:
            await store.put(_object(tenant, name), blob.data, meta)
            return True

        await self._patiently(store_it, _patience_s(len(blob.data)))

    async def get(self, tenant: str, name: str) -> Blob | None:
        async def read(store: ObjectStore) -> Blob:
            info = await store.get_info(_object(tenant, name))
            into = io.BytesIO()
            async with asyncio.timeout(_patience_s(info.size or 0)):
                await store.get(_object(tenant, name), writeinto=into)
            return Blob(into.getvalue(), (info.headers or {}).get(DATA_KEY))

        return await self._patiently(read, None)

    async def _patiently(self, work: Callable[[ObjectStore], Awaitable[T]], limit_s: float | None) -> T | None:
        """Do it, again while the server is away for a moment; None for what is not there."""
        problem: BaseException | None = None
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(limit_s):
                    return await work(await self._store())
            except nats.js.errors.ObjectNotFoundError:
                return None
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
                problem = error
        assert problem is not None
        raise unreachable(problem) from problem

    async def _store(self) -> ObjectStore:
        try:
            return await self._connection.jetstream.object_store(streams.PAYLOAD_BUCKET)
        except nats.js.errors.BucketNotFoundError:
            await streams.ensure_stream(self._connection, streams.payload_stream())
            return await self._connection.jetstream.object_store(streams.PAYLOAD_BUCKET)
        except nats.js.errors.Error as error:
            raise Unreachable("The payload store cannot be opened.", why=str(error), hint="milepost doctor") from error

    def _chunk(self) -> int:
        return min(CHUNK, self._connection.max_payload // 2)


def _object(tenant: str, name: str) -> str:
    return f"{tenant}/{name}"


def _patience_s(size: int) -> float:
    return AT_LEAST_S + size / BYTES_PER_S
