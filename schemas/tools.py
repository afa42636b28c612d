"""What a tool is to the model, the catalogue and the ledger: cards, calls, plans and results."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from schemas.canonical import JsonObject, canonical, digest
from schemas.ids import Token

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

Effect: TypeAlias = Literal["read", "write", "destructive"]
Idempotency: TypeAlias = Literal["key", "query", "none"]
PartKind: TypeAlias = Literal["text", "json", "image", "audio", "video", "file", "table"]
DryRun: TypeAlias = Literal["none", "look", "provider"]


class Value(BaseModel):
    """A frozen value that tolerates fields of a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Grown(Value):
    """A value that got more fields than it began with.

    LATER names them; they are left out of its dump while they have their defaults, so that what was hashed before they
    came still has the same hash.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """That of the fields: the serializer leaves some out, but makes nothing else of them."""
        fields = {key: value for key, value in schema.items() if key != "serialization"}
        return handler(cast("CoreSchema", fields))

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        said: dict[str, object] = dump(self)
        values = self.__dict__
        for name, default in _later(type(self)):
            if values[name] == default:
                said.pop(name, None)
        return said


@cache
def _later(kind: type[Grown]) -> tuple[tuple[str, object], ...]:
    """The fields that came later, with their defaults: compared in every dump, and given to nobody."""
    return tuple((name, kind.model_fields[name].get_default(call_default_factory=True)) for name in kind.LATER)


class Cost(Value):
    """What one call costs. currency: ISO 4217."""

    amount: float = Field(ge=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class ToolCard(Grown):
    """One tool as the model and the catalogue see it.

    parameters: JSON Schema of an object. effect: set by the operator, never by the tool's own text.
    idempotency: how a provider tells a repeated write apart - by our key, by a query, or not at all.
    lane: which tool host answers; the commands of a lane go to that host alone. owner: who answers for it.
    dry_run: how a write is tried before - by the provider's own dry run, by looking at what it would touch, or not at all.
    undo: the tool that takes a write back, called with the same arguments. rate_per_min: calls a minute that its host lets
    through. agents: shell patterns of the agents that may be offered it; empty: all.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"owner", "dry_run", "undo", "rate_per_min", "cost", "agents"})

    name: ToolName
    description: str = Field(min_length=1, max_length=4000)
    parameters: JsonObject
    effect: Effect = "read"
    idempotency: Idempotency = "none"
    lane: Token = "builtin"
    version: str = "1"
    title: str = ""
    examples: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    owner: str = Field(default="", max_length=200)
    dry_run: DryRun = "none"
    undo: str | None = None
    rate_per_min: int | None = Field(default=None, gt=0)
    cost: Cost | None = None
    agents: tuple[str, ...] = Field(default=(), max_length=50)

    def hash(self) -> str:
        """Digest over the whole card: what a run pins."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        return digest("card", self.written)

    @cached_property
    def written(self) -> bytes:
        """Its canonical JSON."""
        return canonical(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        copy = super().model_copy(update=update, deep=deep)
        for name in ("_hash", "written"):  # of the card that it is a copy of
            vars(copy).pop(name, None)
        return copy


def _read_once(value: object, read: ValidatorFunctionWrapHandler) -> ToolCard:
    try:  # as a key, marshal tells 1 from 1.0 and from True; version 2 of it writes equal values equally
        return _card(marshal.dumps(value, 2))  # type: ignore[arg-type]  # ValueError for what it does not write
    except ValueError:  # a card already, or none: ValidationError is a ValueError, too
        return cast("ToolCard", read(value))


@lru_cache(maxsize=512)
def _card(raw: bytes) -> ToolCard:
    return ToolCard.model_validate(marshal.loads(raw))  # bytes that were made in this process


ReadCard = Annotated[ToolCard, WrapValidator(_read_once)]
"""A card that many messages carry: read, checked and hashed once, as it is frozen."""


class Beat(Value):
    """A sign of life of a host of tools, told every two seconds or so.

    queue: calls that wait or are under way. failing: share of its last calls that failed (0 to 1). answers: the names of its
    tools that somebody answers for now; None: all of them.
    """

    queue: int = Field(default=0, ge=0)
    failing: float = Field(default=0.0, ge=0.0, le=1.0)
    answers: tuple[str, ...] | None = Field(default=None, max_length=10_000)


class Refusal(Value):
    """Why the catalogue did not take a card. holder: the lane that has the name, if that is why."""

    tenant: str
    lane: str
    tool: str
    what: str
    why: str = ""
    hint: str = ""
    holder: str | None = None


class ToolCall(Value):
    """A call the model asks for; the id is unique in its run."""

    id: Token
    name: str
    arguments: JsonObject = Field(default_factory=dict)


class Preview(Value):
    """What a write would do, for the person who approves it.

    rows: label and text pairs in the order to show, such as ("expires", "2026-12-01 -> 2027-03-01").
    price and currency: what it costs, when the provider tells.
    """

    summary: str
    rows: tuple[tuple[str, str], ...] = ()
    price: str | None = None
    currency: str | None = None


class Part(Grown):
    """One piece of a tool's result: its media type and either text, JSON or a reference to bytes.

    ref: of bytes that the payload store keeps (`payload:<sha256>`), or an address. name: of the file; size: in bytes.
    sha256: over the bytes that a reference to the payload store stands for, so that the run's receipt covers them.
    A table is JSON: {"columns": [...], "rows": [[...], ...]}.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"name", "size", "sha256"})

    kind: PartKind
    text: str | None = None
    json_value: object = None
    ref: str | None = None
    media_type: str | None = None
    name: str | None = None
    size: int | None = None
    sha256: str | None = None


class ToolResult(Value):
    """What a tool gave back: what the model reads, and the parts a program reads."""

    text: str
    parts: tuple[Part, ...] = ()


class Before(Value):
    """An equal effect that happened earlier: same tool, arguments and resource state. times: how often so far."""

    run: str
    conversation: str
    at: str
    text: str
    times: int = 1


class Question(Value):
    """What a tool wants to know of a person before it goes on. fields: JSON Schema of a flat object; id: unique in its run."""

    id: Token
    text: str = Field(max_length=4000)
    fields: JsonObject = Field(default_factory=dict)


def write_key(tenant: str, tool: str, arguments: dict[str, object], state: str) -> str:
    """The identity of an effect: tenant, tool, canonical arguments and the resource state it was planned on."""
    return digest("write", tenant, tool, canonical(arguments), state)


def repeated_key(key: str, times: int) -> str:
    """The identity of an effect that is wanted once more on the same state, after it has happened so many times."""
    return digest("again", key, str(times)) if times else key


def call_key(tool: str, arguments: dict[str, object]) -> str:
    """The identity of a call inside a run: the same tool with the same arguments."""
    return digest("call", tool, canonical(arguments))
