"""What a server says that it offers, all pages of it, and the digest by which a tool is known again."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import Field

from schemas.canonical import JsonObject, digest
from schemas.tools import Value
from tool_adapters.tool import ToolRefused

if TYPE_CHECKING:
    from mcp.client.session import ClientSession
    from mcp_types import Tool

PAGES = 200
MOST = 20_000
BYTES = 1024 * 1024
"""Of one tool's own description: what is larger is no tool for a model."""


class ListedTool(Value):
    """One tool as its server describes it, word for word."""

    name: str
    title: str = ""
    description: str = ""
    input_schema: JsonObject
    output_schema: JsonObject | None = None
    annotations: JsonObject = Field(default_factory=dict)

    @cached_property
    def pin(self) -> str:
        """Digest of everything that was approved: name, title, description, schemas and annotations."""
        return digest("mcp-tool", json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True))


async def listed(session: ClientSession) -> dict[str, ListedTool]:
    """Every tool of the server by its name. Raises ToolRefused for a list without end, and the protocol's errors."""
    from mcp_types import PaginatedRequestParams

    found: dict[str, ListedTool] = {}
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        for tool in page.tools:
            found.setdefault(tool.name, as_listed(tool))
        cursor = page.next_cursor
        if not cursor or cursor in seen:
            return found
        seen.add(cursor)
        if len(found) > MOST:
            break
    raise ToolRefused("The server lists tools without end.", code="ListTooLong", why=f"more than {len(found):,}")


def as_listed(tool: Tool) -> ListedTool:
    """The protocol's tool as a value of ours."""
    annotations = tool.annotations.model_dump(mode="json", by_alias=True, exclude_none=True) if tool.annotations else {}
    return ListedTool(
        name=tool.name, title=tool.title or str(annotations.get("title", "")), description=tool.description or "",
        input_schema=dict(tool.input_schema), output_schema=dict(tool.output_schema) if tool.output_schema else None,
        annotations=annotations,
    )  # fmt: skip
