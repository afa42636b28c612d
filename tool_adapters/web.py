"""HTTP for tools, guarded against server-side request forgery and against servers that mean ill.

Names are resolved once, by the connector itself, and only global addresses are handed to it: what was checked is what is
connected to, so a name that changes its address between check and use gains nothing. Redirects are checked anew, credentials
stay with the origin they are for, and an answer has a size and a last moment, however slowly it drips or far it unpacks.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tool_adapters.tool import InvalidArguments, ToolError, ToolRefused, ToolUnavailable

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver
    from yarl import URL

BODY_LIMIT = 8 * 1024 * 1024
CONNECT_S = 10.0
REDIRECTS = 3
PORTS = frozenset({80, 443})

_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_MOVED = _REDIRECTED - {303}  # which tells whoever has written something where to look: an answer in itself
_PIECE = 64 * 1024
_SENDABLE = re.compile(r"[!-~]+")
# Global by the registry, but they reach private IPv4 through a translator.
_TRANSLATED = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
# Global by Python's tables, and for nobody's public use: site-local (RFC 3879) and documentation (RFC 9637).
_UNROUTED = tuple(ipaddress.ip_network(net) for net in ("fec0::/10", "3fff::/20"))
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


class NotReached(ToolUnavailable):
    """Nothing was sent: no connection could be made."""


class NoAnswer(ToolError):
    """It was sent, and no whole answer came back in time."""


class Forbidden(OSError):
    """A name that leads to an address which is not public."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. headers: by lower-case name, several of one name joined by commas; url: where it came from after
    redirects; cut: the body was longer, what is here is its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    cut: bool = False

    @property
    def media_type(self) -> str:
        """Such as `application/json`; empty where the server does not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def text(self) -> str:
        """The body by the charset it declares, in UTF-8 where that is none; bad bytes are replaced, NUL is left out."""
        said = self.headers.get("content-type", "").lower()
        charset = said.partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.body.decode(charset, errors="replace").replace("\x00", "")
        except LookupError:
            return self.body.decode("utf-8", errors="replace").replace("\x00", "")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. secrets: headers for this origin alone; body: whole, since a redirect may want it again."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Web:
    """A guarded session: one for each source of tools, closed with it.

    allow: `host:port` places that may be reached although they are not public. hint: what a person may do about a place that
    is forbidden. What reads shares connections; everything else gets a connection of its own, so that none is sent twice
    because an idle one was closed.
    """

    def __init__(self, allow: Iterable[str] = (), *, body_limit: int = BODY_LIMIT, hint: str = "") -> None:
        self._allowed, self._body_limit, self._hint = frozenset(allow), body_limit, hint
        self._reading: aiohttp.ClientSession | None = None
        self._writing: aiohttp.ClientSession | None = None

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """The answer, after at most 3 redirects; reads follow them anywhere public, other methods within their origin.

        Raises InvalidArguments and ToolRefused for an address that may not be asked, NotReached when nothing was sent,
        NoAnswer when something was.
        """
        import asyncio

        target, first = checked_url(_url(request.url, encoded=True), self._allowed, self._hint), request
        progress = SimpleNamespace(sent=False)
        try:
            async with asyncio.timeout(timeout_s), _errors(str(target.with_query(None)), progress, self._hint):
                for _ in range(REDIRECTS + 1):
                    async with self._send(request, target, progress) as response:
                        location = response.headers.get("location")
                        if location is None or response.status not in (_REDIRECTED if _reads(request) else _MOVED):
                            return await self._answer(response)
                        onward = checked_url(target.join(_url(location)), self._allowed, self._hint)
                        request, target = _redirected(request, response.status, target, onward), onward
        except TimeoutError as error:
            why = str(error) or f"it took longer than {timeout_s:g} s"
            if progress.sent:
                raise NoAnswer(f"{_place(first.url)} did not answer in time.", why=why) from error
            raise NotReached(f"{_place(first.url)} cannot be reached.", why=why) from error
        raise ToolRefused(f"{_place(first.url)} redirects more than {REDIRECTS} times.", code="TooManyRedirects")

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._reading, self._writing):
            if session is not None:
                await session.close()
        self._reading = self._writing = None

    def _send(self, request: Request, target: URL, progress: SimpleNamespace) -> aiohttp.client._RequestContextManager:
        if _reads(request):
            session = self._reading = self._reading or session_of(self._allowed)
        else:
            session = self._writing = self._writing or session_of(self._allowed, fresh=True)
        return session.request(
            request.method, target, headers={**request.headers, **request.secrets}, data=request.body, allow_redirects=False,
            trace_request_ctx=progress,
        )  # fmt: skip

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        body = bytearray()
        async for piece in response.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > self._body_limit:
                break
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        cut = len(body) > self._body_limit
        return Answer(response.status, headers, bytes(body[: self._body_limit]), str(response.url), cut)


@asynccontextmanager
async def opened(url: str, allowed: frozenset[str], timeout_s: float, *, accept: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """What a public address answers, after at most 3 redirects, each checked anew; its body can be read in the block.

    Raises InvalidArguments for an address that may not be asked, ToolRefused for what it answered, ToolUnavailable when it
    cannot be reached; in the block too.
    """
    import aiohttp

    async with session_of(allowed, fresh=True, timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
        target = checked_url(url, allowed)
        try:
            for _ in range(REDIRECTS + 1):
                async with session.get(target, allow_redirects=False, headers={"accept": accept}) as response:
                    location = response.headers.get("location")
                    if response.status not in _REDIRECTED or location is None:
                        yield response
                        return
                    target = checked_url(target.join(_url(location)), allowed)
        except aiohttp.InvalidURL as error:
            raise InvalidArguments(f"{url} is no web address.", why=str(error)[:200]) from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, Forbidden):
                raise refused(str(error.__cause__)) from error
            raise ToolUnavailable(f"{url} could not be read.", why=str(error)[:200] or type(error).__name__) from error
        raise ToolRefused(f"{url} redirects more than {REDIRECTS} times.", code="TooManyRedirects")


def session_of(
    allowed: frozenset[str], *, fresh: bool = False, timeout: aiohttp.ClientTimeout | None = None
) -> aiohttp.ClientSession:
    """An aiohttp session that connects to public addresses only, keeps no cookies and heeds no proxy variables.

    fresh: each request has a connection of its own and is sent once: aiohttp by itself sends a PUT or DELETE again when its
    connection breaks. Literal addresses are not resolved: give every URL to `checked_url` first.
    Without a timeout the caller sets one.
    """
    import aiohttp

    async def sent(_: object, context: SimpleNamespace, __: object) -> None:
        if (progress := context.trace_request_ctx) is not None:
            progress.sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(sent)
    connector = aiohttp.TCPConnector(resolver=guarded_resolver(allowed), use_dns_cache=False, force_close=fresh)
    return aiohttp.ClientSession(
        connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace],
        timeout=timeout or aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S), middlewares=(_once,) if fresh else (),
    )  # fmt: skip


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A connection that breaks is an error that aiohttp does not answer with another try."""
    import aiohttp

    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientError(str(error) or "the connection broke") from error


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: global, unicast, and not a way to embed a private one."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in net for net in _TRANSLATED + _UNROUTED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def checked_url(url: str | URL, allowed: frozenset[str], hint: str = "") -> URL:
    """The address, if it may be asked as far as it tells; a name is checked when it is resolved.

    Raises InvalidArguments for what is no web address, ToolRefused for one that is forbidden.
    """
    url = _url(url) if isinstance(url, str) else url
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArguments(f"{url} is no http or https address.")
    if url.user is not None or url.password is not None:
        raise InvalidArguments("An address with a user name or password in it is not asked.")
    if f"{url.host}:{url.port}" in allowed:
        return url
    if url.port not in PORTS:
        raise refused(f"port {url.port} of {url.host} is not 80 or 443", hint)
    try:
        literal = is_public(url.host)
    except ValueError:
        if _numeric(url.host):
            raise refused(f"{url.host} is a number in the place of a name", hint) from None
        return url  # a name: the resolver checks what it leads to
    if not literal:
        raise refused(f"{url.host} is not a public address", hint)
    return url


def _numeric(host: str) -> bool:
    """Whether a host that is no dotted address is a number all the same, such as `127.1` or `0x7f000001`, which resolvers
    take for one: its last label is a number (WHATWG URL, "ends in a number")."""
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None


def guarded_resolver(allowed: frozenset[str]) -> AbstractResolver:
    """The system's resolver, handing out public addresses only. Raises Forbidden."""
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class Guarded(AbstractResolver):
        """Checks what the system's resolver finds."""

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
                raise Forbidden(f"{host} leads to an address that is not public")
            return public

        async def close(self) -> None:
            await self._system.close()

    return Guarded()


def refused(why: str, hint: str = "") -> ToolRefused:
    """The error for a place that may not be reached."""
    return ToolRefused(
        "This address may not be read.", code="AddressForbidden", why=why, hint=hint or "ask for a public web address"
    )


@asynccontextmanager
async def _errors(place: str, progress: SimpleNamespace, hint: str) -> AsyncIterator[None]:
    """aiohttp's errors as ours."""
    import aiohttp

    try:
        yield
    except TimeoutError:
        raise  # of the whole: the caller knows for how long it has waited
    except aiohttp.InvalidURL as error:
        raise InvalidArguments(f"{place} is no web address.", why=str(error)[:200]) from error
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error.__cause__, Forbidden):
            raise refused(str(error.__cause__), hint) from error
        why = str(error)[:200] or type(error).__name__
        if progress.sent:
            raise NoAnswer(f"{place} broke off.", why=why) from error
        raise NotReached(f"{place} cannot be reached.", why=why) from error


def _redirected(request: Request, status: int, place: URL, onward: URL) -> Request:
    """What is asked at the place that an answer points to. Raises ToolRefused."""
    same = place.origin() == onward.origin()
    if place.scheme == "https" and onward.scheme == "http":
        raise ToolRefused(f"{place.origin()} redirects to plain http.", code="Redirected", why=str(onward.with_query(None)))
    secrets = request.secrets if same else {}
    if _reads(request):
        return Request(request.method, str(onward), request.headers, secrets, request.body)
    if status in (301, 302):
        raise NoAnswer(
            f"{place.origin()} answered a {request.method} with HTTP {status}, which does not say whether it was done."
        )
    if same:
        return Request(request.method, str(onward), request.headers, secrets, request.body)
    raise ToolRefused(
        f"{place.origin()} redirects a {request.method} to {onward.origin()}.", code="Redirected",
        why="what changes something is sent again only within its origin", hint="import it with --server and the new address",
    )  # fmt: skip


def _reads(request: Request) -> bool:
    return request.method in ("GET", "HEAD", "OPTIONS", "TRACE")


def _url(text: str, *, encoded: bool = False) -> URL:
    """encoded: it is sent as it stands, as far as it can be."""
    from yarl import URL

    try:
        return URL(text, encoded=encoded and _SENDABLE.fullmatch(text) is not None)
    except ValueError as error:
        raise InvalidArguments(f"{text[:200]!r} is no web address.", why=str(error)[:200]) from error


def _place(url: str) -> str:
    """An address without its query, which may hold a secret."""
    return url.partition("?")[0]
