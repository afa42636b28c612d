"""MCP servers for tests: the official SDK's server, in this process, with tools that do what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.client._memory import InMemoryTransport
from mcp.server.lowlevel import Server

from schemas.tools import Part, PartKind
from tool_adapters.mcp.cards import Effects, offer
from tool_adapters.mcp.listing import as_listed
from tool_adapters.mcp.session import McpServer
from tool_adapters.mcp.settings import McpSettings
from tool_adapters.mcp.stdio import ErrorLines
from tool_adapters.mcp.tool import McpTool
from tool_adapters.tool import CallContext

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

Do = Callable[[Any, types.CallToolRequestParams], Awaitable[types.CallToolResult | types.InputRequiredResult]]
OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


class ServerForTests:
    """Tools by name, each with what it does; `listed` may be changed as a server changes its mind."""

    def __init__(self, **tools: Do) -> None:
        self.does = tools
        self.listed = {name: types.Tool(name=name, description=f"does {name}", input_schema=OBJECT) for name in tools}
        self.calls: list[str] = []
        self.sessions = 0
        self.page = 100
        self.hanging = False

    async def _list(self, context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        if self.hanging:
            await asyncio.Event().wait()
        begin = int(params.cursor) if params and params.cursor else 0
        every = list(self.listed.values())
        end = begin + self.page
        return types.ListToolsResult(tools=every[begin:end], next_cursor=str(end) if end < len(every) else None)

    async def _call(
        self, context: Any, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        self.calls.append(params.name)
        return await self.does[params.name](context, params)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[TransportStreams]:
        """A connection to it that carries messages alone, as a pipe does: not the sender's context."""
        self.sessions += 1
        server: Server[Any] = Server("for-tests", on_list_tools=self._list, on_call_tool=self._call)
        heard_in, heard = anyio.create_memory_object_stream[Any](0)
        said, said_out = anyio.create_memory_object_stream[Any](0)
        async with InMemoryTransport(server) as (read, write), anyio.create_task_group() as tasks:
            tasks.start_soon(_pump, read, heard_in)
            tasks.start_soon(_pump, said_out, write)
            try:
                yield heard, said
            finally:
                tasks.cancel_scope.cancel()


class Connected(McpServer):
    """Our side, with a server in this process in place of a command. protocol: legacy, or 2026-07-28."""

    def __init__(self, server: ServerForTests, protocol: str) -> None:
        super().__init__(McpSettings.model_validate({"command": "none", "protocol": protocol}), lambda reference: reference)
        self.server = server

    @asynccontextmanager
    async def _transport(self, errors: ErrorLines, gone: asyncio.Event) -> AsyncIterator[TransportStreams]:
        async with self.server.streams() as streams:
            yield streams

    def tools(self, effects: Effects | None = None) -> dict[str, McpTool]:
        """Its tools as they were approved now; all of them read if nothing else is said."""
        said = effects or Effects(read=("*",))
        made = offer([as_listed(each) for each in self.server.listed.values()], lane="x", prefix="", effects=said)
        return {call.tool: McpTool(card, call, self) for card, call in made.tools}


class Kept:
    """A payload store that is a dictionary."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}

    async def __call__(self, data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        ref = f"payload:{len(self.bytes)}"
        self.bytes[ref] = data
        return Part(kind=kind, ref=ref, media_type=media_type, name=name, size=len(data))


def context(
    run: str = "r1", answers: Mapping[str, Mapping[str, object] | None] | None = None, keep: Kept | None = None
) -> CallContext:
    """A call's context."""
    return CallContext(tenant="t", run=run, user="u", command="c", answers=answers or {}, keep=keep)


def text(said: str, *, is_error: bool = False, structured: dict[str, Any] | None = None) -> types.CallToolResult:
    """A result with a text."""
    return types.CallToolResult(content=[types.TextContent(text=said)], is_error=is_error, structured_content=structured)


async def _pump(source: Any, to: Any) -> None:
    async with to:
        async for each in source:
            await to.send(each)
