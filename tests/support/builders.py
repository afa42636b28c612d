"""Values and small runs for tests: a run that is told facts, folds them and remembers what it decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from runtime import policy
from runtime.advance import Decision
from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from schemas.agent import AgentSpec, Budget
from schemas.commands import (
    AnyCommand,
    CallTool,
    Command,
    EndRun,
    Generate,
    JudgeCall,
    PlanCall,
    RecallMemory,
    RetrieveKnowledge,
    Role,
    SelectTools,
    StoreTurn,
)
from schemas.envelope import Fact, Order, decode_fact, encode, new_fact, new_order, source_of
from schemas.events import (
    AnyEvent,
    CallJudged,
    CallPlanned,
    CancelRequested,
    Event,
    Failure,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    Passage,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    ScoredCard,
    StepFailed,
    ToolFailed,
    ToolReturned,
    ToolsSelected,
    TurnReleased,
    TurnStored,
)
from schemas.ids import CANCEL_SLOT, END_SLOT, RELEASE_SLOT, REQUEST_SLOT, CommandId, RunId, run_id
from schemas.messages import Generation
from schemas.policy import Verdict
from schemas.tools import Before, Preview, ToolCall, ToolCard, ToolResult, repeated_key, write_key

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SEGMENT = "202611"
TENANT = "acme"
OBJECT = {"type": "object"}

CLOCK = ToolCard(name="clock", description="tells the time", parameters=OBJECT)
RENEW = ToolCard(name="renew", description="renews a server", parameters=OBJECT, effect="write", lane="cloud")
DESTROY = ToolCard(name="destroy", description="deletes a server", parameters=OBJECT, effect="destructive", lane="cloud")
CARDS = (CLOCK, RENEW, DESTROY)

C = TypeVar("C", bound=Command)


def spec(**changes: object) -> AgentSpec:
    """An agent; budget fields may be given by name."""
    budget = {name: changes.pop(name) for name in list(changes) if name in Budget.model_fields}
    return AgentSpec.model_validate({"budget": budget, **changes})


def requested(
    agent: AgentSpec | None = None, *, key: str = "key", conversation: str = "talk", task: str = "what time is it?"
) -> RunRequested:
    return RunRequested(agent=agent or spec(), task=task, user="ann", conversation=conversation, key=key)


def run_of(key: str = "key", tenant: str = TENANT) -> RunId:
    return run_id(tenant, key, SEGMENT)


def request_fact(event: RunRequested | None = None, *, tenant: str = TENANT, time: datetime = NOW) -> Fact:
    """The first fact of a run, in its place."""
    event = event or requested()
    return fact_of(event, run_of(event.key, tenant), REQUEST_SLOT, role="client", tenant=tenant, time=time)


def fact_of(
    event: AnyEvent, run: RunId, slot: str, *, role: Role | None = None, tenant: str = TENANT, time: datetime = NOW,
    causes: tuple[str, ...] = (),
) -> Fact:  # fmt: skip
    """A fact as its reader sees it: it has been over the wire."""
    speaker = role or speaker_of(event)
    return decode_fact(encode(
        new_fact(event, run=run, tenant=tenant, slot=slot, source=source_of(speaker, "test"), time=time, causes=causes)
    ))  # fmt: skip


def speaker_of(event: Event) -> Role:
    command = getattr(event, "command", None)
    return command.role if isinstance(command, Command) else event.role


def order_for(command: AnyCommand, *, run: RunId | None = None, id: str = "c" * 32, tenant: str = TENANT) -> Order:
    return new_order(
        command, id=CommandId(id), run=run or run_of(), tenant=tenant, source=source_of("conductor", "test"), time=NOW,
        causes=("e" * 32,),
    )  # fmt: skip


def call(name: str = "clock", id: str = "c1", **arguments: object) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


def passage(text: str = "Servers are renewed by the month.") -> Passage:
    return Passage(document="d", title="Guide", heading="Renewal", start=0, end=len(text), text=text, hash="h", score=0.5)


def failure(what: str = "It broke.", kind: str = "Broken") -> Failure:
    return Failure(type=kind, what=what)


def planned(
    command: PlanCall, *, state: str = "until May", summary: str = "one month more", before: Before | None = None,
    price: str | None = None, currency: str | None = None,
) -> CallPlanned:  # fmt: skip
    key = write_key(TENANT, command.call.name, command.call.arguments, state)
    preview = Preview(summary=summary, price=price, currency=currency)
    key = repeated_key(key, before.times) if before else key
    return CallPlanned(command=command, preview=preview, state=state, write_key=key, before=before)


def own_verdict(agent: AgentSpec, command: JudgeCall) -> Verdict:
    """What the policy service says where no rule fits: the agent's own `approval`."""
    card = next((card for card in CARDS if card.name == command.call.name), RENEW).model_copy(update={"effect": command.effect})
    return Verdict(outcome="ask" if policy.needs_approval(agent, card) else "allow", rule=policy.AGENT_APPROVAL)


def ending(command: EndRun, answer: str = "") -> AnyEvent:
    """The terminal event that an EndRun asks for."""
    why = Failure.model_validate(command.error or {"type": "Unknown", "what": "?"})
    if command.outcome == "completed":
        return RunCompleted(command=command, answer=answer)
    if command.outcome == "failed":
        return RunFailed(command=command, failure=why)
    return RunCancelled(command=command, by=why.what, reason=why.why)


class RunUnderTest:
    """One run: tell it facts, look at what is open. Everything it hears has been over the wire."""

    def __init__(
        self, agent: AgentSpec | None = None, *, key: str = "key", tenant: str = TENANT, task: str = "what time is it?"
    ) -> None:  # fmt: skip
        self.tenant, self.id = tenant, run_of(key, tenant)
        self.now = NOW
        self.log: list[Stored] = []
        self.folded = Folded(RunState(run=self.id))
        self.request = requested(agent, key=key, task=task)
        self.decided: list[Decision] = []

    @property
    def state(self) -> RunState:
        return self.folded.state

    def hear(self, fact: Fact) -> tuple[Decision, ...]:
        """Fold a fact; gives what it caused."""
        stored = Stored(fact, len(self.log) + 1)
        self.log.append(stored)
        decisions = self.folded.add(stored)
        self.decided.extend(decisions)
        return decisions

    def tell(self, event: AnyEvent, slot: str, *, role: Role | None = None, tenant: str | None = None) -> list[AnyCommand]:
        """State an event in a slot; gives the commands it caused."""
        fact = fact_of(event, self.id, slot, role=role, tenant=tenant or self.tenant, time=self.now)
        return [each.command for each in self.hear(fact)]

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # --- what is open ---

    def open(self, kind: type[C]) -> list[tuple[CommandId, C]]:
        return [(id, command) for id, command in self.state.outstanding.items() if isinstance(command, kind)]

    def one(self, kind: type[C]) -> C:
        ((_, command),) = self.open(kind)
        return command

    def id_of(self, command: AnyCommand) -> CommandId:
        return next(id for id, each in self.state.outstanding.items() if each == command)  # the first of equal ones

    def count(self, kind: type[Command]) -> int:
        """How many commands of a kind were ever decided."""
        return sum(isinstance(each.command, kind) for each in self.decided)

    # --- facts ---

    def answer(self, event: AnyEvent) -> list[AnyCommand]:
        """State an answer in the slot of the open command that it carries."""
        command: AnyCommand = event.command  # type: ignore[union-attr]  # only answers come here
        return self.tell(event, END_SLOT if isinstance(command, EndRun) else self.id_of(command))

    def begin(self) -> list[AnyCommand]:
        return self.tell(self.request, REQUEST_SLOT)

    def gather_tools(self, *cards: ToolCard) -> list[AnyCommand]:
        found = tuple(ScoredCard(card=card, score=1.0) for card in cards or CARDS)
        return self.answer(ToolsSelected(command=self.one(SelectTools), tools=found, catalog="all", searched=len(found)))

    def gather(
        self, *cards: ToolCard, told: MemoryRecalled | None = None, passages: tuple[Passage, ...] = ()
    ) -> list[AnyCommand]:
        """Answer what the first generation waits for; gives the commands of the last answer."""
        if self.open(SelectTools):
            self.gather_tools(*cards)
        for _, search in self.open(RetrieveKnowledge):
            self.answer(KnowledgeRetrieved(command=search, passages=passages or (passage(),)))
        recall = self.one(RecallMemory)
        return self.answer(told.model_copy(update={"command": recall}) if told else MemoryRecalled(command=recall))

    def say(self, *calls: ToolCall, text: str = "") -> list[AnyCommand]:
        """The model calls, or answers with text."""
        return self.answer(Generated(command=self.one(Generate), generation=Generation(text=text, calls=calls)))

    def judges(self, verdict: Verdict | None = None, command: JudgeCall | None = None) -> list[AnyCommand]:
        """The rules are asked; without a verdict the agent's own setting decides."""
        command = command or self.one(JudgeCall)
        return self.answer(CallJudged(command=command, verdict=verdict or own_verdict(self.request.agent, command)))

    def plans(self, event: CallPlanned | None = None, verdict: Verdict | None = None) -> list[AnyCommand]:
        """Plan and verdict of an open write are there; gives the commands that the second of them caused."""
        event = event or planned(self.one(PlanCall))
        commands = self.answer(event)
        judges = [command for _, command in self.open(JudgeCall) if command.call == event.command.call]
        return self.judges(verdict, judges[0]) if judges else commands

    def returns(self, command: CallTool, text: str = "done") -> list[AnyCommand]:
        return self.answer(ToolReturned(command=command, result=ToolResult(text=text)))

    def fails(self, command: AnyCommand, what: str = "It broke.") -> list[AnyCommand]:
        """Its service gives up on a command."""
        return self.answer(StepFailed(command=command, failure=failure(what)))

    def denies(self, command: PlanCall | CallTool, what: str = "No.") -> list[AnyCommand]:
        return self.answer(ToolFailed(command=command, failure=failure(what)))

    def cancel(self, role: Role = "client") -> list[AnyCommand]:
        return self.tell(CancelRequested(by="ann"), CANCEL_SLOT, role=role)

    def release(self, after: str = "another") -> list[AnyCommand]:
        return self.tell(TurnReleased(after=after), RELEASE_SLOT)

    def store(self) -> list[AnyCommand]:
        return self.answer(TurnStored(command=self.one(StoreTurn)))

    def end(self) -> str:
        """Answer whatever closes the run; gives its outcome."""
        if self.open(StoreTurn):
            self.store()
        self.answer(ending(self.one(EndRun), self.state.answer or ""))
        return self.state.outcome


def ready(
    agent: AgentSpec | None = None, *cards: ToolCard, passages: tuple[Passage, ...] = (), task: str = "what time is it?"
) -> RunUnderTest:
    """A run whose first generation is open."""
    run = RunUnderTest(agent, task=task)
    run.begin()
    run.gather(*cards, passages=passages)
    return run
