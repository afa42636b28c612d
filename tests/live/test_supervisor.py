from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from infra import stack
from infra.embedded import EmbeddedServerError
from infra.processes import Process, python, spawn
from infra.stack import AlreadyRunning, Member, NotRunning, Stack, StackError
from infra.supervisor import up
from tests.support.servers import as_root
from tests.support.tiny_stack import plan


async def _start(home: Path, services: dict[str, int], **more: object) -> Stack:
    command, environment = python("tests.support.tiny_stack", str(home), json.dumps({"services": services, **more}))
    return await stack.start_detached(command, home, environment=environment, timeout=60)


@asynccontextmanager
async def _running(home: Path, services: dict[str, int], **more: object) -> AsyncIterator[Stack]:
    try:
        yield await _start(home, services, **more)
    finally:
        await stack.down(home)


async def _until(home: Path, holds: Callable[[Stack], bool]) -> Stack:
    async with asyncio.timeout(30):
        while True:
            now = stack.read(home)
            if now is not None and holds(now):
                return now
            await asyncio.sleep(0.02)


def _member(state: Stack, label: str) -> Member:
    member = state.member(label)
    assert member is not None, label
    return member


def _ready_again(label: str, before: Member) -> Callable[[Stack], bool]:
    def holds(state: Stack) -> bool:
        now = _member(state, label)
        return now.state == "ready" and now.pid != before.pid

    return holds


async def test_up_brings_every_service_to_life_and_down_leaves_nothing(home: Path) -> None:
    async with _running(home, {"conductor": 1, "tools": 2}) as state:
        labels = [member.label for member in state.members]
        status = stack.status(home)

        assert sorted(labels) == ["conductor", "forkserver", "nats", "postgres", "supervisor", "tools", "tools-2"]
        assert {member.state for member in state.members} == {"ready"}
        assert all(health.alive and health.memory for health in status.processes)
        assert status.running
        with psycopg.connect(state.postgres_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert state.nats_url in (home / "notes" / "tools-2").read_text()
        assert (home / "stack.json").stat().st_mode & 0o077 == 0

    assert not any(member.process.alive() for member in state.members)
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text()
    assert not await stack.down(home)
    with pytest.raises(NotRunning):
        stack.status(home)
    with pytest.raises(NotRunning):
        stack.attach(home)


async def test_a_service_is_forked_without_threads_from_the_fork_server(home: Path) -> None:
    async with _running(home, {"llm": 1}, preload=["pydantic"]) as state:
        pid, parent, threads, _ = (home / "notes" / "llm-1").read_text().split()

        assert int(pid) == _member(state, "llm").pid
        assert int(parent) == _member(state, "forkserver").pid
        assert threads == "1"


async def test_a_module_that_starts_threads_makes_services_programs_of_their_own(home: Path) -> None:
    async with _running(home, {"llm": 1}, preload=["numpy"]):
        state = await _until(home, lambda state: _member(state, "forkserver").state == "failing")
        _, parent, _, _ = (home / "notes" / "llm-1").read_text().split()

        assert int(parent) == _member(state, "supervisor").pid
        assert "started threads" in (home / "logs" / "forkserver.log").read_text()


async def test_services_run_without_the_fork_server(home: Path) -> None:
    async with _running(home, {"llm": 1}, fork=False) as state:
        assert state.member("forkserver") is None
        assert _member(state, "llm").process.alive()


async def test_a_second_up_in_the_same_folder_is_refused(home: Path) -> None:
    async with _running(home, {"llm": 1}) as state:
        with pytest.raises(AlreadyRunning) as detached:
            await _start(home, {"llm": 1})
        with pytest.raises(AlreadyRunning) as direct:
            await up(plan(home, {"llm": 1}))

        assert "milepost status" in detached.value.hint
        assert direct.value.pid == _member(state, "supervisor").pid
        assert stack.attach(home) == state


@pytest.mark.parametrize("label", ["llm", "nats", "postgres"])
async def test_a_killed_process_is_started_again_at_the_same_address(home: Path, label: str) -> None:
    async with _running(home, {"llm": 1}) as state:
        before = _member(state, label)
        before.process.send(signal.SIGKILL)

        after = await _until(home, _ready_again(label, before))

        assert _member(after, label).restarts == 1
        assert (after.nats_url, after.postgres_url) == (state.nats_url, state.postgres_url)
        with psycopg.connect(after.postgres_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


async def test_many_kills_in_a_row_do_not_slow_the_return_of_a_service(home: Path) -> None:
    async with _running(home, {"llm": 1}) as state:
        llm = _member(state, "llm")
        for _ in range(10):
            llm.process.send(signal.SIGKILL)
            llm = _member(await _until(home, _ready_again("llm", llm)), "llm")

        assert llm.restarts == 10


async def test_a_killed_fork_server_takes_no_service_with_it_and_comes_back(home: Path) -> None:
    async with _running(home, {"llm": 1}) as state:
        forks, llm = _member(state, "forkserver"), _member(state, "llm")
        forks.process.send(signal.SIGKILL)
        await _until(home, _ready_again("forkserver", forks))
        assert llm.process.alive()
        llm.process.send(signal.SIGKILL)

        now = await _until(home, _ready_again("llm", llm))

        parent = (home / "notes" / "llm-1").read_text().splitlines()[-1].split()[1]
        assert int(parent) == _member(now, "forkserver").pid


async def test_a_killed_supervisor_leaves_nothing_that_the_next_up_does_not_clear(home: Path) -> None:
    first = await _start(home, {"llm": 1})
    _member(first, "supervisor").process.send(signal.SIGKILL)
    for label in ("supervisor", "llm"):
        assert await _member(first, label).process.gone(10)

    async with _running(home, {"llm": 1}) as second:
        assert second.nats_url == first.nats_url
        assert not any(member.process.alive() for member in first.members)
        assert "was killed" in (home / "logs" / "up.log").read_text()


async def test_down_clears_what_a_killed_supervisor_left(home: Path) -> None:
    state = await _start(home, {"llm": 1}, fork=False)
    _member(state, "supervisor").process.send(signal.SIGKILL)
    await _member(state, "supervisor").process.gone()
    assert _member(state, "llm").process.alive()
    assert not stack.status(home).running

    assert await stack.down(home)

    assert not any(member.process.alive() for member in state.members)


async def test_a_service_that_cannot_start_fails_the_whole_up_with_its_last_words(home: Path) -> None:
    with pytest.raises(StackError, match="crashing ended before it was ready") as caught:
        await up(plan(home, {"llm": 1, "crashing": 1}))

    assert "no model file at /nowhere" in caught.value.why
    assert not _left_running(home)


async def test_a_service_that_never_says_ready_fails_the_up(home: Path) -> None:
    with pytest.raises(StackError, match=r"deaf was not ready within 0 s"):
        await up(plan(home, {"deaf": 1}, ready_seconds=0.3))

    assert not _left_running(home)


async def test_a_detached_up_that_fails_says_why(home: Path) -> None:
    with pytest.raises(StackError) as caught:
        await _start(home, {"crashing": 1})

    assert "no model file at /nowhere" in caught.value.why


async def test_a_service_that_cannot_stay_up_is_reported_with_its_last_words_and_the_rest_goes_on(home: Path) -> None:
    async with _running(home, {"llm": 1, "crash_later": 1}):
        state = await _until(home, lambda state: _member(state, "crash_later").state == "failing")

        assert "broke after it was ready" in _member(state, "crash_later").why
        assert _member(state, "llm").process.alive()
        assert "crash_later cannot stay up" in (home / "logs" / "up.log").read_text()


async def test_a_service_that_will_not_stop_is_killed_at_the_deadline(home: Path) -> None:
    state = await _start(home, {"stubborn": 1}, stop_seconds=0.3)

    assert await stack.down(home)

    assert not any(member.process.alive() for member in state.members)
    assert "1 services did not stop within" in (home / "logs" / "up.log").read_text()


async def test_interrupting_a_start_stops_what_had_started(home: Path) -> None:
    command, environment = python("tests.support.tiny_stack", str(home), json.dumps({"services": {"deaf": 1}}))
    process = spawn(command, log=home / "logs" / "up.log", environment=environment)
    state = await _until(home, lambda state: state.member("deaf") is not None and _member(state, "deaf").pid != 0)

    process.send(signal.SIGINT)

    assert await process.gone(20)
    assert process.ended_by() == "exit 0"
    assert not any(member.process.alive() for member in state.members)


async def test_the_servers_are_prepared_once_before_any_service_starts(home: Path) -> None:
    seen: list[bool] = []

    async def prepare(state: Stack) -> None:
        with psycopg.connect(state.postgres_url) as connection:
            connection.execute("select 1")
        seen.append((home / "notes").exists())
        raise StackError("migrations failed")

    with pytest.raises(StackError, match="migrations failed"):
        await up(plan(home, {"llm": 1}, prepare=prepare))

    assert seen == [False]
    assert not _left_running(home)


async def test_a_first_service_runs_to_its_end_before_the_others_start(home: Path) -> None:
    async with _running(home, {"llm": 1}, first="once") as state:
        first, later = (int((home / "notes" / name).read_text().split()[0]) for name in ("once-1", "llm-1"))

        assert state.member("once") is None
        assert Process.of(first) is None
        assert Process.of(later) is not None

    with pytest.raises(StackError, match=r"crashing failed \(exit 3\)") as caught:
        await up(plan(home, {"conductor": 1}, first="crashing"))

    assert "no model file at /nowhere" in caught.value.why
    assert not (home / "notes" / "conductor-1").exists()


async def test_external_servers_that_do_not_answer_are_refused(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"No JetStream answers at nats://127\.0\.0\.1:1"):
        await up(plan(home, {"llm": 1}, nats_url="nats://me:hush@127.0.0.1:1"))

    assert not _left_running(home)


async def test_external_servers_are_used_and_left_alone(home: Path, nats_url: str, postgres_url: str) -> None:
    async with _running(home, {"llm": 1}, nats_url=nats_url, postgres_url=postgres_url) as state:
        assert sorted(member.label for member in state.members) == ["forkserver", "llm", "supervisor"]
        assert nats_url in (home / "notes" / "llm-1").read_text()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.skipif(not as_root(), reason="root is needed to become another user")
async def test_an_ordinary_user_runs_a_stack(home: Path) -> None:
    home.chmod(0o777)
    interpreter = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(interpreter).exists():
        pytest.skip("no Python on this machine that the user nobody may run")
    own = home / "own"
    command, environment = python("tests.support.tiny_stack", str(own), json.dumps({"services": {"llm": 1}}))
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    environment = {
        "PYTHONPATH": os.pathsep.join([environment.get("PYTHONPATH", ""), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    account = pwd.getpwnam("nobody")
    (home / "log").touch()
    process = spawn(
        [interpreter, *command[1:]],
        log=home / "log",
        environment=environment,
        directory=Path("/"),
        account=(account.pw_uid, account.pw_gid),
    )
    try:
        state = await _until(own, lambda state: state.ready)
        assert os.stat(f"/proc/{_member(state, 'postgres').pid}").st_uid == account.pw_uid
        assert _member(state, "llm").process.alive()
    finally:
        await process.stop(deadline=20)
    assert process.ended_by() == "exit 0"
    assert not any(member.process.alive() for member in state.members)


def test_a_pid_that_was_given_to_a_stranger_is_not_taken_for_a_member() -> None:
    ourselves = Process.of(os.getpid())
    assert ourselves is not None

    impostor = Process(os.getpid(), "another birth")

    assert ourselves.alive()
    assert not impostor.alive()
    impostor.send(signal.SIGKILL)


def _left_running(home: Path) -> list[str]:
    """Command lines of this machine that name the data directory."""
    left = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(home) in line:
                left.append(line)
    return left
