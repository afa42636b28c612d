"""The archive on a real nats-server: written, verified, tampered with, dropped, read back, expired."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from infra.archive.dropping import Dropper, NotDroppable
from infra.archive.folder import FolderStore
from infra.archive.layout import INDEX, MANIFEST, File, Segment, folder, line, manifest_of, needed, put, runs_name, segments_of
from infra.archive.member import packed, placed
from infra.archive.overview import room, rows
from infra.archive.reading import ArchivedTenant
from infra.archive.report import Report
from infra.archive.retention import expire, expiring, months
from infra.archive.store import ArchiveError, NotArchived, Store, open_store
from infra.archive.whole import WholeLog
from infra.embedded import nats_server
from infra.jetstream import log, streams
from infra.settings import Archive
from runtime.replay import replay
from schemas import subjects
from schemas.ids import RunId, run_id
from schemas.sealing import Sealed
from tests.support.archived import JANUARY, MARCH, NOW, Archiving, contents
from tests.support.brokers import Feed, Place
from tests.support.builders import TENANT
from tests.support.servers import RealNats


@pytest.fixture
async def archiving(nats: Place, tmp_path: Path) -> Archiving:
    return await Archiving.at(nats, tmp_path / "archive")


def tampered(store: Store, name: str, at: int) -> None:
    data = bytearray(store.read(name) or b"")
    data[at] ^= 1
    store.put(name, bytes(data))


def told(report: Report) -> list[tuple[str, str]]:
    return [(problem.file, problem.run) for problem in report.problems]


def dropper(archiving: Archiving) -> Dropper:
    return Dropper(archiving.verifier(), archiving.source, "admin", NOW, unproved=True)


async def test_runs_are_read_back_byte_for_byte_after_their_segment_was_dropped(archiving: Archiving) -> None:
    ref = await archiving.payloads.put(b"a picture", tenant=TENANT, datakey=await archiving.keys.datakey())
    runs = [await archiving.lived("one"), await archiving.lived("two", user="ann", ref=ref)]
    await archiving.sealed(runs[0])
    other = await archiving.lived("three", tenant="other")
    later = await archiving.lived("four", MARCH)
    logged = {run: contents(await archiving.log.read_raw(run)) for run in (*runs, other, later)}

    archived = await archiving.archived(part_bytes=1_000_000)
    assert (archived.counts.runs, archived.counts.payloads, archived.counts.sealed) == (3, 1, 1)
    assert await dropper(archiving).drop(JANUARY) == archived.counts

    assert await streams.segments(archiving.connection) == [MARCH, "202611"]
    for tenant, ours in ((TENANT, runs), ("other", [other])):
        reader = ArchivedTenant(archiving.store, tenant)
        assert {run: contents(reader.run(run) or []) for run in ours} == {run: logged[run] for run in ours}
        assert [entry.run for entry, _ in reader.runs(JANUARY)] == ours
    assert ArchivedTenant(archiving.store, TENANT).run(other) is None
    assert contents(await archiving.log.read_raw(later)) == logged[later]
    assert (await archiving.verifier().verify(archived)).ok


async def test_what_belongs_to_no_run_is_archived_too(archiving: Archiving) -> None:
    run = await archiving.lived("one")
    begun = subjects.fact(run, TENANT, "tools", "f" * 32)
    lost = subjects.fact(run_id(TENANT, "never", JANUARY), TENANT, "tools", "a" * 32)
    js = archiving.connection.jetstream
    await js.publish(str(begun), b"\x00 no\n event")
    for subject in (str(lost), f"mp.ev.{JANUARY}.what"):
        await js.publish(subject, b"lost")

    archived = await archiving.archived()
    assert (archived.counts.runs, archived.counts.strays) == (1, 2)
    assert (await archiving.verifier().verify(archived)).ok
    assert contents(ArchivedTenant(archiving.store, TENANT).run(run) or []) == contents(await archiving.log.read_raw(run))

    await js.publish(f"mp.ev.{JANUARY}.more", b"lost")
    assert any("that the archive does not have" in each.what for each in (await archiving.verifier().verify(archived)).problems)


@pytest.mark.parametrize("with_log", [True, False])
async def test_one_changed_byte_is_found_with_its_file_and_run(archiving: Archiving, with_log: bool) -> None:
    runs = [await archiving.lived(key) for key in ("one", "two", "three")]
    archived = await archiving.archived(part_bytes=1_000_000)
    entry = ArchivedTenant(archiving.store, TENANT).entry(runs[1])
    assert entry is not None
    name = folder(TENANT, JANUARY) + runs_name(1)
    whole = archiving.store.read(name) or b""
    for at in (entry.offset, entry.offset + entry.length // 2, entry.offset + entry.length - 1):
        tampered(archiving.store, name, at)
        report = await archiving.verifier(log=with_log).verify(archived)
        assert told(report) == [(name, runs[1]), (name, "")]
        archiving.store.put(name, whole)
    with pytest.raises(NotDroppable, match="is not what the log holds"):
        tampered(archiving.store, name, 0)
        await dropper(archiving).drop(JANUARY)


@pytest.mark.parametrize("name", ["index.jsonl", "manifest.json", "payloads.jsonl", "payloads/"])
async def test_every_object_is_under_a_digest(archiving: Archiving, name: str) -> None:
    ref = await archiving.payloads.put(b"a picture", tenant=TENANT, datakey=None)
    await archiving.lived("one", ref=ref)
    archived = await archiving.archived()
    name = next(each.name for each in archiving.store.list(folder(TENANT, JANUARY) + name))
    whole = archiving.store.read(name) or b""
    for at in range(0, len(whole), 23):
        tampered(archiving.store, name, at)
        assert name in {file for file, _ in told(await archiving.verifier(log=False).verify(archived))}
        archiving.store.put(name, whole)
    archiving.store.delete(name)
    assert name in {file for file, _ in told(await archiving.verifier(log=False).verify(archived))}
    archiving.store.put(name, whole)
    archiving.store.put(folder(TENANT, JANUARY) + "added", b"")
    assert told(await archiving.verifier(log=False).verify(archived)) == [(folder(TENANT, JANUARY) + "added", "")]


async def test_who_rewrites_the_archive_whole_is_found_by_the_receipt(archiving: Archiving) -> None:
    keys = await archiving.sealed(await archiving.lived("one"))
    archived, store, prefix = await archiving.archived(), archiving.store, folder(TENANT, JANUARY)
    ((entry, raws),) = ArchivedTenant(store, TENANT).runs(JANUARY)
    forged = [replace(raw, data=raw.data.replace(b"It is noon.", b"It is dawn.")) for raw in raws]
    assert forged != raws
    member, size = packed(RunId(entry.run), TENANT, [(raw, placed(raw)) for raw in forged], NOW)
    store.put(prefix + runs_name(1), member)
    sha = hashlib.sha256(member).hexdigest()
    store.put(prefix + INDEX, line(entry.model_copy(update={"sha256": sha, "length": len(member), "bytes": size})))
    rewritten = described(store, archived, bytes=len(member))

    (problem,) = (await archiving.verifier(log=False, trusted=keys.trusted()).verify(rewritten)).problems
    assert (problem.run, "its receipt says otherwise: edited" in problem.what) == (entry.run, True)


def described(store: Store, archived: Segment, **counts: int) -> Segment:
    """The manifests as they would be, had the archive been written as it lies there."""
    prefix, manifest = folder(TENANT, JANUARY), manifest_of(store, TENANT, JANUARY)
    assert manifest is not None
    files = tuple(file_of(each.name, store.read(prefix + each.name) or b"") for each in manifest.files)
    counted = manifest.counts.model_copy(update=counts)
    data = put(store, prefix + MANIFEST, manifest.model_copy(update={"files": files, "counts": counted}))
    part = archived.tenants[0].model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "counts": counted})
    return archived.model_copy(update={"tenants": (part,)})


def file_of(name: str, data: bytes) -> File:
    return File(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


async def test_a_run_that_the_index_leaves_out_is_missed(archiving: Archiving) -> None:
    for key in ("one", "two"):
        await archiving.lived(key)
    archived, name = await archiving.archived(part_bytes=1_000_000), folder(TENANT, JANUARY) + INDEX
    first, second = (archiving.store.read(name) or b"").splitlines(keepends=True)
    for index in (first, second, first + first, second + first):
        archiving.store.put(name, index)
        report = await archiving.verifier(log=False).verify(described(archiving.store, archived))
        assert not report.ok, index


async def test_what_the_log_has_and_the_archive_lacks_is_found(archiving: Archiving) -> None:
    ended, open_ = await archiving.lived("one"), await archiving.open("two")
    archived = await archiving.archived()
    keys = await archiving.sealed(ended)
    report = await archiving.verifier().verify(archived)
    assert [problem.run for problem in report.problems if problem.run] == [ended]
    again = await archiving.archived()
    assert again.counts.sealed == 1 and again.counts.open == 1
    assert (await archiving.verifier(trusted=keys.trusted()).verify(again)).ok
    assert open_ in {entry.run for entry, _ in ArchivedTenant(archiving.store, TENANT).runs(JANUARY)}
    with pytest.raises(NotDroppable, match="1 runs of segment 202601 have not ended"):
        await dropper(archiving).drop(JANUARY)


async def test_a_segment_stays_while_runs_may_begin_or_writes_are_in_doubt(archiving: Archiving) -> None:
    await archiving.doubted("one")
    assert (await archiving.archived()).counts.in_doubt == 1
    with pytest.raises(NotDroppable, match="nobody knows whether they happened"):
        await dropper(archiving).drop(JANUARY)
    for segment in ("202611", "202612"):
        with pytest.raises(NotDroppable, match="is not closed"):
            await dropper(archiving).drop(segment)


async def test_runs_that_no_receipt_proves_keep_their_segment_in_the_log(archiving: Archiving) -> None:
    await archiving.lived("one")
    assert (await archiving.archived()).counts.sealed == 0
    with pytest.raises(NotDroppable, match="1 of 1 runs of segment 202601 have no receipt"):
        await replace(dropper(archiving), unproved=False).drop(JANUARY)


class Killed(BaseException):
    """Not even `except Exception` is run after it."""


class Dying(FolderStore):
    """A folder whose process is killed at its n-th object."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.left = 10**9

    def put_file(self, name: str, file: Path) -> None:
        self._live()
        super().put_file(name, file)

    def put(self, name: str, data: bytes) -> None:
        self._live()
        super().put(name, data)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


async def test_a_killed_writer_goes_on_where_it_was(nats: Place, tmp_path: Path) -> None:
    store = Dying(tmp_path / "archive")
    archiving = await Archiving.at(nats, store)
    ref = await archiving.payloads.put(b"a picture", tenant=TENANT, datakey=None)
    for number in range(4):
        await archiving.lived(f"run-{number}", ref=ref)
    store.left = 5
    with pytest.raises(Killed):
        await archiving.writer().write(JANUARY)
    await archiving.sealed(run_id(TENANT, "run-0", JANUARY))  # what is archived of it is not all any more
    tries, found = 0, None
    while found is None:
        store.left = tries = tries + 1
        try:
            found = await archiving.writer().write(JANUARY)
        except Killed:
            assert segments_of(store) == []
    assert tries < 8, "what was written before is not written again"
    assert (found.counts.runs, found.counts.payloads, found.counts.sealed) == (4, 1, 1)
    assert (await archiving.verifier().verify(found)).ok


async def test_what_is_older_than_is_to_be_kept_goes_but_for_what_is_in_the_log(archiving: Archiving) -> None:
    for key, segment in (("one", JANUARY), ("two", MARCH)):
        await archiving.lived(key, segment)
        await archiving.lived(key, segment, tenant="other")
        await archiving.archived(segment)
    await dropper(archiving).drop(JANUARY)
    there = await streams.segments(archiving.connection)

    old = expiring(archiving.store, TENANT, months("6m"), NOW, there)
    assert [(each.segment, each.in_log, each.counts.runs) for each in old] == [(JANUARY, False, 1), (MARCH, True, 1)]
    assert expiring(archiving.store, TENANT, months("1y"), NOW, there) == []
    expire(archiving.store, old[0], "admin", NOW)

    assert [each.name for each in archiving.store.list(folder(TENANT, JANUARY))] == [folder(TENANT, JANUARY) + "expired.json"]
    assert (await archiving.verifier().verify(needed(archiving.store, JANUARY))).ok
    assert len(list(ArchivedTenant(archiving.store, "other").runs(JANUARY))) == 1
    assert [each.segment for each in expiring(archiving.store, TENANT, 6, NOW, there)] == [MARCH]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


async def test_readers_go_on_without_a_dropped_segment_and_take_it_up_if_it_returns(
    archiving: Archiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "NEW_SEGMENT_S", 0.05)
    await archiving.lived("one")
    feed = Feed(archiving.log.facts("conductors"))
    before = await archiving.lived("two", MARCH)
    await until(lambda: any(each.message.run == before for each in feed.got))
    await archiving.archived()
    with capture_logs() as said:
        await dropper(archiving).drop(JANUARY)
        await until(lambda: any(each["event"] == "the stream is gone" for each in said))
        runs = [await archiving.lived("three", MARCH), await archiving.lived("four", JANUARY)]
        await until(lambda: set(runs) <= {each.message.run for each in feed.got})
    await feed.close()
    assert [each for each in said if each["log_level"] == "warning"] == []
    assert len([each for each in said if each["event"] == "the stream is gone"]) == 1


async def test_a_run_is_read_alike_from_log_and_archive(archiving: Archiving) -> None:
    await archiving.keys.datakey()
    runs = [await archiving.lived("one", user="ann"), await archiving.lived("two", tenant="other")]
    whole = WholeLog(archiving.log, archiving.keys, archiving.store)
    before = {run: await whole.read_both(run) for run in runs}
    await archiving.archived()
    await dropper(archiving).drop(JANUARY)

    for run in runs:
        facts = await whole.read_both(run)
        assert [(stored.fact, raw) for stored, raw in facts] == [(stored.fact, raw) for stored, raw in before[run]]
        assert [stored.position for stored, _ in facts] == list(range(1, len(facts) + 1))
        assert await whole.read(run, 3) == [stored for stored, _ in facts[3:]]
        assert [stored async for stored in whole.follow(run)] == [stored for stored, _ in facts]
        assert replay(run, [stored for stored, _ in facts]).same
        assert await whole.holds(run, facts[0][0].fact.tenant, "client", "request")
    assert await WholeLog(archiving.log, archiving.keys, archiving.store, TENANT).read(runs[1]) == []
    assert await WholeLog(archiving.log, archiving.keys).read(runs[0]) == []
    await archiving.keys.store.destroy(TENANT, "ann")
    assert all(isinstance(stored.fact.body, Sealed) for stored in await whole.read(runs[0]))


async def test_s3_keeps_it_as_a_folder_does(nats: Place, moto: str) -> None:
    settings = Archive(to="s3://evidence/of/tests", endpoint=moto, access_key_id="an-id", access_key_secret=SecretStr("x"))
    with pytest.raises(ArchiveError, match="cannot be used") as missing:
        next(iter(open_store(settings).list()))
    assert "make the bucket first" in missing.value.hint
    bucket(moto)
    archiving = await Archiving.at(nats, open_store(settings))
    ref = await archiving.payloads.put(b"a picture", tenant=TENANT, datakey=None)
    run = await archiving.lived("one", ref=ref)
    logged = contents(await archiving.log.read_raw(run))
    archived = await archiving.archived()
    assert [each.segment for each in segments_of(archiving.store)] == [JANUARY]
    name = folder(TENANT, JANUARY) + runs_name(1)
    whole = archiving.store.read(name) or b""
    tampered(archiving.store, name, 5)
    assert told(await archiving.verifier().verify(archived)) == [(name, run), (name, "")]
    archiving.store.put(name, whole)
    await dropper(archiving).drop(JANUARY)
    assert contents(ArchivedTenant(archiving.store, TENANT).run(run) or []) == logged
    (old,) = expiring(archiving.store, TENANT, 6, NOW, ())
    expire(archiving.store, old, "admin", NOW)
    assert ArchivedTenant(archiving.store, TENANT).run(run) is None
    assert archiving.store.read("nothing") is None and list(archiving.store.chunks("nothing")) == []
    assert [each.name for each in archiving.store.list(folder(TENANT, JANUARY))] == [folder(TENANT, JANUARY) + "expired.json"]


async def test_an_administrator_is_warned_before_evidence_is_lost(
    archiving: Archiving, nats_alone: RealNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def seen(now: datetime = NOW) -> dict[str, tuple[str, list[str]]]:
        found = await rows(archiving.connection, archiving.store, Archive(late_days=7, verify_days=90), now)
        return {each.segment: (each.state, [alarm.kind for alarm in each.alarms]) for each in found}

    run = await archiving.lived("one")
    await archiving.open("two", MARCH)
    assert await seen(datetime(2026, 2, 2, tzinfo=UTC)) == {JANUARY: ("open", []), MARCH: ("open", []), "202611": ("open", [])}
    assert (await seen(datetime(2026, 2, 9, tzinfo=UTC)))[JANUARY] == ("closed", [])
    assert (await seen(datetime(2026, 2, 10, tzinfo=UTC)))[JANUARY] == ("closed", ["late"])

    unset = await rows(archiving.connection, None, Archive(), NOW)
    assert [(each.segment, each.state) for each in unset if each.alarms] == [(JANUARY, "closed"), (MARCH, "closed")]
    archived = await archiving.archived()
    assert (await seen())[JANUARY] == ("archived", [])
    assert (await seen(NOW + timedelta(days=90)))[JANUARY] == ("archived", ["unverified"])
    verifier = archiving.verifier()
    verifier.mark(archived, await verifier.verify(archived), "admin", NOW + timedelta(days=80))
    assert (await seen(NOW + timedelta(days=90)))[JANUARY] == ("archived", [])
    await archiving.sealed(run)
    assert (await seen())[JANUARY] == ("changed", ["changed"])
    await archiving.archived()
    await dropper(archiving).drop(JANUARY)
    assert (await seen())[JANUARY] == ("dropped", [])
    await archiving.open("late")
    assert (await seen())[JANUARY] == ("returned", ["returned"])
    kept = sorted((each.name, archiving.store.read(each.name)) for each in archiving.store.list())
    with pytest.raises(NotArchived, match="is of another stream"):
        await archiving.writer().write(JANUARY)
    with pytest.raises(NotDroppable):
        await dropper(archiving).drop(JANUARY)
    assert kept == sorted((each.name, archiving.store.read(each.name)) for each in archiving.store.list())
    found = {each.segment: each for each in await rows(archiving.connection, archiving.store, Archive(), NOW)}
    assert (found[MARCH].runs, found[MARCH].open) == (1, 1)

    assert await room(archiving.connection, Archive(full_percent=100), home=tmp_path, monitor=nats_alone.monitor) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=2000, used=810, free=190))
    monkeypatch.setattr(streams, "storage", stored)
    alarms = await room(archiving.connection, Archive(full_percent=80), home=tmp_path / "not" / "there", monitor=None)
    assert [(each.kind, each.percent) for each in alarms] == [("storage", 80), ("disk", 81)]
    assert await room(archiving.connection, Archive(full_percent=81), home=None, monitor=None) == []


async def stored(connection: object) -> streams.Storage:
    return streams.Storage(used=80, limit=100)


async def test_storage_is_what_the_server_says(archiving: Archiving, nats_alone: RealNats) -> None:
    before = await streams.storage(archiving.connection)
    await archiving.lived("one")
    after = await streams.storage(archiving.connection)
    assert before.used < after.used and after.limit is None
    assert await nats_server.most_stored(nats_alone.monitor) == 1024**4


def bucket(endpoint: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "an-id", "aws_secret_access_key": "x"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="evidence")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
