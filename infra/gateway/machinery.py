"""services.gateway.machinery.Machinery, with this machine's parts."""

from __future__ import annotations

from infra.wiring import World
from schemas.canonical import JsonObject
from services.gateway.machinery import DeadLetter, ProcessNow, QueueNow


class StackMachinery:
    """The supervisor's state file, JetStream's figures, the services' own."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def answers(self) -> None:
        await self._world.connection.client.flush(2)

    async def processes(self) -> list[ProcessNow]:
        raise NotImplementedError

    async def queues(self) -> list[QueueNow]:
        raise NotImplementedError

    async def statistics(self) -> list[JsonObject]:
        raise NotImplementedError

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        raise NotImplementedError

    async def requeue(self, id: str) -> bool:
        raise NotImplementedError
