"""Traces by the OpenTelemetry SDK: spans of the runtime become spans of the SDK, and go out by OTLP over HTTP.

Only `infra.wiring.open_traces` imports this, and only where settings ask for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from infra.jetstream.log import JetStreamLog
from infra.settings import Telemetry
from runtime.errors import Retryable, Unreachable
from runtime.log import Delivery
from runtime.run_trace import spans_of
from runtime.sealing import Erased
from runtime.tracing import Kind, Place, Span
from schemas.envelope import Fact
from schemas.errors import MilepostError

log = structlog.get_logger("infra.telemetry")

GROUP = "traces"
PATH = "/v1/traces"
TIMEOUT_S = 10.0
LINGER_MS = 1000.0
AGAIN_S = 5.0
READ = "log"  # whose spans were not seen as they happened
_KINDS: Mapping[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL, "client": trace.SpanKind.CLIENT, "server": trace.SpanKind.SERVER,
    "consumer": trace.SpanKind.CONSUMER,
}  # fmt: skip


class BadHeaders(MilepostError):
    """The headers to send with traces are none."""


class _Ids(IdGenerator):
    """The SDK asks for ids as a span begins: they are those that the span has already."""

    def __init__(self) -> None:
        self.next = Place("", "")

    def generate_span_id(self) -> int:
        return int(self.next.span, 16)

    def generate_trace_id(self) -> int:
        return int(self.next.trace, 16)


class Traces:
    """Called with a span, sends it a moment later beside others; a collector that is away loses those, and hinders nobody.

    Belongs to one thread. instance: the process whose spans these are. Raises BadHeaders.
    """

    def __init__(self, settings: Telemetry, *, instance: str = "") -> None:
        self._settings, self._instance = settings, instance
        self._exporter = _exporter(settings)
        self._ids = _Ids()
        self._tracers: dict[tuple[str, str], trace.Tracer] = {}
        self._batch: BatchSpanProcessor | None = None

    def __call__(self, span: Span) -> None:
        made = self._made(span, self._instance)
        if made is None:
            return
        if self._batch is None:
            self._batch = BatchSpanProcessor(self._exporter, schedule_delay_millis=LINGER_MS)
        self._batch.on_end(made)

    async def deliver(self, spans: Sequence[Span]) -> int:
        """Send them now; gives how many that were, which sampling may make fewer. Raises Unreachable."""
        made = [each for each in (self._made(span) for span in spans) if each is not None]
        if made and await asyncio.to_thread(self._exporter.export, made) is not SpanExportResult.SUCCESS:
            raise Unreachable(
                "The collector did not take the trace.", why="its address does not answer, or it refused",
                hint="check MILEPOST_TELEMETRY_OTLP_ENDPOINT, or --otlp",
            )  # fmt: skip
        return len(made)

    async def follow(self, journal: JetStreamLog) -> None:
        """Send the trace of every run as it ends, until cancelled. A collector that is away gets it later."""
        async for delivery in journal.ends(GROUP):
            await self._send(journal, delivery)

    async def _send(self, journal: JetStreamLog, delivery: Delivery[Fact]) -> None:
        run = delivery.message.run
        try:
            await self.deliver(spans_of(await journal.read(run), content=self._settings.content))
        except Erased:
            pass
        except Retryable as error:
            log.warning("trace not sent yet", run=run, why=error.what)
            with suppress(Retryable):
                await delivery.again(min(300.0, AGAIN_S * 2 ** min(delivery.attempt, 8)))
            return
        except Exception:  # one that cannot be told keeps no other one back
            log.exception("trace not sent", run=run)
        with suppress(Retryable):
            await delivery.ack()

    def close(self) -> None:
        """Send what waits; blocks for some seconds at most."""
        if self._batch is not None:
            self._batch.shutdown()  # type: ignore[no-untyped-call]  # the SDK's own
        else:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _made(self, span: Span, instance: str = "") -> ReadableSpan | None:
        """The SDK's span; None if it is not sampled."""
        around = Context()
        if span.parent:
            around = trace.set_span_in_context(trace.NonRecordingSpan(_context(Place(span.place.trace, span.parent))), around)
        self._ids.next = span.place
        begun = self._tracer(span.service, instance).start_span(
            span.name, around, _KINDS[span.kind], dict(span.attributes), [trace.Link(_context(each)) for each in span.links],
            start_time=_nanoseconds(span.start),
        )  # fmt: skip
        if not isinstance(begun, ReadableSpan):
            return None
        if span.error:
            begun.set_attribute("error.type", span.error)
            begun.set_status(trace.Status(trace.StatusCode.ERROR))
        begun.end(_nanoseconds(span.end))
        return begun

    def _tracer(self, service: str, instance: str) -> trace.Tracer:
        """Of each service one, so that it is told apart in a trace."""
        found = self._tracers.get((service, instance))
        if found is None:
            about = {"service.name": f"milepost-{service}", "service.namespace": "milepost"}
            about["service.instance.id"] = instance or READ  # else the SDK draws one
            provider = TracerProvider(
                TraceIdRatioBased(self._settings.sample), Resource.create({**about}), shutdown_on_exit=False,
                id_generator=self._ids,
            )  # fmt: skip
            found = self._tracers[service, instance] = provider.get_tracer("milepost")
        return found


def _exporter(settings: Telemetry) -> OTLPSpanExporter:
    """Without an endpoint of ours, the SDK reads OTEL_EXPORTER_OTLP_*."""
    if settings.otlp_endpoint is None:
        return OTLPSpanExporter(headers=_headers(settings), compression=Compression.Gzip)
    endpoint = settings.otlp_endpoint.rstrip("/")
    return OTLPSpanExporter(
        endpoint if endpoint.endswith(PATH) else endpoint + PATH, headers=_headers(settings), timeout=TIMEOUT_S,
        compression=Compression.Gzip,
    )  # fmt: skip


def _headers(settings: Telemetry) -> dict[str, str] | None:
    if settings.otlp_headers is None:
        return None
    found = {}
    for pair in settings.otlp_headers.get_secret_value().split(","):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise BadHeaders(
                "MILEPOST_TELEMETRY_OTLP_HEADERS holds something that is no header.", hint="NAME=VALUE, with commas between"
            )
        found[name.strip()] = value.strip()
    return found


def _context(place: Place) -> trace.SpanContext:
    return trace.SpanContext(int(place.trace, 16), int(place.span, 16), is_remote=True, trace_flags=trace.TraceFlags(1))


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
