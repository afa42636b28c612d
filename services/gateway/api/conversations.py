"""The console's conversations: a user's own, turn by turn; beginning a turn, hearing it, stopping it, and what it gave."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, UploadFile
from pydantic import AwareDatetime, Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from runtime.children import is_child
from runtime.client import UnknownRun
from runtime.log import Stored
from runtime.payloads import SCHEME, name_of
from runtime.sealing import Erased
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.events import AnswerCopied, EffectSettled, ToolReturned
from schemas.ids import RunId, Text, Token, checked_run
from schemas.messages import Message
from schemas.runs import ListRuns, Place, RunFilter, RunSummary, Status
from schemas.tools import Part, Value
from services.gateway.agents.agent import ASSISTANT, spec_named
from services.gateway.agents.building import BUILD, PREVIEW
from services.gateway.answers import Conflict, NotThere
from services.gateway.door import Asker, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.ports.library import Progress
from services.gateway.principal import Principal
from services.gateway.runs.telling import Telling
from services.gateway.runs.turn import Turn, turn_of
from services.gateway.streaming import Stream
from services.gateway.streaming import stream as streamed

router = APIRouter()

LISTED = 300
"""So many runs are looked at for one page of conversations."""
SHOWN = 20
SUMMARIES = "summary-"
"""So the conversations are called in which memory has others told in short."""
FILES = "chat-"
"""So the names of collections begin that hold a conversation's files."""
TITLE = 200
KNOWLEDGE_K = 4
_SAID_TURNS = 30

Run = Annotated[str, Field(pattern=r"^[0-9]{6}-[0-9a-f]{32}$")]
Before = Annotated[AwareDatetime | None, Query(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9000, 1, 1, tzinfo=UTC))]
Beyond = Annotated[str, Query(pattern=r"^([0-9]{6}-[0-9a-f]{32})?$")]


class Conversation(Value):
    """title: its first task, as far as this page knows it; turns: how many of it are on this page."""

    id: str
    title: str
    agent: str
    last: datetime
    turns: int
    status: Status


class Conversations(Value):
    """A page. before, beyond: where the next one begins, if there is one; a long conversation may stand on both."""

    conversations: tuple[Conversation, ...]
    before: datetime | None = None
    beyond: str | None = None


class Turns(Value):
    """A conversation's turns, oldest first. before, beyond: where earlier ones begin, if there are any."""

    id: str
    agent: str
    turns: tuple[Turn, ...]
    files: bool = False
    before: datetime | None = None
    beyond: str | None = None


class NewTurn(Value):
    """What is asked. key: the same one begins the same run; replaces: the run of another conversation's turn, in the place of
    which this one stands: what was said before it is said here, too."""

    task: Text
    agent: Token = ASSISTANT
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    model: str | None = Field(default=None, min_length=1, max_length=200)
    key: str | None = Field(default=None, min_length=1, max_length=200)
    replaces: Run | None = None


class Begun(Value):
    """The run that a turn is. fresh: False when the same key had begun it before."""

    run: str
    conversation: str
    fresh: bool


class Stop(Value):
    """Why it is to stop."""

    reason: str = Field(default="", max_length=2000)


@router.get("/api/conversations")
async def conversations(
    gateway: Here, who: Reader, before: Before = None, beyond: Beyond = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = LISTED,
) -> Conversations:  # fmt: skip
    """The signed-in user's own, the one that was last active first. limit: of the runs that are looked at."""
    runs = await _runs(gateway, RunFilter(tenant=who.tenant, user=who.user), limit, _place(before, beyond))
    found: dict[str, Conversation] = {}
    for run in runs:  # newest first
        if run.parent or run.fork_of or run.erased or _is_inner(run.conversation):
            continue
        known = found.get(run.conversation)
        title = run.task[:TITLE]
        found[run.conversation] = (
            known.model_copy(update={"title": title, "turns": known.turns + 1}) if known else
            Conversation(
                id=run.conversation, title=title, agent=run.agent, last=run.ended or run.started, turns=1, status=run.status
            )
        )  # fmt: skip
    last = runs[-1] if len(runs) == limit else None
    return Conversations(
        conversations=tuple(found.values()), before=last.started if last else None, beyond=last.run if last else None
    )


@router.get("/api/conversations/{id}")
async def conversation(gateway: Here, who: Reader, id: Token, before: Before = None, beyond: Beyond = "") -> Turns:
    """The last turns of a conversation, or those before a place. One that nothing was said in is empty."""
    runs = await _own(gateway, who, id, SHOWN, _place(before, beyond))
    turns = await _turns(gateway, who, runs)
    last = runs[-1] if len(runs) == SHOWN else None
    return Turns(
        id=id, agent=runs[0].agent if runs else "", turns=tuple(turns), files=await _has_files(gateway, who, id),
        before=last.started if last else None, beyond=last.run if last else None,
    )  # fmt: skip


@router.post("/api/conversations/{id}/turns")
async def begin(gateway: Here, who: Asker, id: Token, new: NewTurn) -> Begun:
    """Begin a turn. Raises NotThere for an agent that is none, for another's conversation, for a run that is not there."""
    last = await _own(gateway, who, id, 1)
    spec = await spec_named(gateway.agents, who.tenant, new.agent, gateway.models, version=new.version)
    if new.model is not None:
        spec = spec.model_copy(update={"model": new.model})
    before = _Before()
    if new.replaces:
        before = await _replaced(gateway, who, id, checked_run(new.replaces))
    elif last:
        before = await _continued(gateway, who, RunId(last[0].run))
    read_in = {*before.files, *([files_of(id)] if await _has_files(gateway, who, id) else ())}
    asked = await gateway.client(who).ask(
        new.task, agent=_reading(spec, sorted(read_in)), conversation=id, key=new.key, said=before.said
    )
    return Begun(run=asked.run, conversation=id, fresh=asked.fresh)


@router.get("/api/conversations/turns/{run}/stream", response_class=Stream)
async def stream(request: Request, gateway: Here, who: Reader, run: Run) -> Stream:
    """Server-sent events of one turn until it ends, from its beginning each time it is asked.

    `turn`: {"run", fields that are new}, of this run or of one below it, with `items` those behind the first `after`;
    `text`: {"step", "offset", "text"}, what is written from that offset on; `busy`: {"retry_after_s"}; `end`.
    Raises UnknownRun, Erased, TooMany.
    """
    client = gateway.client(who)
    if not await client.log.read(RunId(run)):
        raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="milepost runs ls")
    telling = Telling(client, who, RunId(run))

    async def events() -> AsyncIterator[ServerSentEvent]:
        async with aclosing(telling.events()) as told:  # type: ignore[type-var]  # a generator
            with suppress(MilepostError):  # without its `end` the client asks again, and is answered with what went wrong
                async for name, said in told:
                    yield ServerSentEvent(event=name, data=json.dumps(said, ensure_ascii=False, separators=(",", ":")))

    return streamed(request, who, events())


@router.post("/api/runs/{run}/cancel", status_code=204)
async def cancel(gateway: Here, who: Asker, run: Run, stop: Stop) -> None:
    """Ask a run, and those below it, to stop. Raises TooLate, UnknownRun."""
    await gateway.client(who).cancel(RunId(run), reason=stop.reason)


# --- files ----------------------------------------------------------------------------------------------


@router.post("/api/conversations/{id}/files")
async def add_file(gateway: Here, who: Asker, id: Token, file: UploadFile) -> Progress:
    """Put a document into the conversation: its turns from then on read in it. Gives how it ended."""
    await _own(gateway, who, id, 1)
    last: Progress | None = None
    name = file.filename or "document"
    async with aclosing(gateway.library.add(who.tenant, files_of(id), name, await file.read())) as told:  # type: ignore[type-var]
        async for progress in told:
            last = progress
    return last or Progress(state="skipped", name=name)


def files_of(conversation: str) -> str:
    """The collection that holds what was given with the messages of a conversation."""
    return f"{FILES}{digest('files of a conversation', conversation)}"


async def _has_files(gateway: Gateway, who: Principal, id: str) -> bool:
    name = files_of(id)
    said = await gateway.ask("retrieval", "collection_versions", {"tenant": who.tenant, "collections": [name]})
    return isinstance(said, dict) and bool(said.get(name))


def _reading(spec: AgentSpec, collections: Sequence[str]) -> AgentSpec:
    """The agent, which also reads in these collections."""
    if not collections:
        return spec
    held = tuple(each for each in spec.collections if each not in collections) if spec.knowledge_k else ()
    return spec.model_copy(update={"collections": (*held, *collections), "knowledge_k": max(spec.knowledge_k, KNOWLEDGE_K)})


# --- what tools gave ------------------------------------------------------------------------------------

_SHOWN = re.compile(r"image/(png|jpeg|webp|gif)|(audio|video)/[a-z0-9.+-]+")


@router.get("/api/runs/{run}/payloads/{ref}", response_class=Response)
async def payload(gateway: Here, who: Reader, run: Run, ref: Annotated[str, Field(max_length=100)]) -> Response:
    """Bytes that a result of the run refers to; a browser shows only what does nothing. Raises UnknownRun, NotThere, Erased."""
    wanted = SCHEME + name_of(ref if ref.startswith(SCHEME) else SCHEME + ref)
    facts = await gateway.client(who).log.read(RunId(run))
    if not facts:
        raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="milepost runs ls")
    part = next((each for each in _parts(facts) if each.ref == wanted), None)
    if part is None:
        raise NotThere("The run does not refer to these bytes.", hint=f"milepost runs show {run}")
    data = await gateway.payloads.get(wanted, tenant=who.tenant)
    kind = (part.media_type or "").partition(";")[0].strip().lower()
    shown = _SHOWN.fullmatch(kind) is not None
    name = quote(part.name or f"{part.kind}-{wanted[-8:]}", safe="")
    return Response(
        data, media_type=kind if shown else "application/octet-stream",
        headers={"content-disposition": f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{name}"},
    )  # fmt: skip


def _parts(facts: Iterable[Stored]) -> Iterable[Part]:
    for stored in facts:
        body = stored.fact.body
        event = body.answer if isinstance(body, AnswerCopied) else body
        if isinstance(event, ToolReturned | EffectSettled) and event.result:
            yield from event.result.parts


# --- reading --------------------------------------------------------------------------------------------


async def _runs(gateway: Gateway, which: RunFilter, limit: int, after: Place | None = None) -> list[RunSummary]:
    asked = ListRuns(which=which, limit=limit, after=after).model_dump(mode="json")
    return [RunSummary.model_validate(each) for each in await gateway.ask_list("recorder", "runs", asked)]


def _place(before: datetime | None, beyond: str) -> Place | None:
    return Place(started=before, run=beyond) if before else None


def _is_inner(conversation: str) -> bool:
    """Whether nobody talks in it but agents among themselves, or somebody who builds one."""
    return is_child(conversation) or conversation.startswith((SUMMARIES, PREVIEW, BUILD))


async def _own(
    gateway: Gateway, who: Principal, id: str, limit: int, after: Place | None = None
) -> list[RunSummary]:  # fmt: skip
    """The runs of a conversation, newest first. Raises NotThere if it is another user's."""
    runs = await _runs(gateway, RunFilter(tenant=who.tenant, conversation=id), limit, after)
    if any(run.user != who.user for run in runs):
        raise NotThere("There is no such conversation.", why="it is not one of yours", hint="look at the list of runs")
    return runs


async def _turns(gateway: Gateway, who: Principal, runs: Iterable[RunSummary]) -> list[Turn]:
    """Oldest first; what was erased is left out."""
    log = gateway.client(who).log

    async def turn(run: str) -> Turn | None:
        try:
            return turn_of(RunId(run), await log.read(RunId(run)), who)
        except Erased:
            return None

    found = await asyncio.gather(*(turn(each.run) for each in runs if not each.fork_of))
    return sorted((each for each in found if each), key=lambda each: each.began)


# --- what was said before -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Before:
    """What a turn begins with where the conversation's memory does not hold it: words, and collections of files."""

    said: tuple[Message, ...] = ()
    files: tuple[str, ...] = ()


async def _continued(gateway: Gateway, who: Principal, last: RunId) -> _Before:
    """After the last turn: a conversation that began with words of another one carries them on."""
    state = (await gateway.client(who).folded(last)).state
    return _Before(_and_then(state) if state.request and state.request.said else (), _files(state))


async def _replaced(gateway: Gateway, who: Principal, id: str, run: RunId) -> _Before:
    """Before a turn of another conversation. Raises UnknownRun, Conflict, and NotThere for another user's."""
    client = gateway.client(who)
    state = (await client.folded(run)).state
    request, began = state.request, state.requested_at
    if request is None or began is None or request.conversation == id:
        raise Conflict("A turn is replaced in a conversation of its own.", why=f"{run} is one of {id}", hint="give a new id")
    await _own(gateway, who, request.conversation, 1)
    earlier = await _own(gateway, who, request.conversation, _SAID_TURNS, Place(started=began, run=run))
    if request.said:
        return _Before(_history(request.said), _files(state))
    states = [
        (await client.folded(RunId(each.run))).state for each in reversed(earlier) if not each.fork_of and not each.erased
    ]
    begun = next((each.request.said for each in states if each.request and each.request.said), ())
    return _Before((*_history(begun), *(message for each in states for message in _turn(each))), _files(state))


def _and_then(state: RunState) -> tuple[Message, ...]:
    said = state.request.said if state.request else ()
    return (*_history(said), *_turn(state))[-2 * _SAID_TURNS :]


def _history(said: Iterable[Message]) -> tuple[Message, ...]:
    return tuple(each for each in said if each.part == "history")


def _turn(state: RunState) -> tuple[Message, ...]:
    """An exchange, if it had an answer."""
    if state.request is None or state.outcome != "completed" or not state.answer:
        return ()
    asked = Message(role="user", content=state.request.task, origin="user", part="history")
    return asked, Message(role="assistant", content=state.answer, origin="model", part="history")


def _files(state: RunState) -> tuple[str, ...]:
    return tuple(each for each in state.request.agent.collections if each.startswith(FILES)) if state.request else ()
