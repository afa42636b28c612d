"""The process that reads files: what it may cost, and what its end costs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.ingestion.reader import Reader
from services.retrieval.documents import UnreadableDocument
from services.retrieval.loaders.limits import MIB, Limits
from tests.support import files

SMALL = Limits(file=60 * MIB, memory=400 * MIB, seconds=1)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    reader = Reader(SMALL)
    yield reader
    await reader.close()


async def refusal(reader: Reader, path: Path) -> str:
    with pytest.raises(UnreadableDocument) as error:
        await reader.read(path, path.name)
    return f"{error.value.what} {error.value.why}"


async def good(reader: Reader, folder: Path) -> bool:
    """Whether it still reads."""
    path = folder / "good.md"
    path.write_text("# Good\n\nText.\n")
    return (await reader.read(path, "good.md")).text == "# Good\n\nText.\n"


async def test_many_files_are_read_by_one_process(reader: Reader, tmp_path: Path) -> None:
    document = await reader.read(files.write_pdf(tmp_path / "a.pdf", [("One", "text")], "T"), "a.pdf")
    assert (document.title, document.pages, document.marks[1].title) == ("T", (0,), "One")
    first = reader._process
    assert await good(reader, tmp_path) and reader._process is first


async def test_a_file_that_is_too_large_is_not_even_opened(reader: Reader, tmp_path: Path) -> None:
    with (tmp_path / "large.pdf").open("wb") as file:
        file.truncate(500 * MIB)
    assert "500 MiB" in await refusal(reader, tmp_path / "large.pdf")
    assert reader._process is None


async def test_a_file_that_takes_all_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / "wide.json").write_text("[" + "[]," * 4_000_000 + "0]")
    reader = Reader(Limits(memory=200 * MIB))
    assert "200 MiB" in await refusal(reader, tmp_path / "wide.json")
    assert await good(reader, tmp_path)
    await reader.close()


async def test_a_file_that_takes_too_long_is_named(reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.txt")  # opening it waits for a writer
    assert "more than 1 s" in await refusal(reader, tmp_path / "endless.txt")
    assert await good(reader, tmp_path)


async def test_a_file_that_computes_too_long_is_named(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "wide.html").write_text("<p>x</p>" * 200_000)
    assert "more than 1 s" in await refusal(reader, tmp_path / "wide.html")
    assert await good(reader, tmp_path)


async def test_a_reader_that_dies_costs_one_file(reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.txt")
    reading = asyncio.ensure_future(reader.read(tmp_path / "endless.txt", "endless.txt"))
    async with asyncio.timeout(10):
        while reader._process is None or not reader._busy:
            await asyncio.sleep(0.01)
    os.kill(reader._process.pid, signal.SIGKILL)
    with pytest.raises(UnreadableDocument) as error:
        await reading
    assert "signal 9" in error.value.why
    assert await good(reader, tmp_path)


async def test_what_cannot_be_stored_is_replaced_one_for_one(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "x\\u0000y\\ud800z"}')
    document = await reader.read(tmp_path / "a.json", "a.json")
    assert document.text == "$\na: x\ufffdy\ufffdz\n\n"


async def test_giving_up_a_file_leaves_no_process(reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.txt")
    reading = asyncio.ensure_future(reader.read(tmp_path / "endless.txt", "endless.txt"))
    async with asyncio.timeout(10):
        while reader._process is None or not reader._busy:
            await asyncio.sleep(0.01)
    process = reader._process
    reading.cancel()
    await asyncio.wait([reading])
    assert process.returncode is not None and reader._process is None
