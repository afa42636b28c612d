"""Every event in one line for a person: who, what, and what matters of it."""

from __future__ import annotations

from schemas.commands import RequestApproval
from schemas.envelope import Fact
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    CancelRequested,
    EffectSettled,
    Event,
    Generated,
    GrantKept,
    KnowledgeRetrieved,
    MemoryRecalled,
    PersonAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    StepFailed,
    TimerFired,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnStored,
)
from schemas.policy import Scope
from schemas.sealing import Sealed
from schemas.tools import Preview, ToolCall

WIDTH = 100


def summary(fact: Fact) -> str:
    """One line on what the fact says, at most 100 characters, without line breaks."""
    return short(_line(fact.body))


def short(text: str, width: int = WIDTH) -> str:
    """Text on one line, cut with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _line(event: Event) -> str:  # noqa: PLR0912  # one case an event
    match event:
        case RunRequested():
            within = f" (called by run {event.parent.run})" if event.parent else ""
            return f"{event.user} asks {event.agent.name}{within}: {event.task}"
        case CancelRequested():
            return f"{event.by} cancels {event.reason}"
        case MemoryRecalled():
            return f"turn open, {len(event.history)} earlier turns recalled"
        case TurnQueued():
            return f"waits for run {event.behind}" + (", which it interrupts" if event.interrupts else "")
        case TurnRefused():
            return f"refused, run {event.by} is open"
        case TurnReleased():
            return f"run {event.after} has ended, this one may go on"
        case TurnStored():
            return "turn remembered" + (f", run {event.released} may begin" if event.released else "")
        case ToolsSelected():
            names = ", ".join(f"{each.card.name} {each.why.get('dense', each.score):.2f}" for each in event.tools)
            return f"{len(event.tools)} of {event.searched} tools: {names}"
        case KnowledgeRetrieved():
            titles = ", ".join(f"{each.title} {each.similarity or each.score:.2f}" for each in event.passages)
            return f"{len(event.passages)} passage{'s' * (len(event.passages) != 1)}" + (f": {titles}" if titles else "")
        case Generated():
            return _generated(event)
        case CallPlanned():
            before = f"done before ({event.before.at}, run {event.before.run}), " if event.before else ""
            return f"{before}plan: {preview_line(event.preview)}"
        case CallJudged():
            return _judged(event)
        case GrantKept():
            return _kept(event)
        case ToolAsked():
            return f"{event.command.call.name} asks: {event.question.text}"
        case PersonAnswered():
            return _answered(event)
        case EffectSettled():
            return _settled(event)
        case ToolReturned():
            return ("done before: " if event.repeated else "") + event.result.text
        case ToolFailed() | ToolInDoubt() | StepFailed() | RunFailed():
            return f"{event.failure.what} {event.failure.why}"
        case ApprovalGranted():
            return f"{event.by} approves {_reach(event.scope)}{_asked(event)}"
        case ApprovalRefused():
            return f"{event.by} refuses {_asked(event)} {event.reason}"
        case TimerFired():
            return "the moment has come"
        case RunCompleted():
            return event.answer
        case RunCancelled():
            return f"{event.by} {event.reason}"
        case Sealed():
            return "erased on request"
        case _:
            return type(event).__name__


def _generated(event: Generated) -> str:
    said = event.generation
    usage = f"[{said.usage.prompt_tokens} tokens in ({said.usage.cached_tokens} cached), {said.usage.completion_tokens} out]"
    what = "; ".join(call_line(call) for call in said.calls) if said.calls else said.text
    if said.malformed:
        what = f"cannot be read, goes back to the model: {said.malformed}"
    notes = [*(f"instead of {each}" for each in said.tried), *(f"without {each}" for each in said.cut)]
    if notes:
        what = f"({'; '.join(notes)}) {what}"
    return f"{short(what, WIDTH - len(usage) - 1)} {usage}"


def _judged(event: CallJudged) -> str:
    verdict, nowhere = event.verdict, event.command.ungrounded
    rule = f" ({verdict.rule})" if verdict.rule else ""
    who = ", by another person" if verdict.four_eyes else ""
    price = ", its price first" if verdict.price_needed else ""
    said = f"{verdict.outcome}{rule}{who}{price}" + (f": {verdict.why}" if verdict.why else "")
    unnamed = f"; nobody named {', '.join(nowhere)}"
    return said + (unnamed if nowhere and unnamed.removeprefix("; ") not in verdict.why else "")


def _kept(event: GrantKept) -> str:
    command = event.command
    what = call_line(command.call) if command.scope == "always" else command.call.name
    return f"kept: {command.by} approves {_reach(command.scope)}{what}"


def _reach(scope: Scope) -> str:
    return {"once": "", "conversation": "for this conversation ", "always": "always "}[scope]


def _settled(event: EffectSettled) -> str:
    found = "it happened after all" if event.happened else "it did not happen"
    more = event.note or (event.result.text if event.result else "")
    return f"{found}, says {event.by}" + (f": {more}" if more else "")


def _answered(event: PersonAnswered) -> str:
    if not event.accepted:
        return f"{event.by} declines to answer"
    return f"{event.by} answers: " + ", ".join(f"{name}={value}" for name, value in event.content.items())


def _asked(event: ApprovalGranted | ApprovalRefused) -> str:
    return call_line(event.command.call) if isinstance(event.command, RequestApproval) else ""


def call_line(call: ToolCall) -> str:
    """A call as a person would write it: RenewInstance(InstanceId=i-1, Period=3)."""
    return f"{call.name}({', '.join(f'{name}={value}' for name, value in call.arguments.items())})"


def preview_line(preview: Preview) -> str:
    """A preview on one line."""
    price = f", {preview.price} {preview.currency or ''}".rstrip() if preview.price else ""
    return preview.summary + price
