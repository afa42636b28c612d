"""A client's session with a running stack: connected, folded from settings, closed at the end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.local_stack import attached
from infra.settings import Settings
from infra.wiring import World, open_world
from runtime.client import Client


@asynccontextmanager
async def session(settings: Settings, *, user: str | None = None) -> AsyncIterator[tuple[Client, World]]:
    """A client and the world it stands in. user: that of the settings if not given. Raises NotRunning or Unreachable."""
    world = await open_world(attached(settings), f"client-{secrets.token_hex(4)}")
    try:
        yield Client(world.log, world.bus, world.clock, tenant=settings.tenant, user=user or settings.user), world
    finally:
        await world.connection.close()
