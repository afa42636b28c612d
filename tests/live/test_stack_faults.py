"""Faults of a whole stack of real processes: whatever is away, stopped or killed, runs resume and effects happen once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from infra.embedded import postgres
from infra.processes import python
from infra.stack import AlreadyRunning
from infra.wiring import World
from runtime.client import Client
from schemas import subjects
from schemas.agent import Budget
from schemas.events import RunCompleted, RunFailed, ToolInDoubt, ToolReturned
from tests.support.servers import as_root
from tests.support.stack import OPERATOR, LocalStack, local_stack, open_folder, persist, reached, see_through

WEB, DB, IDLE = "i-bp1f8k2m9x4q7web01", "i-bp1h5t9r4y7u1dbm01", "i-bp1j2s8d6f3g9job01"
ROLES = ("llm", "retrieval", "memory", "policy", "tools", "recorder", "conductor")


# --- the cloud ------------------------------------------------------------------------------------


async def test_a_cloud_that_throttles_is_asked_again(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects(WEB)
    await scripted_stack.fault(how="error", code="Throttling.User", times=2, action="RenewInstance")
    async with scripted_stack.session() as (client, _):
        ended = await see_through(client, (await client.ask(f"renew {WEB} for 1 week", agent=OPERATOR)).run)
    assert isinstance(ended.stored.fact.body, RunCompleted)
    assert "Alibaba" not in (ended.state.answer or "")
    assert len(await scripted_stack.effects(WEB)) == len(before) + 1


@pytest.mark.parametrize(
    ("action", "instance", "task"),
    [("RenewInstance", DB, f"renew {DB} for 1 week"), ("ModifyInstanceAttribute", IDLE, f"describe {IDLE} as dropped")],
)
async def test_a_connection_cut_after_the_commit_leaves_one_effect_and_its_receipt(
    scripted_stack: LocalStack, action: str, instance: str, task: str
) -> None:
    """RenewInstance is asked again with its token; ModifyInstanceAttribute knows none and is looked for."""
    before = await scripted_stack.effects(instance)
    await scripted_stack.fault(how="drop", when="after", action=action)
    async with scripted_stack.session() as (client, world):
        run = (await client.ask(task, agent=OPERATOR)).run
        await see_through(client, run)
        bodies = [stored.fact.body for stored in await world.log.read(run)]
    assert [type(body) for body in bodies if isinstance(body, ToolReturned | ToolInDoubt)] == [ToolReturned]
    assert [effect["action"] for effect in (await scripted_stack.effects(instance))[len(before) :]] == [action]


# --- the bus, and processes that die or stop while a run waits ------------------------------------


async def test_every_service_resumes_by_itself_after_the_bus_was_killed(scripted_stack: LocalStack) -> None:
    pids = {role: scripted_stack.member(role).pid for role in ROLES}
    async with scripted_stack.session() as (client, _):
        runs = [(await client.ask("what time is it", agent=OPERATOR)).run for _ in range(5)]
        await scripted_stack.kill("nats")
        runs += [(await persist(lambda: client.ask("what time is it", agent=OPERATOR))).run for _ in range(5)]
        for run in runs:
            assert (await see_through(client, run)).state.outcome == "completed"
        for role in ROLES:
            await persist(lambda role=role: client.bus.ask(f"mp.svc.{role}.stats", b"", 2.0))  # type: ignore[misc]
    assert {role: scripted_stack.member(role).pid for role in ROLES} == pids


async def test_what_waits_for_a_person_or_a_clock_goes_on_after_kills(scripted_stack: LocalStack) -> None:
    before = await scripted_stack.effects(WEB)
    patient = OPERATOR
    hasty = OPERATOR.model_copy(update={"budget": Budget(approval_s=4.0)})
    endless = OPERATOR.model_copy(update={"budget": Budget(deadline_s=4.0, steps=1000, calls=1000)})
    async with scripted_stack.session() as (client, _):
        approved = (await client.ask(f"renew {WEB} for 1 week", agent=patient)).run
        expired = (await client.ask(f"renew {WEB} for 2 week", agent=hasty)).run
        late = (await client.ask("do it for ever", agent=endless)).run
        for run in (approved, expired):
            await reached(client, run, lambda update: bool(update.state.approvals()))
        await asyncio.gather(*(scripted_stack.kill(label) for label in ("conductor", "tools", "nats")))

        async def refuse_to_answer(run: object, approval: object) -> None:
            return None

        assert "Nobody approved" in ((await see_through(client, expired, refuse_to_answer)).state.answer or "")
        failed = (await see_through(client, late)).stored.fact.body
        assert isinstance(failed, RunFailed) and failed.failure.type == "DeadlineExceeded"
        assert isinstance((await see_through(client, approved)).stored.fact.body, RunCompleted)
    assert len(await scripted_stack.effects(WEB)) == len(before) + 1


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_does_nothing_twice(doubled_stack: LocalStack) -> None:
    """Both tools workers stop while the cloud has committed and does not answer; their command is handed out again."""
    before = await doubled_stack.effects(DB)
    await doubled_stack.fault(how="hang", when="after", action="RenewInstance")
    workers = [doubled_stack.member(label).process for label in ("tools", "tools-2")]
    async with doubled_stack.session() as (client, world):
        run = (await client.ask(f"renew {DB} for 2 week", agent=OPERATOR)).run
        ending = asyncio.create_task(see_through(client, run))
        await _until(lambda: _grown(doubled_stack, DB, len(before)))
        for worker in workers:
            worker.send(signal.SIGSTOP)
        try:
            await _until(lambda: _redelivered(world))
        finally:
            for worker in workers:
                os.kill(worker.pid, signal.SIGCONT)
        assert (await ending).state.outcome == "completed"
        bodies = [stored.fact.body for stored in await world.log.read(run)]
    assert sum(isinstance(body, ToolReturned) for body in bodies) == 1
    assert len(await doubled_stack.effects(DB)) == len(before) + 1


async def _grown(stack: LocalStack, instance: str, count: int) -> bool:
    return len(await stack.effects(instance)) > count


async def _redelivered(world: World) -> bool:
    js = world.connection.client.jetstream()
    return bool((await js.consumer_info(subjects.COMMAND_STREAM, "tools-builtin")).num_redelivered)


# --- the database ---------------------------------------------------------------------------------


async def test_runs_wait_for_a_database_that_is_away_and_none_fails() -> None:
    """It goes away in the middle, and a service starts while it is away."""
    with open_folder() as home, open_folder() as elsewhere:
        server = await postgres.start(elsewhere)
        try:
            async with local_stack(home, postgres__url=server.url) as stack, stack.session() as (client, _):
                first = await see_through(client, (await client.ask("what time is it", agent=OPERATOR)).run)
                assert first.state.outcome == "completed"
                await postgres.stop(server)
                await stack.kill("memory")
                await stack.kill("recorder")
                runs = [(await client.ask(f"describe {IDLE} as text-{n}", agent=OPERATOR)).run for n in range(3)]
                await _until(lambda: _retried(client, "retrieval", 12))
                server = await postgres.start(elsewhere)
                for run in runs:
                    assert (await see_through(client, run)).state.outcome == "completed"
                listed = orjson.loads(await persist(lambda: client.bus.ask("mp.svc.recorder.runs", b"{}", 5.0)))
                assert {row["run"] for row in listed} >= {first.state.run}
        finally:
            await postgres.stop(server)


async def _retried(client: Client, role: str, times: int) -> bool:
    said = await persist(lambda: client.bus.ask(f"mp.svc.{role}.stats", b"", 2.0))
    return int(orjson.loads(said)["retried"]) >= times


# --- the machine ----------------------------------------------------------------------------------


async def test_a_second_up_in_one_folder_is_refused(scripted_stack: LocalStack) -> None:
    with pytest.raises(AlreadyRunning) as refused:
        await scripted_stack.up()
    assert str(scripted_stack.home) in refused.value.what and "milepost down" in refused.value.hint
    command, environment = python("infra", "up", "--home", str(scripted_stack.home))
    script = {"MILEPOST_MODEL_SCRIPTED": str(scripted_stack.loaded.settings.model.scripted)}
    by_hand = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **environment, **script}, capture_output=True, text=True, timeout=60
    )
    assert by_hand.returncode == 1
    assert "already running" in by_hand.stderr + by_hand.stdout


async def test_services_follow_a_bus_whose_port_a_stranger_took(scripted_stack: LocalStack) -> None:
    supervisor, bus = scripted_stack.member("supervisor").process, scripted_stack.member("nats")
    old = scripted_stack.now.nats_url
    supervisor.send(signal.SIGSTOP)  # so that the stranger is first
    try:
        bus.process.send(signal.SIGKILL)
        stranger = socket.socket()
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await _until(lambda: _taken(stranger, int(old.rpartition(":")[2])))
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)
    with stranger:
        before = {role: scripted_stack.member(role) for role in ROLES}
        await scripted_stack.ready_again(bus)
        assert scripted_stack.now.nats_url != old
        for member in before.values():
            await scripted_stack.ready_again(member)
        async with scripted_stack.session() as (client, _):
            ended = await see_through(client, (await client.ask("what time is it", agent=OPERATOR)).run)
    assert ended.state.outcome == "completed"
    assert "taken by another program" in (scripted_stack.home / "logs" / "up.log").read_text()


async def _taken(stranger: socket.socket, port: int) -> bool:
    try:
        stranger.bind(("127.0.0.1", port))
    except OSError:
        return False
    stranger.listen()
    return True


@pytest.mark.skipif(not as_root() or not sys.platform.startswith("linux"), reason="mounting a small disk needs root")
async def test_a_full_disk_is_said_and_the_log_goes_on_when_there_is_room() -> None:
    with open_folder() as home:
        disk = home / "stack" / "nats"
        disk.mkdir(parents=True)
        mounted = await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(disk)])
        if mounted.returncode:
            pytest.skip("this machine lets nobody mount a disk")
        try:
            async with local_stack(home) as stack, stack.session() as (client, _):
                ballast = disk / "ballast"
                _fill(ballast)
                asking = asyncio.create_task(persist(lambda: client.ask("hello", agent=OPERATOR, key="one")))
                await _until(lambda: _warned(stack, "no space left on device"))
                assert not asking.done(), "nothing may be acknowledged that is not on disk"
                ballast.unlink()
                assert (await see_through(client, (await asking).run)).state.outcome == "completed"
                await _until(lambda: _warned(stack, ""))
                assert "no space left" in (stack.home / "logs" / "up.log").read_text()
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", "-l", str(disk)])


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while ballast.write(b"x" * 65536):
                pass
        except OSError:
            return


async def _warned(stack: LocalStack, text: str) -> bool:
    """Whether it warns of this; with an empty text, whether it warns of nothing."""
    warnings = " ".join(stack.now.warnings)
    return text in warnings if text else not warnings


def test_a_folder_of_the_users_own_named_like_ours_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise RuntimeError('the wrong schemas')")
    command, environment = python("infra", "config", "--json")
    said = subprocess.run(
        command, env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(said.stdout)["home"]


async def _until(holds: Callable[[], Awaitable[bool]], limit_s: float = 60.0) -> None:
    give_up = time.monotonic() + limit_s
    while not await holds():
        assert time.monotonic() < give_up, "it did not come to that"
        await asyncio.sleep(0.05)
