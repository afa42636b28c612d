"""The twin of the store of agents, for tests."""

from __future__ import annotations

from services.gateway.agents.agent import MOST, Agent, taken


class MemoryAgentStore:
    """services.gateway.agents.agent.AgentStore in a dictionary."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], list[Agent]] = {}

    async def put(self, agent: Agent) -> None:
        mine, kept = self._kept.setdefault((agent.tenant, agent.name), []), agent.model_copy(update={"published": False})
        if agent.version == len(mine) + 1:
            mine.append(kept)
        elif agent.version > len(mine) or mine[agent.version - 1].model_copy(update={"published": False}) != kept:
            raise taken(agent)

    async def get(self, tenant: str, name: str, version: int | None = None) -> Agent | None:
        found = await self.versions(tenant, name)
        return next((each for each in found if version in (None, each.version)), None)

    async def published(self, tenant: str, name: str) -> Agent | None:
        return next((each for each in await self.versions(tenant, name) if each.published), None)

    async def agents(self, tenant: str) -> list[Agent]:
        return [mine[-1] for (whose, _), mine in sorted(self._kept.items()) if whose == tenant and mine][:MOST]

    async def serving(self, tenant: str) -> list[Agent]:
        found = [await self.published(tenant, each.name) for each in await self.agents(tenant)]
        return [each for each in found if each is not None]

    async def versions(self, tenant: str, name: str) -> list[Agent]:
        return self._kept.get((tenant, name), [])[::-1][:MOST]

    async def publish(self, tenant: str, name: str, version: int | None) -> bool:
        mine = self._kept.get((tenant, name), [])
        if not mine or (version is not None and not 1 <= version <= len(mine)):
            return False
        mine[:] = [each.model_copy(update={"published": each.version == version}) for each in mine]
        return True

    async def remove(self, tenant: str, name: str) -> bool:
        return bool(self._kept.pop((tenant, name), []))
