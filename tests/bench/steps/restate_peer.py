"""Restate's side: a handler of no-op `ctx.run` steps, served over HTTP to a restate-server.

    python restate_peer.py serve PORT                             serves the handler until it is stopped
    python restate_peer.py measure INGRESS_URL STEPS AT_ONCE...   prints one line of JSON

The first figure is one invocation alone; then, for each number, that many at once.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from itertools import pairwise

import httpx
import hypercorn.asyncio
import restate
import uvloop

bench = restate.Service("Bench")


@bench.handler()
async def work(ctx: restate.Context, steps: int) -> list[float]:
    begun: list[float] = []

    async def noop() -> int:
        begun.append(time.perf_counter())
        return 1

    for _ in range(steps):
        await ctx.run_typed("noop", noop)
    return begun


async def serve(port: int) -> None:
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    await hypercorn.asyncio.serve(restate.app([bench]), config)  # type: ignore[arg-type]  # an ASGI app


async def measure(ingress: str, steps: int, *at_once: int) -> dict[str, float]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=ingress, timeout=120, limits=limits) as client:

        async def invoke(count: int) -> list[float]:
            reply = await client.post("/Bench/work", json=count)
            begun: list[float] = reply.raise_for_status().json()
            if len(begun) != count:
                raise SystemExit(f"{len(begun)} of {count} steps were taken")
            return begun

        await invoke(20)
        begun = await invoke(steps)
        gaps = sorted((later - earlier) * 1e3 for earlier, later in pairwise(begun))
        figures = {"step_p50_ms": statistics.median(gaps), "step_p99_ms": gaps[int(len(gaps) * 0.99)]}
        for number in at_once:
            start = time.perf_counter()
            await asyncio.gather(*(invoke(steps // 4) for _ in range(number)))
            figures[f"steps_per_s_{number}"] = number * (steps // 4) / (time.perf_counter() - start)
        return figures


def main(role: str, *rest: str) -> None:
    if role == "serve":
        uvloop.run(serve(int(rest[0])))
    else:
        print(json.dumps(uvloop.run(measure(rest[0], *map(int, rest[1:])))))


if __name__ == "__main__":
    main(*sys.argv[1:])
