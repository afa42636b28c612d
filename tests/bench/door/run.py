"""What the HTTP door adds to the bus, how many streams it holds, and how quick its pages are: python -m tests.bench.door.run

A whole stack with a scripted model, so that what is measured is the door, and a client of a few lines, so that it is not the
client. The last line is one JSON object; under "measured" stands what each figure counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop
from playwright.async_api import Error as BrowserError

from schemas.errors import MilepostError
from tests.bench.door import pages
from tests.bench.door.bench import Bench, opened
from tests.bench.door.first_token import first_token
from tests.bench.door.streams import streams

MEASURED = {
    "ttft_added_p50_ms": "what the door adds to the time to the first token, median over requests that came alone",
    "ttft_added_p99_ms": "the same, 99th percentile",
    "ttft_in_p50_ms": "of it, from sending to the run's first fact, less what the bare bus takes for that",
    "ttft_out_p50_ms": "of it, from the first text on the bus to the same in the stream",
    "ttft_bus_p50_ms": "time to the first token over the bare bus, median",
    "ttft_bus_p99_ms": "the same, 99th percentile",
    "ttft_http_p50_ms": "time to the first token over HTTP, median",
    "ttft_http_p99_ms": "the same, 99th percentile",
    "ttft_more_p50_ms": "the plain difference of the two medians",
    "ttft_more_p99_ms": "the plain difference of the two 99th percentiles",
    "request_cpu_ms": "CPU time of the gateway for one streamed answer, from its first to its last byte",
    "sse_idle": "idle event streams held at once, each of which then heard what was new",
    "sse_open_ms": "what opening one of them takes, fifty at a time",
    "idle_stream_kb": "memory that one of them takes in the gateway",
    "sse_idle_cpu": "cores that the gateway used while they were idle",
    "sse_busy": "answers streamed at once over HTTP, each whole, beside the idle ones",
    "sse_busy_s": "how long all of them took",
    "sse_busy_bus_s": "how long as many took over the bare bus",
    "page_ms": "from asking for the console to its first page being there, nothing cached, median",
    "page_again_ms": "the same once more in the same browser",
    "page_requests": "requests that it takes",
    "page_kib": "what came over the wire for it",
    "run_page_ms": "from asking for the page of a run of 10,000 events to its events being there, nothing cached, median",
    "run_page_kib": "what came over the wire for it",
    "run_page_frame_p99_ms": "between two frames while its events are scrolled through, 99th percentile",
    "run_page_longest_frame_ms": "the longest of these",
    "run_page_events": "how many events it has",
}
PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "first_token": first_token, "streams": streams, "console": pages.console, "run_page": pages.run_page,
}  # fmt: skip


async def run(requests: int, only: list[str]) -> dict[str, float | None]:
    """All figures; None for what could not be measured."""
    async with opened(requests) as bench:
        for name, part in PARTS.items():
            if only and name not in only:
                continue
            try:
                await part(bench)
            except (MilepostError, TimeoutError, OSError, EOFError, BrowserError) as error:
                print(f"{name} could not be measured: {error!r}", file=sys.stderr)
        return {name: round(value, 3) if (value := bench.figures.get(name)) is not None else None for name in MEASURED}


def main() -> int:
    """The bench's command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=300, help="requests for the time to the first token")
    arguments.add_argument("--only", default="", help=f"parts: {','.join(PARTS)}")
    given = arguments.parse_args()
    figures = uvloop.run(run(given.requests, [each for each in given.only.split(",") if each]))
    for name, value in figures.items():
        print(f"{name:26} {value if value is not None else '-':>10}  {MEASURED[name]}")
    print(json.dumps({**figures, "measured": MEASURED}))
    return 0 if all(value is not None for value in figures.values()) or given.only else 1


if __name__ == "__main__":
    raise SystemExit(main())
