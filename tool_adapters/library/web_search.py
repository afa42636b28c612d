"""Searching the web: with a SearXNG of one's own, or with Brave's search API."""

from __future__ import annotations

from urllib.parse import quote

from tool_adapters.library.access import Access, missing
from tool_adapters.library.remote import Remote, at
from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments, Tool

KEY_PAGE = "https://brave.com/search/api/"
MOST = 5
SNIPPET = 300
TIMEOUT_S = 20.0


def web_search(access: Access) -> Tool:
    """The tool web_search."""

    @tool(
        name="web_search",
        title="Web search",
        examples=(
            "Search the web for the latest NATS release",
            "Look up who won the match",
            "上网搜索一下",
            "查一下最新的新闻",
        ),
        tags=("web", "search"),
        timeout_s=TIMEOUT_S + 5,
    )
    def search(query: str) -> list[dict[str, str]]:
        """Search the web and give the first results: title, link, snippet. 搜索互联网。

        Args:
            query: What to search for. 搜索内容
        """
        if not query.strip():
            raise InvalidArguments("There is nothing to search for.")
        if access.searxng_url:
            return _searxng(access, query)
        if access.brave_key:
            return _brave(access, query)
        raise missing("web_search", "BRAVE_SEARCH_API_KEY", KEY_PAGE, extra="set SEARXNG_URL to a SearXNG that answers JSON")

    return search


def _searxng(access: Access, query: str) -> list[dict[str, str]]:
    remote = Remote("web_search", secrets={}, allow=access.allow, timeout_s=TIMEOUT_S)
    answer = remote.get(f"{access.searxng_url}/search?format=json&q={quote(query)}")
    return _listed(at(answer, "results"), "content")


def _brave(access: Access, query: str) -> list[dict[str, str]]:
    secrets = {"x-subscription-token": access.brave_key}
    remote = Remote("web_search", secrets=secrets, allow=access.allow, timeout_s=TIMEOUT_S)
    answer = remote.get(f"{access.brave_url}/res/v1/web/search?count={MOST}&q={quote(query)}")
    return _listed(at(answer, "web", "results"), "description")


def _listed(results: object, snippet: str) -> list[dict[str, str]]:
    found = results if isinstance(results, list) else []
    return [
        {
            "title": str(at(each, "title") or ""),
            "link": str(at(each, "url") or ""),
            "snippet": _cut(str(at(each, snippet) or "")),
        }
        for each in found[:MOST]
    ]


def _cut(text: str) -> str:
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET]}..."
