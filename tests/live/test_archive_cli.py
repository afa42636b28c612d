"""`milepost archive` as an administrator runs it, on a stack that goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.archive.source import Source
from infra.archive.store import open_store
from infra.cli import checks, main, show
from infra.jetstream import streams
from infra.wiring import open_payloads
from runtime.payloads import SealedPayloads
from schemas.ids import SEAL_SLOT, RunId
from tests.support.archived import JANUARY, Archiving, begun
from tests.support.sealing import Keys
from tests.support.stack import LocalStack, for_the_session

FEW = {f"services__{name}": 0 for name in ("conductor", "llm", "retrieval", "policy", "tools")}
"""Nobody decides anything here: the runs are over."""

Milepost = Callable[..., str]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with tempfile.TemporaryDirectory() as folder:
        yield from for_the_session(archive__to=f"{folder}/archive", **FEW)


@pytest.fixture
def milepost(stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Milepost:
    """`milepost ARGUMENTS` as it would be called beside this stack; gives what it says."""
    for name, value in stack.loaded.environment().items():
        monkeypatch.setenv(name, value)

    def call(*words: str, expected: int = 0) -> str:
        monkeypatch.setitem(show._STATE, "json", False)
        monkeypatch.setattr(sys, "argv", ["milepost", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == expected, said
        return said.out + said.err

    return call


async def lived(stack: LocalStack) -> tuple[RunId, RunId]:
    """Two runs of long ago: one that ended, one that did not."""
    async with stack.session() as (_, world):
        payloads = open_payloads(world)
        assert isinstance(payloads, SealedPayloads)
        source, store = Source(world.connection, world.log, world.keyring), open_store(stack.loaded.settings.archive)
        archiving = Archiving(world.connection, world.log, source, Keys(), payloads, store)
        ended, run = await archiving.lived("one", tenant="default"), begun("two", JANUARY, "default")
        await archiving.say([stored.fact for stored in run.log])
        return ended, run.id


async def end(stack: LocalStack) -> None:
    """The one that was open ends."""
    async with stack.session() as (_, world):
        run = begun("two", JANUARY, "default")
        there = len(run.log)
        run.cancel()
        run.end()
        for stored in run.log[there:]:
            assert await world.log.append(stored.fact)


async def sealed(stack: LocalStack, run: RunId) -> None:
    """Wait until the recorder has sealed a run, so that nothing of it changes any more."""
    async with stack.session() as (_, world), asyncio.timeout(60):
        while not await world.log.holds(run, "default", "recorder", SEAL_SLOT):
            await asyncio.sleep(0.05)


async def looked(stack: LocalStack) -> list[tuple[str, str]]:
    """What `milepost doctor` finds of the archive."""
    async with stack.session() as (_, world):
        return [(each.level, each.text) for each in await checks.archive(world)]


async def in_log(stack: LocalStack) -> list[str]:
    async with stack.session() as (_, world):
        return await streams.segments(world.connection)


@pytest.mark.timeout(120)
def test_a_month_is_archived_dropped_read_and_expired(stack: LocalStack, milepost: Milepost) -> None:
    def said(*words: str, expected: int = 0) -> Any:
        return json.loads(milepost(*words, "--json", expected=expected))

    ended, open_ = asyncio.run(lived(stack))
    asyncio.run(sealed(stack, ended))
    shown = said("runs", "show", ended)["events"]
    row, *_ = said("archive", "ls")["segments"]
    assert (row["segment"], row["state"], row["runs"], row["open"]) == (JANUARY, "closed", 2, 1)
    assert [alarm["kind"] for alarm in row["alarms"]] == ["late"]
    late = [text for level, text in asyncio.run(looked(stack)) if level == "warn"]
    assert any("is not archived: milepost archive write 202601" in text for text in late)

    written = said("archive", "write", JANUARY)
    assert (written["fresh"], written["counts"]["runs"]) == (True, 2)
    assert said("archive", "write", JANUARY)["fresh"] is False
    assert "1 runs of segment 202601 have not ended" in milepost("archive", "drop", JANUARY, "--yes", expected=1)
    asyncio.run(end(stack))
    asyncio.run(sealed(stack, open_))
    problems = said("archive", "verify", JANUARY, expected=4)["problems"]
    assert {each["run"] for each in problems} == {"", open_}
    milepost("archive", "write", JANUARY)
    assert "and holds what the log holds" in milepost("archive", "verify", JANUARY)
    assert "cannot be taken back" in milepost("archive", "drop", JANUARY, expected=1)
    assert JANUARY in asyncio.run(in_log(stack))
    milepost("archive", "drop", JANUARY, "--yes")

    assert JANUARY not in asyncio.run(in_log(stack))
    assert said("runs", "show", ended)["events"] == shown
    assert said("replay", open_[:12])["same"] is True
    followed = [json.loads(each) for each in milepost("runs", "follow", ended, "--json").splitlines()]
    assert [each["id"] for each in followed] == [each["id"] for each in shown[:-1]]  # the receipt comes after the end
    offline = said("archive", "verify", JANUARY, "--offline")
    assert (offline["log"], offline["counts"]["sealed"]) == (False, 2)
    row, *_ = said("archive", "ls")["segments"]
    assert (row["state"], row["alarms"]) == ("dropped", [])
    assert "archived" in milepost("archive", "ls")

    assert "would go" in milepost("archive", "expire", "--keep", "3m")
    assert said("archive", "expire", "--keep", "9y")["segments"] == []
    gone = said("archive", "expire", "--keep", "3m", "--yes")["segments"]
    assert [(each["segment"], each["removed"]) for each in gone] == [(JANUARY, True)]
    assert "There is no run" in milepost("runs", "show", ended, expected=1)
    assert "is no segment" in milepost("archive", "write", "../../etc", expected=1)
    assert "is not closed" in milepost("archive", "write", asyncio.run(in_log(stack))[-1], expected=1)
