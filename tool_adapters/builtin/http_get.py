"""Reading a public web address, guarded against server-side request forgery.

Names are resolved once, by the connector itself, and only global addresses are handed to it: what was checked is what
is connected to, so a name that changes its address between check and use gains nothing.
"""

from __future__ import annotations

import html
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from schemas.tools import Part, ToolResult
from tool_adapters.python import PythonTool, tool
from tool_adapters.tool import CallContext, InvalidArguments, ToolRefused, ToolUnavailable

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver
    from yarl import URL

SIZE_LIMIT = 1_000_000
TEXT_LIMIT = 20_000
REDIRECTS = 3
PORTS = frozenset({80, 443})

# Global by the registry, but they reach private IPv4 through a translator.
_TRANSLATED = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))


def http_get(*, allow: Iterable[str] = ()) -> PythonTool[[str, CallContext], object]:
    """The http_get tool. allow: `host:port` places that may be reached although they are not public."""
    allowed = frozenset(allow)

    @tool(
        name="http_get",
        title="HTTP get",
        examples=(
            "Fetch https://example.com and tell me what it says",
            "Read the JSON at this URL",
            "打开这个网址看看内容：https://example.com",
            "请求这个接口并返回结果",
        ),
        tags=("web", "url", "http"),
        timeout_s=20,
    )
    async def get(url: str, context: CallContext) -> ToolResult:
        """Read a public web page or JSON API by its URL.

        Args:
            url: A full http or https address.
        """
        return await fetch(url, allowed, context.timeout_s)

    return get  # type: ignore[return-value]  # a coroutine function: its R is the awaitable


async def fetch(url: str, allowed: frozenset[str], timeout_s: float) -> ToolResult:
    """GET a public address as text.

    Raises InvalidArguments for an address that may not be asked, ToolRefused for what it answered,
    ToolUnavailable when it cannot be reached.
    """
    async with opened(url, allowed, timeout_s, accept="text/*, application/json") as response:
        return await _read(response)


@asynccontextmanager
async def opened(url: str, allowed: frozenset[str], timeout_s: float, *, accept: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """What a public address answers, after at most 3 redirects, each checked anew; its body can be read in the block.

    Raises what fetch raises, in the block too.
    """
    import aiohttp
    from yarl import URL

    connector = aiohttp.TCPConnector(resolver=_resolver(allowed), use_dns_cache=False, force_close=True)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            target = _checked(URL(url), allowed)
            for _ in range(REDIRECTS + 1):
                async with session.get(target, allow_redirects=False, headers={"accept": accept}) as response:
                    if response.status not in (301, 302, 303, 307, 308):
                        yield response
                        return
                    target = _checked(target.join(URL(response.headers.get("location", ""))), allowed)
    except ValueError as error:
        raise InvalidArguments(f"{url!r} is no web address.", why=str(error)[:200]) from error
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error.__cause__, _Forbidden):
            raise _refused(str(error.__cause__)) from error
        why = str(error)[:200] or type(error).__name__
        raise ToolUnavailable(f"{url} could not be read.", why=why) from error
    raise ToolRefused(f"{url} redirects more than {REDIRECTS} times.", code="TooManyRedirects")


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: global, unicast, and not a way to embed a private one."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in net for net in _TRANSLATED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class _Forbidden(OSError):
    """A name that leads to an address which is not public."""


def _resolver(allowed: frozenset[str]) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class Guarded(AbstractResolver):
        """The system's resolver, handing out public addresses only."""

        def __init__(self) -> None:
            self._system = ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            found = await self._system.resolve(host, port, family)
            if f"{host}:{port}" in allowed:
                return found
            public = [one for one in found if is_public(one["host"])]
            if len(public) != len(found) or not public:
                raise _Forbidden(f"{host} leads to an address that is not public")
            return public

        async def close(self) -> None:
            await self._system.close()

    return Guarded()


def _checked(url: URL, allowed: frozenset[str]) -> URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArguments(f"{url} is no http or https address.")
    if url.user is not None or url.password is not None:
        raise InvalidArguments("An address with a user name or password in it is not asked.")
    if f"{url.host}:{url.port}" in allowed:
        return url
    if url.port not in PORTS:
        raise _refused(f"port {url.port} is not 80 or 443")
    try:
        literal = is_public(url.host)
    except ValueError:
        return url  # a name: the resolver checks what it leads to
    if not literal:
        raise _refused(f"{url.host} is not a public address")
    return url


def _refused(why: str) -> ToolRefused:
    return ToolRefused("This address may not be read.", code="AddressForbidden", why=why, hint="ask for a public web address")


async def _read(response: aiohttp.ClientResponse) -> ToolResult:
    kind = response.content_type
    if not (kind.startswith("text/") or kind == "application/json" or kind.endswith("+json")):
        raise ToolRefused(f"The address answers {kind}, which is no text and no JSON.", code="UnsupportedMediaType")
    raw = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        raw += chunk
        if len(raw) > SIZE_LIMIT:
            raise ToolRefused(f"The answer is larger than {SIZE_LIMIT} bytes.", code="TooLarge")
    if response.status in (429, 502, 503, 504):
        raise ToolUnavailable(f"The address answered HTTP {response.status}.")
    try:
        body = bytes(raw).decode(response.charset or "utf-8", errors="replace").replace("\x00", "")
    except LookupError:
        body = bytes(raw).decode("utf-8", errors="replace").replace("\x00", "")
    text = readable(body) if kind == "text/html" else body
    if len(text) > TEXT_LIMIT:
        text = f"{text[:TEXT_LIMIT]}\n[the first {TEXT_LIMIT} of {len(text)} characters]"
    return ToolResult(text=f"HTTP {response.status}\n{text}", parts=(Part(kind="text", text=text, media_type=kind),))


def readable(page: str) -> str:
    """The words of an HTML page: no scripts, styles or tags."""
    words = re.sub(r"(?is)<(script|style|noscript|template|svg)\b.*?</\1\s*>|<!--.*?-->", " ", page)
    words = re.sub(r"(?i)<(br|/p|/div|/li|/tr|/h[1-6]|/title)\b[^>]*>", "\n", words)
    words = html.unescape(re.sub(r"<[^<>]*>", " ", words))
    lines = (" ".join(line.split()) for line in words.splitlines())
    return "\n".join(line for line in lines if line)
