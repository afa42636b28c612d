"""What has happened in a run: past tense, closed union, one event a slot, for ever."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import AwareDatetime, Field

from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.commands import (
    AskPerson,
    CallTool,
    EndRun,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    Role,
    SelectTools,
    StartTimer,
    StoreTurn,
    TaggedCommand,
)
from schemas.ids import CANCEL_SLOT, END_SLOT, RELEASE_SLOT, REQUEST_SLOT, Text, Token
from schemas.messages import Generation, Message, Origin
from schemas.policy import Scope, Verdict
from schemas.receipts import Endorsement, Receipt
from schemas.tools import Before, Grown, Preview, Question, ReadCard, ToolCard, ToolResult, Value


class Event(Value):
    """A fact. role: who may state it. slot: the only one it may stand in; empty: the id of the command it answers."""

    role: ClassVar[Role]
    slot: ClassVar[str] = ""
    origin: ClassVar[Origin] = "system"


class Answered(Event):
    """A fact that answers a command, which it carries so that one line of the log tells both.

    Each kind of answer narrows `command` to what it can answer: nobody can approve a generation.
    """

    command: TaggedCommand


PlannedOrCalled: TypeAlias = Annotated[PlanCall | CallTool, Field(discriminator="kind")]


class Failure(Value):
    """Why something failed: the type of the error, what happened, why, and what to do next."""

    type: str
    what: str
    why: str = ""
    hint: str = ""
    attempts: int = 1


class Parent(Value):
    """The call in which another run began this one. root: the run that began it all; depth: 1 for the first below it.

    vouched: whether a person or a tool's result of that run named all that the task names; else the task vouches for nothing.
    """

    run: str
    command: str
    root: str
    depth: int = Field(ge=1, le=8)
    vouched: bool = False


class Fork(Value):
    """Where a run leaves another one: its first facts are copied from there, then it goes on by itself.

    run: the run it leaves; event: the last event that counts, `at`: its number there, from 1; root: of the Merkle tree over
    the events up to it (hex, schemas.receipts). copied: how many facts are copied before anything is asked for. began: when
    the run would have begun, had it come to `event` just now. answers: what other content an event has here, by the id of
    the event there. tools: the cards that are offered in place of those found there. reads: whether tools that
    only read may be called when the other run did not call them so; a write never is: it is told as it would be planned
    ("dry_run"), or as if it had been done ("simulated"). changed: what differs, in words for people. by: who forked.
    """

    run: str
    at: int = Field(ge=1)
    event: str
    root: str
    copied: int = Field(ge=0)
    began: AwareDatetime
    answers: dict[str, JsonObject] = Field(default_factory=dict)
    tools: tuple[ToolCard, ...] | None = None
    reads: Literal["recorded", "live"] = "recorded"
    writes: Literal["dry_run", "simulated"] = "dry_run"
    changed: tuple[str, ...] = ()
    by: str = ""


class Triggered(Value):
    """What began a run in nobody's name: a clock, a webhook, a subject, an alarm; its name.

    said: of the task, the words of whoever built the trigger. They alone name something: what the event said is nobody's word.
    """

    name: Token
    said: str = Field(default="", max_length=100_000)


class RunRequested(Grown, Event):
    """A client asked an agent for something. key: the client's idempotency key.

    parent: the run whose tool this is; fork: the run that this one leaves; trigger: what began it where nobody asked.
    said: what was said before, as the client tells it, in place of what memory knows; messages of part "history" stood before
    the task, the others came after it. brought: tools of the client itself, which answers their calls.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"parent", "fork", "trigger", "said", "brought"})

    role: ClassVar[Role] = "client"
    origin: ClassVar[Origin] = "user"
    slot: ClassVar[str] = REQUEST_SLOT
    kind: Literal["RunRequested"] = "RunRequested"
    agent: AgentSpec
    task: Text
    user: Token
    conversation: Token
    key: Annotated[str, Field(min_length=1, max_length=256)]
    parent: Parent | None = None
    fork: Fork | None = None
    trigger: Triggered | None = None
    said: tuple[Message, ...] = ()
    brought: tuple[ReadCard, ...] = ()


class CancelRequested(Event):
    """Somebody asked to stop the run: the client, a newer turn that interrupts it, or the recorder, a fork that cannot be."""

    role: ClassVar[Role] = "client"
    origin: ClassVar[Origin] = "user"
    slot: ClassVar[str] = CANCEL_SLOT
    kind: Literal["CancelRequested"] = "CancelRequested"
    by: str
    reason: str = ""


class TurnResult(Value):
    """What a tool gave in an earlier turn: what it said in short, and where its bytes are if it gave a file or a medium."""

    tool: str
    text: str
    kind: Literal["text", "json", "image", "audio", "video", "file", "table"] = "text"
    ref: str | None = None
    media_type: str | None = None


class Turn(Grown):
    """One earlier exchange of the conversation. results: what its tools gave that later turns may use."""

    LATER: ClassVar[frozenset[str]] = frozenset({"results"})

    run: str
    task: str
    answer: str
    results: tuple[TurnResult, ...] = ()


class Summary(Value):
    """Earlier turns told in short. upto: the run of the last turn that it covers; by: the run that wrote it."""

    text: str
    upto: str
    by: str


class UserFact(Value):
    """Something known about a user. key: its name, one value each; source: the run or the person that stated it."""

    key: str
    text: str
    source: str


class MemoryRecalled(Grown, Answered):
    """The turn is open; these were the turns before it, newest last.

    similar: turns from before the history that are near the request, oldest first. summary: of the turns before the
    history. facts: what is known about the user.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"similar", "summary", "facts"})

    role: ClassVar[Role] = "memory"
    kind: Literal["MemoryRecalled"] = "MemoryRecalled"
    command: RecallMemory
    history: tuple[Turn, ...] = ()
    similar: tuple[Turn, ...] = ()
    summary: Summary | None = None
    facts: tuple[UserFact, ...] = ()


class TurnQueued(Answered):
    """Another run of the conversation is open; this one waits for its end."""

    role: ClassVar[Role] = "memory"
    kind: Literal["TurnQueued"] = "TurnQueued"
    command: RecallMemory
    behind: str
    interrupts: bool = False


class TurnRefused(Answered):
    """Another run of the conversation is open, and the agent refuses a second one."""

    role: ClassVar[Role] = "memory"
    kind: Literal["TurnRefused"] = "TurnRefused"
    command: RecallMemory
    by: str


class TurnReleased(Event):
    """The run this one waited for has ended."""

    role: ClassVar[Role] = "memory"
    slot: ClassVar[str] = RELEASE_SLOT
    kind: Literal["TurnReleased"] = "TurnReleased"
    after: str


class TurnStored(Answered):
    """The turn is closed and remembered."""

    role: ClassVar[Role] = "memory"
    kind: Literal["TurnStored"] = "TurnStored"
    command: StoreTurn
    released: str | None = None


class ScoredCard(Value):
    """A tool that was found, and why: the parts of its score by name."""

    card: ReadCard
    score: float
    why: dict[str, float] = Field(default_factory=dict)


class ToolsSelected(Grown, Answered):
    """The tools the model will be offered, best first. catalog: digest of the catalogue that was searched.

    leaning: how much the request leans to calling one of them, in log-odds; None where nothing is known.
    fits: how likely it is that any of them fits the request (0 to 1); None where nothing is known.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"leaning", "fits"})

    role: ClassVar[Role] = "retrieval"
    origin: ClassVar[Origin] = "retrieved"
    kind: Literal["ToolsSelected"] = "ToolsSelected"
    command: SelectTools
    tools: tuple[ScoredCard, ...]
    catalog: str
    searched: int
    leaning: float | None = None
    fits: float | None = None


class Passage(Grown):
    """A piece of a document: where it stands (heading, character offsets) and how well it fits.

    score: fused rank, comparable within one search only. similarity: cosine to the question, if both have vectors.
    source: the document's path or address. version: of its collection, in which it was found. page: in a paged document,
    from 1.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"source", "version", "page"})

    document: str
    title: str
    heading: str
    start: int
    end: int
    text: str
    hash: str
    score: float
    similarity: float | None = None
    source: str = ""
    version: int = 0
    page: int | None = None


class KnowledgeRetrieved(Grown, Answered):
    """The passages found, best first. versions: of each collection as it was searched."""

    LATER: ClassVar[frozenset[str]] = frozenset({"versions"})

    role: ClassVar[Role] = "retrieval"
    origin: ClassVar[Origin] = "retrieved"
    kind: Literal["KnowledgeRetrieved"] = "KnowledgeRetrieved"
    command: RetrieveKnowledge
    passages: tuple[Passage, ...]
    versions: dict[str, int] = Field(default_factory=dict)


class Generated(Answered):
    """What the model said."""

    role: ClassVar[Role] = "llm"
    origin: ClassVar[Origin] = "model"
    kind: Literal["Generated"] = "Generated"
    command: Generate
    generation: Generation
    attempt: int = 1


class CallPlanned(Grown, Answered):
    """What the write would do. state: the resource state it was planned on; write_key: the effect's identity.

    before: the same effect has happened already on the same state; this key would be once more.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"before"})

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["CallPlanned"] = "CallPlanned"
    command: PlanCall
    preview: Preview
    state: str
    write_key: str
    before: Before | None = None


class CallJudged(Answered):
    """What the rules make of a write."""

    role: ClassVar[Role] = "policy"
    kind: Literal["CallJudged"] = "CallJudged"
    command: JudgeCall
    verdict: Verdict


class GrantKept(Answered):
    """The standing approval is remembered."""

    role: ClassVar[Role] = "policy"
    kind: Literal["GrantKept"] = "GrantKept"
    command: KeepGrant
    grant: str


class ToolAsked(Answered):
    """The tool wants to know something of a person before it goes on; nothing was changed yet."""

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["ToolAsked"] = "ToolAsked"
    command: CallTool
    question: Question


class PersonAnswered(Answered):
    """A person answered a tool's question, or would not. content: by the names of the question's fields."""

    role: ClassVar[Role] = "person"
    origin: ClassVar[Origin] = "user"
    kind: Literal["PersonAnswered"] = "PersonAnswered"
    command: AskPerson
    by: str
    accepted: bool
    content: JsonObject = Field(default_factory=dict)


class EffectSettled(Event):
    """What was in doubt is known now; it stands in the slot that `settled_slot` gives, and may come after the run's end.

    call: the id of the command that was in doubt. by: who found out, a service or a person.
    """

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["EffectSettled"] = "EffectSettled"
    call: str
    write_key: str
    happened: bool
    by: str
    note: str = ""
    result: ToolResult | None = None


class ToolReturned(Answered):
    """The tool answered. repeated: the effect had happened before under the same key; this is its receipt."""

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["ToolReturned"] = "ToolReturned"
    command: CallTool
    result: ToolResult
    repeated: bool = False


class ToolFailed(Answered):
    """The tool, or the gate before it, said no; nothing was changed."""

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["ToolFailed"] = "ToolFailed"
    command: PlannedOrCalled
    failure: Failure


class ToolInDoubt(Answered):
    """Whether the effect happened cannot be known; a person decides."""

    role: ClassVar[Role] = "tools"
    origin: ClassVar[Origin] = "tool"
    kind: Literal["ToolInDoubt"] = "ToolInDoubt"
    command: CallTool
    failure: Failure


class ApprovalGranted(Grown, Answered):
    """A person allowed the planned write. approval_hash: what exactly was allowed; scope: how far that reaches."""

    LATER: ClassVar[frozenset[str]] = frozenset({"scope"})

    role: ClassVar[Role] = "person"
    origin: ClassVar[Origin] = "user"
    kind: Literal["ApprovalGranted"] = "ApprovalGranted"
    command: RequestApproval
    by: str
    approval_hash: str
    scope: Scope = "once"


class ApprovalRefused(Answered):
    """A person refused the planned write."""

    role: ClassVar[Role] = "person"
    origin: ClassVar[Origin] = "user"
    kind: Literal["ApprovalRefused"] = "ApprovalRefused"
    command: RequestApproval
    by: str
    reason: str = ""


class TimerFired(Answered):
    """The moment has come."""

    role: ClassVar[Role] = "timer"
    kind: Literal["TimerFired"] = "TimerFired"
    command: StartTimer
    fired: datetime


class StepFailed(Answered):
    """A service gave up on a command: wrong input, or too many attempts."""

    role: ClassVar[Role] = "conductor"
    kind: Literal["StepFailed"] = "StepFailed"
    failure: Failure


class RunCompleted(Answered):
    """The run ended with an answer."""

    role: ClassVar[Role] = "conductor"
    slot: ClassVar[str] = END_SLOT
    kind: Literal["RunCompleted"] = "RunCompleted"
    command: EndRun
    answer: str


class RunFailed(Answered):
    """The run ended without an answer."""

    role: ClassVar[Role] = "conductor"
    slot: ClassVar[str] = END_SLOT
    kind: Literal["RunFailed"] = "RunFailed"
    command: EndRun
    failure: Failure


class RunCancelled(Answered):
    """The run was stopped."""

    role: ClassVar[Role] = "conductor"
    slot: ClassVar[str] = END_SLOT
    kind: Literal["RunCancelled"] = "RunCancelled"
    command: EndRun
    by: str
    reason: str = ""


Recorded: TypeAlias = (
    CancelRequested
    | MemoryRecalled
    | TurnQueued
    | TurnRefused
    | TurnReleased
    | ToolsSelected
    | KnowledgeRetrieved
    | Generated
    | CallPlanned
    | CallJudged
    | GrantKept
    | ToolAsked
    | PersonAnswered
    | EffectSettled
    | ToolReturned
    | ToolFailed
    | ToolInDoubt
    | ApprovalGranted
    | ApprovalRefused
    | TimerFired
    | StepFailed
)


class AnswerCopied(Event):
    """What another run's log holds, said again in a fork of it, in the slot where the fork asks for it.

    answer: that event, with the fork's own command in it; run, event: where it was said first. at: when it would have been
    said here. changed: the person who forked gave it other content.
    """

    role: ClassVar[Role] = "recorder"
    kind: Literal["AnswerCopied"] = "AnswerCopied"
    answer: Annotated[Recorded, Field(discriminator="kind")]
    run: str
    event: str
    at: AwareDatetime
    changed: bool = False


class RunSealed(Event):
    """The recorder has counted and signed what happened in the run; it stands in the slot that `seal_slot` gives.

    signature: Ed25519 over the receipt, base64. nodes: of the tree, at its lowest level that has 256 of them at most, base64:
    they tell where something was changed, and the root proves them. endorsements: from the recorder's first key to this one.
    """

    role: ClassVar[Role] = "recorder"
    kind: Literal["RunSealed"] = "RunSealed"
    receipt: Receipt
    signature: str
    nodes: str = ""
    endorsements: tuple[Endorsement, ...] = ()


AnyEvent: TypeAlias = RunRequested | Recorded | TurnStored | RunCompleted | RunFailed | RunCancelled | AnswerCopied | RunSealed

EVENTS: tuple[type[Event], ...] = get_args(AnyEvent)
Terminal: TypeAlias = RunCompleted | RunFailed | RunCancelled
TERMINAL: tuple[type[Event], ...] = get_args(Terminal)
