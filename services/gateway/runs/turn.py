"""One turn of a conversation as a page shows it: a run folded into what was asked, said, called and cited."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from runtime.children import children_of
from runtime.fold import Folded
from runtime.log import Stored
from runtime.payloads import is_ref, name_of
from runtime.sealing import Erased
from runtime.state import RunState
from schemas.canonical import JsonObject
from schemas.commands import AskPerson, CallTool, Generate, JudgeCall, PlanCall, RequestApproval
from schemas.events import (
    AnswerCopied,
    EffectSettled,
    Event,
    Failure,
    Generated,
    KnowledgeRetrieved,
    RunFailed,
    StepFailed,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    TurnQueued,
)
from schemas.ids import CommandId, RunId
from schemas.tools import Effect, Part, PartKind, ToolCall, ToolResult, Value
from services.gateway.principal import Principal
from services.gateway.runs import people
from services.gateway.runs.people import Approval, Matter, Query

RESULT_CHARACTERS = 20_000
"""So much of a tool's text or table is told with a turn; the whole stands in the run."""
URL_CHARACTERS = 2_000

Outcome: TypeAlias = Literal["queued", "open", "waiting", "completed", "failed", "cancelled"]
CallState: TypeAlias = Literal["checking", "waiting", "running", "done", "failed", "not_done", "in_doubt", "stopped"]
"""checking: it is planned and judged. not_done: refused by a person, a rule or a budget, or nobody answered in time."""


class Trouble(Value):
    """What went wrong, why, and the next step."""

    what: str
    why: str = ""
    hint: str = ""


class Piece(Value):
    """A part of a result. url: where its bytes are; content: a table or other JSON."""

    kind: PartKind
    media_type: str = ""
    name: str = ""
    size: int | None = None
    url: str = ""
    text: str = ""
    content: object = None


class Text(Value):
    """What the model said in one step. step: the command that asked it. malformed: why it is no answer."""

    kind: Literal["text"] = "text"
    step: str
    text: str
    model: str = ""
    malformed: str = ""
    read: int = 0
    written: int = 0
    ms: float = 0.0


class Call(Value):
    """A call of a tool. result: what the model is told of it; repeated: it had happened before, this is its receipt.

    run: of the agent that stands behind the tool.
    """

    kind: Literal["call"] = "call"
    id: str
    tool: str
    title: str = ""
    effect: Effect | None = None
    arguments: JsonObject
    state: CallState
    began: datetime
    ended: datetime | None = None
    result: str = ""
    cut: bool = False
    pieces: tuple[Piece, ...] = ()
    failure: Trouble | None = None
    repeated: bool = False
    run: str | None = None


Item: TypeAlias = Annotated[Text | Call, Field(discriminator="kind")]


class Citation(Value):
    """A passage that the answer may be taken from, in the order in which the model read them."""

    title: str
    heading: str
    text: str
    source: str = ""
    page: int | None = None
    document: str = ""
    hash: str = ""
    similarity: float | None = None


class Said(Value):
    """What was said before the conversation began here."""

    role: str
    text: str


class Turn(Value):
    """A run as one turn. speaking: the steps that a model is asked now; behind: the run it waits for.

    read, written: tokens of all models asked in it. ms: from its beginning to its end.
    """

    run: str
    conversation: str
    task: str
    user: str
    agent: str
    model: str = ""
    said: tuple[Said, ...] = ()
    status: Outcome
    began: datetime
    ended: datetime | None = None
    items: tuple[Item, ...] = ()
    answer: str | None = None
    failure: Trouble | None = None
    citations: tuple[Citation, ...] = ()
    approvals: tuple[Approval, ...] = ()
    questions: tuple[Query, ...] = ()
    speaking: tuple[str, ...] = ()
    behind: str = ""
    fork_of: str | None = None
    read: int = 0
    written: int = 0


class TurnFold:
    """A run's facts, folded into a turn as they come."""

    def __init__(self, run: RunId) -> None:
        self._folded = Folded(RunState(run=run))
        self._items: dict[str, Text | Call] = {}
        self._citations: tuple[Citation, ...] = ()
        self._failure: Trouble | None = None
        self._behind = ""
        self._doubted: dict[str, str] = {}
        self._approvals: dict[CommandId, Matter[RequestApproval, Approval]] = {}
        self._questions: dict[CommandId, Matter[AskPerson, Query]] = {}

    @property
    def state(self) -> RunState:
        """What the run has come to."""
        return self._folded.state

    @property
    def approvals(self) -> tuple[Matter[RequestApproval, Approval], ...]:
        """All that the run wanted to be allowed, in order."""
        return tuple(self._approvals.values())

    @property
    def questions(self) -> tuple[Matter[AskPerson, Query], ...]:
        """All that its tools wanted to know, in order."""
        return tuple(self._questions.values())

    @property
    def position(self) -> int:
        """Of the last fact."""
        return self._folded.position

    def add(self, facts: Iterable[Stored]) -> None:
        """Fold more of the log. Raises Erased."""
        for stored in facts:
            if stored.position > self.position:
                self._add(stored)

    def _add(self, stored: Stored) -> None:
        self._folded.add(stored)
        if self.state.erased:
            raise Erased(f"run {self.state.run}")
        fact, body = stored.fact, stored.fact.body
        event: Event | None = body.answer if isinstance(body, AnswerCopied) else body if isinstance(body, Event) else None
        if event is None:
            return
        match event:
            case Generated():
                self._generated(event, fact.slot, fact.time)
            case KnowledgeRetrieved():
                self._citations = tuple(Citation.model_validate(each.model_dump()) for each in event.passages)
            case ToolReturned(command=CallTool(call=call), result=result):
                self._update(call, _result(self.state.run, result) | {"repeated": event.repeated})
            case ToolFailed(failure=failure) | ToolInDoubt(failure=failure) | StepFailed(failure=failure):
                self._failed(event, fact.slot, _trouble(failure))
            case EffectSettled():
                self._settled(event)
            case TurnQueued():
                self._behind = event.behind
            case RunFailed(failure=failure):
                self._failure = _trouble(failure)
        self._people(event, fact.time)
        self._calls(event, fact.time)

    def _generated(self, event: Generated, step: str, at: datetime) -> None:
        said = event.generation
        self._items[step] = Text(
            step=step, text="" if said.malformed else said.text, model=said.model, malformed=said.malformed, ms=said.total_ms,
            read=said.usage.prompt_tokens, written=said.usage.completion_tokens,
        )  # fmt: skip
        cards = {card.name: card for card in self.state.tools}
        for call in () if said.malformed else said.calls:
            card = cards.get(call.name)
            self._items.setdefault(f"call {call.id}", Call(
                id=call.id, tool=call.name, title=card.title if card else "", effect=card.effect if card else None,
                arguments=call.arguments, state="checking", began=at,
            ))  # fmt: skip

    def _update(self, call: ToolCall, said: Mapping[str, object]) -> None:
        found = self._items.get(f"call {call.id}")
        if isinstance(found, Call):
            self._items[f"call {call.id}"] = found.model_copy(update=said)

    def _failed(self, event: ToolFailed | ToolInDoubt | StepFailed, slot: str, failure: Trouble) -> None:
        if isinstance(command := event.command, PlanCall | CallTool):
            self._doubted[slot] = command.call.id
            self._update(command.call, {"failure": failure})

    def _settled(self, event: EffectSettled) -> None:
        """What was in doubt is known."""
        item = self._items.get(f"call {self._doubted.get(event.call)}")
        if isinstance(item, Call):
            said = _result(self.state.run, event.result) if event.result else {"result": event.note}
            state: CallState = "done" if event.happened else "failed"
            self._items[f"call {item.id}"] = item.model_copy(update={**said, "state": state})

    def _people(self, event: Event, at: datetime) -> None:
        """What waits for a person now, and what does not any more."""
        approvals, questions = self.state.approvals(), self.state.questions()
        for id, asked in approvals.items():
            if id not in self._approvals:
                self._approvals[id] = people.approval(self.state, id, asked)
        for id, question in questions.items():
            if id not in self._questions:
                self._questions[id] = people.query(self.state, id, question)
        for id, matter in self._approvals.items():
            if id not in approvals and matter.told.state == "waiting":
                self._approvals[id] = matter.decided(event, at)
        for id, found in self._questions.items():
            if id not in questions and found.told.state == "waiting":
                self._questions[id] = found.decided(event, at)

    def _calls(self, event: Event, at: datetime) -> None:
        """How far each call is: what it waits for, or what the model is told of it."""
        state = self.state
        waits, runs = _waits(state), children_of(state)
        for name, item in self._items.items():
            if not isinstance(item, Call) or item.ended:
                continue
            said = state.observations.get(item.id)
            if said is not None and item.id not in state.open_calls:
                told = {} if item.result else _text(said.content)
                self._items[name] = item.model_copy(update={**told, "state": _became(event), "ended": at})
            elif state.phase == "ended":
                self._items[name] = item.model_copy(update={"state": "stopped", "ended": at})
            elif item.id in waits:
                how, command = waits[item.id]
                self._items[name] = item.model_copy(update={"state": how, "run": runs.get(command, item.run)})

    def turn(self, who: Principal) -> Turn | None:
        """The turn as this principal sees it; None while nobody knows what was asked."""
        state, request = self.state, self.state.request
        if request is None or state.requested_at is None:
            return None
        texts = [item for item in self._items.values() if isinstance(item, Text)]
        return Turn(
            run=state.run, conversation=request.conversation, task=request.task, user=request.user, agent=request.agent.name,
            model=texts[-1].model if texts else request.agent.model, status=state.outcome, began=state.requested_at,
            ended=state.ended_at, items=tuple(self._items.values()),
            answer=state.answer if state.outcome == "completed" else None,
            failure=self._failure, citations=self._citations, behind=self._behind if state.phase == "queued" else "",
            approvals=tuple(each.seen_by(who) for each in self._approvals.values()),
            questions=tuple(each.seen_by(who) for each in self._questions.values()),
            speaking=tuple(state.asked(Generate)), fork_of=request.fork.run if request.fork else None,
            read=sum(each.read for each in texts), written=sum(each.written for each in texts),
            said=tuple(Said(role=each.role, text=each.content) for each in request.said if each.part == "history"),
        )  # fmt: skip


def turn_of(run: RunId, facts: Iterable[Stored], who: Principal) -> Turn | None:
    """A run that was read, as one turn. Raises Erased."""
    fold = TurnFold(run)
    fold.add(facts)
    return fold.turn(who)


def _trouble(failure: Failure) -> Trouble:
    return Trouble(what=failure.what, why=failure.why, hint=failure.hint)


def _text(text: str) -> dict[str, object]:
    return {"result": text[:RESULT_CHARACTERS], "cut": len(text) > RESULT_CHARACTERS}


def _result(run: RunId, result: ToolResult) -> dict[str, object]:
    return {**_text(result.text), "pieces": tuple(_piece(run, part) for part in result.parts if part.kind != "text")}


def _piece(run: RunId, part: Part) -> Piece:
    """A part: small JSON whole, bytes by where they are fetched."""
    url = f"/api/runs/{run}/payloads/{name_of(part.ref)}" if part.ref and is_ref(part.ref) else part.ref or ""
    small = part.json_value is not None and len(json.dumps(part.json_value, default=str)) <= RESULT_CHARACTERS
    return Piece(
        kind=part.kind, media_type=part.media_type or "", name=part.name or "", size=part.size, url=url[:URL_CHARACTERS],
        text=(part.text or "")[:RESULT_CHARACTERS], content=part.json_value if small else None,
    )  # fmt: skip


def _became(event: Event) -> CallState:
    """What became of a call by the event after which it has a result."""
    match event:
        case ToolReturned():
            return "done"
        case ToolInDoubt() | StepFailed(command=CallTool(write_key=str())):
            return "in_doubt"
        case ToolFailed() | StepFailed():
            return "failed"
    return "not_done"


def _waits(state: RunState) -> dict[str, tuple[CallState, CommandId]]:
    """What each call waits for, by its id."""
    found: dict[str, tuple[CallState, CommandId]] = {}
    for id, command in state.outstanding.items():
        match command:
            case RequestApproval() | AskPerson():
                found[command.call.id] = "waiting", id
            case CallTool():
                found[command.call.id] = "running", id
            case PlanCall() | JudgeCall():
                found[command.call.id] = "checking", id
    return found
