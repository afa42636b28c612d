"""Reading several web pages, each cut to what a model can hold."""

from __future__ import annotations

import asyncio

from tool_adapters.builtin.http_get import fetch
from tool_adapters.library.access import Access
from tool_adapters.python import tool
from tool_adapters.tool import CallContext, InvalidArguments, Tool, ToolError

MOST = 5
MAX_BROWSER_LENGTH = 2000
TIMEOUT_S = 20.0


def web_browser(access: Access) -> Tool:
    """The tool web_browser."""

    @tool(
        name="web_browser",
        title="Web browser",
        examples=("Read these pages and compare them", "Open https://example.com and https://example.org", "浏览这几个网页"),
        tags=("web", "url", "browser"),
        timeout_s=TIMEOUT_S + 5,
    )
    async def browse(urls: list[str], context: CallContext) -> str:
        """Read up to five public web pages and give the words of each. 浏览网页并返回文字内容。

        Args:
            urls: Full addresses. 网址列表
        """
        if not 1 <= len(urls) <= MOST:
            raise InvalidArguments(f"1 to {MOST} pages are read at a time, not {len(urls)}.")
        seconds = min(TIMEOUT_S, context.timeout_s)
        pages = await asyncio.gather(*(fetch(url, access.allow, seconds) for url in urls), return_exceptions=True)
        return "\n\n".join(f"{url}\n{_words(page)}" for url, page in zip(urls, pages, strict=True))

    return browse


def _words(page: object) -> str:
    if isinstance(page, ToolError):
        return f"could not be read: {page.what} {page.why}".strip()
    if isinstance(page, BaseException):
        raise page
    text = str(getattr(page, "text", ""))
    more = len(text) - MAX_BROWSER_LENGTH
    return text if more <= 0 else f"{text[:MAX_BROWSER_LENGTH]}\n[{more} more characters]"
