"""uvicorn's HTTP protocol with two limits it does not have: how long, and how large, the head of a request may be."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
HEAD_BYTES = 32 * 1024


class BoundedHead(HttpToolsProtocol):
    """A connection whose request heads come in time and in bounds, or that is closed; so a slow client holds nothing for long.

    The time runs from the connection's beginning, and from the first byte of each request after that.
    """

    head_s = HEAD_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head: asyncio.TimerHandle | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        waits = self._head is not None
        idle = self.cycle is None or self.cycle.response_complete
        if not waits and idle:
            self._expect()
        if self._head is not None:
            self._bytes += len(data)
        super().data_received(data)
        if self._head is not None and self._bytes > HEAD_BYTES:
            self._expect_nothing()
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        self._expect_nothing()
        super().on_headers_complete()

    def _expect(self) -> None:
        self._bytes = 0
        self._head = self.loop.call_later(self.head_s, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if not self.transport.is_closing():
            self.transport.abort()
