"""What the HTTP door adds to the bus, how many streams it holds, and how quick its pages are: python -m tests.bench.door.run

A whole stack with a scripted model, so that what is measured is the door. A request over HTTP and one over the bare bus come in
turn from this process. What the door adds is measured inside one run: from sending to the run's first fact on the bus, less
what the bare bus takes for the same; and from a piece of text heard on the bus to the same in the HTTP stream. The last line is
one JSON object; under "measured" stands what each figure counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from infra.gateway.address import remembered
from infra.gateway.door_secret import door_seed
from runtime.client import Client
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.errors import MilepostError
from tests.bench.door import pages
from tests.support.stack import LocalStack, local_stack

PLAIN = AgentSpec(name="plain", tool_k=0, knowledge_k=0)
WORDS = "word " * 60
RULES: list[dict[str, object]] = [{"role": "user", "match": ".*", "say": f"So: {WORDS}"}]
PIECE = b'"content"'

MEASURED = {
    "ttft_added_p50_ms": "what the door adds to the time to the first token, median over requests that came alone",
    "ttft_added_p99_ms": "the same, 99th percentile",
    "ttft_bus_p50_ms": "time to the first token over the bare bus, median",
    "ttft_http_p50_ms": "time to the first token over HTTP, median",
    "sse_idle": "idle event streams held at once, each of which then heard of a new run",
    "sse_idle_mb": "memory that they took in the gateway",
    "sse_idle_cpu": "cores that the gateway used while they were idle",
    "sse_busy": "answers streamed at once over HTTP, each whole, beside the idle ones",
    "sse_busy_s": "how long all of them took",
    "sse_busy_bus_s": "how long as many took over the bare bus",
    "page_ms": "from asking for the console to its first page being there, nothing cached, median",
    "page_kib": "what came over the wire for it",
}


@dataclass(slots=True)
class Bench:
    """One stack, a client on its bus and one at its door."""

    stack: LocalStack
    client: Client
    web: httpx.AsyncClient
    url: str
    key: str
    requests: int
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def gateway(self) -> psutil.Process:
        return psutil.Process(self.stack.member("gateway").pid)


@asynccontextmanager
async def opened(requests: int) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as until_the_end:
        home = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        home.chmod(0o711)
        flags = {"services__gateway": 1, "door__per_minute": 10_000_000, "door__streams": 10_000}
        stack = await until_the_end.enter_async_context(local_stack(home, RULES, **flags))
        client, _ = await until_the_end.enter_async_context(stack.session())
        url, key = remembered(stack.home), door_seed(stack.loaded.settings).local_key
        assert url is not None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        headers = {"authorization": f"Bearer {key}"}
        web = httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60, trust_env=False)
        yield Bench(stack, client, await until_the_end.enter_async_context(web), url, key, requests)


# --- time to first token --------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """Moments of one run, as this process saw them."""

    sent: float = 0.0
    begun: float = 0.0
    spoken: float = 0.0
    arrived: float = 0.0


class Ear:
    """Hears the beginning and the first text of whatever run comes next."""

    def __init__(self) -> None:
        self.seen = Seen()

    async def request(self, subject: str, data: bytes) -> None:
        self.seen.begun = self.seen.begun or time.perf_counter()

    async def delta(self, subject: str, data: bytes) -> None:
        self.seen.spoken = self.seen.spoken or time.perf_counter()


async def over_the_bus(bench: Bench, ear: Ear) -> Seen:
    ear.seen = Seen(sent=time.perf_counter())
    asked = await bench.client.ask("hello", agent=PLAIN)
    async for _ in bench.client.follow(asked.run):
        pass
    return ear.seen


async def over_http(bench: Bench, ear: Ear) -> Seen:
    ear.seen = seen = Seen(sent=time.perf_counter())
    body = {"model": bench.stack.loaded.settings.model.name, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with bench.web.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            if not seen.arrived and PIECE in piece and b"So" in piece:
                seen.arrived = time.perf_counter()
    if not (seen.begun and seen.spoken and seen.arrived):
        raise MilepostError("A run was not heard from its beginning to its end.", why=str(seen))
    return seen


async def first_token(bench: Bench) -> None:
    ear, tenant = Ear(), bench.client.tenant
    requested = subjects.facts_of_tenant(tenant).removesuffix(">") + "client.request"
    async with bench.client.bus.hear(requested, ear.request), bench.client.bus.hear(f"mp.delta.{tenant}.*.*", ear.delta):
        for _ in range(20):
            await over_the_bus(bench, ear)
            await over_http(bench, ear)
        bus, http = [], []
        for _ in range(bench.requests):
            bus.append(await over_the_bus(bench, ear))
            http.append(await over_http(bench, ear))
    bare = statistics.median(each.begun - each.sent for each in bus)
    added = sorted(1000 * (each.begun - each.sent - bare + each.arrived - each.spoken) for each in http)
    bench.figures |= {
        "ttft_added_p50_ms": statistics.median(added), "ttft_added_p99_ms": added[int(len(added) * 0.99)],
        "ttft_bus_p50_ms": 1000 * statistics.median(each.spoken - each.sent for each in bus),
        "ttft_http_p50_ms": 1000 * statistics.median(each.arrived - each.sent for each in http),
    }  # fmt: skip


# --- streams --------------------------------------------------------------------------------------


async def streams(bench: Bench, idle: int = 500, busy: int = 50) -> None:
    """Idle streams, and answers that are streamed while they are open."""
    before = bench.gateway.memory_info().rss
    news = asyncio.Event()
    opened, heard = [asyncio.Event() for _ in range(idle)], [asyncio.Event() for _ in range(idle)]

    async def listen(number: int) -> None:
        async with bench.web.stream("GET", "/api/live") as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    opened[number].set()
                    if news.is_set() and '"runs": []' not in line:
                        heard[number].set()

    tasks = []
    for number in range(idle):
        tasks.append(asyncio.create_task(listen(number)))
        if number % 50 == 49:
            await asyncio.gather(*(each.wait() for each in opened[: number + 1]))
    took = bench.gateway.cpu_times()
    await asyncio.sleep(5.0)
    used = bench.gateway.cpu_times()
    bench.figures["sse_idle_cpu"] = (used.user + used.system - took.user - took.system) / 5
    bench.figures["sse_idle_mb"] = (bench.gateway.memory_info().rss - before) / 1e6
    news.set()
    bench.figures |= {"sse_busy_s": await _all(busy, lambda: _streamed(bench)), "sse_busy": float(busy)}
    async with asyncio.timeout(30):
        await asyncio.gather(*(each.wait() for each in heard))
    bench.figures["sse_idle"] = float(sum(each.is_set() for each in heard))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    bench.figures["sse_busy_bus_s"] = await _all(busy, lambda: _followed(bench))


async def _all(count: int, work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_once(work))
    return time.perf_counter() - began


async def _once(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _streamed(bench: Bench) -> None:
    """Raises MilepostError if the answer is not whole."""
    body = {"model": bench.stack.loaded.settings.model.name, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    text = ""
    async with bench.web.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                text += (choices[0]["delta"].get("content") or "") if choices else ""
    if text.strip() != f"So: {WORDS}".strip():
        raise MilepostError("A streamed answer is not whole.", why=text[:200])


async def _followed(bench: Bench) -> None:
    asked = await bench.client.ask("hello", agent=PLAIN)
    async for _ in bench.client.follow(asked.run):
        pass


# --- pages ----------------------------------------------------------------------------------------


async def console(bench: Bench) -> None:
    bench.figures |= await pages.loaded(bench.url, bench.key)


PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {"first_token": first_token, "streams": streams, "console": console}


async def run(requests: int, only: list[str]) -> dict[str, float | None]:
    async with opened(requests) as bench:
        for name, part in PARTS.items():
            if only and name not in only:
                continue
            try:
                await part(bench)
            except (MilepostError, httpx.HTTPError, TimeoutError, OSError) as error:
                print(f"{name} could not be measured: {error!r}", file=sys.stderr)
        return {name: round(value, 3) if (value := bench.figures.get(name)) is not None else None for name in MEASURED}


def main() -> int:
    """The bench's command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=300, help="requests for the time to the first token")
    arguments.add_argument("--only", default="", help=f"parts: {','.join(PARTS)}")
    given = arguments.parse_args()
    figures = asyncio.run(run(given.requests, [each for each in given.only.split(",") if each]))
    for name, value in figures.items():
        print(f"{name:20} {value if value is not None else '-':>10}  {MEASURED[name]}")
    print(json.dumps({**figures, "measured": MEASURED}))
    return 0 if all(value is not None for value in figures.values()) or given.only else 1


if __name__ == "__main__":
    raise SystemExit(main())
