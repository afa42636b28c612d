"""The figures of the stack as Prometheus reads them: what services tell of themselves, what waits, what the door does.

Names and units after https://prometheus.io/docs/practices/naming/. Labels are roles, lanes, processes, kinds of commands,
models and routes: never runs, users or tenants, so that their number stays small and nothing is told of anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import CollectorRegistry

from runtime.histogram import BOUNDS, Histogram
from schemas.canonical import JsonObject
from services.gateway.telemetry.observed import Observed

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_LE = (*(str(bound) for bound in BOUNDS), "+Inf")
_WHO = ("role", "lane", "instance")


@dataclass(frozen=True, slots=True)
class Told:
    """What one service of one process says of itself. instance: the process, by a name that outlives it where that is clear."""

    role: str
    lane: str
    instance: str
    stats: JsonObject

    @property
    def who(self) -> list[str]:
        """As labels."""
        return [self.role, self.lane, self.instance]


@dataclass(frozen=True, slots=True)
class Queue:
    """Commands of a role's lane: those that nobody has yet, those in work, and the age of the oldest, in seconds."""

    role: str
    lane: str
    waiting: int
    working: int
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How the stack is now. up: which of its parts could be read; figures: by name, of those that could."""

    up: Mapping[str, bool]
    told: Sequence[Told] = ()
    queues: Sequence[Queue] = ()
    runs: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


class Readings(Protocol):
    """Reads the stack."""

    async def read(self) -> Reading:
        """How it is now; what cannot be read is left out and said to be down."""
        ...


FIGURES: Mapping[str, str] = {
    "log_bytes": "Bytes of the log's segments on the bus server's disk.",
    "log_facts": "Facts in the log's segments.",
    "storage_used_bytes": "Bytes of all streams.",
    "storage_limit_bytes": "How many bytes all streams may have.",
    "dead_letters": "Messages that nobody could read.",
    "index_lag_facts": "Facts that the recorder has not indexed yet.",
    "approvals_waiting": "Runs that wait for a person.",
    "effects_in_doubt": "Writes of which nobody knows whether they happened.",
    "effects_under_way": "Writes that were begun and have not ended.",
    "receipts_due": "Runs that are to be sealed now.",
    "receipts_due_oldest_seconds": "How long the first of them has been due.",
    "receipts_unpublished": "Receipts that are not in the log yet.",
}


def exposition(reading: Reading, seen: Observed, version: str) -> bytes:
    """All of it in Prometheus's text format."""
    return generate_latest(_Once([*_of_stack(reading, version), *_of_services(reading.told), *_of_door(seen)]))


class _Once(CollectorRegistry):
    """A registry of what was collected already."""

    def __init__(self, found: Iterable[Metric]) -> None:
        super().__init__()
        self._found = tuple(found)

    def collect(self) -> Iterator[Metric]:
        return iter(self._found)


def _of_stack(reading: Reading, version: str) -> Iterator[Metric]:
    yield _gauge("milepost_info", "The version that runs.", ("version",), [([version], 1)])
    up = [([part], float(well)) for part, well in reading.up.items()]
    yield _gauge("milepost_up", "Whether a part of the stack answers.", ("part",), up)
    for name, about in FIGURES.items():
        if name in reading.figures:
            yield _gauge(f"milepost_{name}", about, (), [([], reading.figures[name])])
    runs = [([status], float(count)) for status, count in reading.runs.items()]
    yield _gauge("milepost_runs", "Runs in the index.", ("status",), runs)
    lanes = ("role", "lane")
    waiting = [([each.role, each.lane], float(each.waiting)) for each in reading.queues]
    yield _gauge("milepost_queue_waiting", "Commands that nobody has taken yet.", lanes, waiting)
    working = [([each.role, each.lane], float(each.working)) for each in reading.queues]
    yield _gauge("milepost_queue_working", "Commands that somebody has taken.", lanes, working)
    oldest = [([each.role, each.lane], each.oldest_s) for each in reading.queues]
    yield _gauge("milepost_queue_oldest_seconds", "The age of the oldest command.", lanes, oldest)


def _of_services(told: Sequence[Told]) -> Iterator[Metric]:
    there = Counter((each.role, each.lane) for each in told)
    copies = [([role, lane], float(count)) for (role, lane), count in there.items()]
    yield _gauge("milepost_instances", "Processes that answer for a role's lane.", ("role", "lane"), copies)
    ended = CounterMetricFamily("milepost_commands", "Commands that ended so.", labels=(*_WHO, "outcome"))
    for each in told:
        for outcome in ("done", "failed", "retried"):
            if outcome in each.stats:
                ended.add_metric([*each.who, outcome], _number(each.stats[outcome]))
    yield ended
    yield _told("working", "milepost_commands_working", "Commands in work.", told)
    yield _told("busy_s", "milepost_busy_seconds", "Time spent on commands, side by side.", told, counts=True)
    yield _took(told)
    waited = HistogramMetricFamily("milepost_command_wait_seconds", "How long commands waited to be taken.", labels=_WHO)
    for each in told:
        _add(waited, each.who, each.stats.get("waited"))
    yield waited
    for name in ("facts", "decisions", "failures"):
        yield _told(name, f"milepost_conductor_{name}", f"What conductors have counted as {name}.", told, counts=True)
    yield _told("indexed", "milepost_recorder_indexed", "Facts that were indexed.", told, counts=True)
    yield from _of_models(told)


def _took(told: Sequence[Told]) -> Metric:
    found = HistogramMetricFamily(
        "milepost_command_duration_seconds", "How long tries of a command took.", labels=(*_WHO, "command")
    )
    for each in told:
        by_kind = each.stats.get("took")
        for kind, said in by_kind.items() if isinstance(by_kind, dict) else ():
            _add(found, [*each.who, kind], said)
    return found


def _of_models(told: Sequence[Told]) -> Iterator[Metric]:
    labels = ("instance", "model")
    tokens = CounterMetricFamily("milepost_llm_tokens", "Tokens of prompts and answers.", labels=(*labels, "kind"))
    first = HistogramMetricFamily("milepost_llm_time_to_first_token_seconds", "From the model's turn on.", labels=labels)
    for each in told:
        for model, said in _each_of(each.stats.get("said")):
            for kind in ("read", "cached", "wrote"):
                tokens.add_metric([each.instance, model, kind], _number(said.get(kind)))
            _add(first, [each.instance, model], said.get("first_token"))
    yield tokens
    yield first
    for name, metric, about in (
        ("waiting", "milepost_llm_waiting", "Prompts that wait for a slot."),
        ("running", "milepost_llm_running", "Prompts that are being answered."),
        ("slots", "milepost_llm_slots", "Prompts that can be answered side by side."),
        ("cached_share", "milepost_llm_cache_fill_ratio", "How full the cache of prompts is."),
        ("decode_tok_s", "milepost_llm_decode_tokens_per_second", "Tokens that one answer grows by in a second."),
        ("prefill_tok_s", "milepost_llm_prefill_tokens_per_second", "Tokens of a prompt that are read in a second."),
    ):
        samples = [
            ([each.instance, model], _number(said[name])) for each in told for model, said in _each_of(each.stats.get("models"))
            if name in said
        ]  # fmt: skip
        yield _gauge(metric, about, labels, samples)


def _of_door(seen: Observed) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "milepost_http_requests", "Requests that were answered.", labels=("route", "method", "status")
    )
    for key, count in seen.requests.items():
        requests.add_metric([*key], count)
    yield requests
    took = HistogramMetricFamily("milepost_http_request_duration_seconds", "Of answers that are no streams.", labels=("route",))
    for route, each in seen.took.items():
        _add(took, [route], each.told())
    yield took
    first = HistogramMetricFamily(
        "milepost_http_stream_first_byte_seconds", "Until a stream of events says something.", labels=("route",)
    )
    for route, each in seen.first_byte.items():
        _add(first, [route], each.told())
    yield first
    yield _gauge("milepost_http_streams_open", "Streams of events that are open.", (), [([], float(seen.streams))])


def _gauge(name: str, about: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    found = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        found.add_metric(values, value)
    return found


def _told(name: str, metric: str, about: str, told: Sequence[Told], *, counts: bool = False) -> Metric:
    family = CounterMetricFamily if counts else GaugeMetricFamily
    found = family(metric, about, labels=_WHO)
    for each in told:
        if name in each.stats:
            found.add_metric(each.who, _number(each.stats[name]))
    return found


def _add(family: HistogramMetricFamily, labels: Sequence[str], said: object) -> None:
    read = Histogram.read(said)
    if read is None:
        return
    total, buckets = 0, []
    for bound, count in zip(_LE, read.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric(labels, buckets, read.sum)


def _each_of(said: object) -> Iterator[tuple[str, JsonObject]]:
    for name, each in said.items() if isinstance(said, dict) else ():
        if isinstance(each, dict):
            yield name, each


def _number(said: object) -> float:
    return float(said) if isinstance(said, int | float) else 0.0
