"""What every command does that speaks to a running stack: connect, ask a service, find a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from infra import logs
from infra.cli.options import settings_from
from infra.cli.words import use_language
from infra.session import session
from infra.wiring import World
from runtime.client import Client, UnknownRun
from runtime.log import Stored
from schemas import subjects
from schemas.canonical import Json, canonical, read_json
from schemas.commands import Role
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import RunId, checked_run
from services.recorder.ports import RunFilter, RunSummary

if TYPE_CHECKING:
    from infra.archive.whole import WholeLog

T = TypeVar("T")

ANSWER_S = 15.0
ANSWER_BYTES = 8 * 1024 * 1024
SHORTEST = 10
SHOWN = 15
_PAGE = 50
_PAGES = 20


class UnknownPrefix(MilepostError):
    """No recent run, or more than one, begins so."""


def connected(work: Callable[[Client, World], Awaitable[T]], home: Path | None = None) -> T:
    """Do some work with the stack of this data directory. Raises NotRunning, Unreachable."""
    settings = settings_from(home).settings
    use_language(settings.language)
    logs.configure("client", level="error")

    async def run() -> T:
        async with session(settings) as (client, world):
            return await work(client, world)

    return asyncio.run(run())


async def ask(world: World, role: Role, verb: str, question: object = None, timeout_s: float = ANSWER_S) -> Json:
    """Ask a service a question, and read its answer. Raises what it answered with, or Unreachable."""
    raw = await world.bus.ask(subjects.question(role, verb), canonical(question or {}), timeout_s)
    return read_json(raw, limit=ANSWER_BYTES)


async def ask_list(world: World, role: Role, verb: str, question: object = None, timeout_s: float = ANSWER_S) -> list[object]:
    """As ask, for answers that are lists."""
    answer = await ask(world, role, verb, question, timeout_s)
    if not isinstance(answer, list):
        raise ProtocolError(f"{role} answered {verb} with something else than a list.", hint="milepost doctor")
    return list(answer)


async def list_runs(world: World, which: RunFilter, limit: int) -> list[RunSummary]:
    """Runs of this tenant, newest first, page by page."""
    from infra.cli.run_query import matching

    return [each async for each in matching(world, which, limit)]


async def find_run(world: World, name: str) -> RunId:
    """The run of an id, or of the beginning of one. Raises ProtocolError for what is neither, UnknownPrefix."""
    if len(name) < SHORTEST or len(name) >= len("YYYYMM-") + 32:
        return checked_run(name)
    runs = await list_runs(world, RunFilter(), _PAGE * _PAGES)
    found = [each.run for each in runs if each.run.startswith(name)] or await _elsewhere(world, name)
    if len(found) == 1:
        return checked_run(found[0])
    if found:
        raise UnknownPrefix(f"{len(found)} runs begin with {name}.", why=", ".join(found[:3]), hint="write more of the id")
    raise UnknownPrefix(f"No run begins with {name}.", why=f"looked at the last {len(runs)} runs", hint="milepost runs ls")


async def events_of(world: World, name: str) -> tuple[RunId, list[tuple[Stored, bytes]]]:
    """A run's facts, each with its bytes as stored: from the log, else from the archive, else from a file that was imported.

    Raises UnknownRun, ArchiveError, BadArchive, BadExport, and what find_run raises.
    """
    run = await find_run(world, name)
    facts = await whole_log(world).read_both(run)
    if not facts:
        from infra.exports.imported import open_imported

        imported = open_imported(world.settings.home, run)
        facts = list(imported.both) if imported else []
    if not facts:
        why = "neither the log nor the archive holds it" if world.settings.archive.to else "no log holds it"
        raise UnknownRun(f"There is no run {run}.", why=why, hint="milepost runs ls")
    return run, facts


def whole_log(world: World) -> WholeLog:
    """The log, and behind it the archive if one is set: for whoever only reads. Raises ArchiveError."""
    from infra.archive import whole

    return whole.whole_log(world.log, world.keyring, world.settings.archive, world.settings.tenant)


def whole_client(client: Client, world: World) -> Client:
    """A client that can read archived runs, too; what it says goes into the log."""
    return Client(whole_log(world), client.bus, world.clock, tenant=client.tenant, user=client.user)


async def _elsewhere(world: World, name: str) -> list[str]:
    """Runs whose ids begin so, that the index does not list: imported ones, else archived ones."""
    from infra.exports.imported import imported_runs

    imported = [each for each in imported_runs(world.settings.home) if each.startswith(name)]
    return [*imported] or await _archived_beginning(world, name)


async def _archived_beginning(world: World, name: str) -> list[str]:
    """Archived runs whose ids begin so: the index knows them no longer if it was made anew without them."""
    from infra.archive.layout import is_segment
    from infra.archive.reading import ArchivedTenant

    segment = name[:6]
    store = whole_log(world).archive if world.settings.archive.to and is_segment(segment) else None
    if store is None:
        return []
    return [*await asyncio.to_thread(ArchivedTenant(store, world.settings.tenant).beginning, segment, name)]


def short_id(run: str) -> str:
    """As much of a run's id as a person needs."""
    return run[:SHOWN]
