"""The Tool port: what every adapter offers, what it raises, and the checks that stand before and after each call.

ToolError
├── InvalidTool        the adapter was given something that cannot become a tool
├── InvalidArguments   the arguments do not fit the card; nothing was called
├── InvalidResult      the tool answered with something that cannot be stored or read
├── ToolRefused        the provider said no; asking again says no again
├── NeedsAnswer        it wants to know something of a person first; nothing was changed
├── ToolUnavailable    nothing happened, and the same call may work later
└── OutcomeUnknown     it was sent and nobody answered: in doubt
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from schemas.canonical import Json, canonical, checked
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Part, PartKind, Preview, Question, ToolCard, ToolResult

ARGUMENTS_LIMIT = 64 * 1024
RESULT_LIMIT = 256 * 1024
CARD_LIMIT = 64 * 1024


class ToolError(MilepostError):
    """A tool could not be made, called or understood."""


class InvalidTool(ToolError):
    """Something was registered that cannot become a tool."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's card; nothing was called."""


class InvalidResult(ToolError):
    """A read's answer is too large or cannot be written as JSON. A write never raises it: it has happened."""


class ToolRefused(ToolError):
    """The provider said no for good. code: the provider's own word for it, such as `IncorrectInstanceStatus`."""

    def __init__(self, what: str, *, code: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.code = code


class ToolUnavailable(ToolError):
    """Nothing was done and the same call may work later: throttled, down, or not reached."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, why=why, hint=hint or "try again in a moment")
        self.retry_after_s = retry_after_s


class NeedsAnswer(ToolError):
    """The tool wants to know something of a person before it goes on; called again, it finds the answer in its context."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.text)
        self.question = question


class OutcomeUnknown(ToolError):
    """A write was sent and no answer came back: it may or may not have happened."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """For whom and under which key a call is made.

    write_key: the identity of the effect, given to providers that tell repeats apart by a key.
    planned_state: the `Plan.state` the call was approved on. timeout_s: seconds until the caller gives up.
    command: the id of the command that calls, the same when it is delivered again. answers: what persons answered to the
    tool's questions, by question id; None for a person who would not. keep: stores bytes and gives the part that refers
    to them; load: reads what such a part refers to.
    """

    tenant: str
    run: str
    user: str
    timeout_s: float = 30.0
    write_key: str | None = None
    planned_state: str | None = None
    conversation: str = ""
    agent: str = ""
    command: str = ""
    answers: Mapping[str, Mapping[str, object] | None] = field(default_factory=dict)
    keep: Keep | None = None
    load: Load | None = None


class Keep(Protocol):
    """Stores bytes that are too large or too binary for a result, and gives the part that refers to them."""

    async def __call__(self, data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part: ...


class Load(Protocol):
    """Reads the bytes of a `payload:...` reference. Raises UnknownPayload, Erased, Unreachable."""

    async def __call__(self, ref: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a write would do. state: canonical JSON of what it was planned on; the write key is made from it."""

    preview: Preview
    state: str


Outcome = Literal["happened", "not_happened", "unknown"]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What asking the provider told about a write whose answer was lost.

    happened: record `result` as the receipt. not_happened: calling again with the same write key is safe.
    unknown: a tool whose card says `idempotency="key"` may still be called again with the same key;
    for any other a person decides.
    """

    outcome: Outcome
    result: ToolResult | None = None


class Tool(Protocol):
    """One callable thing of the outside world. Every method raises a ToolError and nothing else."""

    @property
    def card(self) -> ToolCard: ...

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """What a write would do; reads the world and changes nothing."""
        ...

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Do it. A write repeated with the same write key has one effect where the card says `idempotency="key"`."""
        ...

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """After a lost answer: did it happen? Reads the world and changes nothing."""
        ...


def validate(card: ToolCard, arguments: Mapping[str, object]) -> None:
    """Check arguments against the card's JSON Schema (draft 2020-12).

    Raises InvalidArguments, InvalidTool. In little time whatever a card's patterns are: a server may have written them.
    """
    try:
        raw = canonical(arguments)
    except ProtocolError as error:
        raise InvalidArguments(f"The arguments of {card.name} are no plain JSON.", why=error.why) from error
    if len(raw) > ARGUMENTS_LIMIT:
        raise InvalidArguments(f"The arguments of {card.name} have {len(raw)} bytes, the limit is {ARGUMENTS_LIMIT}.")
    try:
        validator = _validator(canonical(card.parameters))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise _no_schema(card, error) from error
    errors = list(validator.iter_errors(json.loads(raw)))
    if errors:
        wrong = _nearest(errors)
        place = ".".join(str(step) for step in wrong.instance_path)
        raise InvalidArguments(
            f"{card.name} cannot be called with these arguments.",
            why=f"{place}: {wrong.message}"[:500] if place else wrong.message[:500],
            hint=f"milepost tools show {card.name}",
        )


def checked_card(card: ToolCard) -> ToolCard:
    """The card, if its parameters are a JSON Schema of an object and it is not too large; InvalidTool if not."""
    if card.parameters.get("type") != "object":
        raise InvalidTool(
            f"The parameters of {card.name} are no schema of an object.", why="a tool takes its arguments by name",
            hint='give it {"type": "object", "properties": {...}}',
        )  # fmt: skip
    size = len(card.model_dump_json())
    if size > CARD_LIMIT:
        raise InvalidTool(
            f"The card of {card.name} has {size} characters, the limit is {CARD_LIMIT}.", why="a model has to read it",
            hint="shorten its description, or leave out parameters that are seldom needed",
        )  # fmt: skip
    try:
        jsonschema_rs.Draft202012Validator(card.parameters, retriever=_no_retriever)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise _no_schema(card, error) from error
    return card


def _no_schema(card: ToolCard, error: Exception) -> InvalidTool:
    why = str(getattr(error, "message", error)).partition("\n")[0][:500]
    return InvalidTool(
        f"The parameters of {card.name} are no JSON Schema.", why=why, hint="see https://json-schema.org/draft/2020-12"
    )


def _no_retriever(uri: str) -> dict[str, object]:
    raise ValueError(f"{uri} is outside the card, and nothing is fetched")


def result_of(value: object, *, limit: int = RESULT_LIMIT) -> ToolResult:
    """A tool's plain answer as a result: text stays text, other JSON also becomes a part a program can read.

    Raises InvalidResult for bytes, objects, NaN, and anything beyond `limit` bytes.
    """
    if isinstance(value, ToolResult):
        return checked_result(value, limit=limit)
    if isinstance(value, str):
        return checked_result(ToolResult(text=value, parts=(Part(kind="text", text=value),)), limit=limit)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResult("The tool's answer is no JSON and no text.", why=str(error)[:200]) from error
    return checked_result(ToolResult(text=text, parts=(Part(kind="json", json_value=json.loads(text)),)), limit=limit)


def checked_result(result: ToolResult, *, limit: int = RESULT_LIMIT) -> ToolResult:
    """The result, if it can be stored: plain JSON of at most `limit` bytes. Raises InvalidResult."""
    try:
        value: Json = result.model_dump(mode="json")
        size = len(json.dumps(checked(value), ensure_ascii=False, allow_nan=False).encode())
    except (ProtocolError, ValueError) as error:
        raise InvalidResult("The tool's answer cannot be stored.", why=str(error)[:200]) from error
    if size > limit:
        raise InvalidResult(
            f"The tool's answer has {size} bytes, the limit is {limit}.",
            hint="ask for less: a filter, a page, or a shorter text",
        )
    return result


def answered(card: ToolCard, value: object) -> ToolResult:
    """`result_of`, except that a write which has happened is never reported as an error for what it answered."""
    try:
        return result_of(value)
    except InvalidResult as error:
        if card.effect == "read":
            raise
        return ToolResult(text=f"{card.name} was done. Its answer could not be kept: {error.what}")


def read_only(card: ToolCard) -> ToolRefused:
    """What planning or reconciling a tool that changes nothing raises."""
    return ToolRefused(f"{card.name} changes nothing, so there is nothing to plan.", code="ReadOnly")


def _nearest(errors: list[jsonschema_rs.ValidationError]) -> jsonschema_rs.ValidationError:
    """The error nearest to the root; of alternatives the one that the value was meant for, where just one has its type."""
    wrong = min(errors, key=lambda error: len(error.instance_path))
    while isinstance(wrong.kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        place = wrong.instance_path
        meant = [branch for branch in wrong.kind.context if not any(_of_another_type(each, place) for each in branch)]
        if len(meant) != 1 or not meant[0]:
            break
        wrong = min(meant[0], key=lambda error: len(error.instance_path))
    return wrong


def _of_another_type(error: jsonschema_rs.ValidationError, place: list[str | int]) -> bool:
    return isinstance(error.kind, ValidationErrorKind.Type) and error.instance_path == place


@lru_cache(maxsize=512)
def _validator(parameters: bytes) -> jsonschema_rs.Draft202012Validator:
    """Patterns run in time that grows with the text alone, or give up after a set number of steps."""
    return jsonschema_rs.Draft202012Validator(json.loads(parameters), retriever=_no_retriever)
