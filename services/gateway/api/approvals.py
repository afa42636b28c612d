"""What waits for a person, over all of a tenant's runs, and what was decided: the queue, and answering it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, cast

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.requests import HTTPConnection

from runtime.client import TooLate
from runtime.log import Stored
from runtime.sealing import Erased
from schemas.canonical import JsonObject
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.ids import CommandId, RunId, Token
from schemas.policy import Scope
from schemas.runs import ListRuns, RunFilter, RunSummary
from schemas.tools import Value
from services.gateway.api.conversations import Run
from services.gateway.door import Approver, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.principal import NotPermitted
from services.gateway.runs import people
from services.gateway.runs.people import Approval
from services.gateway.runs.people import Query as Asked
from services.gateway.runs.turn import TurnFold

router = APIRouter()

LOOKED_AT = 200
_READ_AT_ONCE = 8
_DECIDED = "approves", "refuses"  # as the index words it (runtime.timeline)


class SecretAsked(MilepostError):
    """A tool asks for a secret."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is a secret, and is not answered here.", why="what is answered stands in the log, where others read it",
            hint="decline, and give the tool its secret where it is kept: its settings",
        )  # fmt: skip


class Queue(Value):
    """What waits, the first to expire first; or what was decided, the last first. more: whether runs were passed over."""

    approvals: tuple[Approval, ...]
    questions: tuple[Asked, ...]
    more: bool = False


class Decision(Value):
    """scope: this call; this tool for the rest of the conversation; always with these arguments. reason: the agent reads it."""

    decision: Literal["approve", "refuse"]
    scope: Scope = "once"
    reason: str = Field(default="", max_length=2000)


class Reply(Value):
    """An answer to a tool's question. accepted: False for one who would not answer."""

    accepted: bool = True
    content: JsonObject = Field(default_factory=dict)


Matters: TypeAlias = tuple[tuple[people.Matter[RequestApproval, Approval], ...], tuple[people.Matter[AskPerson, Asked], ...]]


@dataclass(slots=True)
class Known:
    """What runs asked of people, as long as they have no more events than they had when they were read."""

    most: int = 2000
    _kept: OrderedDict[tuple[str, str], tuple[int, Matters]] = field(default_factory=OrderedDict)

    def get(self, run: RunSummary) -> Matters | None:
        """What was read of it, if that is all."""
        events, matters = self._kept.get((run.tenant, run.run), (-1, None))
        return matters if events == run.events else None

    def keep(self, run: RunSummary, matters: Matters) -> None:
        """Keep it; the one that was kept first is given up."""
        self._kept[run.tenant, run.run] = run.events, matters
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)


async def known(connection: HTTPConnection) -> Known:
    """That of this app."""
    state = connection.app.state
    if not hasattr(state, "known_matters"):
        state.known_matters = Known()
    return cast("Known", state.known_matters)


@router.get("/api/approvals")
async def approvals(
    gateway: Here, who: Reader, kept: Annotated[Known, Depends(known)], state: Literal["waiting", "decided"] = "waiting",
    limit: Annotated[int, Query(ge=1, le=LOOKED_AT)] = LOOKED_AT,
) -> Queue:  # fmt: skip
    """limit: of the runs that are looked at, the newest first."""
    if state == "waiting":
        runs = await _runs(gateway, RunFilter(tenant=who.tenant, status="waiting"), limit)
    else:
        of = [await _runs(gateway, RunFilter(tenant=who.tenant, text=word, deep=True), limit) for word in _DECIDED]
        runs = sorted({run.run: run for each in of for run in each}.values(), key=lambda run: run.started)[-limit:]
    found = await _matters(gateway, who.tenant, runs, kept)
    writes = [matter.seen_by(who) for own, _ in found for matter in own]
    asked = [matter.seen_by(who) for _, own in found for matter in own]
    if state == "waiting":
        writes = sorted((each for each in writes if each.state == "waiting"), key=lambda each: each.expires)
        asked = sorted((each for each in asked if each.state == "waiting"), key=lambda each: each.expires)
    else:
        writes = sorted((each for each in writes if each.by), key=lambda each: each.at or each.expires, reverse=True)
        asked = sorted((each for each in asked if each.by), key=lambda each: each.at or each.expires, reverse=True)
    return Queue(approvals=tuple(writes), questions=tuple(asked), more=len(runs) == limit)


@router.post("/api/approvals/{run}/{command}")
async def decide(gateway: Here, who: Approver, run: Run, command: Token, said: Decision) -> Approval:
    """Allow a planned write, or refuse it. Raises NotAllowed, OnlyOnce, TooLate, UnknownRun."""
    client = gateway.client(who)
    if said.decision == "approve":
        await client.approve(RunId(run), CommandId(command), scope=said.scope)
    else:
        await client.refuse(RunId(run), CommandId(command), reason=said.reason)
    approvals, _ = _asked(RunId(run), await client.log.read(RunId(run)))
    return next(each.seen_by(who) for each in approvals if each.told.id == command)


@router.post("/api/questions/{run}/{command}", status_code=204)
async def answer(gateway: Here, who: Reader, run: Run, command: Token, said: Reply) -> None:
    """Answer what a tool wants to know: approvers may, and who began the run. Raises UnfittingAnswer, TooLate, UnknownRun."""
    client = gateway.client(who)
    state = await client.state(RunId(run))
    if state.request is None or not people.may_answer(who, state.request.user):
        raise NotPermitted(who, "approve")
    asked = state.questions().get(CommandId(command))
    if asked is None:
        raise TooLate("That question does not wait any more.", hint=f"milepost runs show {run}")
    secret = people.secret_field(asked)
    if said.accepted and secret is not None:
        raise SecretAsked(secret)
    await client.answer(RunId(run), CommandId(command), said.content if said.accepted else None)


def _asked(run: RunId, facts: Iterable[Stored]) -> Matters:
    fold = TurnFold(run)
    fold.add(facts)
    return fold.approvals, fold.questions


async def _matters(gateway: Gateway, tenant: str, runs: Iterable[RunSummary], kept: Known) -> list[Matters]:
    """What these runs asked of people; what was erased is left out."""
    log, room = gateway.journal(tenant), asyncio.Semaphore(_READ_AT_ONCE)

    async def of(run: RunSummary) -> Matters:
        found = kept.get(run)
        if found is None:
            async with room:
                found = _asked(RunId(run.run), await log.read(RunId(run.run)))
            kept.keep(run, found)
        return found

    found = await asyncio.gather(*(of(run) for run in runs if not run.erased), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, Erased):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


async def _runs(gateway: Gateway, which: RunFilter, limit: int) -> list[RunSummary]:
    asked = ListRuns(which=which, limit=limit).model_dump(mode="json")
    return [RunSummary.model_validate(each) for each in await gateway.ask_list("recorder", "runs", asked)]
