"""Real servers for tests, as fixtures: one nats-server and one PostgreSQL a session, a database of its own a test.

A server that cannot start fails the test; nothing here skips.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from infra.embedded import Server, nats_server, postgres
from infra.postgres import engine

T = TypeVar("T")
_TEMPLATE = "template_test"
_numbers = itertools.count(1)


class RealNats:
    """A nats-server that a test may kill: it comes back on the same port with the same store."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.server: Server = _finish(nats_server.start(home))

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def monitor(self) -> str:
        return self.server.monitor

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.server.process.send(signal.SIGKILL)
        await self.server.process.gone()

    async def restart(self) -> None:
        """Start it again; clients find it at the same URL."""
        self.server = await nats_server.start(self._home)

    async def kill_and_restart(self) -> None:
        await self.kill()
        await self.restart()

    def close(self) -> None:
        _finish(nats_server.stop(self.server))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty data directory that every account may enter (pytest's own are closed to `nobody`)."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def real_nats() -> Iterator[RealNats]:
    """The session's nats-server, fsync always; for tests that kill it."""
    with open_folder() as folder:
        server = RealNats(folder)
        yield server
        server.close()


@pytest.fixture(scope="session")
def nats_url(real_nats: RealNats) -> str:
    """The URL of the session's nats-server. Streams outlive a test: name them so that tests do not meet."""
    return real_nats.url


@pytest.fixture(scope="session")
def migrate() -> Callable[[str], None]:
    """What makes the tables of a new database, given its URL."""
    return lambda url: _finish(engine.migrate(url))


@pytest.fixture(scope="session")
def postgres_cluster(migrate: Callable[[str], None]) -> Iterator[Server]:
    """The session's PostgreSQL, with a migrated template database."""
    with open_folder() as folder:
        server = _finish(postgres.start(folder))
        _administer(server, f"create database {_TEMPLATE} template {postgres.DATABASE}")
        migrate(_database(server, _TEMPLATE))
        yield server
        _finish(postgres.stop(server))


@pytest.fixture
def postgres_url(postgres_cluster: Server) -> Iterator[str]:
    """A fresh database, with the extensions and what `migrate` made; gone after the test."""
    name = f"test_{next(_numbers)}"
    _administer(postgres_cluster, f"create database {name} template {_TEMPLATE}")
    yield _database(postgres_cluster, name)
    _administer(postgres_cluster, f"drop database {name} with (force)")


class open_folder:
    """A temporary folder with a short path that others may pass through; removed at the end."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="mp-"))
        self._path.chmod(0o711)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


def _database(server: Server, name: str) -> str:
    return server.url.replace(f"/{postgres.DATABASE}?", f"/{name}?")


def _administer(server: Server, command: str) -> None:
    with psycopg.connect(_database(server, "postgres"), autocommit=True) as connection:
        connection.execute(command)


def _finish(work: Coroutine[object, object, T]) -> T:
    """Run it on a loop of another thread: the test's own loop is not to be touched."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def as_root() -> bool:
    return os.geteuid() == 0
