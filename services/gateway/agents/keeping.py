"""What is done with agents that are kept, at the door and on the command line alike."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.agent import AgentSpec
from services.gateway.agents.agent import ASSISTANT, Agent, AgentStore, taken
from services.gateway.agents.draft import Draft, checked
from services.gateway.answers import NotThere

_ALWAYS = datetime(2026, 1, 1, tzinfo=UTC)


def built_in(tenant: str) -> Agent:
    """The assistant that is there without anybody having built one."""
    return Agent(
        tenant=tenant, name=ASSISTANT, version=1, title="Assistant", spec=AgentSpec(), published=True,
        description="Answers with whatever tools and documents fit. Built in: save it to make it your own.",
        by="milepost", at=_ALWAYS,
    )  # fmt: skip


async def found(store: AgentStore, tenant: str, name: str, version: int | None = None) -> Agent:
    """An agent's version, the newest if none is named; the built-in assistant too. Raises NotThere."""
    agent = await store.get(tenant, name, version)
    if agent is not None:
        return agent
    if name == ASSISTANT and version in (None, 1):
        return built_in(tenant)
    which = name if version is None else f"{name} in version {version}"
    raise NotThere(f"There is no agent {which}.", hint="milepost agents ls")


def draft_of(agent: Agent) -> Draft:
    """What a person wrote of it."""
    return Draft(
        name=agent.name, title=agent.title, description=agent.description, picture=agent.picture,
        suggestions=agent.suggestions, spec=agent.spec.model_copy(update={"name": agent.name, "version": "1"}),
    )  # fmt: skip


async def save(
    store: AgentStore, tenant: str, draft: Draft, *, by: str, now: datetime, based_on: int | None = None, note: str = "",
    models: tuple[str, ...] = (),
) -> Agent:  # fmt: skip
    """Keep a draft as the version after `based_on`, or after the newest; what says nothing new stays the version it is.

    Raises UnfitAgent, Conflict.
    """
    checked(draft, models)
    newest = await store.get(tenant, draft.name)
    last = newest.version if newest else 0
    version = (last if based_on is None else based_on) + 1
    agent = Agent(
        tenant=tenant, name=draft.name, version=version, title=draft.title, description=draft.description,
        picture=draft.picture, suggestions=draft.suggestions, spec=draft.pinned(version), by=by, at=now, note=note,
    )  # fmt: skip
    if version != last + 1:
        raise taken(agent)
    if newest is not None and draft_of(newest) == draft_of(agent):
        return newest
    await store.put(agent)
    return agent


async def publish(store: AgentStore, tenant: str, name: str, version: int | None = None) -> Agent:
    """Let the doors serve a version, the newest if none is named. Raises NotThere."""
    agent = await store.get(tenant, name, version)
    if agent is None or not await store.publish(tenant, name, agent.version):
        which = name if version is None else f"{name} in version {version}"
        raise NotThere(
            f"There is no agent {which} that could be published.", hint="milepost agents add FILE keeps one; milepost agents ls"
        )
    return agent.model_copy(update={"published": True})


async def unpublish(store: AgentStore, tenant: str, name: str) -> None:
    """Let the doors serve none of it. Raises NotThere."""
    if not await store.publish(tenant, name, None):
        raise NotThere(f"There is no agent {name} that somebody keeps.", hint="milepost agents ls")


async def remove(store: AgentStore, tenant: str, name: str) -> None:
    """Forget it with all versions. Raises NotThere."""
    if not await store.remove(tenant, name):
        raise NotThere(f"There is no agent {name} that somebody keeps.", hint="milepost agents ls")
