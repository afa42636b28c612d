"""What the two processes say to each other: JSON, a line each, on the child's standard input and output.

Parent -> child   Ask, Kept and Loaded (answers to its wishes), Cancel
Child -> parent   Told or Failed (answers to Ask), WantsKept, WantsLoaded

Bytes are base64. Every message names the call that it belongs to; what a child wishes has a number of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.tools import Part, PartKind, Preview, Question, ToolCard, ToolResult, Value
from tool_adapters import tool as port
from tool_adapters.tool import CallContext, NeedsAnswer, Plan, Reconciled, ToolError, ToolRefused, ToolUnavailable

LINE_BYTES = 512 * 1024 * 1024


class Caller(Value):
    """A CallContext without its functions."""

    tenant: str
    run: str
    user: str
    timeout_s: float
    write_key: str | None = None
    planned_state: str | None = None
    conversation: str = ""
    agent: str = ""
    command: str = ""
    answers: dict[str, JsonObject | None] = Field(default_factory=dict)
    keeps: bool = False
    loads: bool = False


class Ask(Value):
    """Do something with a tool. ping: only say that you live; cards: which tools are there?"""

    kind: Literal["ask"] = "ask"
    call: int
    want: Literal["ping", "cards", "plan", "call", "reconcile"]
    tool: str = ""
    arguments: JsonObject = Field(default_factory=dict)
    caller: Caller | None = None


class Cancel(Value):
    """Nobody waits for a call any more."""

    kind: Literal["cancel"] = "cancel"
    call: int


class Told(Value):
    """The answer to an Ask, as far as it was asked for."""

    kind: Literal["told"] = "told"
    call: int
    cards: tuple[ToolCard, ...] = ()
    preview: Preview | None = None
    state: str = ""
    outcome: Literal["happened", "not_happened", "unknown"] | None = None
    result: ToolResult | None = None


class Failed(Value):
    """The ToolError that an Ask came to. type: its class; other errors come as ToolError."""

    kind: Literal["failed"] = "failed"
    call: int
    type: str
    what: str
    why: str = ""
    hint: str = ""
    code: str = ""
    retry_after_s: float | None = None
    question: Question | None = None


class WantsKept(Value):
    """Keep these bytes for me."""

    kind: Literal["keep"] = "keep"
    call: int
    wish: int
    data: str
    part: PartKind
    media_type: str
    name: str | None = None


class WantsLoaded(Value):
    """Give me the bytes of this reference."""

    kind: Literal["load"] = "load"
    call: int
    wish: int
    ref: str


class Granted(Value):
    """What became of a wish: the part, or the bytes; or why not. away: it may work later."""

    kind: Literal["granted"] = "granted"
    wish: int
    part: Part | None = None
    data: str | None = None
    error: str | None = None
    away: bool = False


ToChild = TypeAdapter[Ask | Cancel | Granted](Annotated[Ask | Cancel | Granted, Field(discriminator="kind")])
ToParent = TypeAdapter[Told | Failed | WantsKept | WantsLoaded](
    Annotated[Told | Failed | WantsKept | WantsLoaded, Field(discriminator="kind")]
)


def line(message: Value) -> bytes:
    """A message as it is sent."""
    return message.model_dump_json().encode() + b"\n"


def caller_of(context: CallContext) -> Caller:
    """What the child is told of who calls."""
    names = set(Caller.model_fields) - {"answers", "keeps", "loads"}
    said = {name: getattr(context, name) for name in names}
    answers = {id: dict(given) if given is not None else None for id, given in context.answers.items()}
    return Caller(**said, answers=answers, keeps=context.keep is not None, loads=context.load is not None)


def failed(call: int, error: Exception) -> Failed:
    """An error as it is told."""
    if not isinstance(error, MilepostError):
        error = ToolError("The tool failed.", why=f"{type(error).__name__}: {error}"[:500])
    return Failed(
        call=call, type=type(error).__name__, what=error.what[:2000], why=error.why[:2000], hint=error.hint[:2000],
        code=getattr(error, "code", ""), retry_after_s=getattr(error, "retry_after_s", None),
        question=getattr(error, "question", None),
    )  # fmt: skip


def error_of(told: Failed) -> ToolError:
    """The error that was told."""
    if told.question is not None:
        return NeedsAnswer(told.question)
    if told.type == "ToolRefused":
        return ToolRefused(told.what, code=told.code, why=told.why, hint=told.hint)
    if told.type == "ToolUnavailable":
        return ToolUnavailable(told.what, why=told.why, hint=told.hint, retry_after_s=told.retry_after_s)
    kind = getattr(port, told.type, ToolError)
    known = isinstance(kind, type) and issubclass(kind, ToolError)
    return (kind if known else ToolError)(told.what, why=told.why, hint=told.hint)


def plan_of(told: Told) -> Plan:
    """The plan in an answer."""
    return Plan(told.preview or Preview(summary=""), told.state)


def reconciled_of(told: Told) -> Reconciled:
    """What happened, in an answer."""
    return Reconciled(told.outcome or "unknown", told.result)
