"""The published agents of every tenant, and the assistant, on the bus for whoever speaks the Synadia Agent Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.jetstream.agent_endpoints import AgentEndpoints
from infra.postgres.engine import transaction
from infra.postgres.tables import agents
from infra.wiring import World, open_engine
from runtime.client import Client
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import checked_run
from services.gateway.agents.agent import ASSISTANT, Agent, spec_named
from services.gateway.bus.agent_protocol import BEAT_S, BadPrompt, Exchange, Station, read_prompt
from services.gateway.bus.answering import Answering
from services.gateway.gateway import Gateway

log = structlog.get_logger("infra.gateway")

LOOK_S = 3.0
"""Seconds until an agent that was published answers here."""
TITLE = "The assistant"


async def serve_on_bus(gateway: Gateway, world: World) -> None:
    """Answer prompts from the bus until cancelled."""
    await AgentsOnBus(gateway, world).run()


class AgentsOnBus:
    """What takes prompts from the bus into runs. The bus is trusted: whoever is on it may ask as any user."""

    def __init__(self, gateway: Gateway, world: World) -> None:
        self._gateway, self._settings = gateway, world.settings
        self._keeper = open_engine(world.settings, "milepost_keeper")
        self._endpoints = AgentEndpoints(world.connection, world.clock, gateway.version, self._prompt, self._cancel)

    async def run(self) -> None:
        """Look who is published, serve them, and give signs of life, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look())
                group.create_task(self._beat())
        finally:
            await self._endpoints.close()

    async def _look(self) -> None:
        while True:
            try:
                await self._endpoints.serve(await self._stations())
            except MilepostError as error:
                log.warning("agents on the bus", what=error.what, why=error.why)
            await asyncio.sleep(LOOK_S)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._endpoints.beat()
            except MilepostError as error:
                log.warning("heartbeat", what=error.what, why=error.why)

    async def _stations(self) -> frozenset[Station]:
        tenants = {self._settings.tenant, *await _tenants(self._keeper)}
        found: set[Station] = set()
        for tenant in tenants:
            served = {agent.name: _station(agent) for agent in await self._gateway.agents.serving(tenant)}
            found |= {*({ASSISTANT: Station(tenant, ASSISTANT, TITLE)} | served).values()}
        return frozenset(found)

    # --- requests ---

    def _client(self, station: Station, user: str | None = None) -> Client:
        gateway, user = self._gateway, user or self._settings.user
        return Client(gateway.journal(station.tenant), gateway.bus, gateway.clock, tenant=station.tenant, user=user)

    async def _prompt(self, station: Station, data: bytes, headers: Mapping[str, str], exchange: Exchange) -> None:
        prompt = read_prompt(data, headers)
        spec = await spec_named(self._gateway.agents, station.tenant, station.name)
        await Answering(self._client(station, prompt.user), self._gateway.library, exchange).answer(prompt, spec)

    async def _cancel(self, station: Station, data: bytes) -> None:
        try:
            run = checked_run(data.decode().strip())
        except (UnicodeDecodeError, ProtocolError) as error:
            raise BadPrompt("This names no run.", hint="send the id that the header Milepost-Run told") from error
        await self._client(station).cancel(run, reason="by way of the bus")


def _station(agent: Agent) -> Station:
    return Station(agent.tenant, agent.name, agent.title, " ".join(agent.description.split())[:500])


async def _tenants(keeper: AsyncEngine) -> list[str]:
    """Who has published agents."""
    which = select(agents.c.tenant).where(agents.c.published).distinct()
    async with transaction(keeper) as connection:
        return [str(tenant) for tenant in await connection.scalars(which)]
