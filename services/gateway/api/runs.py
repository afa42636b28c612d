"""The console's runs: found, shown event by event, computed again, verified, forked, compared."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Annotated, cast
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi import Path as InPath
from pydantic import TypeAdapter, ValidationError
from sse_starlette import ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import StreamingResponse

from runtime.children import all_children
from runtime.errors import Unreachable
from runtime.merkle import leaf_hash
from runtime.numbering import said_in
from runtime.permalink import permalink, place_of
from runtime.receipts import leaf_of
from runtime.run_query import BadQuery, filter_of
from runtime.timeline import Language, summary
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.errors import ProtocolError
from schemas.events import Answered, Fork, Parent
from schemas.runs import ListRuns, Place, RunFilter, RunSummary
from schemas.sealing import Sealed
from schemas.tools import Value
from services.gateway.door import Asker, Here, Reader
from services.gateway.gateway import ANSWER_S, Gateway
from services.gateway.ports.history import Verification
from services.gateway.principal import Principal
from services.gateway.runs.diff import DiffTold, compared
from services.gateway.runs.forks import ForkAsked, Forked, Leaving, change_of, forked, leaving, original_of
from services.gateway.runs.readings import Readings
from services.gateway.runs.replaying import PromptAt, StateAt, Verdict, prompt_at, replayed, state_at
from services.gateway.runs.view import Asking, EventLine, Reading
from services.gateway.streaming import Stream, stream
from services.gateway.ticks import Ticks

router = APIRouter()

TEXT = r"^[^\x00]*$"
POLL_S = 5.0
"""A stream looks by itself now and then, should the bus have lost a tick."""
_FORKS = 20
_INDEX_S = 2.0
_FOLDED = 2000
"""Of an open run with more events than that, nobody waits for its fold to see the list."""
_PACKED = 64 * 1024


async def readings_of(connection: HTTPConnection) -> Readings:
    """The runs that this process was asked for lately."""
    state = connection.app.state
    if not hasattr(state, "readings"):
        state.readings = Readings(connection.app.state.gateway.history)
    return cast("Readings", state.readings)


Read = Annotated[Readings, Depends(readings_of)]
RunName = Annotated[str, InPath(max_length=128, pattern=TEXT, description="an id, its first ten or more characters, or RUN#N")]
Number = Annotated[int, InPath(ge=1, le=10_000_000, description="the number of an event, from 1, as a receipt counts")]
Word = Annotated[str | None, Query(max_length=200, pattern=TEXT)]
Long = Annotated[str, Query(max_length=1000, pattern=TEXT)]


# --- the list -------------------------------------------------------------------------------------


class RunPage(Value):
    """Runs, newest first. next: what `after` is to be for those behind them; None: there are no more."""

    runs: tuple[RunSummary, ...]
    next: str | None


@router.get("/api/runs")
async def runs(
    gateway: Here, who: Reader, q: Long = "", status: Word = None, agent: Word = None, user: Word = None, tool: Word = None,
    model: Word = None, since: Word = None, before: Word = None, text: Word = None, forks: bool | None = None,
    fork_of: Annotated[str | None, Query(alias="fork-of", max_length=64, pattern=TEXT)] = None, conversation: Word = None,
    zone: Annotated[str, Query(max_length=64, pattern=TEXT)] = "UTC", after: Word = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RunPage:  # fmt: skip
    """Runs that match a query, in the words of `milepost runs ls`, and all that is named beside it.

    zone: an IANA name, in which dates and times of the query are. Raises BadQuery, UnknownRun for a fork-of that names none.
    """
    given = {
        "status": status.split(",") if status else None, "agent": agent, "user": user, "tool": tool, "model": model,
        "since": since, "until": before, "text": text, "forks": forks, "fork-of": fork_of, "conversation": conversation,
    }  # fmt: skip
    which = filter_of(q, given, now=gateway.clock.now().astimezone(_zone(zone)))
    if which.fork_of is not None:
        which = which.model_copy(update={"fork_of": await gateway.history.find(who.tenant, which.fork_of)})
    found = await _listed(gateway, who, which, limit, _after(after))
    return RunPage(runs=tuple(found), next=_behind(found[-1]) if len(found) == limit else None)


async def _listed(
    gateway: Gateway, who: Principal, which: RunFilter, limit: int, after: Place | None = None, timeout_s: float = ANSWER_S
) -> list[RunSummary]:
    asked = ListRuns(which=which.model_copy(update={"tenant": who.tenant}), limit=limit, after=after)
    found = await gateway.ask_list("recorder", "runs", asked.model_dump(mode="json"), timeout_s)
    return [RunSummary.model_validate(each) for each in found]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise BadQuery(f"{name!r} is no time zone.", hint="an IANA name, as Asia/Shanghai") from error
    except KeyError as error:
        raise BadQuery(f"There is no time zone {name!r}.", hint="an IANA name, as Asia/Shanghai") from error


def _behind(last: RunSummary) -> str:
    return f"{last.started.isoformat()}~{last.run}"


def _after(text: str | None) -> Place | None:
    if not text:
        return None
    started, _, run = text.partition("~")
    try:
        place = Place(started=datetime.fromisoformat(started), run=run)
    except (ValueError, ValidationError) as error:
        raise BadQuery(f"{text!r} is no place in a list.", hint="what `next` said") from error
    if place.started.tzinfo is None:
        raise BadQuery(f"{text!r} is no place in a list.", why="it has no zone", hint="what `next` said")
    return place


# --- one run --------------------------------------------------------------------------------------


class Odd(Value):
    """A cause of an event that is not there, or that comes later (runtime.causes.Finding)."""

    event: int
    kind: str
    cause: str


class ForkSummary(Value):
    """A run that left this one."""

    run: str
    status: str
    task: str


class RunView(Value):
    """A run with a line of each of its events. selected: the event that a permalink named.

    erased: its user was forgotten, so events say only that they were. asking: what has no answer yet, while it is open. fork,
    parent: where it came from. children: runs of agents that it asked. agent: as the request pinned it.
    """

    run: str
    summary: RunSummary | None
    selected: int | None
    count: int
    bytes: int
    ended: bool
    erased: bool
    agent: AgentSpec | None
    fork: Fork | None
    parent: Parent | None
    forks: tuple[ForkSummary, ...]
    children: tuple[str, ...]
    asking: tuple[Asking, ...]
    findings: tuple[Odd, ...]
    events: tuple[EventLine, ...]


_LINES = TypeAdapter(list[EventLine])


@router.get("/api/runs/{run}", response_model=RunView)
async def show(
    gateway: Here, who: Reader, readings: Read, request: Request, run: RunName, language: Language = "en"
) -> Response:
    """A run and its events without their bodies; defaults are left out of these. Raises UnknownRun, NoSuchEvent."""
    place = place_of(run)
    reading = await readings.read(who.tenant, place.run)
    if place.event is not None:
        reading.place(place.event)
    told, left = await asyncio.gather(
        _if_there(_listed(gateway, who, RunFilter(runs=(reading.run,)), 1, timeout_s=_INDEX_S)),
        _if_there(_listed(gateway, who, RunFilter(fork_of=reading.run), _FORKS, timeout_s=_INDEX_S)),
    )
    packs = "gzip" in request.headers.get("accept-encoding", "")
    body, packed = await readings.work(_shown, reading, told[0] if told else None, left, place.event, language, packs)
    headers = {"content-encoding": "gzip", "vary": "accept-encoding"} if packed else None
    return Response(body, media_type="application/json", headers=headers)


async def _if_there(asked: Awaitable[list[RunSummary]]) -> list[RunSummary]:
    """What the index says; a run is shown without it, too."""
    try:
        return await asked
    except (Unreachable, ProtocolError):
        return []


def _shown(
    reading: Reading, told: RunSummary | None, left: list[RunSummary], selected: int | None, language: Language, packs: bool
) -> tuple[bytes, bool]:
    """The view as JSON, and whether it is packed; ten thousand lines take a while, and nobody else is to wait for them."""
    request, causes = reading.request, reading.causes()
    folded = reading.folded(reading.count).state if reading.count <= _FOLDED and not reading.erased else None
    view = RunView(
        run=reading.run, summary=told if told and reading.ended in (None, told.status) else reading.summed(),
        selected=selected, count=reading.count, bytes=reading.bytes,
        ended=reading.ended is not None, erased=reading.erased, agent=request.agent if request else None,
        fork=request.fork.model_copy(update={"answers": {}, "tools": None}) if request and request.fork else None,
        parent=request.parent if request else None,
        forks=tuple(ForkSummary(run=each.run, status=each.status, task=each.task[:200]) for each in left),
        children=tuple(all_children(folded, reading.facts)) if folded else (),
        asking=tuple(reading.asking()) if folded and not reading.ended else (),
        findings=tuple(Odd(event=each.event, kind=each.kind, cause=each.cause) for each in causes.findings[:100]), events=(),
    )  # fmt: skip
    lines = _LINES.dump_json(reading.lines(language), exclude_defaults=True)
    body = view.model_dump_json(exclude={"events"}).encode()[:-1] + b',"events":' + lines + b"}"
    if packs and len(body) > _PACKED:
        return gzip.compress(body, 5), True
    return body, False


class Cause(Value):
    """An event that caused another. n: its number; None if the log has no such event."""

    id: str
    n: int | None


class EventView(Value):
    """One event in full. sealed: its content is stored sealed; erased: nobody can open it any more. data: what it says.

    sha256, bytes: of the message as it is stored; leaf: its hash in the tree that the receipt signs. effects: the events that
    it caused.
    """

    run: str
    n: int
    link: str
    id: str
    type: str
    role: str
    slot: str
    source: str
    time: datetime
    decider: str
    line: str
    causes: tuple[Cause, ...]
    effects: tuple[int, ...]
    answer: bool
    sealed: bool
    erased: bool
    bytes: int
    sha256: str
    leaf: str
    data: JsonObject | None


@router.get("/api/runs/{run}/events/{n}")
async def event(who: Reader, readings: Read, run: RunName, n: Number, language: Language = "en") -> EventView:
    """One event with what it says. Raises UnknownRun, NoSuchEvent."""
    reading = await readings.read(who.tenant, place_of(run).run)
    return await readings.work(_event, reading, n, language)


def _event(reading: Reading, n: int, language: Language) -> EventView:
    stored, raw = reading.both[reading.place(n)]
    fact, numbers = stored.fact, reading.numbers()
    body = None if isinstance(fact.body, Sealed) else fact.body
    node = reading.causes().nodes[reading.place(n)]
    causes = [Cause(id=each, n=numbers.get(each)) for each in fact.causes]
    if not causes and node.under:
        causes = [Cause(id=str(reading.both[reading.place(node.under)][0].fact.id), n=node.under)]
    return EventView(
        run=reading.run, n=n, link=permalink(reading.run, n), id=fact.id, type=fact.kind, role=fact.role, slot=fact.slot,
        source=fact.header.source, time=fact.time, decider=fact.header.decider, line=summary(fact, language),
        causes=tuple(causes), effects=tuple(each.number for each in node.below if each.number),
        answer=isinstance(said_in(fact), Answered), sealed=fact.header.datakey is not None, erased=body is None, bytes=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(), leaf=leaf_hash(leaf_of(n, fact.id, raw)).hex(),
        data=body.model_dump(mode="json") if body is not None else None,
    )  # fmt: skip


@router.get("/api/runs/{run}/events/{n}/prompt")
async def prompt(who: Reader, readings: Read, run: RunName, n: Number) -> PromptAt:
    """The prompt of a model's turn as the model saw it. Raises UnknownRun, NoSuchEvent, NoModelTurn, Erased."""
    reading = await readings.open(who.tenant, place_of(run).run)
    return await readings.work(prompt_at, reading, n)


@router.get("/api/runs/{run}/at/{n}")
async def at(who: Reader, readings: Read, run: RunName, n: Number, language: Language = "en") -> StateAt:
    """What a run had come to after an event. Raises UnknownRun, NoSuchEvent, Erased."""
    reading = await readings.open(who.tenant, place_of(run).run)
    return await readings.work(state_at, reading, n, language)


class Branch(Value):
    """An event in the tree: its place among the events of the run (from 0, receipts too), and how deep it stands."""

    i: int
    depth: int


class Tree(Value):
    """All events of a run, each after what it stands under."""

    run: str
    branches: tuple[Branch, ...]


@router.get("/api/runs/{run}/tree")
async def tree(who: Reader, readings: Read, run: RunName) -> Tree:
    """The events of a run by cause. Raises UnknownRun."""
    reading = await readings.read(who.tenant, place_of(run).run)
    return await readings.work(_tree, reading)


def _tree(reading: Reading) -> Tree:
    causes = reading.causes()
    places = {id(node): index for index, node in enumerate(causes.nodes)}
    return Tree(run=reading.run, branches=tuple(Branch(i=places[id(node)], depth=depth) for depth, node in causes.walk()))


@router.get("/api/runs/{run}/follow", response_class=Stream)
async def follow(
    request: Request, who: Reader, readings: Read, run: RunName, language: Language = "en",
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Stream:  # fmt: skip
    """Events of a run as they come, as server-sent events: `line` (id: its number), then `end`, {"status"}.

    after: from the one behind that number; Last-Event-ID says so, too. Raises UnknownRun, TooMany.
    """
    reading = await readings.read(who.tenant, place_of(run).run)
    start = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() else after
    return stream(request, who, _followed(request.app.state.ticks, readings, who.tenant, reading.run, start, language))


async def _followed(
    ticks: Ticks, readings: Readings, tenant: str, run: str, after: int, language: Language
) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(ticks.of(tenant)) as changes:  # type: ignore[type-var]  # a generator
        coming = asyncio.ensure_future(anext(changes))
        try:
            while True:
                reading = await readings.read(tenant, run)
                for line in await readings.work(reading.lines, language, after):
                    if line.n > after:
                        after = line.n
                        yield _sent("line", line.model_dump_json(exclude_defaults=True), after)
                if reading.ended:
                    yield _sent("end", json.dumps({"status": reading.ended, "count": reading.count}), after)
                    return
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=POLL_S)
                    if not done:
                        break
                    tick = coming.result()
                    coming = asyncio.ensure_future(anext(changes))
                    if run in tick.runs:
                        break
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming


def _sent(name: str, data: str, number: int) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data, id=str(number))


# --- what can be computed of it -------------------------------------------------------------------


@router.post("/api/runs/{run}/replay")
async def replay(who: Reader, readings: Read, run: RunName) -> Verdict:
    """Compute every decision again from the log, and tell the first that is another one now. Raises UnknownRun, Erased."""
    reading = await readings.open(who.tenant, place_of(run).run)
    return await readings.work(replayed, reading)


@router.get("/api/runs/{run}/verify")
async def verify(gateway: Here, who: Reader, run: RunName) -> Verification:
    """Hold a run against its receipts, with the keys that this machine trusts. Raises UnknownRun."""
    return await gateway.history.verify(who.tenant, await gateway.history.find(who.tenant, place_of(run).run))


@router.get("/api/runs/{run}/export", response_class=StreamingResponse, responses={200: {"content": {"application/jsonl": {}}}})
async def export(gateway: Here, who: Reader, run: RunName) -> StreamingResponse:
    """The run as a file that `milepost verify`, `replay` and `runs import` read. Raises UnknownRun, Erased."""
    found = await gateway.history.find(who.tenant, place_of(run).run)
    pieces = gateway.history.export(who.tenant, found)
    first = await anext(pieces, b"")  # so that what is wrong is told as such

    async def all_of_it() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(
        all_of_it(), media_type="application/jsonl", headers={"content-disposition": f'attachment; filename="{found}.jsonl"'}
    )


@router.get("/api/runs/{run}/fork")
async def fork_at(gateway: Here, who: Reader, readings: Read, run: RunName, at: Annotated[int, Query(ge=1)]) -> Leaving:
    """What a fork that leaves the run at an event may change. Raises UnknownRun, BeyondTheEnd, NotForked, Erased."""
    reading = await readings.open(who.tenant, place_of(run).run)
    return await readings.work(lambda: leaving(original_of(reading), at, gateway.models))


@router.post("/api/runs/{run}/fork")
async def fork(gateway: Here, who: Asker, readings: Read, run: RunName, asked: ForkAsked) -> Forked:
    """Leave a run at one of its events and go on otherwise; nothing of it happens in the world.

    Raises UnknownRun, Erased, NotForked, NoDecision, BeyondTheEnd, BadAnswer, NoAnswer, UnfittingContent, Diverges.
    """
    place = place_of(run)
    if asked.at is None and place.event is not None:
        asked = asked.model_copy(update={"at": place.event})
    reading = await readings.open(who.tenant, place.run)
    original = await readings.work(original_of, reading)
    number, change = change_of(original, asked, who.user, gateway.models)
    return await forked(gateway.client(who), original, number, change)


@router.get("/api/diff")
async def diff(
    who: Reader, readings: Read, a: Annotated[str, Query(max_length=128, pattern=TEXT)],
    b: Annotated[str, Query(max_length=128, pattern=TEXT)], language: Language = "en",
) -> DiffTold:  # fmt: skip
    """Two runs beside each other: steps, what differs in them, totals, writes. Raises UnknownRun."""
    first = await readings.read(who.tenant, place_of(a).run)
    second = await readings.read(who.tenant, place_of(b).run)
    return await readings.work(compared, first, second, language)
