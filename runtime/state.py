"""What a run has come to: the fold of its facts. Frozen; holds no clock, no id that is not in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from schemas.canonical import JsonObject
from schemas.commands import AnyCommand, AskPerson, Command, EndRun, RequestApproval
from schemas.envelope import DECIDER
from schemas.events import CallPlanned, Failure, Fork, Passage, RunRequested, Summary, Turn, TurnResult, UserFact
from schemas.ids import CommandId, EventId, RunId
from schemas.messages import Message
from schemas.policy import Verdict
from schemas.tools import ToolCall, ToolCard

__all__ = ["Judged", "OpenCall", "Phase", "Plan", "Replied", "RunState", "changed"]

CommandT = TypeVar("CommandT", bound=Command)

Phase: TypeAlias = Literal["new", "gathering", "queued", "deciding", "acting", "closing", "ended"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned write and the event that states it."""

    event: EventId
    planned: CallPlanned


@dataclass(frozen=True, slots=True)
class Judged:
    """What the rules make of a write and the event that states it. priced: whether its price was known to them."""

    event: EventId
    verdict: Verdict
    priced: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """What a person answered to a tool's question, and the event that states it. content: None for one who would not."""

    event: EventId
    question: str
    content: JsonObject | None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call of the current generation that has no result yet.

    ungrounded: its arguments that nobody named. approval: the event that allowed it. replied: what persons answered to the
    tool's questions. asked_at: since when a person is asked.
    """

    call: ToolCall
    card: ToolCard
    plan: Plan | None = None
    ungrounded: tuple[str, ...] = ()
    judged: Judged | None = None
    approval: EventId | None = None
    replied: tuple[Replied, ...] = ()
    asked_at: datetime | None = None


@dataclass(frozen=True)
class RunState:
    """One run as its log tells it.

    datakey: what its content is sealed under. erased: that key was destroyed, so nothing may be decided any more.
    outstanding: commands without an answer. gathered: names of what is there before the first
    generation. messages: what was said in this run after the request. prompt_digest: over the prompt
    up to the first `digested` of them. open_calls: by call id.
    receipts and refusals: by call key, so that the same write is neither done nor asked for twice. doubts: call keys by
    the commands of which nobody knows whether they happened. results: what later turns may use of this one, each with the
    event that tells it. returned: what each call gave, whole; told: what people wrote or approved after the request.
    writes and spent: what was committed, and its price by currency. copied: answers taken from the run that it leaves.
    """

    run: RunId
    tenant: str = ""
    decider: str = DECIDER
    datakey: str | None = None
    erased: bool = False
    phase: Phase = "new"
    request: RunRequested | None = None
    requested_at: datetime | None = None
    outstanding: Mapping[CommandId, AnyCommand] = field(default_factory=dict)
    gathered: frozenset[str] = frozenset()
    history: tuple[Turn, ...] = ()
    similar: tuple[Turn, ...] = ()
    summary: Summary | None = None
    facts: tuple[UserFact, ...] = ()
    tools: tuple[ToolCard, ...] = ()
    leaning: float | None = None
    passages: tuple[Passage, ...] = ()
    messages: tuple[Message, ...] = ()
    prompt_digest: str = ""
    digested: int = 0
    inputs: tuple[EventId, ...] = ()
    last_generate: CommandId | None = None
    open_calls: Mapping[str, OpenCall] = field(default_factory=dict)
    observations: Mapping[str, Message] = field(default_factory=dict)
    generation_calls: tuple[str, ...] = ()
    receipts: Mapping[str, str] = field(default_factory=dict)
    refusals: frozenset[str] = frozenset()
    doubts: Mapping[str, str] = field(default_factory=dict)
    results: tuple[tuple[EventId, TurnResult], ...] = ()
    returned: tuple[tuple[ToolCall, str], ...] = ()
    told: tuple[str, ...] = ()
    steps: int = 0
    calls: int = 0
    tokens: int = 0
    writes: int = 0
    spent: Mapping[str, Decimal] = field(default_factory=dict)
    waited: timedelta = timedelta()
    copied: int = 0
    answer: str | None = None
    ending: EndRun | None = None
    failure: Failure | None = None
    ended_at: datetime | None = None

    @property
    def before_3(self) -> bool:
        """Whether a decider began it that knew one way to build a prompt, and nothing of recall."""
        return self.decider in ("1", "2")

    @property
    def before_4(self) -> bool:
        """Whether a decider began it that knew no rules for writes, only its agent's `approval`."""
        return self.decider in ("1", "2", "3")

    @property
    def fork(self) -> Fork | None:
        """Where it leaves another run; None for one that began by itself."""
        return self.request.fork if self.request else None

    @property
    def held(self) -> bool:
        """Whether it still waits for answers of the run that it leaves: until then nothing is asked of anybody."""
        fork = self.request.fork if self.request else None
        return fork is not None and self.copied < fork.copied

    @property
    def forked(self) -> bool:
        """Whether it has left the other run and goes on by itself."""
        return self.fork is not None and not self.held

    def approvals(self) -> dict[CommandId, RequestApproval]:
        """The approvals that wait for a person, by the command that asks."""
        return {} if self.held else self.asked(RequestApproval)

    def questions(self) -> dict[CommandId, AskPerson]:
        """What tools want to know of a person, by the command that asks."""
        return {} if self.held else self.asked(AskPerson)

    def asked(self, kind: type[CommandT]) -> dict[CommandId, CommandT]:
        """The commands of a kind that have no answer."""
        return {id: command for id, command in self.outstanding.items() if isinstance(command, kind)}

    def plan_of(self, approval: RequestApproval) -> Plan | None:
        """The plan that an approval is about."""
        open_call = self.open_calls.get(approval.call.id)
        return open_call.plan if open_call else None

    @property
    def outcome(self) -> Literal["open", "waiting", "queued", "completed", "failed", "cancelled"]:
        """One word for a list of runs."""
        if self.phase == "ended" and self.ending:
            return self.ending.outcome
        if self.phase == "queued":
            return "queued"
        return "waiting" if self.approvals() or self.questions() else "open"


if TYPE_CHECKING:
    from dataclasses import replace as changed  # mypy checks the fields
else:

    def changed(state: RunState, **fields: object) -> RunState:
        """`dataclasses.replace` without its walk through thirty fields, since a fold does this several times a fact."""
        copy = object.__new__(RunState)
        object.__setattr__(copy, "__dict__", vars(state) | fields)
        return copy
