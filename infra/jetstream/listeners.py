"""Which tools on the bus have somebody who listens for them, as the server's monitor tells."""

from __future__ import annotations

import aiohttp

from schemas import subjects

ANSWER_S = 5.0
MOST = 100_000
EVERYTHING = ("*", ">")


async def tools_heard(monitor: str | None) -> frozenset[str] | None:
    """Names of tools whose subject (`mp.tool.{tenant}.{name}`) somebody subscribes to; None when that cannot be told.

    It cannot where a subscription takes in all tools, where there is no monitor, and in a cluster that this server is only
    one of: there is no way to ask without calling the tool.
    """
    if monitor is None:
        return None
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(monitor, timeout=timeout, raise_for_status=True) as http:
            async with http.get("/subsz", params={"subs": "1", "limit": str(MOST)}) as response:
                said = await response.json()
            async with http.get("/routez") as response:
                routes = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    if routes.get("num_routes"):
        return None
    heard = [str(each.get("subject", "")) for each in said.get("subscriptions_list") or []]
    names = [name for subject in heard if (name := _tool(subject))]
    return None if any(name in EVERYTHING for name in names) else frozenset(names)


def _tool(subject: str) -> str | None:
    """The tool that a subscription is about; `*` or `>` for all of them."""
    tokens, wanted = subject.split("."), subjects.tool("*", "x").split(".")
    for place, (token, want) in enumerate(zip(tokens, wanted, strict=False)):
        if token == ">":
            return ">"
        if place < 2 and token not in (want, "*"):
            return None
    return tokens[-1] if len(tokens) == len(wanted) else None
