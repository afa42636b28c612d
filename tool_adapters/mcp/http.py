"""Streamable HTTP to a server, guarded: only public addresses or those that an operator allowed, answers of bounded size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from tool_adapters.mcp.settings import McpSettings
from tool_adapters.mcp.stdio import ErrorLines
from tool_adapters.tool import ToolError
from tool_adapters.web_transport import guarded_transport

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

BODY_BYTES = 32 * 1024 * 1024
CONNECT_S = 15.0
READ_S = 3600.0


@dataclass(slots=True)
class Exchange:
    """What HTTP said to the last message of one call: 0 before it said anything. unsent: there was no connection."""

    status: int = 0
    retry_after: str = ""
    unsent: bool = False
    broken: bool = False


EXCHANGE: ContextVar[Exchange | None] = ContextVar("mcp_exchange", default=None)
"""The exchange of the call whose message is being sent; the SDK carries a sender's context along with its message."""


@asynccontextmanager
async def http(
    settings: McpSettings, headers: Mapping[str, str], secret: str | None, trouble: ErrorLines
) -> AsyncIterator[TransportStreams]:  # fmt: skip
    """Streams to the server. secret: of its OAuth client, if it has one. trouble: hears what HTTP could not do."""
    from mcp.client.streamable_http import streamable_http_client

    hint = "if it is yours, import it with --allow HOST:PORT"
    client = httpx2.AsyncClient(
        transport=Watched(guarded_transport(settings.allow, body_limit=BODY_BYTES, hint=hint), trouble), headers=dict(headers),
        trust_env=False, timeout=httpx2.Timeout(CONNECT_S, read=READ_S), auth=_auth(settings, secret),
    )  # fmt: skip
    async with client, streamable_http_client(settings.url, http_client=client, max_sse_event_size=BODY_BYTES) as streams:
        yield streams


class Watched(httpx2.AsyncBaseTransport):
    """Tells each call what HTTP said to it. A message that could not be sent is answered here, with 503: the SDK would give
    up the whole session for it, with every other call that is under way."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, trouble: ErrorLines) -> None:
        self._inner, self._trouble = inner, trouble

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = EXCHANGE.get() or Exchange()
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.TransportError, OSError) as error:
            exchange.unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | OSError)
            exchange.broken = not exchange.unsent
            self._trouble.add(f"{type(error).__name__}: {error}".encode())
            return httpx2.Response(503)
        if request.method == "POST":
            exchange.status, exchange.retry_after = response.status_code, response.headers.get("retry-after", "")
            if response.status_code >= 400:
                self._trouble.add(f"HTTP {response.status_code}".encode())
            elif not response.headers.get("content-type", "").startswith(("application/json", "text/event-stream")):
                self._trouble.add(f"it answered {response.headers.get('content-type', 'no content type')}".encode())
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Contained(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Contained(httpx2.AsyncByteStream):
    """A body whose errors are of the one kind that the SDK takes for an answer that it could not read."""

    def __init__(self, body: object) -> None:
        assert isinstance(body, httpx2.AsyncByteStream)
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
        except (httpx2.TransportError, ToolError) as error:
            raise httpx2.StreamError(str(error)) from error

    async def aclose(self) -> None:
        await self._body.aclose()


class _InMemory:
    """Tokens for as long as the process lives; they are asked for anew after that."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


def _auth(settings: McpSettings, secret: str | None) -> httpx2.Auth | None:
    if settings.oauth is None or secret is None:
        return None
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    return ClientCredentialsOAuthProvider(
        settings.url, _InMemory(), settings.oauth.client_id, secret, scope=settings.oauth.scope, issuer=settings.oauth.issuer
    )
