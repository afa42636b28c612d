"""Event streams: counted by who holds them, kept alive by pings, never buffered on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from services.gateway.principal import Principal
from services.gateway.rate import TooMany

PING_S = 15
UNREAD_S = 60.0
"""After so long a client that reads nothing has gone, whatever its connection says."""
_AGAIN_S = 5.0

Events = AsyncIterator[ServerSentEvent]


class Streams:
    """How many streams each principal holds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[tuple[str, str, str]] = Counter()

    @property
    def open(self) -> int:
        """All that are held now."""
        return self._held.total()

    def take(self, who: Principal) -> None:
        """One more. Raises TooMany."""
        key = who.tenant, who.user, who.key
        if self._held[key] >= self._most:
            raise TooMany(_AGAIN_S)
        self._held[key] += 1

    def give_back(self, who: Principal) -> None:
        """One less."""
        key = who.tenant, who.user, who.key
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]


class Stream(EventSourceResponse):
    """Gives its place back, and closes its source, whatever ends it."""

    media_type = "text/event-stream"  # of the class, and the status as a default: /openapi.json is made of both

    def __init__(
        self, streams: Streams, who: Principal, events: Events, headers: dict[str, str], status_code: int = 200
    ) -> None:
        super().__init__(events, status_code=status_code, ping=PING_S, headers=headers)
        self._streams, self._who, self._events = streams, who, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.give_back(self._who)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


def stream(connection: HTTPConnection, who: Principal, events: Events, headers: dict[str, str] | None = None) -> Stream:
    """The answer that sends these events, as many at once as the rules let a principal hold. Raises TooMany."""
    streams: Streams = connection.app.state.streams
    streams.take(who)
    return Stream(streams, who, events, {"x-accel-buffering": "no", "cache-control": "no-store", **(headers or {})})
