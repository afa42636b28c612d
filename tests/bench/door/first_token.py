"""What the door adds to the time to the first token.

A request over HTTP and one over the bare bus, of the same agent, come in turn from this process, each alone. What the door adds
is measured inside one run: from sending to the run's first fact on the bus, less what the bare bus takes for the same (its
median); and from a piece of text heard on the bus to the same in the HTTP stream. What services and model take in between is no
part of it. As a check stands beside it the plain difference of the two times to the first token, each from sending to the text.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from schemas import subjects
from schemas.errors import MilepostError
from tests.bench.door.bench import PLAIN, Bench
from tests.bench.door.wire import Wire

WARM = 30


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


async def first_token(bench: Bench) -> None:
    """Raises MilepostError for a run of which something was not heard."""
    ear, tenant = Ear(), bench.client.tenant
    requested = subjects.facts_of_tenant(tenant).removesuffix(">") + "client.request"
    bus, http, cpu = list[Seen](), list[Seen](), 0.0
    async with (
        bench.client.bus.hear(requested, ear.request), bench.client.bus.hear(f"mp.delta.{tenant}.*.*", ear.delta),
        bench.wire() as wire,
    ):  # fmt: skip
        for _ in range(WARM):
            await _over_the_bus(bench, ear)
            await _over_http(bench, ear, wire)
        for _ in range(bench.requests):
            bus.append(await _over_the_bus(bench, ear))
            before = bench.cpu_s
            http.append(await _over_http(bench, ear, wire))
            cpu += bench.cpu_s - before
    bare = statistics.median(each.begun - each.sent for each in bus)
    in_and_out = [(each.begun - each.sent - bare, each.arrived - each.spoken) for each in http]
    added = [way_in + way_out for way_in, way_out in in_and_out]
    bare_first, door_first = [each.spoken - each.sent for each in bus], [each.arrived - each.sent for each in http]
    bench.figures |= {
        "ttft_added_p50_ms": percentile(added, 50), "ttft_added_p99_ms": percentile(added, 99),
        "ttft_in_p50_ms": percentile([way_in for way_in, _ in in_and_out], 50),
        "ttft_out_p50_ms": percentile([way_out for _, way_out in in_and_out], 50),
        "ttft_bus_p50_ms": percentile(bare_first, 50), "ttft_bus_p99_ms": percentile(bare_first, 99),
        "ttft_http_p50_ms": percentile(door_first, 50), "ttft_http_p99_ms": percentile(door_first, 99),
        "ttft_more_p50_ms": percentile(door_first, 50) - percentile(bare_first, 50),
        "ttft_more_p99_ms": percentile(door_first, 99) - percentile(bare_first, 99),
        "request_cpu_ms": 1000 * cpu / len(http),
    }  # fmt: skip


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return 1000 * sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)]


async def _over_the_bus(bench: Bench, ear: Ear) -> Seen:
    ear.seen = seen = Seen(sent=time.perf_counter())
    asked = await bench.client.ask("hello", agent=PLAIN)
    async for _ in bench.client.follow(asked.run):
        pass
    return _heard(seen)


async def _over_http(bench: Bench, ear: Ear, wire: Wire) -> Seen:
    ear.seen = seen = Seen(sent=time.perf_counter())
    async for part in wire.stream("POST", "/v1/chat/completions", bench.body):
        if not seen.arrived and b'"content":"So' in part:
            seen.arrived = time.perf_counter()
    if not seen.arrived:
        raise MilepostError("An answer has no first piece of text.", why=str(seen))
    return _heard(seen)


def _heard(seen: Seen) -> Seen:
    if not (seen.begun and seen.spoken):
        raise MilepostError("A run was not heard from its beginning to its end.", why=str(seen))
    return seen
