"""What tool calls cost, from the fact that asks for one to the fact that has its result: python -m tests.bench.tools.run

A whole stack on this machine that fsyncs every fact: conductor, tools, policy, ledger in PostgreSQL, each its own process. The
tools count and do nothing else. Beside it, in turns: a durable step of DBOS (its rows in PostgreSQL, fsynced), and a call of a
plain MCP server over stdio, which keeps nothing. The last line is one JSON object; null stands where a side could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import orjson

from infra.embedded import postgres
from infra.wiring import World
from schemas import subjects
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.retrieval.catalogue_questions import FindTools
from tests.bench.steps import places
from tests.bench.steps.places import PLACE, Missing
from tests.bench.tools import ours
from tests.bench.tools.ours import Figures
from tests.support.datasets import dataset

T = TypeVar("T")

CALLERS = 64
CALLS = 100
EACH = 20
REGISTERED = 20
SPECS = "openapi-specs"


async def main(repeats: int) -> dict[str, float | None]:
    PLACE.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="mpt-"))
    home.chmod(0o711)
    figures: dict[str, list[float]] = {}
    try:
        async with AsyncExitStack() as exits:
            stack = await exits.enter_async_context(ours.stack_with_host(home, CALLS))
            client, world = await exits.enter_async_context(stack.session())
            url = await _database(exits, home)
            await ours.latencies(client, CALLS, "warm")
            for repetition in range(repeats):
                print(f"repetition {repetition + 1} of {repeats}", flush=True)
                for side in (
                    lambda key=f"r{repetition}": ours.latencies(client, CALLS, key),
                    lambda key=f"t{repetition}": ours.together(client, CALLERS, CALLS, key),
                    lambda: _registered(world), lambda: _imported(stack.home), lambda: _dbos(url), _mcp,
                ):  # fmt: skip
                    _note(figures, await _tried(side))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for name, values in figures.items():
        print(f"  {name:28} {statistics.median(values):10.4g}   ({', '.join(f'{each:.4g}' for each in values)})")
    names = (
        "read_overhead_p50_ms", "read_overhead_p99_ms", "write_overhead_p50_ms", "write_overhead_p99_ms", "calls_per_s",
        "writes_per_s", "register_to_searchable_ms", "openapi_tools_per_s", "dbos_step_p50_ms", "dbos_steps_per_s",
        "mcp_stdio_p50_ms", "mcp_stdio_p99_ms",
    )  # fmt: skip
    return {name: float(f"{statistics.median(figures[name]):.4g}") if figures.get(name) else None for name in names}


async def _tried(side: Callable[[], Coroutine[None, None, Figures]]) -> Figures:
    try:
        return await side()
    except (Missing, MilepostError, OSError, TimeoutError) as error:
        print(f"null, because {error}", flush=True)
        return {}


def _note(figures: dict[str, list[float]], found: Figures) -> None:
    for name, value in found.items():
        figures.setdefault(name, []).append(value)


async def _registered(world: World) -> Figures:
    """From a card on the bus to the moment when a search finds it, in ms."""
    took = []
    for number in range(REGISTERED):
        word = f"quokka{time.time_ns()}{number}"
        card = ToolCard(name=word, description=f"Feed the {word}.", parameters={"type": "object"}, lane="bench")
        await world.bus.tell(subjects.beat("bench"), b"")
        begun = time.perf_counter()
        await world.bus.publish_card("default", card)
        question = FindTools(text=f"feed the {word}", k=3).model_dump_json().encode()
        while not any(each["card"]["name"] == word for each in await _found(world, question)):
            await asyncio.sleep(0.001)
        took.append((time.perf_counter() - begun) * 1e3)
        await world.bus.withdraw_card("default", card)
    return {"register_to_searchable_ms": statistics.median(took)}


async def _found(world: World, question: bytes) -> list[dict[str, dict[str, object]]]:
    told = orjson.loads(await world.bus.ask(subjects.question("retrieval", "find_tools"), question, 10.0))
    return list(told["tools"] if isinstance(told, dict) else told)


async def _imported(home: Path) -> Figures:
    """GitHub's OpenAPI document, imported by the command: tools a second of its own clock."""
    document = await asyncio.to_thread(_github, home)
    command = ("-m", "infra", "tools", "import", "openapi", str(document), "--lane", f"gh{time.time_ns()}", "--json")
    said = json.loads(await places.output(sys.executable, *command, "--home", str(home), seconds=300))
    return {"openapi_tools_per_s": said["tools"] / said["seconds"]}


def _github(home: Path) -> Path:
    """GitHub's document, taken out of the archive."""
    with tarfile.open(dataset(SPECS) / "specs.tar.xz") as archive:
        name = next(each.name for each in archive.getmembers() if "github" in each.name and each.name.endswith(".json"))
        archive.extract(name, home, filter="data")
    return home / name


async def _database(exits: AsyncExitStack, home: Path) -> str:
    try:
        server = await postgres.start(home / "pg")
    except MilepostError as error:
        print(f"PostgreSQL: {error}", flush=True)
        return ""
    exits.push_async_callback(postgres.stop, server)
    return server.url


async def _dbos(url: str) -> Figures:
    if not url:
        raise Missing("there is no PostgreSQL")
    python = await places.python_with("requirements-dbos.txt")
    said = await places.output(python, places.HERE / "dbos_peer.py", url, "200", "64")
    figures = json.loads(said.splitlines()[-1])
    return {"dbos_step_p50_ms": figures["step_p50_ms"], "dbos_steps_per_s": figures["steps_per_s_64"]}


async def _mcp() -> Figures:
    said = await places.output(sys.executable, "-m", "tests.bench.tools.mcp_peer")
    return dict(json.loads(said.splitlines()[-1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What tool calls cost, here and at peers.")
    parser.add_argument("--repeats", type=int, default=3, help="how often every side takes its turn")
    print(f"\n{json.dumps(asyncio.run(main(parser.parse_args().repeats)))}")
