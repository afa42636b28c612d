"""services.gateway.workshop.Workshop, with this machine's parts."""

from __future__ import annotations

from infra.wiring import World
from services.gateway.workshop import Import, Imported


class StackWorkshop:
    """Imports as the commands of the CLI make them."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def try_out(self, tenant: str, what: Import) -> Imported:
        raise NotImplementedError

    async def take_in(self, tenant: str, what: Import) -> Imported:
        raise NotImplementedError
