"""The course of a run: the calls that its model asked for, what became of each, how it ended and what that took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias

from pydantic import Field

from runtime.advance import Decision
from runtime.log import Stored
from runtime.recording import moment_of, said
from schemas.canonical import JsonObject
from schemas.commands import AnyCommand, CallTool, JudgeCall, PlanCall, RequestApproval
from schemas.events import (
    TERMINAL,
    Answered,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    EffectSettled,
    Generated,
    RunCompleted,
    StepFailed,
    TimerFired,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
)
from schemas.messages import Generation
from schemas.policy import Outcome
from schemas.tools import Effect, Value

Fate: TypeAlias = Literal["done", "failed", "refused", "denied", "tried", "in doubt", "not done", "unknown"]
"""tried: as a dry run. not done: it was never sent, since there is no such tool, say. unknown: nobody can tell."""
Ending: TypeAlias = Literal["completed", "failed", "cancelled", "open"]


class Action(Value):
    """A call that the model asked for. step: the generation that asked for it, from 1; event: its place in the run, from 1.

    effect: None for a tool that was not offered. verdict: what the rules made of it at last. price, currency: of a write, as
    its plan tells them.
    """

    step: int
    event: int
    tool: str
    arguments: JsonObject = Field(default_factory=dict)
    effect: Effect | None = None
    verdict: Outcome | None = None
    fate: Fate = "not done"
    price: str | None = None
    currency: str | None = None

    @property
    def writes(self) -> bool:
        """Whether it would change the world."""
        return self.effect in ("write", "destructive")


class Spending(Value):
    """What a run took. tokens: read and written by models, `cached` of them not computed again; models_s: while they spoke.

    seconds: from its request to its last fact. money: prices of the writes that were done, by currency, as decimal text.
    """

    generations: int = 0
    tokens: int = 0
    cached: int = 0
    models_s: float = 0.0
    seconds: float = 0.0
    money: dict[str, str] = Field(default_factory=dict)


class Course(Value):
    """What a run did. steps: how often a model spoke in it. answer: of a completed run."""

    steps: int
    actions: tuple[Action, ...]
    ending: Ending
    answer: str | None
    spending: Spending


def course_of(facts: Sequence[Stored], unanswered: Iterable[Decision] = ()) -> Course:
    """The course that a run's facts tell. unanswered: what nobody answered; what became of those calls is unknown."""
    walk = _Walk()
    for event, stored in enumerate(facts, start=1):
        walk.take(said(stored.fact), event)
    for decision in unanswered:
        walk.fate(decision.command, "unknown")
    end = next((each.fact for each in facts if isinstance(each.fact.body, TERMINAL)), None)
    last = end or (facts[-1].fact if facts else None)
    seconds = (moment_of(last) - moment_of(facts[0].fact)).total_seconds() if last else 0.0
    return Course(
        steps=len(walk.generations), actions=tuple(walk.actions),
        ending=_ENDINGS.get(end.kind, "open") if end else "open",
        answer=end.body.answer if end and isinstance(end.body, RunCompleted) else None,
        spending=_spending(walk, seconds),
    )  # fmt: skip


_ENDINGS: dict[str, Ending] = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}


class _Walk:
    """A log read once, from its beginning; the id of a call names the last one that was asked for under it."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []
        self.actions: list[Action] = []
        self._effects: dict[str, Effect] = {}
        self._latest: dict[str, int] = {}

    def take(self, body: object, event: int) -> None:
        match body:
            case ToolsSelected(tools=tools):
                self._effects = {each.card.name: each.card.effect for each in tools}
            case Generated(generation=generation):
                self._speak(generation, event)
            case CallPlanned(command=command, preview=preview):
                self._change(command, price=preview.price, currency=preview.currency)
            case CallJudged(command=command, verdict=verdict):
                held: dict[Outcome, Fate] = {"deny": "denied", "dry_run": "tried"}
                self._change(command, verdict=verdict.outcome, fate=held.get(verdict.outcome, "not done"))
            case EffectSettled():
                pass  # it comes when it comes, and is no doing of the run
            case Answered(command=command) if fate := _fate(body):
                self.fate(command, fate)

    def fate(self, command: AnyCommand, fate: Fate) -> None:
        self._change(command, fate=fate)

    def _speak(self, generation: Generation, event: int) -> None:
        self.generations.append(generation)
        calls = () if generation.malformed else tuple({call.id: call for call in reversed(generation.calls)}.values())[::-1]
        for call in calls:
            self._latest[call.id] = len(self.actions)
            self.actions.append(Action(
                step=len(self.generations), event=event, tool=call.name, arguments=call.arguments,
                effect=self._effects.get(call.name),
            ))  # fmt: skip

    def _change(self, command: AnyCommand, **changes: object) -> None:
        id = call_id(command)
        if id in self._latest:
            place = self._latest[id]
            self.actions[place] = self.actions[place].model_copy(update=changes)


def call_id(command: AnyCommand) -> str | None:
    """The id of the call that a command is about; None if it is about none."""
    if isinstance(command, PlanCall | JudgeCall | RequestApproval | CallTool):
        return command.call.id
    return command.about if command.kind == "StartTimer" and command.purpose == "approval" else None


def _fate(body: object) -> Fate | None:
    match body:
        case ToolReturned():
            return "done"
        case ToolFailed():
            return "failed"
        case ToolInDoubt():
            return "in doubt"
        case StepFailed(command=command):
            return "in doubt" if isinstance(command, CallTool) and command.write_key else "failed"
        case ApprovalRefused():
            return "refused"
        case TimerFired(command=command) if call_id(command):
            return "refused"
    return None


def _spending(walk: _Walk, seconds: float) -> Spending:
    usages = [each.usage for each in walk.generations]
    money: dict[str, Decimal] = {}
    for action in walk.actions:
        price = _amount(action.price) if action.fate == "done" and action.currency else None
        if price is not None and action.currency:
            money[action.currency] = money.get(action.currency, Decimal(0)) + price
    return Spending(
        generations=len(walk.generations), tokens=sum(each.prompt_tokens + each.completion_tokens for each in usages),
        cached=sum(each.cached_tokens for each in usages), models_s=sum(each.total_ms for each in walk.generations) / 1000,
        seconds=seconds, money={currency: f"{amount:f}" for currency, amount in money.items()},
    )  # fmt: skip


def _amount(text: str | None) -> Decimal | None:
    try:
        amount = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None
