"""Where a host finds its tools: all at hand, or made of what was imported when one is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from schemas.tools import ToolCard
from tool_adapters.tool import Tool, checked_card


class Shelf(Protocol):
    """The tools of one host."""

    async def find(self, tenant: str, name: str) -> Tool | None:
        """A tenant's tool of that name. Raises ToolError for one that cannot be made any more."""
        ...

    def cards(self) -> list[ToolCard]:
        """The cards that the host itself publishes; empty where an import has published them."""
        ...

    def __len__(self) -> int: ...


class FixedShelf:
    """Tools that are all there from the beginning. tenant: whose they are, `*` for all. Raises InvalidTool."""

    def __init__(self, tools: Iterable[Tool], tenant: str = "*") -> None:
        self._tools = {tool.card.name: tool for tool in tools}
        self._tenant = tenant
        for tool in self._tools.values():
            checked_card(tool.card)

    async def find(self, tenant: str, name: str) -> Tool | None:
        return self._tools.get(name) if self._tenant in ("*", tenant) else None

    def cards(self) -> list[ToolCard]:
        return [tool.card for tool in self._tools.values()]

    def __len__(self) -> int:
        return len(self._tools)
