"""What the conductor asks of a service, a person or a clock: imperative, answered by exactly one event each.

A command's canonical JSON is part of its id, so it holds references (event ids) instead of content.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

from schemas.agent import FactsWhen, Priority, WhenBusy
from schemas.canonical import JsonObject
from schemas.ids import Token
from schemas.messages import Sampling
from schemas.tools import Before, Effect, Grown, Question, ToolCall, Value

Role: TypeAlias = Literal[
    "client", "conductor", "llm", "retrieval", "memory", "tools", "policy", "person", "timer", "recorder", "gateway"
]


class Command(Value):
    """A request that one role answers; `lane` splits a role into hosts that are not interchangeable."""

    role: ClassVar[Role]

    @property
    def lane(self) -> str:
        return "main"


class RecallMemory(Grown, Command):
    """Open a turn of the conversation and say what was said before.

    similar, facts, facts_when, summary: what else is wanted, see Recall.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"similar", "facts", "facts_when", "summary"})

    role: ClassVar[Role] = "memory"
    kind: Literal["RecallMemory"] = "RecallMemory"
    conversation: Token
    user: Token
    when_busy: WhenBusy
    deadline: datetime
    history_tokens: int
    similar: int = 0
    facts: int = 0
    facts_when: FactsWhen = "near"
    summary: bool = False


class StoreTurn(Grown, Command):
    """Close the turn: keep what was asked and answered (an event id), and let the next one in.

    results_of: the events of the tool results that the turn had, in order.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"results_of"})

    role: ClassVar[Role] = "memory"
    kind: Literal["StoreTurn"] = "StoreTurn"
    conversation: Token
    user: Token
    outcome: Literal["answered", "failed", "cancelled"]
    answer_of: str | None = None
    results_of: tuple[str, ...] = ()


class SelectTools(Command):
    """Find the tools that fit the request."""

    role: ClassVar[Role] = "retrieval"
    kind: Literal["SelectTools"] = "SelectTools"
    always: tuple[str, ...]
    forbidden: tuple[str, ...]
    k: int


class RetrieveKnowledge(Grown, Command):
    """Find the passages that may answer the request.

    host: the lane that answers. filters: what a document's metadata must say.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"host", "filters"})

    role: ClassVar[Role] = "retrieval"
    kind: Literal["RetrieveKnowledge"] = "RetrieveKnowledge"
    collections: tuple[str, ...]
    k: int
    host: str = "main"
    filters: dict[str, str] = Field(default_factory=dict)

    @property
    def lane(self) -> str:
        return self.host


class Generate(Grown, Command):
    """Let the model decide: an answer or calls.

    after: the previous Generate of the run, whose prompt this one extends; inputs: the events whose
    content is new since then. prompt_hash: digest of the whole prompt, which the log can rebuild. fallback: models to
    ask when the first cannot answer.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"fallback", "priority"})

    role: ClassVar[Role] = "llm"
    kind: Literal["Generate"] = "Generate"
    model: str
    host: str = "main"
    after: str | None
    inputs: tuple[str, ...]
    prompt_hash: str
    sampling: Sampling
    fallback: tuple[str, ...] = ()
    priority: Priority = "interactive"

    @property
    def lane(self) -> str:
        return self.host


class PlanCall(Command):
    """Look at the world and say what a write would do, without doing it."""

    role: ClassVar[Role] = "tools"
    kind: Literal["PlanCall"] = "PlanCall"
    call: ToolCall
    card_hash: str
    host: str

    @property
    def lane(self) -> str:
        return self.host


class JudgeCall(Command):
    """Say what the rules make of a write: asked beside its plan, and again with its price where limits of money apply.

    ungrounded: arguments that neither a person nor a result named. price, currency: of the plan, at the second time.
    """

    role: ClassVar[Role] = "policy"
    kind: Literal["JudgeCall"] = "JudgeCall"
    call: ToolCall
    effect: Effect
    tool_lane: str
    ungrounded: tuple[str, ...] = ()
    price: str | None = None
    currency: str | None = None


class KeepGrant(Command):
    """Remember that a person approved for longer than one call. approval: the event that says so."""

    role: ClassVar[Role] = "policy"
    kind: Literal["KeepGrant"] = "KeepGrant"
    call: ToolCall
    scope: Literal["conversation", "always"]
    approval: str
    by: str


class CallTool(Grown, Command):
    """Run a tool. A write carries its plan and its key; an approved one carries the approval's event id.

    answers: the events in which persons answered what the tool asked, in order.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"answers"})

    role: ClassVar[Role] = "tools"
    kind: Literal["CallTool"] = "CallTool"
    call: ToolCall
    card_hash: str
    host: str
    plan: str | None = None
    approval: str | None = None
    write_key: str | None = None
    answers: tuple[str, ...] = ()

    @property
    def lane(self) -> str:
        return self.host


class RequestApproval(Grown, Command):
    """Ask a person whether a planned write may happen.

    why: the rule that asks. ungrounded: arguments that nobody named. before: it has happened already. approvers: shell
    patterns of who may answer (empty: anyone); not_by: who may not.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"why", "ungrounded", "before", "approvers", "not_by"})

    role: ClassVar[Role] = "person"
    kind: Literal["RequestApproval"] = "RequestApproval"
    call: ToolCall
    plan: str
    approval_hash: str
    expires: datetime
    why: str = ""
    ungrounded: tuple[str, ...] = ()
    before: Before | None = None
    approvers: tuple[str, ...] = ()
    not_by: str | None = None


class AskPerson(Command):
    """Ask a person what a tool wants to know before it goes on. asked: the event in which it asked."""

    role: ClassVar[Role] = "person"
    kind: Literal["AskPerson"] = "AskPerson"
    call: ToolCall
    asked: str
    question: Question
    expires: datetime


class StartTimer(Command):
    """Tell the run when a moment has come. about: of an approval or a question, the id of its call."""

    role: ClassVar[Role] = "timer"
    kind: Literal["StartTimer"] = "StartTimer"
    at: datetime
    purpose: Literal["deadline", "approval", "question"]
    about: str = ""


class EndRun(Command):
    """State the outcome; the conductor answers it itself with the terminal event."""

    role: ClassVar[Role] = "conductor"
    kind: Literal["EndRun"] = "EndRun"
    outcome: Literal["completed", "failed", "cancelled"]
    answer_of: str | None = None
    error: JsonObject | None = None


AnyCommand: TypeAlias = (
    RecallMemory
    | StoreTurn
    | SelectTools
    | RetrieveKnowledge
    | Generate
    | PlanCall
    | JudgeCall
    | KeepGrant
    | CallTool
    | RequestApproval
    | AskPerson
    | StartTimer
    | EndRun
)
TaggedCommand: TypeAlias = Annotated[AnyCommand, Field(discriminator="kind")]

COMMANDS: tuple[type[Command], ...] = get_args(AnyCommand)
