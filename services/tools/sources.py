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

SourceKind: TypeAlias = Literal["openapi", "mcp", "aliyun", "aws", "folder", "package", "agent"]

DROPPED = 2000
"""How many specs one keep_only drops."""


class Source(Value):
    """One import. lane: its tools' host, one source each; settings: what its adapter needs, with secrets by reference
    (`env:NAME` or `file:PATH`, read by the tools process alone). since: its last import."""

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


class Stored(Value):
    """What became of specs that were put: how many had not been there, how many were other ones."""

    new: int = 0
    changed: int = 0


class SourceStore(Protocol):
    """What was imported. Every call is idempotent. A tenant is one, or `*` for what all of them see."""

    async def put(self, source: Source) -> None:
        """Make a source known, or change its settings; its specs stay."""
        ...

    async def put_specs(self, tenant: str, lane: str, specs: Sequence[Spec]) -> Stored:
        """Add specs, or replace those of the same names."""
        ...

    async def keep_only(
        self, tenant: str, lane: str, names: Sequence[str], after: str = "", upto: str | None = None
    ) -> list[str]:
        """Drop the specs that a newer import does not have: of those behind `after` and up to `upto` (None: to the end).

        The names of those dropped, at most DROPPED of them; when it is as many there may be more.
        """
        ...

    async def spec(self, tenant: str, lane: str, name: str) -> Spec | None:
        """One tool's spec."""
        ...

    def specs(self, tenant: str, lane: str) -> AsyncIterator[Spec]:
        """All specs of a source, by name."""
        ...

    async def count(self, tenant: str, lane: str) -> int:
        """How many specs a source has."""
        ...

    async def sources(self) -> list[Source]:
        """All sources of all tenants."""
        ...

    async def drop(self, tenant: str, lane: str) -> None:
        """Forget a source and its specs."""
        ...


class MemorySourceStore:
    """The store in dictionaries: the twin of the Postgres adapter, with the same contract."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], Source] = {}
        self._specs: dict[tuple[str, str], dict[str, Spec]] = {}

    async def put(self, source: Source) -> None:
        self._sources[source.tenant, source.lane] = source

    async def put_specs(self, tenant: str, lane: str, specs: Sequence[Spec]) -> Stored:
        known = self._specs.setdefault((tenant, lane), {})
        new = sum(spec.card.name not in known for spec in specs)
        changed = sum(spec.card.name in known and known[spec.card.name] != spec for spec in specs)
        known.update({spec.card.name: spec for spec in specs})
        return Stored(new=new, changed=changed)

    async def keep_only(
        self, tenant: str, lane: str, names: Sequence[str], after: str = "", upto: str | None = None
    ) -> list[str]:
        known, kept = self._specs.get((tenant, lane), {}), frozenset(names)
        gone = sorted(name for name in known if name > after and (upto is None or name <= upto) and name not in kept)[:DROPPED]
        for name in gone:
            del known[name]
        return gone

    async def spec(self, tenant: str, lane: str, name: str) -> Spec | None:
        return self._specs.get((tenant, lane), {}).get(name)

    async def specs(self, tenant: str, lane: str) -> AsyncIterator[Spec]:
        for _, spec in sorted(self._specs.get((tenant, lane), {}).items()):
            yield spec

    async def count(self, tenant: str, lane: str) -> int:
        return len(self._specs.get((tenant, lane), {}))

    async def sources(self) -> list[Source]:
        return [source for _, source in sorted(self._sources.items())]

    async def drop(self, tenant: str, lane: str) -> None:
        self._sources.pop((tenant, lane), None)
        self._specs.pop((tenant, lane), None)
