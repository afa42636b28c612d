"""Whole stacks with gateways, for tests of what stands at the door and on the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import nats
import pytest
from nats.aio.client import Client

from infra.gateway import address
from infra.local_stack import attached
from infra.postgres.agents import PostgresAgentStore
from infra.postgres.door_keys import PostgresKeyStore
from infra.wiring import open_engine
from services.gateway.agents.agent import Agent
from services.gateway.keys import new_key
from services.gateway.principal import DoorRole
from tests.support.stack import OPERATOR, LocalStack, for_the_session


@pytest.fixture(scope="session")
def two_doors() -> Iterator[LocalStack]:
    """A stack with two gateways."""
    yield from for_the_session(services__gateway=2)


def door_of(stack: LocalStack) -> str:
    """The address of one of its gateways."""
    found = address.remembered(stack.home)
    assert found is not None
    return found


async def key_of(stack: LocalStack, *roles: DoorRole, user: str = "kim", tenant: str = "default") -> str:
    """A new API key's text."""
    kept, text = new_key(tenant, "test", user, roles, datetime.now(UTC))
    engine = open_engine(attached(stack.loaded.settings))
    await PostgresKeyStore(engine).put(kept)
    await engine.dispose()
    return text


async def publish(stack: LocalStack, name: str, *, tenant: str = "default") -> None:
    """Build an agent that renews servers, and publish it under this name."""
    engine = open_engine(attached(stack.loaded.settings))
    store, spec = PostgresAgentStore(engine), OPERATOR.model_copy(update={"name": name})
    if await store.get(tenant, name) is None:
        about = "Renews servers."
        await store.put(Agent(tenant=tenant, name=name, version=1, description=about, spec=spec, by="me", at=datetime.now(UTC)))
    assert await store.publish(tenant, name, 1)
    await engine.dispose()


async def withdraw(stack: LocalStack, name: str, *, tenant: str = "default") -> None:
    """Serve an agent no more."""
    engine = open_engine(attached(stack.loaded.settings))
    await PostgresAgentStore(engine).publish(tenant, name, None)
    await engine.dispose()


@asynccontextmanager
async def peer(stack: LocalStack) -> AsyncIterator[Client]:
    """A plain connection to the stack's bus, as a program of somebody else has it."""
    client = await nats.connect(attached(stack.loaded.settings).nats.url or "")
    try:
        yield client
    finally:
        await client.close()


__all__ = ["door_of", "key_of", "peer", "publish", "two_doors", "withdraw"]
