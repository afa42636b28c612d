"""Forks: where a run can be left, which of its facts a fork copies, and what these say there.

Pure: who asks for a fork computes with it what the recorder will copy, and so knows before that it can be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal, TypeAlias, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError

from runtime.advance import Decision
from runtime.fold import Folded
from runtime.log import Stored
from runtime.merkle import leaf_hash, root_of
from runtime.receipts import is_seal, leaf_of
from runtime.recording import moment_of, restated, said
from runtime.sealing import Erased
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject, canonical
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RequestApproval,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact, new_fact
from schemas.errors import MilepostError
from schemas.events import (
    TERMINAL,
    AnswerCopied,
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    Event,
    Fork,
    MemoryRecalled,
    Recorded,
    RunRequested,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnStored,
)
from schemas.ids import CommandId, RunId, settled_slot
from schemas.sealing import Sealed
from schemas.tools import ToolCard

Reads: TypeAlias = Literal["recorded", "live"]
Writes: TypeAlias = Literal["dry_run", "simulated"]

_RECORDED: tuple[type[Event], ...] = get_args(Recorded)
_READER: TypeAdapter[Recorded] = TypeAdapter(Annotated[Recorded, Field(discriminator="kind")])
_OF_A_TURN = (TurnQueued, TurnReleased, MemoryRecalled)
# What may stand in the place of what: an answer to the same question, of another kind.
_INSTEAD: tuple[frozenset[type[Event]], ...] = (
    frozenset({ApprovalGranted, ApprovalRefused}),
    frozenset({ToolReturned, ToolFailed, ToolInDoubt, ToolAsked}),
)
_NEAREST = 3


class NotForked(MilepostError):
    """A run cannot be forked so."""


class NoDecision(NotForked):
    """Nothing is decided at the event at which a run is to be left."""


class BeyondTheEnd(NotForked):
    """The run has no event with this number."""


class NoAnswer(NotForked):
    """The event is no answer, or none that the fork copies."""


class UnfittingContent(NotForked):
    """An answer cannot say this."""


class Diverges(NotForked):
    """With what is changed the run would have gone another way before it is left."""


class AnotherPast(NotForked):
    """The run that is to be left is not what the fork says of it."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the run that is left. number: from 1; counts: whether it moved the run; decided: what it caused."""

    number: int
    fact: Fact
    counts: bool
    decided: tuple[Decision, ...]

    @property
    def body(self) -> Event:
        """What it says; of a copied answer, the answer."""
        return said(self.fact)

    @property
    def copied(self) -> bool:
        """Whether a fork copies it: what others keep, such as turns and grants, is not a fork's to ask for."""
        body = self.body
        kept = isinstance(body, Answered) and isinstance(body.command, KeepGrant | StoreTurn)
        return self.counts and isinstance(body, _RECORDED) and not kept

    @property
    def decides(self) -> bool:
        """Whether a run can be left here: something other than a timer was decided."""
        moved = any(not isinstance(each.command, StartTimer) for each in self.decided)
        return moved and (self.copied or self.begins)

    @property
    def begins(self) -> bool:
        """Whether it is the request that the run began with."""
        return self.counts and isinstance(self.fact.body, RunRequested)


class Original:
    """A run that can be left. Raises Erased, and NotForked for facts without a request."""

    def __init__(self, run: RunId, facts: Sequence[tuple[Stored, bytes]]) -> None:
        self.run = run
        folded = Folded(RunState(run=run))
        told: list[Told] = []
        hashes: list[bytes] = []
        for stored, raw in facts:
            fact = stored.fact
            if is_seal(fact.role, fact.slot):
                continue
            number, before = len(told) + 1, folded.state
            decided = folded.add(Stored(fact, number))
            told.append(Told(number, fact, folded.state is not before, decided))
            hashes.append(leaf_hash(leaf_of(number, fact.id, raw)))
        self.state, self.told, self._hashes = folded.state, tuple(told), hashes
        if self.state.erased or any(isinstance(each.fact.body, Sealed) for each in told):
            raise Erased(f"run {run}")
        if self.state.request is None:
            raise NotForked(f"Run {run} has no request, so nothing can be forked.", hint="milepost runs ls")

    @property
    def request(self) -> RunRequested:
        """What it was asked for."""
        return cast("RunRequested", self.state.request)

    @property
    def began(self) -> datetime:
        """When it began."""
        return cast("datetime", self.state.requested_at)

    def root(self, at: int) -> str:
        """The Merkle root over the first events, as receipts have it, hex."""
        return root_of(self._hashes[:at]).hex()

    def at(self, number: int) -> Told:
        """The event at which it can be left. Raises BeyondTheEnd, NoDecision."""
        if not 1 <= number <= len(self.told):
            raise BeyondTheEnd(
                f"Run {self.run} has no event {number}.", why=f"it has {len(self.told)} that count",
                hint=f"milepost runs show {self.run}",
            )  # fmt: skip
        told = self.told[number - 1]
        if told.decides:
            return told
        places = sorted((each.number for each in self.told if each.decides), key=lambda place: abs(place - number))
        near = ", ".join(f"--at {place} ({type(self.told[place - 1].body).__name__})" for place in sorted(places[:_NEAREST]))
        raise NoDecision(
            f"Event {number} of run {self.run} is no decision.",
            why=f"nothing came of {type(told.body).__name__} by itself; a run is left where it decides what comes next",
            hint=f"the nearest are {near}",
        )

    def copied(self, at: int) -> list[Told]:
        """The events that a fork at this one copies: those up to it, and how its turn was opened. Raises NotForked."""
        first = [each for each in self.told[:at] if each.copied]
        if any(isinstance(each.body, MemoryRecalled | TurnRefused) for each in first):
            return first
        turn: list[Told] = []
        for each in self.told[at:]:
            if each.copied and isinstance(each.body, _OF_A_TURN):
                turn.append(each)
            if turn and isinstance(turn[-1].body, MemoryRecalled):
                return [*first, *turn]
        raise NotForked(
            f"Run {self.run} has not begun its turn of the conversation, so no fork can.",
            why="a fork reads what the run was told of earlier turns, and opens no turn by itself",
            hint=f"when it has: milepost runs show {self.run}",
        )


@dataclass(frozen=True)
class Change:
    """What is different in a fork. answers: other content by the event's number; None: as it is in the run that is left."""

    agent: AgentSpec | None = None
    tools: tuple[ToolCard, ...] | None = None
    answers: Mapping[int, JsonObject] = field(default_factory=dict)
    reads: Reads | None = None
    writes: Writes | None = None
    words: tuple[str, ...] = ()


def fork_request(original: Original, at: int, change: Change, *, key: str, by: str, now: datetime) -> RunRequested:
    """What begins the fork. Raises NoDecision, BeyondTheEnd, NoAnswer, UnfittingContent, NotForked."""
    left, before = original.at(at), original.request.fork
    copied = original.copied(at)
    answers = {}
    for number, content in change.answers.items():
        told = _overridable(original, at, number)
        otherwise(cast("Recorded", told.body), content)
        answers[told.fact.id] = content
    inherited = Fork(run=original.run, at=at, event=left.fact.id, root="", copied=0, began=now) if before is None else before
    fork = Fork(
        run=original.run, at=at, event=left.fact.id, root=original.root(at), copied=len(copied),
        began=now - (moment_of(left.fact) - original.began), answers=answers, changed=change.words, by=by,
        tools=inherited.tools if change.tools is None else change.tools,
        reads=change.reads or inherited.reads, writes=change.writes or inherited.writes,
    )  # fmt: skip
    return original.request.model_copy(update={"agent": change.agent or original.request.agent, "key": key, "fork": fork})


def _overridable(original: Original, at: int, number: int) -> Told:
    """The answer that the fork may give another content."""
    if not 1 <= number <= len(original.told):
        raise BeyondTheEnd(f"Run {original.run} has no event {number}.", hint=f"milepost runs show {original.run}")
    told, event = original.told[number - 1], f"Event {number} of run {original.run}"
    name = type(told.body).__name__
    if not isinstance(told.body, Answered) or isinstance(told.body, (*TERMINAL, TurnStored)):
        raise NoAnswer(f"{event} is no answer.", why=f"{name} answers nothing", hint=f"milepost runs show {original.run}")
    if not told.copied:
        raise NoAnswer(f"{event} moved nothing, so the fork has no place for it.", why=f"{name} came late, or is not copied")
    if number > at and told not in original.copied(at):
        raise NoAnswer(f"{event} comes after the fork.", why=f"the run is left at event {at}", hint=f"--at {number}")
    return told


def otherwise(body: Recorded, content: JsonObject) -> Recorded:
    """An answer with other content: merged into what it says, or in its place where it is of another kind.

    Raises UnfittingContent.
    """
    given = body.model_dump(mode="json")
    kind = content.get("kind", body.kind)
    merged = {**given, **content} if kind == body.kind else {**content, "command": given["command"]}
    merged["command"] = given["command"]
    try:
        made = _READER.validate_python(merged)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"][1:]) or "the answer"
        raise UnfittingContent(
            f"{body.kind} cannot say this.", why=f"{place}: {fault['msg']}",
            hint="milepost runs show RUN --json shows its fields",
        ) from error  # fmt: skip
    if type(made) is not type(body) and not any({type(made), type(body)} <= kinds for kinds in _INSTEAD):
        raise UnfittingContent(f"{made.kind} cannot stand in the place of {body.kind}.", why="it answers another question")
    return made


def checked(original: Original, request: Fact) -> None:
    """Whether a fork is of this run as it is. Raises AnotherPast, BeyondTheEnd, NoDecision."""
    asked = cast("RunRequested", request.body)
    fork = cast("Fork", asked.fork)
    left, of = original.at(fork.at), original.state
    true = {
        "tenant": (request.tenant, of.tenant), "user": (asked.user, original.request.user),
        "sealed content": (request.header.datakey is not None, of.datakey is not None or request.header.datakey is not None),
        "event": (fork.event, left.fact.id), "root": (fork.root, original.root(fork.at)),
        "count of answers": (fork.copied, len(original.copied(fork.at))),
        "conversation": (asked.conversation, original.request.conversation),
    }  # fmt: skip
    wrong = [name for name, (said_there, is_here) in true.items() if said_there != is_here]
    if wrong:
        raise AnotherPast(f"Run {original.run} is not what the fork says of it.", why=f"it has another {', '.join(wrong)}")


def copies(original: Original, request: Fact, *, source: str, now: datetime) -> list[Fact]:
    """The facts that a fork copies, each in the slot where the fork asks for it.

    request: the fork's first fact. Raises Diverges where the fork asks for something else than the run that it leaves did,
    UnfittingContent, and what `checked` raises.
    """
    checked(original, request)
    return _Copying(original, request, source, now).all()


class _Copying:
    """Both runs folded side by side. names: what each command of the other run is called here."""

    def __init__(self, original: Original, request: Fact, source: str, now: datetime) -> None:
        self._original, self._request, self._source, self._now = original, request, source, now
        self._fork = cast("Fork", cast("RunRequested", request.body).fork)
        self._here = Folded(RunState(run=request.run))
        self._names: dict[CommandId, Decision] = {}
        self._left_at = moment_of(original.told[self._fork.at - 1].fact)

    def all(self) -> list[Fact]:
        found: list[Fact] = []
        copied = {each.number for each in self._original.copied(self._fork.at)}
        for told in self._original.told[: max(copied, default=1)]:
            here: tuple[Decision, ...] = ()
            if told.begins:
                here = self._here.add(Stored(self._request, 1))
            elif told.number in copied:
                found.append(self._copy(told))
                here = self._here.add(Stored(found[-1], len(found) + 1))
            self._pair(told.decided, here)
        return found

    def _copy(self, told: Told) -> Fact:
        content = self._fork.answers.get(told.fact.id)
        body = cast("Recorded", told.body)
        answer, slot = self._placed(told, body if content is None else otherwise(body, content))
        first = told.fact.body if isinstance(told.fact.body, AnswerCopied) else None
        at = self._fork.began + max(timedelta(), min(moment_of(told.fact), self._left_at) - self._original.began)
        copied = AnswerCopied(
            answer=answer, at=at, run=first.run if first else self._original.run, event=first.event if first else told.fact.id,
            changed=content is not None or bool(first and first.changed),
        )  # fmt: skip
        header = self._request.header
        return new_fact(
            copied, run=self._request.run, tenant=header.tenant, slot=slot, source=self._source, time=self._now,
            causes=(self._request.id,), decider=header.decider, datakey=header.datakey,
        )  # fmt: skip

    def _placed(self, told: Told, body: Recorded) -> tuple[Recorded, str]:
        """What an event says here, and where."""
        if isinstance(body, Answered):
            named = self._name(told, CommandId(told.fact.slot), body.command)
            if named.id not in self._here.state.outstanding:
                raise self._diverges(told, body.command)
            return restated(body, named.command), named.id
        if body.kind == "EffectSettled":
            named = self._name(told, CommandId(body.call), None)
            return body.model_copy(update={"call": named.id}), settled_slot(named.id)
        return body, told.fact.slot

    def _name(self, told: Told, id: CommandId, command: AnyCommand | None) -> Decision:
        if id not in self._names:
            raise self._diverges(told, command)
        return self._names[id]

    def _diverges(self, told: Told, command: AnyCommand | None) -> Diverges:
        what = f"{type(told.body).__name__} answers {command.kind}, which" if command else "what it tells of"
        return Diverges(
            f"With what is changed run {self._original.run} goes another way before event {self._fork.at}.",
            why=f"event {told.number}: {what} is not asked for then",
            hint=f"leave it earlier: --at {self._earlier(told)}",
        )

    def _earlier(self, told: Told) -> int:
        return max((each.number for each in self._original.told[: told.number - 1] if each.decides), default=1)

    def _pair(self, there: Sequence[Decision], here: Sequence[Decision]) -> None:
        """What the same event caused in both runs, in order, where it asks for the same."""
        free = list(here)
        for each in there:
            same = next((one for one in free if _shape(one.command) == _shape(each.command)), None)
            if same is not None:
                free.remove(same)
                self._names[each.id] = same


def _shape(command: AnyCommand) -> tuple[str, bytes]:
    """What makes two commands one question, whatever model, prompt, host or moment they name."""
    match command:
        case PlanCall() | CallTool() | JudgeCall() | RequestApproval():
            return command.kind, canonical(command.call.model_dump(mode="json"))
        case AskPerson():
            return command.kind, canonical([command.call.id, command.question.text])
        case StartTimer():
            return command.kind, canonical([command.purpose, command.about])
        case _:
            return command.kind, b""
