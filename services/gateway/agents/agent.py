"""Agents as people keep them: named, versioned, published. What a run pins is always one version's spec."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pydantic import Field

from schemas.agent import AgentSpec, Recall
from schemas.ids import Token
from schemas.tools import Value
from services.gateway.answers import Conflict, NotThere

MOST = 1000
"""Agents of a tenant, and versions of one, that are told at once."""


class Agent(Value):
    """One version of an agent. title: its name for people. picture: an emoji, or a data URL of a small image.

    suggestions: what a person may begin with. published: under its name at the doors, for all of the tenant.
    """

    tenant: Token
    name: Token
    version: int = Field(ge=1)
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    picture: str = Field(default="", max_length=200_000)
    suggestions: tuple[str, ...] = Field(default=(), max_length=12)
    spec: AgentSpec
    published: bool = False
    by: str
    at: datetime
    note: str = Field(default="", max_length=500)


class AgentStore(Protocol):
    """Where agents are kept; a version never changes, except whether it is published."""

    async def put(self, agent: Agent) -> None:
        """Keep a new version, unpublished. Raises Conflict unless it is the one after the newest."""
        ...

    async def get(self, tenant: str, name: str, version: int | None = None) -> Agent | None:
        """A version of an agent; the newest if none is named."""
        ...

    async def published(self, tenant: str, name: str) -> Agent | None:
        """The version that the doors serve."""
        ...

    async def agents(self, tenant: str) -> list[Agent]:
        """The newest version of each, by name."""
        ...

    async def serving(self, tenant: str) -> list[Agent]:
        """The version of each that the doors serve, by name; what nobody published is left out."""
        ...

    async def versions(self, tenant: str, name: str) -> list[Agent]:
        """All of one agent, newest first."""
        ...

    async def publish(self, tenant: str, name: str, version: int | None) -> bool:
        """Serve this version from now on; None: none of it any more. False if it is not there."""
        ...

    async def remove(self, tenant: str, name: str) -> bool:
        """Forget an agent with all versions; runs keep what they pinned."""
        ...


def taken(agent: Agent) -> Conflict:
    """Why a version cannot be put."""
    return Conflict(
        f"{agent.name} cannot get version {agent.version}.", why="somebody else saved it since you opened it",
        hint="load it again; what you wrote can be exported as YAML first",
    )  # fmt: skip


ASSISTANT = "assistant"
"""The agent that is there without anybody having built one."""


async def spec_named(
    store: AgentStore, tenant: str, name: str, models: Sequence[str] = (), *, version: int | None = None
) -> AgentSpec:
    """Who answers under a name: an agent's published version, or the one that is asked for; the assistant; or a bare model.

    Raises NotThere.
    """
    found = await (store.published(tenant, name) if version is None else store.get(tenant, name, version))
    if found is not None:
        return found.spec
    if name == ASSISTANT:
        return AgentSpec()
    if name in models:
        return AgentSpec(
            name="model", model=name, tool_k=0, knowledge_k=0, recall=Recall(similar=0, facts=0, summary=False)
        )  # fmt: skip
    raise NotThere(f"Nobody answers as {name}.", why="it is no published agent and no model", hint="GET /v1/models lists them")
