"""Reading a public web address."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from schemas.tools import Part, ToolResult
from tool_adapters.python import PythonTool, tool
from tool_adapters.tool import CallContext, ToolRefused, ToolUnavailable
from tool_adapters.web import opened

if TYPE_CHECKING:
    import aiohttp

SIZE_LIMIT = 1_000_000
TEXT_LIMIT = 20_000


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


_UNREAD = re.compile(r"(?i)<(script|style|noscript|template|svg)\b|<!--")
_BREAK = re.compile(r"(?i)<(br|/p|/div|/li|/tr|/h[1-6]|/title)\b[^<>]*>")
_TAG = re.compile(r"<[^<>]*>")


def readable(page: str) -> str:
    """The words of an HTML page: no scripts, styles or tags. Takes time in proportion to the page, whatever stands in it."""
    words = _TAG.sub(" ", _BREAK.sub("\n", " ".join(_read_parts(page))))
    lines = (" ".join(line.split()) for line in html.unescape(words).splitlines())
    return "\n".join(line for line in lines if line)


def _read_parts(page: str) -> Iterator[str]:
    """What stands outside of scripts, styles and comments; one that is not closed goes on to the end, as in a browser."""
    at = 0
    while found := _UNREAD.search(page, at):
        yield page[at : found.start()]
        end = _end_of(found[1]).search(page, found.end())
        if end is None:
            return
        at = end.end()
    yield page[at:]


@cache
def _end_of(name: str | None) -> re.Pattern[str]:
    return re.compile(rf"(?i)</{name}\s{{0,99}}>" if name else "-->")
