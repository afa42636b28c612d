"""A collector of traces on loopback: takes OTLP over HTTP as any collector does, and keeps what it gets."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pb = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra otel is not installed")


@dataclass(frozen=True)
class Got:
    """A span as it came over the wire, with the service whose it is."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    kind: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]


@dataclass
class Collector:
    """url: where it listens. refusing: how many requests it refuses first."""

    url: str = ""
    refusing: int = 0
    spans: list[Got] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: bytes = b""
    more: threading.Condition = field(default_factory=threading.Condition)

    def of(self, trace: str) -> list[Got]:
        with self.more:
            return [each for each in self.spans if each.trace == trace]

    def wait(self, trace: str, *names: str, seconds: float = 20.0) -> list[Got]:
        """The spans of a trace, once there are those of these names."""
        with self.more:
            came = self.more.wait_for(lambda: set(names) <= {each.name for each in self.spans if each.trace == trace}, seconds)
        found = self.of(trace)
        assert came, f"only {[each.name for each in found]} came"
        return found

    def take(self, body: bytes) -> None:
        with self.more:
            self.raw += body
            for resource in pb.ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {each.key: _value(each.value) for each in resource.resource.attributes}
                self.spans += [_got(str(about["service.name"]), span) for scope in resource.scope_spans for span in scope.spans]
            self.more.notify_all()


def _got(service: str, span: Any) -> Got:
    return Got(
        service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.start_time_unix_nano,
        span.end_time_unix_nano, span.kind, span.status.code == 2, {each.key: _value(each.value) for each in span.attributes},
        tuple((each.trace_id.hex(), each.span_id.hex()) for each in span.links),
    )  # fmt: skip


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return tuple(_value(each) for each in value.array_value.values) if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens within the block."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.paths.append(self.path)
            found.headers.append(dict(self.headers))
            refused = found.refusing > 0
            found.refusing -= refused
            if not refused:
                found.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(400 if refused else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
