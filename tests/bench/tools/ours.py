"""Milepost's side: runs whose tools only count, in a whole stack, told from the times of their facts."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from runtime.client import Client
from runtime.log import Stored
from schemas.agent import AgentSpec, Budget
from schemas.events import Generated, RunCompleted, ToolReturned
from schemas.ids import RunId
from tests.support.stack import LocalStack, local_stack, persist

Figures = dict[str, float]

WARM = 5
PATIENCE_S = 180.0


def rules(calls: int) -> list[dict[str, object]]:
    """A model that calls the same tool with what it answered before, so many times."""
    asked: list[dict[str, object]] = []
    for kind in ("read", "write"):
        call = [{"name": f"count_{kind}", "arguments": {"number": "{1}"}}]
        asked += [
            {"role": "user", "match": rf"^{kind} from (\d+)", "call": call},
            {"role": "tool", "asked": f"^{kind}", "match": rf"^\d*{calls:03d}$", "say": "done"},
            {"role": "tool", "asked": f"^{kind}", "match": r"(\d+)", "call": call},
        ]
    return asked


def agent(calls: int) -> AgentSpec:
    """Who counts: offered the two tools alone, asked by nobody."""
    return AgentSpec(
        name="counter", tools=("count_read", "count_write"), tool_k=0, knowledge_k=0, approval="never",
        budget=Budget(steps=calls + 2, calls=calls),
    )  # fmt: skip


@asynccontextmanager
async def stack_with_host(home: Path, calls: int) -> AsyncIterator[LocalStack]:
    """A stack that fsyncs every fact, and the host of the counting tools."""
    async with local_stack(home, rules(calls)) as stack:
        command = [sys.executable, "-m", "tests.bench.tools.host", str(stack.home)]
        host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert host.stdout is not None
        try:
            async with asyncio.timeout(60):
                assert (await host.stdout.readline()).strip() == b"ready"
            yield stack
        finally:
            host.terminate()
            await host.wait()


async def one_after_another(client: Client, kind: str, calls: int, key: str) -> list[float]:
    """What each call of a run took, in ms: from the fact that asks for it to the fact that has its result."""
    return gaps(await counted(client, kind, calls, key))


async def counted(client: Client, kind: str, calls: int, key: str) -> list[Stored]:
    """The facts of a run with so many calls, one after another."""
    run = await begun(client, kind, calls, key)
    await ended(client, run)
    facts = await persist(lambda: client.log.read(run))
    if not isinstance(facts[-1].fact.body, RunCompleted) or len(gaps(facts)) != calls:
        raise SystemExit(f"a run came out otherwise: {facts[-1].fact.body}, {len(gaps(facts))} calls")
    return facts


async def begun(client: Client, kind: str, calls: int, key: str) -> RunId:
    return (await client.ask(f"{kind} from 1000", agent=agent(calls), key=key)).run


async def ended(client: Client, run: RunId) -> None:
    """Looks instead of following, which would take part of the machine from those who work."""
    async with asyncio.timeout(PATIENCE_S):
        while not await client.log.holds(run, client.tenant, "conductor", "end"):
            await asyncio.sleep(0.01)


def gaps(facts: list[Stored]) -> list[float]:
    """From each Generated to the ToolReturned after it, in ms."""
    seen = [each.fact for each in facts if isinstance(each.fact.body, Generated | ToolReturned)]
    return [
        (later.time - earlier.time).total_seconds() * 1e3
        for earlier, later in pairwise(seen) if isinstance(later.body, ToolReturned)
    ]  # fmt: skip


async def latencies(client: Client, calls: int, key: str) -> Figures:
    """p50 and p99 of a read and of a write that nobody is asked about."""
    figures: Figures = {}
    for kind in ("read", "write"):
        took = sorted((await one_after_another(client, kind, calls, f"{key}-{kind}"))[WARM:])
        figures[f"{kind}_overhead_p50_ms"] = statistics.median(took)
        figures[f"{kind}_overhead_p99_ms"] = took[int(len(took) * 0.99)]
    return figures


async def together(client: Client, callers: int, calls: int, key: str) -> Figures:
    """Calls a second with so many callers at once, reads and writes apart."""
    figures: Figures = {}
    for kind, name in (("read", "calls_per_s"), ("write", "writes_per_s")):
        begin = time.perf_counter()
        runs = await asyncio.gather(*(begun(client, kind, calls, f"{key}-{kind}-{each}") for each in range(callers)))
        for run in runs:
            await ended(client, run)
        figures[name] = callers * calls / (time.perf_counter() - begin)
    return figures
