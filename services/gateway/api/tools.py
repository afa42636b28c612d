"""The console's tools: the catalogue, a tool with its host and versions, calls on trial, and imports."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Path, Query
from pydantic import Field

from runtime.fold import Folded
from runtime.state import RunState
from schemas.canonical import JsonObject
from schemas.errors import ProtocolError
from schemas.events import CallPlanned, RunFailed, StepFailed, ToolFailed, ToolReturned
from schemas.ids import TOKEN, checked_run
from schemas.tools import Effect, Part, Preview, Refusal, ToolCard, Value
from services.gateway.answers import NotThere
from services.gateway.door import Asker, Builder, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.ports.workshop import Import, Imported

router = APIRouter()

Presence: TypeAlias = Literal["here", "away", "no host"]
ToolName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Lane = Annotated[str, Path(pattern=TOKEN)]

_PAGES = 8
_SECRET = ("auth", "headers", "oauth", "env")


class ListedTool(Value):
    """A line of the list."""

    name: str
    effect: Effect
    lane: str
    presence: Presence
    description: str


class CatalogueState(Value):
    """Of the whole catalogue that the tenant sees. unembedded: cards that are still to be read for their meaning."""

    revision: int
    cards: int
    unembedded: int


class ToolPage(Value):
    """A page, by name. after: where the next one begins; None at the end. refused: cards that the catalogue did not take."""

    tools: tuple[ListedTool, ...]
    after: str | None
    state: CatalogueState
    refused: tuple[Refusal, ...] = ()


class FoundTool(Value):
    """A tool as an agent would find it. why: what the score is made of, by list."""

    name: str
    title: str
    description: str
    effect: Effect
    lane: str
    presence: Presence
    score: float
    why: dict[str, float]


class FoundTools(Value):
    """Best first."""

    tools: tuple[FoundTool, ...]


class Version(Value):
    """What a tool was from one revision of the catalogue up to another; until: None while it still is."""

    since: int
    until: int | None
    version: str
    effect: Effect
    hash: str


class ToolNow(Value):
    """A tool: its card, whether anybody answers it, and what it has been, newest first.

    seen: when its host was last heard; queue: calls under way there; failing: share of its last calls that failed.
    """

    card: ToolCard
    hash: str
    presence: Presence
    seen: datetime | None = None
    queue: int = 0
    failing: float = 0.0
    versions: tuple[Version, ...] = ()


class Source(Value):
    """What was imported into a lane. shared: every tenant sees it. where: of what document, server or products."""

    lane: str
    kind: str
    title: str
    owner: str
    since: datetime
    tools: int
    shared: bool
    where: str
    credentials: tuple[str, ...] = ()


class Sources(Value):
    """All that the tenant sees."""

    sources: tuple[Source, ...]


class Try(Value):
    """A call on trial. dry_run: what a write would do is shown, and nothing is done; a read is called either way."""

    arguments: JsonObject = Field(default_factory=dict)
    dry_run: bool = True


class Tried(Value):
    """How far a call is. preview: what a write would do. approval: the command that waits for a person.

    result: what the tool gave; failure: why it, or the run, did not get there.
    """

    run: str
    state: Literal["working", "waiting", "done", "failed"]
    preview: Preview | None = None
    resource: str = ""
    before: str = ""
    approval: str | None = None
    result: str = ""
    parts: tuple[Part, ...] = ()
    failure: str = ""


class Removed(Value):
    """A source that is out. tools: how many were."""

    lane: str
    tools: int


@router.get("/api/tools")
async def tools(
    gateway: Here, who: Reader, text: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(max_length=64)] = "", limit: Annotated[int, Query(ge=1, le=500)] = 200,
    lane: Annotated[str | None, Query(pattern=TOKEN)] = None,
    effect: Effect | None = None, presence: Presence | None = None,
) -> ToolPage:  # fmt: skip
    """A page of the catalogue. One with few tools, or none, is not the last while `after` says where to go on."""
    asked = {"tenant": who.tenant, "text": text, "limit": limit, "lane": lane, "effect": effect}
    found: list[ListedTool] = []
    page = ToolPage.model_validate(await gateway.ask("retrieval", "list_tools", {**asked, "after": after}))
    refused = page.refused
    for _ in range(_PAGES):
        found.extend(each for each in page.tools if presence in (None, each.presence))
        if presence is None or page.after is None or len(found) >= limit:
            break
        page = ToolPage.model_validate(await gateway.ask("retrieval", "list_tools", {**asked, "after": page.after}))
    return page.model_copy(update={"tools": tuple(found), "refused": refused})


@router.get("/api/tools/search")
async def search(
    gateway: Here, who: Reader, text: Annotated[str, Query(max_length=2000)], k: Annotated[int, Query(ge=1, le=50)] = 12
) -> FoundTools:
    """Tools as an agent would find them for a request, with what each score is made of; also those that nobody answers."""
    if not text.strip():
        return FoundTools(tools=())
    found = await gateway.ask_list("retrieval", "find_tools", {"tenant": who.tenant, "text": text, "k": k})
    return FoundTools(tools=tuple(FoundTool.model_validate(_flat(each)) for each in found))


@router.get("/api/tools/sources")
async def sources(gateway: Here, who: Reader) -> Sources:
    """What was imported, by lane."""
    found = await gateway.ask_list("tools", "sources", {"tenant": who.tenant})
    return Sources(sources=tuple(sorted((_source(each) for each in found), key=lambda each: each.lane)))


@router.delete("/api/tools/sources/{lane}")
async def remove(gateway: Here, who: Builder, lane: Lane) -> Removed:
    """Take a source out with its tools. Raises NotThere."""
    return Removed(lane=lane, tools=await gateway.workshop.remove(who.tenant, lane))


@router.post("/api/tools/import/try")
async def import_try(gateway: Here, who: Builder, what: Import) -> Imported:
    """What an import would bring; nothing is kept. Only public addresses are asked, and no program is started."""
    return await gateway.workshop.try_out(who.tenant, what)


@router.post("/api/tools/import")
async def import_(gateway: Here, who: Builder, what: Import) -> Imported:
    """Import tools. `seen`: the digest that import/try told, so that it is what was looked at. Raises Conflict."""
    return await gateway.workshop.take_in(who.tenant, who.user, what)


@router.get("/api/tools/named/{name}")
async def named(gateway: Here, who: Reader, name: ToolName) -> ToolNow:
    """A tool. Raises NotThere."""
    known, told = await asyncio.gather(
        gateway.ask_list("retrieval", "get_tools", {"tenant": who.tenant, "names": [name]}),
        gateway.ask_list("retrieval", "tool_versions", {"tenant": who.tenant, "name": name}),
    )
    if not known or not isinstance(known[0], dict):
        raise _no_tool(name)
    card = ToolCard.model_validate(known[0]["card"])
    versions = tuple(_version(each) for each in reversed(told))
    return ToolNow.model_validate({**known[0], "card": card, "hash": card.hash(), "versions": versions})


@router.post("/api/tools/named/{name}/try")
async def begin_try(gateway: Here, who: Asker, name: ToolName, call: Try) -> Tried:
    """Call a tool by a run that makes this call and no other: with plan, policy, approval and log. Raises NotThere."""
    card = await _card(gateway, who.tenant, name)
    given = gateway.workshop.given_call(card, call.arguments, only_tried=call.dry_run and card.effect != "read")
    asked = await gateway.client(who).ask(given.task, agent=given.agent)
    return Tried(run=asked.run, state="working")


@router.get("/api/tools/tries/{run}")
async def tried(
    gateway: Here, who: Reader, run: Annotated[str, Path(max_length=64)], wait_s: Annotated[float, Query(ge=0, le=25)] = 0.0
) -> Tried:
    """How far such a call is; waits so long for it to end or to need a person. Raises UnknownRun."""
    client, id = gateway.client(who), checked_run(run)
    await client.state(id)
    folded, told = Folded(RunState(run=id)), Tried(run=run, state="working")
    for stored in await client.log.read(id):
        folded.add(stored)
        told = _after(told, stored.fact.body, folded.state)
    try:
        async with asyncio.timeout(wait_s), aclosing(client.follow(id)) as updates:  # type: ignore[type-var]  # a generator
            while told.state == "working":
                update = await anext(updates)
                if update.stored.position > folded.position:
                    told = _after(told, update.stored.fact.body, update.state)
    except (TimeoutError, StopAsyncIteration):
        pass
    return told


def _no_tool(name: str) -> NotThere:
    return NotThere(f"There is no tool {name}.", why="the catalogue has none of that name", hint="milepost tools ls")


async def _card(gateway: Gateway, tenant: str, name: str) -> ToolCard:
    found = await gateway.ask_list("retrieval", "get_tools", {"tenant": tenant, "names": [name]})
    if not found or not isinstance(found[0], dict):
        raise _no_tool(name)
    return ToolCard.model_validate(found[0]["card"])


def _flat(said: object) -> object:
    return {**said["card"], **said} if isinstance(said, dict) and isinstance(said.get("card"), dict) else said


def _version(said: object) -> Version:
    if not isinstance(said, dict):
        raise ProtocolError("A tool's versions cannot be read.", hint="milepost doctor")
    card = ToolCard.model_validate(said["card"])
    return Version(since=said["since"], until=said["until"], version=card.version, effect=card.effect, hash=card.hash())


def _source(said: object) -> Source:
    """What a page shows of a source: of its credentials their names, never where they are found."""
    if not isinstance(said, dict) or not isinstance(said.get("source"), dict):
        raise ProtocolError("A source cannot be read.", hint="milepost doctor")
    source, settings = said["source"], said["source"].get("settings") or {}
    places = (settings.get(name) for name in ("url", "document", "server", "path", "command"))
    where = next((_place(str(each)) for each in places if each), "")
    where = " · ".join(filter(None, (where, ", ".join(settings.get("only") or ()))))
    named = [str(name) for kind in _SECRET for name in (settings.get(kind) or {})]
    shown = {"tools": said["tools"], "shared": source.get("tenant") == "*", "where": where, "credentials": tuple(named)}
    return Source.model_validate({**source, **shown})


def _place(text: str) -> str:
    """An address; of a path of the machine its end alone."""
    return text if text.startswith(("http://", "https://")) else text.rstrip("/").rsplit("/", 1)[-1]


def _after(told: Tried, event: object, state: RunState) -> Tried:
    """What is told of a call after one more of its run's events."""
    more: dict[str, object] = {}
    if isinstance(event, CallPlanned):
        more = {"preview": event.preview, "resource": event.state, "before": event.before.text if event.before else ""}
    elif isinstance(event, ToolReturned):
        more = {"result": event.result.text, "parts": event.result.parts}
    elif isinstance(event, ToolFailed | StepFailed | RunFailed):
        more = {"failure": f"{event.failure.what} {event.failure.why}".strip()}
    told = told.model_copy(update=more)
    asked = next(iter((*state.approvals(), *state.questions())), None)
    if state.phase == "ended":
        failed = told.failure or state.outcome != "completed"
        text = told.result or state.answer or ""
        return told.model_copy(update={"state": "failed" if failed else "done", "approval": None, "result": text})
    return told.model_copy(update={"state": "waiting" if asked else "working", "approval": asked})
