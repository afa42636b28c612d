"""A source of kind mcp in use: the one session with its server, and the tools that are called in it."""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from tool_adapters.mcp.cards import McpCall
from tool_adapters.mcp.session import McpServer, Resolve
from tool_adapters.mcp.settings import settings_of
from tool_adapters.mcp.tool import McpTool
from tool_adapters.tool import InvalidTool, Tool


class Spec(Protocol):
    """services.tools.sources.Spec by its shape."""

    @property
    def card(self) -> ToolCard: ...

    @property
    def call(self) -> JsonObject: ...


class McpSource:
    """services.tools.source_shelf.OpenSource by its shape. Raises InvalidTool for settings that cannot be used."""

    def __init__(self, settings: JsonObject, resolve: Resolve, *, lane: str = "mcp") -> None:
        self._server = McpServer(settings_of(settings), resolve, lane=lane)

    def tool(self, spec: Spec) -> Tool:
        """The tool of a spec."""
        try:
            return McpTool(spec.card, McpCall.model_validate(spec.call), self._server)
        except ValidationError as error:
            raise InvalidTool(f"How {spec.card.name} is called cannot be read.", why=str(error)[:300]) from error

    async def close(self) -> None:
        """End the session, and the process that it is with."""
        await self._server.close()
