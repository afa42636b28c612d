"""The console's agents: kept in versions, read and written as files, published under their names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import ConfigDict, Field

from schemas.ids import Token
from schemas.tools import Value
from services.gateway.agents import keeping
from services.gateway.agents.agent import ASSISTANT, Agent
from services.gateway.agents.changes import FieldChange, changes
from services.gateway.agents.draft import Draft, checked
from services.gateway.agents.file import LIMIT, Form, read_agent, write_agent
from services.gateway.api import agent_trying
from services.gateway.door import Builder, Here, Reader

router = APIRouter()
router.include_router(agent_trying.router)

Name = Annotated[Token, Path(description="An agent's name.")]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="The newest if none is named.")]
_VERSION = Field(ge=1, le=2**31 - 1)


class Shown(Agent):
    """A version of an agent. serves: the version that the doors serve, None: none; built_in: nobody has kept it yet."""

    serves: int | None = None
    built_in: bool = False


class AgentVersion(Value):
    """A line of the history."""

    version: int
    by: str
    at: str
    note: str
    published: bool


class Save(Draft):
    """A draft to keep. based_on: the version that it was made from, 0 for none; None: whatever is the newest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    based_on: int | None = Field(default=None, ge=0, le=2**31 - 1)
    note: str = Field(default="", max_length=500)


class AgentText(Value):
    """An agent as text. form: what it is written in."""

    text: str = Field(max_length=LIMIT)
    form: Form = "yaml"


class Import(AgentText):
    """An agent to keep. name: in place of the one in the text."""

    name: Token | None = None
    based_on: int | None = Field(default=None, ge=0, le=2**31 - 1)
    note: str = Field(default="", max_length=500)


class Publish(Value):
    """Which version is to be served; the newest if none is named."""

    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class Difference(Value):
    """What is different from one version to another."""

    before: int
    after: int
    changes: tuple[FieldChange, ...]


@router.get("/api/agents")
async def agents(gateway: Here, who: Reader) -> list[Shown]:
    """The newest version of each agent, by name, and the assistant that is always there."""
    kept = await gateway.agents.agents(who.tenant)
    serving = {each.name: each.version for each in await gateway.agents.serving(who.tenant)}
    shown = [Shown(**dict(each), serves=serving.get(each.name)) for each in kept]
    if ASSISTANT not in {each.name for each in kept}:
        shown.append(_built_in(keeping.built_in(who.tenant)))
    return sorted(shown, key=lambda each: each.name)


@router.get("/api/agents/{name}")
async def agent(name: Name, gateway: Here, who: Reader, version: Version = None) -> Shown:
    """One agent. Raises NotThere."""
    return await _shown(gateway, await keeping.found(gateway.agents, who.tenant, name, version))


@router.put("/api/agents/{name}")
async def save(name: Name, said: Save, gateway: Here, who: Builder) -> Shown:
    """Keep a new version. Raises UnfitAgent, Conflict."""
    draft = Draft(**{field: getattr(said, field) for field in Draft.model_fields}).model_copy(update={"name": name})
    kept = await keeping.save(
        gateway.agents, who.tenant, draft, by=who.user, now=gateway.clock.now(), based_on=said.based_on, note=said.note,
        models=gateway.models,
    )  # fmt: skip
    return await _shown(gateway, kept)


@router.delete("/api/agents/{name}", status_code=204)
async def remove(name: Name, gateway: Here, who: Builder) -> None:
    """Forget an agent with all its versions; runs keep what they pinned. Raises NotThere."""
    await keeping.remove(gateway.agents, who.tenant, name)


@router.get("/api/agents/{name}/versions")
async def versions(name: Name, gateway: Here, who: Reader) -> list[AgentVersion]:
    """Its history, newest first; none of the built-in one."""
    found = await gateway.agents.versions(who.tenant, name)
    return [
        AgentVersion(version=each.version, by=each.by, at=each.at.isoformat(), note=each.note, published=each.published)
        for each in found
    ]  # fmt: skip


@router.get("/api/agents/{name}/diff")
async def diff(
    name: Name, gateway: Here, who: Reader, before: Annotated[int, Query(ge=1, le=2**31 - 1)], after: Version = None
) -> Difference:
    """What is different from one version to another, the newest if none is named. Raises NotThere."""
    old = await keeping.found(gateway.agents, who.tenant, name, before)
    new = await keeping.found(gateway.agents, who.tenant, name, after)
    found = changes(keeping.draft_of(old), keeping.draft_of(new))
    return Difference(before=old.version, after=new.version, changes=found)


@router.post("/api/agents/{name}/publish")
async def publish(name: Name, said: Publish, gateway: Here, who: Builder) -> Shown:
    """Let the doors serve a version; an older one is a way back. Raises NotThere."""
    return await _shown(gateway, await keeping.publish(gateway.agents, who.tenant, name, said.version))


@router.post("/api/agents/{name}/unpublish", status_code=204)
async def unpublish(name: Name, gateway: Here, who: Builder) -> None:
    """Let the doors serve none of it any more. Raises NotThere."""
    await keeping.unpublish(gateway.agents, who.tenant, name)


@router.get("/api/agents/{name}/export", response_class=Response, responses={200: {"content": {"application/yaml": {}}}})
async def export(name: Name, gateway: Here, who: Reader, version: Version = None) -> Response:
    """The agent as YAML to be kept in git. Raises NotThere."""
    text = write_agent(keeping.draft_of(await keeping.found(gateway.agents, who.tenant, name, version)))
    headers = {"content-disposition": f'attachment; filename="{name}.yaml"'}
    return Response(text, media_type="application/yaml; charset=utf-8", headers=headers)


@router.post("/api/agents/import")
async def import_(said: Import, gateway: Here, who: Builder) -> Shown:
    """Keep what a file says as a new version. Raises BadAgent, UnfitAgent, Conflict."""
    draft = read_agent(said.text.encode(), said.form)
    kept = await keeping.save(
        gateway.agents, who.tenant, draft.model_copy(update={"name": said.name}) if said.name else draft, by=who.user,
        now=gateway.clock.now(), based_on=said.based_on, note=said.note, models=gateway.models,
    )  # fmt: skip
    return await _shown(gateway, kept)


@router.post("/api/agents/read")
async def read(said: AgentText, gateway: Here, who: Builder) -> Draft:
    """What a text says; nothing is kept. Raises BadAgent, UnfitAgent."""
    return checked(read_agent(said.text.encode(), said.form), gateway.models)


@router.post("/api/agents/write")
async def write(said: Draft, gateway: Here, who: Builder) -> AgentText:
    """A draft as YAML; nothing is kept."""
    return AgentText(text=write_agent(said))


async def _shown(gateway: Here, agent: Agent) -> Shown:
    served = await gateway.agents.published(agent.tenant, agent.name)
    if served is None and agent.by == "milepost" and await gateway.agents.get(agent.tenant, agent.name) is None:
        return _built_in(agent)
    return Shown(**dict(agent), serves=served.version if served else None)


def _built_in(agent: Agent) -> Shown:
    return Shown(**dict(agent), serves=agent.version, built_in=True)
