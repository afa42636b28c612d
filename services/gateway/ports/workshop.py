"""How tools come in from documents, MCP servers and clouds; and how one of them is tried. The port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.ids import TOKEN
from schemas.tools import Effect, ToolCard, Value

ImportKind: TypeAlias = Literal["openapi", "mcp", "aliyun"]


class Import(Value):
    """What is to be imported.

    name: the lane of its tools, else that of its title. where: the address of a document or an MCP server; document: the
    text itself, in its place. products: of a cloud. auth (OpenAPI, by scheme) and headers (MCP): secrets by reference.
    effects: by operation or tool name, what an operator says that it changes. seen: the digest of what was shown before.
    """

    kind: ImportKind
    name: str = Field(default="", pattern=rf"^$|{TOKEN}")
    where: str = Field(default="", max_length=2000)
    document: str = Field(default="", max_length=8_000_000)
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    server: str = Field(default="", max_length=2000)
    products: tuple[str, ...] = Field(default=(), max_length=100)
    auth: dict[str, str] = Field(default_factory=dict, max_length=16)
    headers: dict[str, str] = Field(default_factory=dict, max_length=16)
    effects: dict[str, Effect] = Field(default_factory=dict, max_length=1000)
    command: str = Field(default="", max_length=1000)
    seen: str = Field(default="", max_length=128)


class Line(Value):
    """A tool of an import."""

    name: str
    title: str
    effect: Effect
    description: str


class Finding(Value):
    """What a person should look at first: text of a server that reads like orders to a model, or that is hidden."""

    tool: str
    where: str
    what: str
    excerpt: str = ""


class Imported(Value):
    """What an import has, or would have. lines: the first of its tools; effects: how many of all there are of each.

    left_out: what cannot be a tool, with the reason. digest: over all of it; whoever imports it names what was shown.
    new, changed, gone: beside what the lane had before. hosted: whether calls are answered already.
    """

    source: str
    kind: ImportKind
    title: str
    tools: int
    effects: dict[str, int]
    lines: tuple[Line, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    digest: str
    new: int = 0
    changed: int = 0
    gone: int = 0
    hosted: bool = False


@dataclass(frozen=True, slots=True)
class GivenCall:
    """A call as a run: its request, and the agent that makes this call and no other."""

    task: str
    agent: AgentSpec


class Workshop(Protocol):
    """Imports tools for a tenant, and makes runs of single calls."""

    async def try_out(self, tenant: str, what: Import) -> Imported:
        """What would come of it; nothing is kept. Raises MilepostError."""
        ...

    async def take_in(self, tenant: str, user: str, what: Import) -> Imported:
        """Keep it: hosts pick it up, the catalogue has it. Raises MilepostError, Conflict if it is not what was seen."""
        ...

    async def remove(self, tenant: str, lane: str) -> int:
        """Take a source out with its tools, and say how many they were. Raises NotThere."""
        ...

    def given_call(self, card: ToolCard, arguments: JsonObject, *, only_tried: bool) -> GivenCall:
        """A call of a tool. only_tried: it is planned and shown, and never done, whatever the rules say."""
        ...
