"""How many event streams the door holds: idle ones, and busy ones beside them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from runtime.steps import CALLER_LANE
from schemas.errors import MilepostError
from schemas.ids import RunId
from schemas.tools import ToolCard
from tests.bench.door.bench import PLAIN, WORDS, Bench

IDLE, BUSY = 500, 50
LOOK_S = 5.0
LOOK = ToolCard(name="look", description="looks", parameters={"type": "object"}, lane=CALLER_LANE, owner="the client")


async def streams(bench: Bench) -> None:
    """Idle streams, half of them of the tenant and half of a run that waits, and answers streamed while they are open."""
    run = await _waiting(bench)
    ears = [_Ear("/api/live" if number % 2 else f"/api/conversations/turns/{run}/stream") for number in range(IDLE)]
    memory, began = bench.gateway.memory_info().rss, time.perf_counter()
    tasks = []
    for number, ear in enumerate(ears):
        tasks.append(asyncio.create_task(ear.listen(bench)))
        if number % 50 == 49:
            await _all_told(ears[: number + 1], tasks)
    bench.figures["sse_open_ms"] = 1000 * (time.perf_counter() - began) / IDLE
    await asyncio.sleep(1.0)
    used = bench.cpu_s
    await asyncio.sleep(LOOK_S)
    bench.figures["sse_idle_cpu"] = (bench.cpu_s - used) / LOOK_S
    bench.figures["idle_stream_kb"] = (bench.gateway.memory_info().rss - memory) / 1000 / IDLE
    for ear in ears:
        ear.told.clear()
    bench.figures |= {"sse_busy_s": await together(BUSY, lambda: _streamed(bench)), "sse_busy": float(BUSY)}
    await bench.client.cancel(run)
    await _all_told(ears, tasks)
    bench.figures["sse_idle"] = float(sum(ear.told.is_set() for ear in ears))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    bench.figures["sse_busy_bus_s"] = await together(BUSY, lambda: _followed(bench))


class _Ear:
    """One stream. told: it was told something since that was cleared."""

    def __init__(self, path: str) -> None:
        self._path, self.told = path, asyncio.Event()

    async def listen(self, bench: Bench) -> None:
        async with bench.wire() as wire, aclosing(wire.stream("GET", self._path)) as parts:  # type: ignore[type-var]
            async for part in parts:
                if b"data:" in part:
                    self.told.set()


async def _all_told(ears: list[_Ear], tasks: list[asyncio.Task[None]]) -> None:
    """Raises what a stream broke off with, TimeoutError."""
    async with asyncio.timeout(60):
        for ear, task in zip(ears, tasks, strict=False):
            told = asyncio.ensure_future(ear.told.wait())
            await asyncio.wait({told, task}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                told.cancel()
                await task


async def _waiting(bench: Bench) -> RunId:
    """A run that waits for what its client's tool gives."""
    asked = await bench.client.ask("wait", agent=PLAIN, brought=(LOOK,))
    async with asyncio.timeout(30):
        async for update in bench.client.follow(asked.run):
            if update.state.questions():
                return asked.run
    raise MilepostError("The run does not wait.")


async def together(count: int, work: Callable[[], Awaitable[None]]) -> float:
    """Seconds that it takes so often at once. Raises MilepostError where some of it does not end."""
    began = time.perf_counter()
    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    _, left = await asyncio.wait(tasks, timeout=120)
    for task in left:
        task.cancel()
    if left:
        raise MilepostError(f"{len(left)} of {count} answers have no end.")
    for task in tasks:
        task.result()
    return time.perf_counter() - began


async def _streamed(bench: Bench) -> None:
    """Raises MilepostError if the answer is not whole."""
    text, told = "", b""
    async with bench.wire() as wire:
        async for part in wire.stream("POST", "/v1/chat/completions", bench.body):
            told += part
    for line in told.split(b"\n"):
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            text += (choices[0]["delta"].get("content") or "") if choices else ""
    if text.strip() != f"So: {WORDS}".strip() or not told.rstrip().endswith(b"[DONE]"):
        raise MilepostError("A streamed answer is not whole.", why=text[:200])


async def _followed(bench: Bench) -> None:
    asked = await bench.client.ask("hello", agent=PLAIN)
    async for _ in bench.client.follow(asked.run):
        pass
