"""Agents before they are kept: built by talking, tried in a preview, evaluated on runs that are recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field, ValidationError
from sse_starlette import ServerSentEvent
from starlette.requests import Request

from schemas.agent import AgentSpec
from schemas.canonical import digest
from schemas.ids import Text, Token
from schemas.policy import Rule, When
from schemas.runs import ListRuns, RunFilter, RunSummary
from schemas.tools import ToolCard, Value
from services.gateway.agents import keeping
from services.gateway.agents.building import PREVIEW, Building, Built, Talk
from services.gateway.agents.draft import Draft, checked
from services.gateway.agents.evaluations import Evaluation
from services.gateway.answers import NotThere
from services.gateway.door import Builder, Here, Reader
from services.gateway.streaming import Stream, stream

router = APIRouter()

FOUND = 8
MOST_RUNS = 50
NEVER = Rule(
    name="preview", when=When(effects=("write", "destructive")), then="dry_run", why="a preview shows what it would do"
)  # fmt: skip


class Preview(Value):
    """A task for a draft. conversation: which of the editor's this belongs to."""

    draft: Draft
    conversation: Token
    task: Text


class Begun(Value):
    """The run that tries it. conversation: the id under which it stands."""

    run: str
    conversation: str


class Evaluate(Value):
    """Which runs to drive again, with what. draft: unsaved; else the version, the newest if none is named.

    runs: how many, the newest that have ended; what was tried in previews is left out. of: whose runs, this agent's if nobody
    is named.
    """

    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    draft: Draft | None = None
    runs: int = Field(default=10, ge=1, le=MOST_RUNS)
    of: Token | None = None


@router.post("/api/agents/build", response_class=Stream)
async def build(request: Request, said: Talk, gateway: Here, who: Builder) -> Stream:
    """One turn of building by talking, as events: `step` {"what", "run"} of each run, then `built` {"patch", "said",
    "trouble"}.

    The patch is for the form; nothing is kept.
    """
    checked(said.draft)

    async def find(text: str) -> Sequence[tuple[ToolCard, float]]:
        asked = {"tenant": who.tenant, "text": text[:4000], "k": FOUND}
        found = await gateway.ask_list("retrieval", "find_tools", asked)
        return [card for each in found if (card := _here(each)) is not None]

    building = Building(gateway.client(who), find, said)

    async def events() -> AsyncIterator[ServerSentEvent]:
        async with aclosing(building.go()) as steps:  # type: ignore[type-var]  # a generator
            async for each in steps:
                name = "built" if isinstance(each, Built) else "step"
                yield ServerSentEvent(event=name, data=json.dumps(each.model_dump(mode="json"), ensure_ascii=False))

    return stream(request, who, events())


def _here(found: object) -> tuple[ToolCard, float] | None:
    """A tool that somebody answers, with its score."""
    if not isinstance(found, dict) or found.get("presence") != "here":
        return None
    try:
        return ToolCard.model_validate(found["card"]), float(found["score"])
    except (ValidationError, KeyError, TypeError, ValueError):
        return None


@router.post("/api/agents/preview")
async def preview(said: Preview, gateway: Here, who: Builder) -> Begun:
    """Begin a run with an unsaved draft; what it would write is planned and shown, and never done. Raises UnfitAgent.

    It is followed as any turn: GET /api/conversations/turns/{run}/stream.
    """
    conversation = PREVIEW + digest("preview", who.user, said.conversation)
    asked = await gateway.client(who).ask(said.task, agent=harmless(checked(said.draft)), conversation=conversation)
    return Begun(run=asked.run, conversation=conversation)


def harmless(draft: Draft) -> AgentSpec:
    """The draft as a preview runs it: of an agent's and a tenant's rule the stricter one holds, so no write is ever done."""
    spec = draft.pinned("draft")
    return spec.model_copy(update={"policy": (NEVER, *spec.policy)[:100], "approval": "writes"})


@router.post("/api/agents/{name}/evaluate")
async def evaluate(name: Annotated[Token, Path()], said: Evaluate, gateway: Here, who: Builder) -> Evaluation:
    """Drive the agent's recorded runs again with a version or a draft in place of what they had. Raises NotThere, Busy."""
    if said.draft is not None:
        spec, label = checked(said.draft).pinned("draft"), "draft"
    else:
        agent = await keeping.found(gateway.agents, who.tenant, name, said.version)
        spec, label = agent.spec, str(agent.version)
    which = RunFilter(tenant=who.tenant, agent=said.of or name, status=("completed", "failed", "cancelled"), forks=False)
    asked = ListRuns(which=which, limit=min(4 * said.runs, 200)).model_dump(mode="json")
    runs = [RunSummary.model_validate(each) for each in await gateway.ask_list("recorder", "runs", asked)]
    kept = [each.run for each in runs if not each.erased and not each.conversation.startswith(PREVIEW)][: said.runs]
    if not kept:
        raise NotThere(
            f"No run of {said.of or name} has ended yet.", why="there is nothing to drive again", hint="try it first"
        )
    return await gateway.evaluations.start(who.tenant, spec, kept, label=label, by=who.user)


@router.get("/api/agents/{name}/evaluations/{id}")
async def evaluation(name: Annotated[Token, Path()], id: Annotated[Token, Path()], gateway: Here, who: Reader) -> Evaluation:
    """How far an evaluation is, and what it came to. Raises NotThere."""
    found = await gateway.evaluations.get(who.tenant, id)
    if found is None or found.agent != name:
        raise NotThere("There is no such evaluation.", why="it is kept while the gateway lives", hint="begin another one")
    return found


@router.delete("/api/agents/{name}/evaluations/{id}", status_code=204)
async def stop(name: Annotated[Token, Path()], id: Annotated[Token, Path()], gateway: Here, who: Builder) -> None:
    """End an evaluation before its time. Raises NotThere."""
    await evaluation(name, id, gateway, who)
    await gateway.evaluations.stop(who.tenant, id)
