"""What runs ask of people, as a page shows it: writes that wait for a yes, and what tools want to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from pydantic import Field

from runtime import policy
from runtime.state import RunState
from schemas.canonical import JsonObject
from schemas.commands import AskPerson, RequestApproval
from schemas.events import ApprovalGranted, ApprovalRefused, Event, PersonAnswered, TimerFired
from schemas.ids import CommandId
from schemas.policy import Scope
from schemas.tools import Before, DryRun, Effect, Preview, Value
from services.gateway.principal import Principal

Doubt: TypeAlias = Literal["ungrounded", "repeated", "destructive"]
Decided: TypeAlias = Literal["waiting", "approved", "refused", "answered", "declined", "expired", "withdrawn"]
"""withdrawn: nobody answered, and the run does not wait for it any more."""

_SECRET = "password"


class Asked(Value):
    """What both have. id: the command that asks; call: the call it is about, as the run numbers it; user: who began the run.

    asked: since when; by, at: who decided when. may: whether who looks at it may answer.
    """

    run: str
    id: str
    call: str
    conversation: str
    agent: str
    user: str
    task: str
    tool: str
    title: str
    arguments: JsonObject
    asked: datetime | None
    expires: datetime
    state: Decided = "waiting"
    by: str = ""
    at: datetime | None = None
    may: bool = False


class Approval(Asked):
    """A planned write that a person allows or not. doubts: what speaks against a quick yes; scopes: how far a yes may reach.

    why: the rule that asks. ungrounded: arguments that nobody named. before: the same has happened already. not_by: who may
    not approve it. undo: the tool that takes it back. fork: the run is a fork, in which nothing of it happens.
    """

    effect: Effect | None = None
    preview: Preview | None = None
    why: str = ""
    ungrounded: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    before: Before | None = None
    approvers: tuple[str, ...] = ()
    not_by: str | None = None
    scopes: tuple[Scope, ...] = ()
    dry_run: DryRun = "none"
    undo: str | None = None
    fork: bool = False
    scope: Scope | None = None
    reason: str = ""


class Query(Asked):
    """What a tool wants to know before it goes on. fields: JSON Schema of a flat object; content: what was answered.

    secret: a field that nobody may fill in, since what is answered stands in the log.
    """

    text: str
    fields: JsonObject = Field(default_factory=dict)
    secret: str | None = None
    content: JsonObject | None = None


CommandT = TypeVar("CommandT", AskPerson, RequestApproval)
AskedT = TypeVar("AskedT", Query, Approval)


@dataclass(frozen=True, slots=True)
class Matter(Generic[CommandT, AskedT]):
    """Something that was asked: the command, and how it is told."""

    command: CommandT
    told: AskedT

    def seen_by(self, who: Principal) -> AskedT:
        """As this principal sees it."""
        waits = self.told.state == "waiting"
        return self.told.model_copy(update={"may": waits and self._may(who)})

    def _may(self, who: Principal) -> bool:
        if isinstance(self.command, RequestApproval):
            return "approve" in who.rights and policy.may_approve(self.command, who.user)
        return secret_field(self.command) is None and may_answer(who, self.told.user)

    def decided(self, event: Event, at: datetime) -> Matter[CommandT, AskedT]:
        """After the event by which the run waits for it no more."""
        said: dict[str, object]
        if isinstance(event, ApprovalGranted):
            said = {"state": "approved", "by": event.by, "scope": event.scope}
        elif isinstance(event, ApprovalRefused):
            said = {"state": "refused", "by": event.by, "reason": event.reason}
        elif isinstance(event, PersonAnswered):
            said = {"state": "answered" if event.accepted else "declined", "by": event.by, "content": dict(event.content)}
        else:
            said = {"state": "expired" if isinstance(event, TimerFired) else "withdrawn"}
        return Matter(self.command, self.told.model_copy(update={**said, "at": at}))


def may_answer(who: Principal, user: str) -> bool:
    """Whether they may answer what a tool wants to know in a run that a user began: approvers, and that user."""
    return "approve" in who.rights or ("ask" in who.rights and who.user == user)


def secret_field(asked: AskPerson) -> str | None:
    """A field that asks for a secret, which nobody may type: what is answered stands in the log."""
    fields = asked.question.fields.get("properties")
    found = fields.items() if isinstance(fields, Mapping) else ()
    return next((str(name) for name, field in found if isinstance(field, Mapping) and _is_secret(field)), None)


def _is_secret(field: Mapping[str, object]) -> bool:
    return field.get("format") == _SECRET or field.get("writeOnly") is True


def approval(state: RunState, id: CommandId, asked: RequestApproval) -> Matter[RequestApproval, Approval]:
    """An approval that waits in a run."""
    open_call = state.open_calls.get(asked.call.id)
    card, plan = (open_call.card, open_call.plan) if open_call else (None, None)
    effect = card.effect if card else None
    found = {"ungrounded": asked.ungrounded, "repeated": asked.before, "destructive": effect == "destructive"}
    once = asked.before or asked.ungrounded or asked.not_by
    told = Approval(
        **_common(state, id, asked), effect=effect, preview=plan.planned.preview if plan else None,
        why=asked.why, ungrounded=asked.ungrounded, doubts=tuple(each for each in get_args(Doubt) if found[each]),
        before=asked.before, approvers=asked.approvers, not_by=asked.not_by, scopes=("once",) if once else get_args(Scope),
        dry_run=card.dry_run if card else "none", undo=card.undo if card else None, fork=state.fork is not None,
    )  # fmt: skip
    return Matter(asked, told)


def query(state: RunState, id: CommandId, asked: AskPerson) -> Matter[AskPerson, Query]:
    """A tool's question that waits in a run."""
    said = asked.question
    return Matter(asked, Query(**_common(state, id, asked), text=said.text, fields=said.fields, secret=secret_field(asked)))


def _common(state: RunState, id: CommandId, asked: RequestApproval | AskPerson) -> dict[str, object]:
    open_call, request = state.open_calls.get(asked.call.id), state.request
    return {
        "run": state.run, "id": id, "call": asked.call.id, "conversation": request.conversation if request else "",
        "agent": request.agent.name if request else "", "user": request.user if request else "",
        "task": request.task if request else "", "tool": asked.call.name,
        "title": open_call.card.title if open_call else "", "arguments": asked.call.arguments,
        "asked": open_call.asked_at if open_call else None, "expires": asked.expires,
    }  # fmt: skip
