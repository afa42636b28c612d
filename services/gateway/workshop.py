"""How tools come in from documents, MCP servers and clouds. The port."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from schemas.canonical import JsonObject
from schemas.tools import ToolCard, Value

SourceKind: TypeAlias = Literal["openapi", "mcp", "aliyun"]


class Import(Value):
    """What is to be imported. where: an address, or a product's name; document: the text itself, in its place."""

    kind: SourceKind
    name: str = ""
    where: str = ""
    document: str = ""
    options: JsonObject = Field(default_factory=dict)


class Imported(Value):
    """What an import has, or would have: its cards, and what was passed over with the reasons."""

    source: str
    cards: tuple[ToolCard, ...]
    passed_over: tuple[str, ...] = ()


class Workshop(Protocol):
    """Imports tools for a tenant."""

    async def try_out(self, tenant: str, what: Import) -> Imported:
        """What would come of it; nothing is kept. Raises MilepostError."""
        ...

    async def take_in(self, tenant: str, what: Import) -> Imported:
        """Keep it: hosts pick it up, the catalogue has it. Raises MilepostError."""
        ...
