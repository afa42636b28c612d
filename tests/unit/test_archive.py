"""The archive without servers: names, members, marks, ages, alarms, and a folder that takes things whole."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.archive.dropping import is_closed
from infra.archive.folder import FolderStore
from infra.archive.layout import (
    INDEX,
    MANIFEST,
    BadArchive,
    Counts,
    Entry,
    Manifest,
    folder,
    line,
    lines,
    manifest_of,
    put,
    segment_name,
    segments_of,
)
from infra.archive.member import packed, placed, unpacked
from infra.archive.overview import closed_at
from infra.archive.reading import ArchivedTenant
from infra.archive.retention import is_older, months
from infra.archive.store import ArchiveError, NoArchive, open_store
from infra.archive.whole import WholeLog
from infra.exports.reading import read_export
from infra.settings import Archive, SettingsError, load
from runtime.log import Raw, Stored
from runtime.memory_broker import MemoryBroker
from schemas.envelope import encode
from schemas.errors import ProtocolError
from schemas.ids import RunId, run_id
from schemas.subjects import FactSubject
from tests.support.archived import JANUARY, begun, contents
from tests.support.builders import NOW, TENANT, ready
from tests.support.sealing import Keys


def raws_of(key: str = "one") -> list[Raw]:
    told = begun(key, JANUARY, TENANT).log
    places = [FactSubject(each.fact.run, TENANT, each.fact.role, each.fact.slot) for each in told]
    return [Raw(str(place), encode(each.fact), n) for n, (place, each) in enumerate(zip(places, told, strict=True), 1)]


def test_a_member_is_an_export_and_holds_every_message_whatever_it_is(tmp_path: Path) -> None:
    run, raws = run_id(TENANT, "one", JANUARY), raws_of()
    odd = [Raw(str(FactSubject(run, TENANT, "tools", "a" * 32)), b"\xff\n{", 90), Raw(f"mp.ev.{JANUARY}.0.{run}.x", b"", 91)]
    member, size = packed(run, TENANT, [(raw, placed(raw)) for raw in (*raws, *odd)], NOW)
    found, messages = unpacked(member, size, "runs")
    assert (found, contents(messages)) == (run, contents([*raws, *odd]))
    assert packed(run, TENANT, [(raw, placed(raw)) for raw in (*raws, *odd)], NOW)[0] == member
    plain, _ = packed(run, TENANT, [(raw, placed(raw)) for raw in raws], NOW)
    export = read_export(io.BytesIO(gzip.decompress(plain)), tmp_path)
    assert [raw for _, raw in export.both] == [raw.data for raw in raws]


@pytest.mark.parametrize("what", ["cut", "two", "large", "empty", "other"])
def test_a_member_that_is_no_run_is_refused(what: str) -> None:
    run, raws = run_id(TENANT, "one", JANUARY), raws_of()
    member, size = packed(run, TENANT, [(raw, placed(raw)) for raw in raws], NOW)
    bad = {
        "cut": member[:-9], "two": member * 2, "large": gzip.compress(b"x" * (size + 1)), "empty": b"",
        "other": gzip.compress(b"{}\n"),
    }[what]  # fmt: skip
    with pytest.raises(BadArchive):
        unpacked(bad, size, "runs")


def test_only_a_manifest_makes_a_folder_count(tmp_path: Path) -> None:
    store, run, raws = FolderStore(tmp_path), run_id(TENANT, "one", JANUARY), raws_of()
    member, size = packed(run, TENANT, [(raw, placed(raw)) for raw in raws], NOW)
    entry = Entry(
        run=run, file="runs-0001.jsonl.gz", offset=0, length=len(member), bytes=size, sha256="0" * 64, events=len(raws),
        position=1, ended=False,
    )  # fmt: skip
    prefix, reader = folder(TENANT, JANUARY), ArchivedTenant(store, TENANT)
    store.put(prefix + entry.file, member)
    store.put(prefix + INDEX, b"".join(line(entry.model_copy(update={"run": other})) for other in ("x", run, "y")))
    assert reader.run(run) is None and reader.beginning(JANUARY, run[:12]) == []
    manifest = Manifest(
        tenant=TENANT, segment=JANUARY, stream="S", created=NOW, last=1, counts=Counts(), files=(), at=NOW, by="admin"
    )
    put(store, prefix + MANIFEST, manifest)
    assert manifest_of(store, TENANT, JANUARY) == manifest
    assert contents(reader.run(run) or []) == contents(raws)
    assert reader.beginning(JANUARY, run[:12]) == [run]
    assert reader.run(run_id(TENANT, "two", JANUARY)) is None
    (tmp_path / "runs-0001.jsonl.gz").write_bytes(member)
    store.put(prefix + INDEX, line(entry.model_copy(update={"file": "../../runs-0001.jsonl.gz"})))
    with pytest.raises(BadArchive, match="file"):
        reader.run(run)
    store.put(prefix + MANIFEST, b"{}")
    with pytest.raises(BadArchive, match=r"manifest\.json cannot be read"):
        reader.run(run)


@pytest.mark.parametrize("size", [1, 7, 1024])
def test_lines_are_whole_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("infra.archive.folder.CHUNK", size)
    store = FolderStore(tmp_path)
    store.put("a/b", b"one\n\ntwo\nthree")
    assert list(lines(store, "a/b")) == [b"one\n", b"\n", b"two\n", b"three"]
    assert list(lines(store, "a/c")) == []


def test_a_folder_keeps_objects_whole_and_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new")
    assert list(store.list()) == list(store.top()) == [] and store.read("a/b/c") is None
    store.put("a/b/c", b"123456")
    store.put("202601.json", b"{}")
    with store.scratch() as scratch:
        (scratch / "file").write_bytes(b"moved")
        store.put_file("a/d", scratch / "file")
    assert [(each.name, each.bytes) for each in store.list("a/")] == [("a/b/c", 6), ("a/d", 5)]
    assert list(store.top()) == ["202601.json"]
    assert (store.read("a/b/c", 2, 3), store.read("a/b/c", 4)) == (b"345", b"56")
    for name in ("a/b/c", "a/d", "a/never"):
        store.delete(name)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["202601.json"]
    with pytest.raises(ArchiveError, match="cannot be used"):
        FolderStore(tmp_path / "new" / "202601.json").put("a", b"")
    store.put(segment_name(JANUARY), b"nothing")
    with pytest.raises(BadArchive):
        segments_of(store)


def test_where_the_archive_is_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(NoArchive):
        open_store(Archive())
    assert open_store(Archive(to=str(tmp_path))).place == str(tmp_path)
    assert open_store(Archive(to=str(tmp_path)), str(tmp_path / "other")).place == str(tmp_path / "other")
    with pytest.raises(SettingsError, match=r"archive\.to"):
        load({"archive.to": "beside/me"}, directory=tmp_path)


@pytest.mark.parametrize("segment", ["2026", "202613", "202600", "../x", "acme"])
def test_a_segment_is_a_month(segment: str) -> None:
    with pytest.raises(ProtocolError, match="is no segment"):
        folder(TENANT, segment)


def test_a_month_closes_two_days_after_its_end() -> None:
    ends = datetime(2026, 2, 3, tzinfo=UTC)
    assert closed_at(JANUARY, NOW) == ends and closed_at("202612", NOW) == datetime(2027, 1, 3, tzinfo=UTC)
    assert (is_closed(JANUARY, ends - timedelta(seconds=1)), is_closed(JANUARY, ends)) == (False, True)


def test_what_is_kept_is_counted_in_whole_months_from_the_end_of_the_segment() -> None:
    assert (months("24m"), months("2y"), months("1m")) == (24, 24, 1)
    for bad in ("24", "m", "0m", "-1m", "1d", "99999m"):
        with pytest.raises(ProtocolError, match="is no time to keep"):
            months(bad)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    assert [segment for segment in ("202409", "202410", "202411", "202501") if is_older(segment, 24, now)] == [
        "202409",
        "202410",
    ]


class BothLog(MemoryBroker):
    """With what JetStreamLog has more."""

    async def read_both(self, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        return [(stored, encode(stored.fact)) for stored in await self.read(run, after)]


async def test_a_tenant_reads_no_run_of_another_by_its_id() -> None:
    run, log, keys = ready(None), BothLog(), Keys()
    for stored in run.log:
        assert await log.append(stored.fact)
    for tenant, events in ((TENANT, len(run.log)), ("globex", 0), (None, len(run.log))):
        whole = WholeLog(log, keys, tenant=tenant)  # type: ignore[arg-type]  # as much of a log as it needs
        assert [len(each) for each in (await whole.read(run.id), await whole.read_raw(run.id))] == [events, events], tenant
