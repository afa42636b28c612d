"""services.gateway.library.Library, with this machine's parts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from infra.wiring import World
from services.gateway.library import Progress


class StackLibrary:
    """Documents through infra.ingestion."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def add(self, tenant: str, collection: str, name: str, content: bytes) -> AsyncIterator[Progress]:
        raise NotImplementedError
        yield Progress(state="reading", name=name)
