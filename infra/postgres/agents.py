"""Agents in Postgres."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.agents import Agent


class PostgresAgentStore:
    """services.gateway.agents.AgentStore."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, agent: Agent) -> None:
        raise NotImplementedError

    async def get(self, tenant: str, name: str, version: int | None = None) -> Agent | None:
        raise NotImplementedError

    async def published(self, tenant: str, name: str) -> Agent | None:
        raise NotImplementedError

    async def agents(self, tenant: str) -> list[Agent]:
        raise NotImplementedError

    async def versions(self, tenant: str, name: str) -> list[Agent]:
        raise NotImplementedError

    async def publish(self, tenant: str, name: str, version: int | None) -> bool:
        raise NotImplementedError

    async def remove(self, tenant: str, name: str) -> bool:
        raise NotImplementedError
