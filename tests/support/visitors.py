"""People at the door of a whole stack: signed in with a key of their own, or as the one who runs it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from infra.gateway.door_secret import door_seed
from services.gateway.principal import DoorRole
from tests.support.gateways import door_of, key_of
from tests.support.stack import LocalStack

WAIT_S = 60.0


@asynccontextmanager
async def visitor(stack: LocalStack, *roles: DoorRole, tenant: str = "default") -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with these roles; without any, the administrator of this data directory."""
    key = await key_of(stack, *roles, tenant=tenant) if roles else door_seed(stack.loaded.settings).local_key
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=door_of(stack), headers=headers, trust_env=False, timeout=WAIT_S) as http:
        yield http


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    """The events of a stream that has ended: name and data."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        said = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in said:
            found.append((said.get("event", "message"), json.loads(said["data"])))
    return found
