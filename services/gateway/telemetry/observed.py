"""What the door does, request by request: counted and timed; where traces are on, those that belong to one are a span each."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import tracing
from runtime.histogram import Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ELSE = "other"
_STREAM = b"text/event-stream"
_RUN = b"x-milepost-run"


class Observed:
    """Figures since the process began. Routes are templates, so their number is that of the application's."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.took: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.first_byte: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.streams = 0


class Observe:
    """Looks at every request from outside all else. Whoever begins a run within one is told where, see runtime.tracing.

    A request is a span if it began a run, or came from a trace: pages, polling and scrapes are none.
    """

    def __init__(self, app: ASGIApp, observed: Observed, spans: tracing.Spans | None = None) -> None:
        self._app, self._observed, self._spans = app, observed, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        theirs = tracing.read(Headers(scope=scope).get("traceparent"))
        look = _Look(self._observed, send)
        ours = (tracing.within(theirs) if theirs else tracing.anew()) if self._spans else theirs
        try:
            if ours is None:
                await self._app(scope, receive, look.send)
            else:
                with tracing.calling(ours) as caller:
                    look.began = caller.began
                    await self._app(scope, receive, look.send)
        finally:
            route = route_of(scope)
            look.end(route, scope["method"] if scope["method"] in _METHODS else _ELSE)
            if self._spans and ours and (theirs or look.began):
                self._spans(look.span(scope, route, ours, theirs))


class _Look:
    """One request, as its answer goes by."""

    def __init__(self, observed: Observed, send: Send) -> None:
        self._observed, self._send = observed, send
        self._at, self._begun = datetime.now(UTC), time.perf_counter()
        self._status, self._run, self._first = 0, "", 0.0
        self._streams = False
        self.began: list[tracing.Place] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = dict(message.get("headers", ()))
            self._run = headers.get(_RUN, b"").decode("latin-1")
            self._streams = headers.get(b"content-type", b"").startswith(_STREAM)
            self._observed.streams += self._streams
        elif not self._first and message.get("body"):
            self._first = time.perf_counter() - self._begun
        await self._send(message)

    def end(self, route: str, method: str) -> None:
        """The answer is over, or its client gone: 499, as nginx has it."""
        seen = self._observed
        seen.requests[route, method, str(self._status or 499)] += 1
        if not self._streams:
            seen.took[route].observe(time.perf_counter() - self._begun)
            return
        seen.streams -= 1
        if self._first:
            seen.first_byte[route].observe(self._first)

    def span(self, scope: Scope, route: str, place: tracing.Place, parent: tracing.Place | None) -> tracing.Span:
        attributes: dict[str, tracing.Attribute] = {
            "http.request.method": scope["method"] if scope["method"] in _METHODS else "_OTHER", "http.route": route,
            "http.response.status_code": self._status or 499, "url.scheme": scope.get("scheme", "http"),
        }  # fmt: skip
        if self._run:
            attributes["milepost.run.id"] = self._run
        if self._first:
            attributes["milepost.http.first_byte"] = round(self._first, 6)
        end = self._at + timedelta(seconds=time.perf_counter() - self._begun)
        error = str(self._status) if self._status >= 500 else ""
        return tracing.Span(
            f"{attributes['http.request.method']} {route}", place, self._at, end, "gateway", parent.span if parent else None,
            "server", attributes, tuple(self.began), error,
        )  # fmt: skip


def route_of(scope: Scope) -> str:
    """The template of the route that answered, such as /api/runs/{run}; what no route answers is `other`."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else _ELSE
