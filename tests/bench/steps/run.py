"""What one durable step costs, here and at our peers, in one run on one machine: python -m tests.bench.steps.run

Every side takes its turn in every repetition, so that a busy moment of the machine hits all of them; a figure is the
median of its repetitions. The last line is one JSON object; null stands where a side could not run, with the reason above.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.embedded import nats_server, postgres
from schemas.errors import MilepostError
from tests.bench.steps.places import HERE, PLACE, Missing, free_port, output, python_with, restate_server, running

TURNS = 25
STEPS = 200
AT_ONCE = 64
PEERS_AT_ONCE = (16, 64)
READY_S = 60.0

Figures = dict[str, float]
Measure = Callable[[int], Awaitable[Figures]]
Open = Callable[[AsyncExitStack, Path], Awaitable[Measure]]


@dataclass(slots=True)
class Side:
    """One that is measured. keeps: what is on disk, fsynced, before a step counts as done."""

    title: str
    prefix: str
    open: Open
    keeps: str
    measure: Measure | None = None
    figures: list[Figures] = field(default_factory=list)
    reason: str = ""

    async def attempt(self, work: Awaitable[object]) -> object:
        """The result of some work of this side; None and a reason when it fails, which breaks nobody else."""
        try:
            return await work
        except (Missing, MilepostError, OSError, TimeoutError) as error:
            self.reason, self.measure = str(error) or type(error).__name__, None
            print(f"{self.title}: null, because {self.reason}", flush=True)
            return None

    def median(self, name: str) -> float | None:
        values = [each[name] for each in self.figures if name in each]
        return statistics.median(values) if values else None


def milepost(sync_always: bool, *, sealed: bool = False) -> Open:
    async def open_(stack: AsyncExitStack, home: Path) -> Measure:
        folder = home / ("sealed" if sealed else "fsync" if sync_always else "default")
        server = await nats_server.start(folder, sync_always=sync_always)
        stack.push_async_callback(nats_server.stop, server)
        ours = [sys.executable, "-m", "tests.bench.steps.ours", *(["--sealed"] if sealed else [])]
        working = [server.process.pid]
        for role in ("conductor", "services"):
            command = [*ours, role, server.url, str(TURNS)]
            process = await stack.enter_async_context(running(*command, log=folder / f"{role}.log"))
            working.append(process.pid)

        async def client(what: str, runs: int, key: str) -> Figures:
            said = await output(*ours, what, server.url, str(TURNS), str(runs), key)
            return dict(json.loads(said.splitlines()[-1]))

        async def measure(repetition: int) -> Figures:
            alone = await client("steps", 1, f"alone-{repetition}")
            before = sum(map(_cpu_s, working))
            together = await client("steps", AT_ONCE, f"together-{repetition}")
            cpu_s = sum(map(_cpu_s, working)) - before
            replayed = await client("replay", 1, f"replay-{repetition}")
            steps = AT_ONCE * (2 * TURNS + 5)
            return {**alone, **replayed, "steps_per_s": together["steps_per_s"], "cpu_ms_per_step": cpu_s / steps * 1e3}

        await client("steps", 1, "warm")
        return measure

    return open_


def langgraph(url: str, durability: str) -> Open:
    async def open_(stack: AsyncExitStack, home: Path) -> Measure:
        if not url:
            raise Missing("there is no PostgreSQL")
        python = await python_with("requirements-langgraph.txt")

        async def measure(repetition: int) -> Figures:
            return _last_line(await output(python, HERE / "langgraph_peer.py", url, str(STEPS), durability))

        return measure

    return open_


def dbos(url: str) -> Open:
    async def open_(stack: AsyncExitStack, home: Path) -> Measure:
        if not url:
            raise Missing("there is no PostgreSQL")
        python = await python_with("requirements-dbos.txt")

        async def measure(repetition: int) -> Figures:
            at_once = map(str, PEERS_AT_ONCE)
            return _best(_last_line(await output(python, HERE / "dbos_peer.py", url, str(STEPS), *at_once)))

        return measure

    return open_


async def restate(stack: AsyncExitStack, home: Path) -> Measure:
    program, python = await restate_server(), await python_with("requirements-restate.txt")
    ingress, admin, node, handler = (free_port() for _ in range(4))
    ports = {"RESTATE_INGRESS__BIND_PORT": str(ingress), "RESTATE_ADMIN__BIND_PORT": str(admin)}
    env = {**ports, "RESTATE_BASE_DIR": str(home / "restate"), "DO_NOT_TRACK": "1", "RESTATE_DISABLE_TELEMETRY": "true"}
    options = ["--no-logo", "--listen-mode", "tcp", "--bind-ip", "127.0.0.1", "--bind-port", str(node)]
    peer = HERE / "restate_peer.py"
    await stack.enter_async_context(running(program, *options, log=home / "restate.log", env=env))
    await stack.enter_async_context(running(python, peer, "serve", str(handler), log=home / "restate_peer.log"))
    await _registered(f"http://127.0.0.1:{admin}/deployments", f"http://127.0.0.1:{handler}")

    async def measure(repetition: int) -> Figures:
        url, at_once = f"http://127.0.0.1:{ingress}", map(str, PEERS_AT_ONCE)
        return _best(_last_line(await output(python, peer, "measure", url, str(STEPS), *at_once)))

    return measure


async def _registered(admin: str, handler: str) -> None:
    body = json.dumps({"uri": handler}).encode()
    request = urllib.request.Request(admin, body, {"content-type": "application/json"}, method="POST")

    def register() -> None:
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()

    async with asyncio.timeout(READY_S):
        while True:
            try:
                return await asyncio.to_thread(register)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise Missing(f"restate-server refused the handler: {error}") from error
            except OSError:
                await asyncio.sleep(0.2)


def _last_line(said: str) -> Figures:
    return dict(json.loads(said.splitlines()[-1]))


def _best(figures: Figures) -> Figures:
    return {**figures, "steps_per_s": max(figures[f"steps_per_s_{number}"] for number in PEERS_AT_ONCE)}


def _cpu_s(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


async def database(stack: AsyncExitStack, home: Path) -> str:
    """The URL of one Postgres for the peers that keep their steps in it; empty if it does not start."""
    try:
        server = await postgres.start(home)
    except MilepostError as error:
        print(f"PostgreSQL: {error}", flush=True)
        return ""
    stack.push_async_callback(postgres.stop, server)
    return server.url


def sides(url: str) -> list[Side]:
    committed = "its rows in Postgres 18, whose log (WAL) is fsynced at each commit"
    return [
        Side("Milepost", "", milepost(False), "nothing: JetStream acknowledges first and fsyncs within two minutes"),
        Side("Milepost, sealed", "sealed_", milepost(False, sealed=True), "as the first; facts and commands are sealed"),
        Side("Milepost, sync_interval: always", "fsync_", milepost(True),
             "the fact, before JetStream acknowledges it; a command is not, it can be decided again"),
        Side("LangGraph, durability sync", "langgraph_", langgraph(url, "sync"), committed),
        Side("LangGraph, durability async", "langgraph_async_", langgraph(url, "async"),
             "nothing yet: the checkpoint is written and fsynced while the next step runs"),
        Side("DBOS", "dbos_", dbos(url), committed),
        Side("Restate", "restate_", restate, "its journal in RocksDB, whose log is fsynced for several writes together"),
    ]  # fmt: skip


async def main(repeats: int) -> dict[str, float | None]:
    PLACE.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="steps-", dir=PLACE))
    try:
        async with AsyncExitStack() as stack:
            measured = sides(await database(stack, home / "pg"))
            for side in measured:
                side.measure = await side.attempt(side.open(stack, home))  # type: ignore[assignment]
            for repetition in range(repeats):
                print(f"repetition {repetition + 1} of {repeats}", flush=True)
                for side in measured:
                    if side.measure and (figures := await side.attempt(side.measure(repetition))):
                        side.figures.append(figures)  # type: ignore[arg-type]
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for side in measured:
        _show(side)
    return _summary({side.prefix: side for side in measured})


def _show(side: Side) -> None:
    print(f"\n{side.title}\n  fsynced before a step is done: {side.keeps}")
    for name in sorted({name for each in side.figures for name in each}):
        values = ", ".join(f"{each[name]:.4g}" for each in side.figures if name in each)
        print(f"  {name:26} {side.median(name):10.4g}   ({values})")
    if side.reason:
        print(f"  failed: {side.reason}")


def _summary(by_prefix: dict[str, Side]) -> dict[str, float | None]:
    ours = ["step_p50_ms", "step_p99_ms", "steps_per_s", "cpu_ms_per_step", "replay_events_per_s", "replay_read_events_per_s"]
    peers = {
        "langgraph_": ["step_p50_ms", "step_p99_ms"], "langgraph_async_": ["step_p50_ms"],
        "dbos_": ["step_p50_ms", "step_p99_ms", "steps_per_s", "steps_per_s_16", "steps_per_s_64"],
        "restate_": ["step_p50_ms", "step_p99_ms", "steps_per_s", "steps_per_s_16", "steps_per_s_64"],
    }  # fmt: skip
    wanted = {"": ours, "sealed_": [*ours, "bytes_per_event"], "fsync_": ours[:4], **peers}
    found = {f"{prefix}{name}": by_prefix[prefix].median(name) for prefix, names in wanted.items() for name in names}
    return {name: value if value is None else float(f"{value:.4g}") for name, value in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What one durable step costs, here and at our peers.")
    parser.add_argument("--repeats", type=int, default=5, help="how often every side takes its turn")
    print(f"\n{json.dumps(asyncio.run(main(parser.parse_args().repeats)))}")
