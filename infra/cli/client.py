"""What every command does that speaks to a running stack: connect, ask a service, find a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

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
    found: list[RunSummary] = []
    which = which.model_copy(update={"tenant": world.settings.tenant})
    while len(found) < limit:
        count = min(_PAGE, limit - len(found))
        asked = {"which": which.model_dump(mode="json"), "limit": count}
        page = [RunSummary.model_validate(each) for each in await ask_list(world, "recorder", "runs", asked)]
        found.extend(page)
        if len(page) < count:
            break
        which = which.model_copy(update={"before": page[-1].started})
    return found


async def find_run(world: World, name: str) -> RunId:
    """The run of an id, or of the beginning of one. Raises ProtocolError for what is neither, UnknownPrefix."""
    if len(name) < SHORTEST or len(name) >= len("YYYYMM-") + 32:
        return checked_run(name)
    runs = await list_runs(world, RunFilter(), _PAGE * _PAGES)
    found = [each.run for each in runs if each.run.startswith(name)]
    if len(found) == 1:
        return checked_run(found[0])
    if found:
        raise UnknownPrefix(f"{len(found)} runs begin with {name}.", why=", ".join(found[:3]), hint="write more of the id")
    raise UnknownPrefix(f"No run begins with {name}.", why=f"looked at the last {len(runs)} runs", hint="milepost runs ls")


async def events_of(world: World, name: str) -> tuple[RunId, list[tuple[Stored, bytes]]]:
    """A run's facts, each with its bytes as stored. Raises UnknownRun, and what find_run raises."""
    run = await find_run(world, name)
    facts = await world.log.read_both(run)
    if not facts:
        raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="milepost runs ls")
    return run, facts


def short_id(run: str) -> str:
    """As much of a run's id as a person needs."""
    return run[:SHOWN]
