"""One run as pages show it: every event in one light line, and the state after any of them without folding all of it again."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from threading import Lock
from typing import Literal, TypeAlias

from runtime.causes import Causes, Node, causes_of
from runtime.fold import Folded
from runtime.log import Stored
from runtime.numbering import said_in
from runtime.state import RunState
from runtime.summing import Sum
from runtime.timeline import Language, summary
from runtime.travel import NoSuchEvent
from schemas.commands import AskPerson, EndRun, RequestApproval
from schemas.events import AnswerCopied, Answered, Generated, RunRequested, TimerFired, TurnQueued, TurnReleased
from schemas.ids import RunId
from schemas.runs import RunSummary, Status
from schemas.sealing import Sealed
from schemas.tools import Value

KEEP_EVERY = 64
"""So many events lie between two states that are kept; a state shares nearly all of itself with the one before."""

Wait: TypeAlias = Literal["", "person", "turn", "timer"]


_ENDS: dict[str, Status] = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}


class EventLine(Value):
    """An event without its body. n: its number, from 1; 0 for a receipt, which has none.

    under: the event that it stands under by cause, in an answer the one that asked; others: its other causes. took_ms: since
    that one. wait: what that time was spent on, if not on work. tool: which one it is about. tokens: read and written. copied,
    changed: of a fork's answers, taken from the run that it leaves, perhaps with other content. erased: its user was forgotten.
    """

    n: int
    type: str
    role: str
    time: datetime
    line: str
    under: int | None = None
    others: tuple[int, ...] = ()
    took_ms: float | None = None
    answer: bool = False
    wait: Wait = ""
    tool: str = ""
    tokens: int = 0
    copied: bool = False
    changed: bool = False
    erased: bool = False


class Asking(Value):
    """A command that has no answer yet. asked: the number of the event that led to it."""

    id: str
    kind: str
    role: str
    tool: str = ""
    asked: int | None
    person: bool


class Reading:
    """A run as far as it was read; it grows as the run does."""

    def __init__(self, run: RunId) -> None:
        self.run = run
        self.both: list[tuple[Stored, bytes]] = []
        self.bytes = 0
        self._numbers: list[int] = []  # of each fact; 0 for a receipt
        self._places: list[int] = []  # of each number, among the facts
        self._causes: tuple[int, Causes] | None = None
        self._kept: list[Folded] = [Folded(RunState(run=run))]
        self._folded = Folded(RunState(run=run))
        self._upto = 0
        self._lines: dict[Language, list[EventLine]] = {}
        self._total, self._summed = Sum(run), 0
        self._asked: dict[str, int] = {}
        self._lock = Lock()  # threads fold it

    @property
    def position(self) -> int:
        """Of the last fact that was read."""
        return self.both[-1][0].position if self.both else 0

    @property
    def count(self) -> int:
        """How many events count."""
        return len(self._places)

    @property
    def facts(self) -> list[Stored]:
        """What was read, in order."""
        return [stored for stored, _ in self.both]

    @property
    def datakey(self) -> str | None:
        """What its content is sealed under."""
        return self.both[0][0].fact.header.datakey if self.both else None

    @property
    def erased(self) -> bool:
        """Whether its user was forgotten."""
        return any(isinstance(stored.fact.body, Sealed) for stored, _ in self.both[:3])

    @property
    def ended(self) -> Status | None:
        """How it ended, as far as its log tells; None: it has not."""
        return next((_ENDS[each.fact.kind] for each, _ in reversed(self.both) if each.fact.kind in _ENDS), None)

    @property
    def request(self) -> RunRequested | None:
        """What it began with."""
        return next((each.fact.body for each, _ in self.both if isinstance(each.fact.body, RunRequested)), None)

    def extend(self, both: Sequence[tuple[Stored, bytes]]) -> None:
        """Take in what came after."""
        for stored, raw in both:
            counts = stored.fact.kind != "RunSealed"
            self._numbers.append(len(self._places) + 1 if counts else 0)
            if counts:
                self._places.append(len(self.both))
            self.both.append((stored, raw))
            self.bytes += len(raw)

    def causes(self) -> Causes:
        """Its events by cause."""
        known, facts = self._causes, self.facts
        if known is None or known[0] != len(facts):
            self._causes = known = (len(facts), causes_of(facts))
        return known[1]

    def place(self, number: int) -> int:
        """Where event `number` stands among the facts. Raises NoSuchEvent."""
        if not 1 <= number <= self.count:
            raise NoSuchEvent(self.run, number, self.count)
        return self._places[number - 1]

    def numbers(self) -> dict[str, int]:
        """The numbers of events by their ids."""
        return {str(self.both[place][0].fact.id): number for number, place in enumerate(self._places, 1)}

    def lines(self, language: Language, after: int = 0) -> list[EventLine]:
        """Its events from the one behind `after` on, in its order; receipts stand among them."""
        start = self._places[after - 1] + 1 if 0 < after <= self.count else 0
        nodes = self.causes().nodes
        with self._lock:
            told = self._lines.setdefault(language, [])
            told.extend(line_of(node, language) for node in nodes[len(told) :])
            return told[start:]

    def folded(self, number: int) -> Folded:
        """The run folded up to event `number`. Raises NoSuchEvent."""
        self.place(number)
        nearest = number // KEEP_EVERY
        with self._lock:
            while self._upto < number:
                self._upto += 1
                for decision in self._folded.add(self.both[self._places[self._upto - 1]][0]):
                    self._asked[decision.id] = self._upto
                if self._upto % KEEP_EVERY == 0:
                    self._kept.append(_copied(self._folded))
            found = _copied(self._kept[nearest])
        for each in range(nearest * KEEP_EVERY + 1, number + 1):
            found.add(self.both[self._places[each - 1]][0])
        return found

    def asked(self, number: int) -> int | None:
        """The event that led to the command which event `number` answers; also where a fork's copies name another cause."""
        slot = self.both[self.place(number)][0].fact.slot
        self.folded(number)
        return self._asked.get(str(slot))

    def asking(self) -> list[Asking]:
        """What nobody has answered yet."""
        if not self.count or self.erased:
            return []
        folded, numbers = self.folded(self.count), self.numbers()
        return [
            Asking(
                id=id, kind=command.kind, role=command.role, tool=_tool(command),
                asked=numbers.get(str(folded.open[id].cause)) if id in folded.open else None,
                person=isinstance(command, RequestApproval | AskPerson),
            )
            for id, command in folded.state.outstanding.items() if not isinstance(command, EndRun)
        ]  # fmt: skip

    def summed(self) -> RunSummary | None:
        """The run as lists show it, summed up anew: for those that no index lists."""
        with self._lock:
            for stored in self.facts[self._summed :]:
                self._total.add(stored)
                self._summed += 1
            found = self._total.summary()
        return found.model_copy(update={"erased": True}) if found and self.erased else found


def line_of(node: Node, language: Language) -> EventLine:
    """One event in one line."""
    fact, said = node.fact, said_in(node.fact)
    body = fact.body
    kind = type(said).__name__ if said is not None else fact.kind
    usage = said.generation.usage if isinstance(said, Generated) else None
    return EventLine(
        n=node.number, type=kind, role=role_of(node), time=fact.time, line=summary(fact, language), under=node.under,
        others=node.others, took_ms=round(node.after / timedelta(milliseconds=1), 1) if node.after is not None else None,
        answer=isinstance(said, Answered), wait=_wait(said), tool=_tool(getattr(said, "command", None)),
        tokens=usage.prompt_tokens + usage.completion_tokens if usage else 0, copied=isinstance(body, AnswerCopied),
        changed=isinstance(body, AnswerCopied) and body.changed, erased=isinstance(body, Sealed),
    )  # fmt: skip


def role_of(node: Node) -> str:
    """Who said it; of a copied answer, who said it first."""
    body = node.fact.body
    return body.answer.role if isinstance(body, AnswerCopied) else node.fact.role


def _wait(said: object) -> Wait:
    if isinstance(getattr(said, "command", None), RequestApproval | AskPerson):
        return "person"
    if isinstance(said, TurnQueued | TurnReleased):
        return "turn"
    return "timer" if isinstance(said, TimerFired) else ""


def _tool(command: object) -> str:
    call = getattr(command, "call", None)
    return str(call.name) if call is not None else ""


def _copied(folded: Folded) -> Folded:
    """A fold that can go on by itself; the state in it is frozen and shared."""
    found = copy(folded)
    found.open, found.unanswered = dict(folded.open), dict(folded.unanswered)
    return found
