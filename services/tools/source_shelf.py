"""The tools of one lane that were imported: each is made of its spec when it is called, and kept while it is in use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from schemas.tools import ToolCard
from services.tools.sources import Source, SourceStore, Spec
from tool_adapters.tool import Tool

log = structlog.get_logger("services.tools")

KEPT = 256
"""How many tools of a lane stay made."""

RETIRED_S = 300.0
"""How long what was opened with old settings stays open: calls under way still use it."""


class OpenSource(Protocol):
    """A source in use: it makes the tools, and keeps what they share, such as a session. Made without any I/O: what it
    connects to is connected to when the first tool is called, and again when it was lost."""

    def tool(self, spec: Spec) -> Tool:
        """The tool of a spec. Raises ToolError."""
        ...

    async def close(self) -> None:
        """Let go of what the tools shared; none is called any more."""
        ...


Open = Callable[[Source], OpenSource]


class SourceShelf:
    """services.tools.shelf.Shelf over what was imported into a lane, by whichever tenants. Its cards are the import's."""

    def __init__(self, store: SourceStore, lane: str, open_source: Open) -> None:
        self._store, self._lane, self._open_source = store, lane, open_source
        self._sources: Mapping[str, Source] = {}
        self._open: dict[str, OpenSource] = {}
        self._made: OrderedDict[tuple[str, str], Tool] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._tools = 0

    async def find(self, tenant: str, name: str) -> Tool | None:
        """A tenant's tool, or one that all tenants have. Raises ToolError for one that cannot be made."""
        for owner in (tenant, "*"):
            if owner in self._sources:
                tool = await self._find(owner, name)
                if tool is not None:
                    return tool
        return None

    def cards(self) -> list[ToolCard]:
        """None: the import has put them into the catalogue."""
        return []

    def __len__(self) -> int:
        return self._tools

    async def follow(self, sources: Mapping[str, Source]) -> None:
        """The lane's sources as they are now, by tenant. What has changed is made anew at its next call."""
        if sources == self._sources:
            return
        before, self._sources = self._sources, dict(sources)
        self._made.clear()
        for owner, was in before.items():
            now = sources.get(owner)
            if owner in self._open and (now is None or (now.kind, now.settings) != (was.kind, was.settings)):
                self._retire(self._open.pop(owner), RETIRED_S)
        self._tools = sum([await self._store.count(owner, self._lane) for owner in sources])

    async def close(self) -> None:
        """Close everything now."""
        for task in self._closing:
            task.cancel()
        opened, self._open = list(self._open.values()), {}
        for each in opened:
            self._retire(each, 0.0)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _find(self, owner: str, name: str) -> Tool | None:
        if made := self._made.get((owner, name)):
            self._made.move_to_end((owner, name))
            return made
        source = self._sources[owner]
        spec = await self._store.spec(owner, self._lane, name)
        if spec is None:
            return None
        tool = self._opened(source).tool(spec)
        if self._sources.get(owner) is source:  # else it may be of a spec that has been replaced meanwhile
            self._made[owner, name] = tool
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        return tool

    def _opened(self, source: Source) -> OpenSource:
        if source.tenant not in self._open:
            self._open[source.tenant] = self._open_source(source)
        return self._open[source.tenant]

    def _retire(self, opened: OpenSource, after_s: float) -> None:
        task = asyncio.get_running_loop().create_task(_close(opened, self._lane, after_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(opened: OpenSource, lane: str, after_s: float) -> None:
    try:
        await asyncio.sleep(after_s)
    finally:
        try:
            await opened.close()
        except Exception:
            log.exception("a source could not be closed", lane=lane)
