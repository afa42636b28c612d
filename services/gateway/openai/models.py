"""/v1/models: who answers here - agents that are published, the assistant, and bare models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Path

from schemas.tools import Value
from services.gateway.agents.agent import ASSISTANT, Agent
from services.gateway.answers import NotThere
from services.gateway.door import Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.principal import Principal

router = APIRouter()


class About(Value):
    """What Milepost tells beside what OpenAI does."""

    kind: Literal["agent", "model"]
    title: str = ""
    description: str = ""
    version: int | None = None


class Model(Value):
    """One name that a request may give as its model. created: seconds since 1970; 0 where nobody knows."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "milepost"
    milepost: About


class Models(Value):
    """All of them."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


@router.get("/v1/models")
async def models(gateway: Here, who: Reader) -> Models:
    """The agents first, by name. An agent hides the model of its name."""
    agents = [_agent(each) for each in await gateway.agents.serving(who.tenant)]
    names = {each.id for each in agents}
    return Models(data=(*agents, *(each for each in _others(gateway) if each.id not in names)))


@router.get("/v1/models/{model}")
async def model(gateway: Here, who: Reader, model: Annotated[str, Path(min_length=1, max_length=256)]) -> Model:
    """One of them. Raises NotThere."""
    return await _found(gateway, who, model)


async def _found(gateway: Gateway, who: Principal, name: str) -> Model:
    for each in (*[_agent(agent) for agent in await gateway.agents.serving(who.tenant)], *_others(gateway)):
        if each.id == name:
            return each
    raise NotThere(f"Nobody answers as {name}.", why="it is no published agent and no model", hint="GET /v1/models lists them")


def _others(gateway: Gateway) -> Iterator[Model]:
    yield Model(id=ASSISTANT, milepost=About(kind="agent", title="Milepost's own"))
    for name in dict.fromkeys(gateway.models):
        yield Model(id=name, milepost=About(kind="model"))


def _agent(agent: Agent) -> Model:
    about = About(kind="agent", title=agent.title, description=agent.description, version=agent.version)
    return Model(id=agent.name, created=int(agent.at.timestamp()), owned_by=agent.by, milepost=about)
