"""The guard of `tool_adapters.web` for libraries that speak HTTP through httpx2, such as MCP's SDK: a transport for its client.

    httpx2.AsyncClient(transport=guarded_transport(allow), trust_env=False)

Each request's name is resolved once, checked, and its address put into the request; name and certificate stay those of the
URL. Redirects are requests of their own to a transport, so they are checked as well.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from tool_adapters.tool import ToolRefused
from tool_adapters.web import BODY_LIMIT, checked_url, is_public, refused

if TYPE_CHECKING:
    import httpx2


def guarded_transport(
    allow: Iterable[str] = (), *, body_limit: int = BODY_LIMIT, hint: str = ""
) -> httpx2.AsyncBaseTransport:  # fmt: skip
    """A transport that reaches public addresses only. allow: `host:port` places that may be reached beside them.

    body_limit: bytes of one answer that is no event stream. A forbidden place raises ToolRefused, as does a larger answer;
    an answer that is packed is refused too, since it could unpack without end.
    """
    import httpx2

    allowed = frozenset(allow)

    class Guarded(httpx2.AsyncBaseTransport):
        """Resolves, checks, and hands on."""

        def __init__(self) -> None:
            self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            url = checked_url(str(request.url), allowed, hint)
            addresses = await _addresses(request.url.host, url.port or 443, allowed, hint)
            request.headers["accept-encoding"] = "identity"
            request.extensions = {**request.extensions, "sni_hostname": request.url.host}
            original = request.url
            try:
                response = await self._first(request, addresses)
            finally:
                request.url = original
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                await response.aclose()
                raise ToolRefused(f"{original.host} packs its answers.", code="Packed", why="it was asked not to")
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                return response
            stream = Limited(response.stream, body_limit)
            return httpx2.Response(
                response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
            )

        async def _first(self, request: httpx2.Request, addresses: list[str]) -> httpx2.Response:
            """From the first address that can be connected to."""
            original = request.url
            for address in addresses[:-1]:
                request.url = original.copy_with(host=address)
                try:
                    return await self._inner.handle_async_request(request)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    continue
            request.url = original.copy_with(host=addresses[-1])
            return await self._inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Limited(httpx2.AsyncByteStream):
        """Ends with an error when it grows too long."""

        def __init__(self, stream: object, limit: int) -> None:
            assert isinstance(stream, httpx2.AsyncByteStream)
            self._stream, self._limit = stream, limit

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = self._limit
            async for piece in self._stream:
                left -= len(piece)
                if left < 0:
                    raise ToolRefused(f"The answer is larger than {self._limit} bytes.", code="TooLarge")
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Guarded()


async def _addresses(host: str, port: int, allowed: frozenset[str], hint: str) -> list[str]:
    """What a name leads to, if all of it may be reached."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if f"{host}:{port}" not in allowed and not all(is_public(address) for address in addresses):
        raise refused(f"{host} leads to an address that is not public", hint)
    return addresses
