"""Payloads: bytes by reference, the same promises in one process and on JetStream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from infra.jetstream.connection import Connection
from infra.jetstream.payloads import JetStreamBlobs
from runtime import payloads
from runtime.payloads import Blob, Blobs, MemoryBlobs, SealedPayloads, TooLarge, UnknownPayload, is_ref, name_of
from runtime.sealing import DataKey, Erased, Tampered
from tests.support.brokers import Place, nats_place
from tests.support.builders import TENANT
from tests.support.sealing import CANARY, Keys
from tests.support.servers import RealNats

Open = Callable[[], AsyncIterator[Blobs]]


@pytest.fixture(params=["memory", "nats"])
async def blobs(request: pytest.FixtureRequest) -> AsyncIterator[Blobs]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryBlobs()
        else:
            place = await nats_place(request.getfixturevalue("nats_alone"), stack)
            yield JetStreamBlobs(await connection_of(place))


async def connection_of(place: Place) -> Connection:
    connection = (await place.member()).connection
    assert connection is not None
    return connection


@pytest.mark.parametrize("size", [0, 1, 700_000, 3_000_000])
async def test_bytes_come_back_as_they_were(blobs: Blobs, size: int) -> None:
    keys, data = Keys(), os.urandom(size)
    kept = SealedPayloads(blobs, keys)
    for datakey in (None, await keys.datakey()):
        ref = await kept.put(data, tenant=TENANT, datakey=datakey)
        assert is_ref(ref)
        assert await kept.get(ref, tenant=TENANT) == data


async def test_the_same_bytes_of_one_person_are_kept_once(blobs: Blobs) -> None:
    keys = Keys()
    kept, datakey = SealedPayloads(blobs, keys), await keys.datakey()
    refs = {await kept.put(b"a receipt", tenant=TENANT, datakey=datakey) for _ in range(3)}
    assert len(refs) == 1
    at_once = await asyncio.gather(*(kept.put(b"at once", tenant=TENANT, datakey=datakey) for _ in range(8)))
    assert len(set(at_once)) == 1
    assert await kept.get(at_once[0], tenant=TENANT) == b"at once"


async def test_a_reference_leads_nowhere_in_another_tenant(blobs: Blobs) -> None:
    kept = SealedPayloads(blobs, Keys())
    ref = await kept.put(b"ours", tenant=TENANT, datakey=None)
    with pytest.raises(UnknownPayload):
        await kept.get(ref, tenant="another")
    assert await kept.put(b"ours", tenant="another", datakey=None) != ref


async def test_two_persons_do_not_share_what_one_may_have_erased(blobs: Blobs) -> None:
    keys = Keys()
    kept = SealedPayloads(blobs, keys)
    of_ann = await kept.put(b"the same", tenant=TENANT, datakey=await keys.datakey("ann"))
    of_bob = await kept.put(b"the same", tenant=TENANT, datakey=await keys.datakey("bob"))
    assert of_ann != of_bob
    await keys.store.destroy(TENANT, "ann")
    with pytest.raises(Erased):
        await kept.get(of_ann, tenant=TENANT)
    assert await kept.get(of_bob, tenant=TENANT) == b"the same"


async def test_nothing_is_kept_for_a_person_who_was_forgotten(blobs: Blobs) -> None:
    keys = Keys()
    kept, datakey = SealedPayloads(blobs, keys), await keys.datakey()
    await keys.store.destroy(TENANT, "ann")
    with pytest.raises(Erased):
        await kept.put(b"too late", tenant=TENANT, datakey=datakey)


async def test_what_is_stored_says_nothing(blobs: Blobs) -> None:
    keys = Keys()
    kept, datakey = SealedPayloads(blobs, keys), await keys.datakey()
    ref = await kept.put(CANARY.encode() * 100, tenant=TENANT, datakey=datakey)
    blob = await blobs.get(TENANT, name_of(ref))
    assert blob is not None and blob.datakey == datakey
    assert CANARY.encode() not in blob.data


async def test_changed_bytes_are_noticed(blobs: Blobs) -> None:
    keys = Keys()
    kept, datakey = SealedPayloads(blobs, keys), await keys.datakey()
    ref = await kept.put(b"pay 10", tenant=TENANT, datakey=datakey)
    blob = await blobs.get(TENANT, name_of(ref))
    assert blob is not None
    await blobs.put(TENANT, name_of(ref), Blob(blob.data[:-1] + bytes([blob.data[-1] ^ 1]), datakey))
    with pytest.raises(Tampered):
        await kept.get(ref, tenant=TENANT)


@pytest.mark.parametrize("ref", ["", "payload:", "payload:xyz", "payload:" + "0" * 64, "https://example.com/a.png"])
async def test_what_was_never_kept_is_unknown(blobs: Blobs, ref: str) -> None:
    with pytest.raises(UnknownPayload):
        await SealedPayloads(blobs).get(ref, tenant=TENANT)


async def test_too_many_bytes_are_refused_before_anything_is_stored(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "LIMIT", 10)
    kept = SealedPayloads(blobs)
    with pytest.raises(TooLarge):
        await kept.put(b"x" * 11, tenant=TENANT, datakey=None)
    assert await kept.put(b"x" * 10, tenant=TENANT, datakey=None)


async def test_a_reference_cannot_be_guessed_from_the_bytes() -> None:
    """Somebody who sees the store and knows what the bytes might be cannot find out whether they are there."""
    one, other = SealedPayloads(MemoryBlobs(), _Key(b"1" * 32)), SealedPayloads(MemoryBlobs(), _Key(b"2" * 32))
    refs = [await each.put(b"a known letter", tenant=TENANT, datakey="k") for each in (one, other)]
    assert refs[0] != refs[1]


class _Key:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def key_of(self, tenant: str, user: str) -> DataKey:
        return DataKey("k", self._secret)

    async def key(self, tenant: str, id: str) -> DataKey:
        return DataKey(id, self._secret)


async def test_kept_bytes_survive_the_death_of_the_server(nats: Place, nats_alone: RealNats) -> None:
    """The store is fsynced as the log is: what was answered is there after kill -9."""
    connection = await connection_of(nats)
    kept, data = SealedPayloads(JetStreamBlobs(connection)), os.urandom(2_000_000)
    ref = await kept.put(data, tenant=TENANT, datakey=None)
    await nats_alone.kill_and_restart()
    assert await kept.get(ref, tenant=TENANT) == data


async def test_the_bucket_is_made_again_when_it_is_missing(nats: Place) -> None:
    connection = await connection_of(nats)
    await connection.jetstream.delete_stream("OBJ_PAYLOADS")
    kept = SealedPayloads(JetStreamBlobs(connection))
    ref = await kept.put(b"again", tenant=TENANT, datakey=None)
    assert await kept.get(ref, tenant=TENANT) == b"again"
    said = await connection.jetstream.stream_info("OBJ_PAYLOADS")
    assert said.config.persist_mode != "async"
