"""Sources of tools: where imported tools come from, and what is needed to call each of them.

A source is imported once (an OpenAPI document, an MCP server, a cloud product, a folder, a package) and hosted from then
on, in its own lane, by whichever tools process runs. Secrets are never part of it: settings name where they are found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from schemas.canonical import JsonObject
from schemas.ids import Token
from schemas.tools import ToolCard, Value

SourceKind: TypeAlias = Literal["openapi", "mcp", "aliyun", "aws", "folder", "package"]


class Source(Value):
    """One import. lane: its tools' host, one source each; settings: what its adapter needs, with secrets by reference
    (`env:NAME` or `file:PATH`, read by the tools process alone)."""

    tenant: str
    lane: Token
    kind: SourceKind
    settings: JsonObject
    title: str = ""
    owner: str = ""
    since: datetime


class Spec(Value):
    """One tool of a source: its card, and how its adapter calls it."""

    card: ToolCard
    call: JsonObject


class SourceStore(Protocol):
    """What was imported. Every call is idempotent."""

    async def put(self, source: Source) -> None:
        """Make a source known, or change its settings; its specs stay."""
        ...

    async def put_specs(self, tenant: str, lane: str, specs: Sequence[Spec]) -> None:
        """Add specs, or replace those of the same names."""
        ...

    async def keep_only(self, tenant: str, lane: str, names: Sequence[str]) -> int:
        """Drop the specs that a newer import does not have; how many there were."""
        ...

    async def spec(self, tenant: str, lane: str, name: str) -> Spec | None:
        """One tool's spec."""
        ...

    def specs(self, tenant: str, lane: str) -> AsyncIterator[Spec]:
        """All specs of a source, by name."""
        ...

    async def sources(self) -> list[Source]:
        """All sources of all tenants."""
        ...

    async def drop(self, tenant: str, lane: str) -> None:
        """Forget a source and its specs."""
        ...
