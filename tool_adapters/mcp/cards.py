"""Cards and specs of a server's tools: its own words, cleaned; its effects by the operator's word alone."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import orjson
from pydantic import Field, ValidationError

from schemas.canonical import JsonObject, canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Effect, ToolCard, Value
from tool_adapters.mcp.listing import BYTES, ListedTool
from tool_adapters.mcp.words import Finding, findings, hidden_in, seen, seen_in, texts_of
from tool_adapters.names import tool_name
from tool_adapters.openapi.document import Document
from tool_adapters.openapi.schema import LARGEST, plain
from tool_adapters.tool import InvalidTool, ToolError, checked_card

DESCRIBED = 1_500
EFFECTS_BYTES = 256 * 1024
TIMEOUT_S = 60.0

Patterns = tuple[str, ...]


class Effects(Value):
    """What the operator says of a server's tools, by shell patterns over the server's own names.

    read, write, destructive: what a call changes; the strictest that fits counts, and what none fits is a write. repeatable:
    the same call twice has the effect of one. dry_run: the argument with which a tool only says what it would do.
    timeout_s: how long it may take. trust_hints: also believe the server's own readOnlyHint.
    """

    read: Patterns = ()
    write: Patterns = ()
    destructive: Patterns = ()
    repeatable: Patterns = ()
    dry_run: dict[str, str] = Field(default_factory=dict)
    timeout_s: dict[str, float] = Field(default_factory=dict)
    trust_hints: bool = False

    def of(self, tool: ListedTool) -> Effect:
        """What calling it changes. A hint can make it stricter; only the operator can make it less strict."""
        if fits(tool.name, self.destructive):
            return "destructive"
        if fits(tool.name, self.write):
            return "destructive" if tool.annotations.get("destructiveHint") is True else "write"
        if fits(tool.name, self.read):
            return "read"
        if tool.annotations.get("readOnlyHint") is True:
            return "read" if self.trust_hints else "write"
        return "destructive" if tool.annotations.get("destructiveHint") is True else "write"


class McpCall(Value):
    """How a tool is called: its name at the server and the digest of what was approved.

    output: the schema of its structured results. dry_run: the argument with which it only says what it would do.
    """

    tool: str
    pin: str
    output: JsonObject | None = None
    dry_run: str | None = None


@dataclass(slots=True)
class Offer:
    """What an import would bring: cards with their calls, what people should know first, and what cannot be a tool."""

    tools: list[tuple[ToolCard, McpCall]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def effects_of(raw: bytes) -> Effects:
    """The operator's word from a TOML or JSON file. Raises MilepostError."""
    try:
        said = read_json(raw, limit=EFFECTS_BYTES) if raw.lstrip().startswith(b"{") else tomllib.loads(raw.decode())
        return Effects.model_validate(said)
    except (ProtocolError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise MilepostError(
            "The file of effects cannot be read.", why=str(error)[:300], hint='e.g. read = ["list_*", "get_*"]; see docs/mcp.md'
        ) from error


def offer(tools: Iterable[ListedTool], *, lane: str, prefix: str, effects: Effects, taken: Iterable[str] = ()) -> Offer:
    """Cards of all tools that can be one. taken: names that are somebody else's already."""
    made = Offer()
    names = set(taken)
    for tool in tools:
        made.findings.extend(_findings(tool))
        try:
            card = card_of(tool, lane=lane, prefix=prefix, effects=effects, taken=names)
        except (ToolError, ValidationError, ProtocolError) as error:
            made.left_out.append((tool.name, str(getattr(error, "why", "") or error).splitlines()[0][:300]))
            continue
        names.add(card.name)
        made.tools.append((card, call_of(tool, effects)))
    return made


def call_of(tool: ListedTool, effects: Effects) -> McpCall:
    """How the tool is called."""
    return McpCall(tool=tool.name, pin=tool.pin, output=tool.output_schema, dry_run=_dry_run(tool, effects))


def _dry_run(tool: ListedTool, effects: Effects) -> str | None:
    """The argument with which the tool is only tried, if it has one: a server that does not know it would do the real thing."""
    properties = tool.input_schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    named = next((argument for pattern, argument in effects.dry_run.items() if fnmatchcase(tool.name, pattern)), "")
    schema = known.get(named)
    return named if isinstance(schema, dict) and schema.get("type") == "boolean" else None


def card_of(tool: ListedTool, *, lane: str, prefix: str, effects: Effects, taken: Iterable[str] = ()) -> ToolCard:
    """The card of one tool. Raises InvalidTool for one whose arguments cannot be told, or carry hidden characters."""
    _refuse_hidden(tool)
    named = f"{prefix}_{tool.name}" if prefix else tool.name
    name = tool_name(named)
    if name in taken:
        name = tool_name(named, unlike=f"{lane}/{tool.name}")
    effect = effects.of(tool)
    title = " ".join(seen(tool.title).split())[:200]
    told = seen(tool.description).strip() or title or f"{tool.name} of {lane}"
    repeatable = fits(tool.name, effects.repeatable)
    dry_run = call_of(tool, effects).dry_run
    timeout_s = next((limit for pattern, limit in effects.timeout_s.items() if fnmatchcase(tool.name, pattern)), TIMEOUT_S)
    hints = [hint for hint in ("readOnlyHint", "idempotentHint", "openWorldHint") if tool.annotations.get(hint) is True]
    card = ToolCard(
        name=name, title=title, description=told if len(told) <= DESCRIBED else told[:DESCRIBED].rsplit(" ", 1)[0],
        parameters={"type": "object", "properties": {}}, effect=effect, lane=lane, tags=("mcp", *hints),
        idempotency="key" if repeatable and effect != "read" else "none", timeout_s=timeout_s,
        dry_run="provider" if dry_run and effect != "read" else "none",
    )  # fmt: skip
    return _with_parameters(card, tool, dry_run)


def fits(name: str, patterns: Patterns) -> bool:
    """Whether one of the shell patterns fits the name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _with_parameters(card: ToolCard, tool: ListedTool, dry_run: str | None) -> ToolCard:
    """With the server's schema as it stands if that is small and plain, else inlined and cut until a model can read it."""
    schema = seen_in({key: value for key, value in tool.input_schema.items() if key not in ("$schema", "$id", "title")})
    assert isinstance(schema, dict)
    empty: JsonObject = {"type": "object", "properties": {}}
    schema = _without(empty | schema, dry_run)
    try:
        canonical(schema)
        if len(orjson.dumps(schema)) <= LARGEST and not _refers(schema):
            return checked_card(card.model_copy(update={"parameters": schema}))
    except (ToolError, ProtocolError):
        pass
    made = empty | plain(Document(schema, title=tool.name), schema)
    return checked_card(card.model_copy(update={"parameters": made}))


def _without(schema: JsonObject, name: str | None) -> JsonObject:
    """The schema without the argument that we set ourselves."""
    if name is None:
        return schema
    properties, required = schema.get("properties"), schema.get("required")
    inner = {key: value for key, value in properties.items() if key != name} if isinstance(properties, dict) else {}
    needed = [each for each in required if each != name] if isinstance(required, list) else []
    return schema | {"properties": inner, "required": needed}


def _refers(value: object) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or "$dynamicRef" in value or any(_refers(each) for each in value.values())
    return isinstance(value, list) and any(_refers(each) for each in value)


def _refuse_hidden(tool: ListedTool) -> None:
    if hidden_in(tool.name):
        raise InvalidTool(f"{tool.name!r} cannot become a tool.", why="its name has characters that nobody sees")
    size = len(orjson.dumps(tool.model_dump(mode="json"), default=str))
    if size > BYTES:
        raise InvalidTool(f"{tool.name} cannot become a tool.", why=f"its description has {size:,} bytes")
    for place, text, describes in texts_of(tool.input_schema):
        if not describes and hidden_in(text):
            raise InvalidTool(f"{tool.name} cannot become a tool.", why=f"{place} has characters that nobody sees")


def _findings(tool: ListedTool) -> Iterator[Finding]:
    yield from findings(tool.name, "name", tool.name)
    yield from findings(tool.name, "description", tool.description)
    if tool.title:
        yield from findings(tool.name, "title", tool.title)
    for schema, where in ((tool.input_schema, "arguments"), (tool.output_schema, "results")):
        for place, text, _ in texts_of(schema):
            yield from findings(tool.name, f"{where}: {place}", text)
