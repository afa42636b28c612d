"""A run as a person sees it: text as it comes, calls and results in a line each, cards to approve."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rich.status import Status
from rich.text import Text

from infra.cli.approval import approval_card, approval_details, who_may
from infra.cli.client import short_id
from infra.cli.result import approval_of, fetching, passages_of, question_of, result_of, step_of
from infra.cli.show import clean, console, outcome, plain, print_json, print_json_line, show_error
from infra.cli.words import say
from runtime.client import Update
from runtime.log import Stored
from runtime.payloads import is_ref
from runtime.policy import may_approve
from runtime.speech import Delta
from runtime.state import OpenCall, RunState
from runtime.steps import RECORDED_LANE
from runtime.timeline import call_line, short, summary
from schemas.commands import AskPerson, RequestApproval
from schemas.envelope import Fact
from schemas.errors import MilepostError
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CancelRequested,
    EffectSettled,
    Event,
    Generated,
    Passage,
    PersonAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    StepFailed,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    TurnQueued,
    TurnRefused,
)
from schemas.ids import CommandId

LINE = 400


class View(Protocol):
    """Where a run is shown."""

    def fact(self, update: Update) -> None:
        """Something has happened."""
        ...

    def below(self, update: Update) -> None:
        """Something has happened in the run of an agent that this one asked."""
        ...

    def delta(self, delta: Delta) -> None:
        """Text is on its way."""
        ...

    def card(self, id: CommandId, request: RequestApproval, open_call: OpenCall | None) -> None:
        """A person is asked to approve a planned write."""
        ...

    def details(self, request: RequestApproval, open_call: OpenCall | None) -> None:
        """The person wants to see what stands behind the card."""
        ...

    def question(self, id: CommandId, asked: AskPerson) -> None:
        """A tool wants to know something of a person."""
        ...

    def note(self, text: str) -> None:
        """Something about the showing itself."""
        ...

    def end(self, state: RunState, facts: list[Stored], below: Sequence[RunState] = ()) -> None:
        """The run has ended, or is left as it is. below: those of the agents that it asked."""
        ...


class JsonView:
    """Nothing until the end, then the result; with events, each of them on a line before."""

    def __init__(self, *, events: bool) -> None:
        self._events = events

    def fact(self, update: Update) -> None:
        if self._events:
            print_json_line({"event": {"id": update.stored.fact.id, **step_of(update.stored, update.state.requested_at)}})

    def below(self, update: Update) -> None:
        if self._events:
            step = step_of(update.stored, update.state.requested_at)
            print_json_line({"event": {"id": update.stored.fact.id, "run": update.state.run, **step}})

    def delta(self, delta: Delta) -> None: ...

    def card(self, id: CommandId, request: RequestApproval, open_call: OpenCall | None) -> None:
        if self._events:
            print_json_line({"approval": approval_of(id, request, open_call)})

    def details(self, request: RequestApproval, open_call: OpenCall | None) -> None: ...

    def question(self, id: CommandId, asked: AskPerson) -> None:
        if self._events:
            print_json_line({"question": question_of(id, asked)})

    def note(self, text: str) -> None: ...

    def end(self, state: RunState, facts: list[Stored], below: Sequence[RunState] = ()) -> None:
        result = result_of(state, facts, below)
        if self._events:
            print_json_line({"result": result})
        else:
            print_json(result)


class TerminalView:
    """Text on standard output."""

    def __init__(self, *, events: bool) -> None:
        self._out = console()
        self._events = events
        self._voice = _Voice()
        self._status: Status | None = None
        self._start: datetime | None = None
        self._fork = False

    def fact(self, update: Update) -> None:
        self._still()
        event = update.stored.fact.body
        self._start = self._start or update.stored.fact.time
        self._fork = update.state.fork is not None
        if isinstance(event, Generated):
            self._voice.finish(update.stored.fact.slot, "" if event.generation.malformed else event.generation.text)
        self._voice.pause()
        if self._events:
            self._line(event_line(update.stored, self._start))
        else:
            for line in _lines(event, update.stored.fact):
                self._line(line)
        if update.state.outcome == "open":
            self._busy(update.state)

    def below(self, update: Update) -> None:
        self._still()
        self._voice.pause()
        start = self._start or update.stored.fact.time
        event, request = update.stored.fact.body, update.state.request
        head = plain(f"  {request.agent.name if request else ''} ", "cyan")
        if self._events:
            self._line(head + event_line(update.stored, start))
            return
        for line in _lines_below(event, update.stored.fact):
            self._line(head + line)

    def delta(self, delta: Delta) -> None:
        self._still()
        self._voice.hear(delta)

    def card(self, id: CommandId, request: RequestApproval, open_call: OpenCall | None) -> None:
        self._still()
        self._voice.pause()
        plan = open_call.plan if open_call else None
        self._out.print(approval_card(request, plan.planned.preview if plan else None, open_call, fork=self._fork))

    def details(self, request: RequestApproval, open_call: OpenCall | None) -> None:
        self._out.print(approval_details(request, open_call))

    def question(self, id: CommandId, asked: AskPerson) -> None:
        self._still()
        self._voice.pause()

    def note(self, text: str) -> None:
        self._still()
        if self._out.is_terminal:
            sys.stdout.write("\n")  # away from the ^C that the terminal has written
        self._line(plain(text, "dim"))

    def end(self, state: RunState, facts: list[Stored], below: Sequence[RunState] = ()) -> None:
        self._still()
        self._voice.pause()
        if state.outcome in ("failed", "cancelled"):
            _say_why(state)
        waiting = [each for each in (state, *below) if state.phase != "ended" and each.outcome == "waiting"]
        for each in waiting:
            for what in _what_to_do(each):
                self._line(plain(what, "magenta"))
        if state.outcome == "completed":
            for line in _source_lines(passages_of(facts)):
                self._out.print(line, soft_wrap=True)
        took = ""
        if state.ended_at and state.requested_at:
            took = f" · {(state.ended_at - state.requested_at).total_seconds():.1f} s"
        steps = f"{state.steps} step{'' if state.steps == 1 else 's'}"
        footer = plain("run ", "dim") + outcome("waiting" if waiting else state.outcome)
        self._line(footer + plain(f" · {steps}{took} · milepost runs show {short_id(state.run)}", "dim"))

    def _line(self, text: Text) -> None:
        self._out.print(text, no_wrap=True, overflow="ellipsis", crop=self._out.is_terminal)

    def _busy(self, state: RunState) -> None:
        if self._out.is_terminal and self._voice.at_line_start:
            who = ", ".join(sorted({each.role for each in state.outstanding.values()} - {"timer", "person"}))
            self._status = self._out.status(plain(who or "waiting", "dim"), spinner="dots")
            self._status.start()

    def _still(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None


class _Voice:
    """The text that is being said: pieces in order, a new attempt from its beginning, the fact's text at last."""

    def __init__(self) -> None:
        self._speaking: tuple[str, int] | None = None
        self._said = ""
        self._finished: set[str] = set()
        self.at_line_start = True

    def hear(self, delta: Delta) -> None:
        """Say a piece; one that is late, or comes after a gap, is left to the fact."""
        if delta.command in self._finished:
            return
        if self._speaking != (delta.command, delta.attempt):
            self.pause()
            self._speaking, self._said = (delta.command, delta.attempt), ""
        if delta.offset <= len(self._said):
            self._say(delta.text[len(self._said) - delta.offset :])

    def finish(self, command: str, text: str) -> None:
        """Say what has not been said yet of a text that is complete."""
        self._finished.add(command)
        if self._speaking is None or self._speaking[0] != command:
            self._said = ""
        if text.startswith(self._said):
            self._say(text[len(self._said) :])
        elif text.strip() != self._said.strip():
            self.pause()
            self._say(text)
        self.pause()
        self._speaking, self._said = None, ""

    def pause(self) -> None:
        """Go to the beginning of a line."""
        if not self.at_line_start:
            self._write("\n")

    def _say(self, text: str) -> None:
        self._said += text
        self._write(clean(text))

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self.at_line_start = text.endswith("\n")


def event_line(stored: Stored, start: datetime) -> Text:
    """One event of a timeline: ms since the run began, who, what, and what matters of it."""
    step = step_of(stored, start)
    head = plain(f"{step['ms']:>9} ms  ", "dim") + plain(f"{step['who']:<10}", "cyan") + plain(f"{step['type']:<18} ")
    return head + plain(str(step["summary"]))


def _lines(event: Event, fact: Fact) -> list[Text]:  # noqa: PLR0912  # one case an event
    """What a person sees of an event while the run goes on."""
    match event:
        case Generated() if event.generation.malformed:
            return [
                plain(f"… a reply could not be read and is written again: {short(event.generation.malformed, LINE)}", "dim")
            ]
        case Generated():
            return [plain("→ ", "cyan") + plain(short(call_line(call), LINE)) for call in event.generation.calls]
        case ToolReturned():
            again = "from the log: " if event.command.host == RECORDED_LANE else "done before: " if event.repeated else ""
            said = plain("✓ ", "green") + plain(f"{event.command.call.name}: {again}{short(event.result.text, LINE)}", "dim")
            return [said, *(plain(f"  {fetching(part)}", "dim") for part in event.result.parts if is_ref(part.ref))]
        case ToolFailed() | ToolInDoubt():
            why = short(f"{event.failure.what} {event.failure.why}", LINE)
            return [plain("✗ ", "red") + plain(f"{event.command.call.name}: {why}")]
        case TurnQueued():
            return [plain(f"… waits for run {short_id(event.behind)} of the same conversation", "dim")]
        case TurnRefused():
            return [plain(f"✗ run {short_id(event.by)} of the same conversation is open", "red")]
        case ApprovalGranted() if isinstance(event.command, RequestApproval) and not may_approve(event.command, event.by):
            return [plain(f"✗ {event.by} may not approve this, it is for {who_may(event.command)}", "yellow")]
        case ApprovalGranted():
            how_far = {"once": "", "conversation": " for this conversation", "always": " always with these arguments"}
            return [plain(f"✓ approved by {event.by}{how_far[event.scope]}", "green")]
        case CallJudged() if event.verdict.outcome in ("deny", "dry_run"):
            return [plain("✗ ", "red") + plain(f"{event.command.call.name}: {short(summary(fact), LINE)}")]
        case ToolAsked():
            return [plain("? ", "yellow") + plain(short(summary(fact), LINE))]
        case PersonAnswered():
            return [plain("✓ " if event.accepted else "✗ ", "green" if event.accepted else "yellow") + plain(summary(fact))]
        case EffectSettled():
            return [plain("! ", "yellow") + plain(summary(fact))]
        case ApprovalRefused():
            return [plain(f"✗ refused by {event.by} {event.reason}".rstrip(), "yellow")]
        case CancelRequested():
            return [plain(f"✗ {event.by} asks the run to stop {event.reason}".rstrip(), "yellow")]
        case StepFailed():
            return [plain("✗ ", "red") + plain(f"{event.command.kind}: {event.failure.what} {event.failure.why}")]
    return []


def _lines_below(event: Event, fact: Fact) -> list[Text]:
    """What a person sees of another agent's run: what it is asked and does, and what it answers."""
    match event:
        case RunRequested():
            return [plain(short(event.task, LINE), "dim")]
        case RunCompleted():
            return [plain("✓ ", "green") + plain(short(event.answer, LINE), "dim")]
        case RunFailed():
            return [plain("✗ ", "red") + plain(short(f"{event.failure.what} {event.failure.why}", LINE))]
        case RunCancelled():
            return [plain("✗ ", "yellow") + plain(short(f"stopped by {event.by}: {event.reason}", LINE))]
    return _lines(event, fact)


def _source_lines(passages: Sequence[Passage]) -> list[Text]:
    """Where the answer may be taken from: number, title and heading, then the place and the document."""
    lines = [plain("sources", "dim")] if passages else []
    for number, each in enumerate(passages, start=1):
        place = f"page {each.page}, " if each.page else ""
        place += f"characters {each.start}-{each.end}"
        own = each.heading.removeprefix(each.title).removeprefix(" > ")
        title = " › ".join([each.title, *filter(None, own.split(" > "))])
        where = f" · {each.source}" if each.source not in ("", each.title) else ""
        lines.append(plain(f"[{number}] ", "cyan") + plain(short(title, LINE)) + plain(f"  {place}{where}", "dim"))
    return lines


def _what_to_do(state: RunState) -> list[str]:
    """How what the run waits for is answered, and by whom."""
    run, lines = short_id(state.run), []
    for asked in state.approvals().values():
        if asked.not_by or asked.approvers:
            lines.append(say("another", who=who_may(asked)))
            lines.append(say("waits", command=say("another how", run=run)))
        else:
            lines.append(say("waits", command=f"milepost runs approve {run}"))
        lines.append(say("or", command=f"milepost runs refuse {run} --reason WHY"))
    lines.extend(say("waits", command=say("answer how", run=run)) for _ in state.questions())
    return list(dict.fromkeys(lines))


def _say_why(state: RunState) -> None:
    failure = state.failure
    if state.outcome == "failed" and failure:
        hint = failure.hint or f"milepost runs show {short_id(state.run)}"
        show_error(MilepostError(failure.what, why=failure.why, hint=hint))


def view(*, json: bool, events: bool = False) -> View:
    """The view for this command line."""
    return JsonView(events=events) if json else TerminalView(events=events)
