"""Sealed facts and orders for tests, and a keyring whose owner may be away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from runtime.errors import Unreachable
from runtime.sealing import DataKey, Sealing, UnknownKey
from schemas.envelope import Fact, Order
from services.memory.memory_keys import MemoryKeyStore
from tests.support.builders import TENANT

CANARY = "canary-4471-of-ann"


class Keys:
    """runtime.sealing.Keyring straight from a store. away: it does not answer."""

    def __init__(self, store: MemoryKeyStore | None = None) -> None:
        self.store = store or MemoryKeyStore()
        self.away = False
        self.missed = 0

    async def key_of(self, tenant: str, user: str) -> DataKey:
        self._reach()
        return await self.store.key_of(tenant, user)

    async def key(self, tenant: str, id: str) -> DataKey:
        self._reach()
        found = await self.store.key(tenant, id)
        if found is None:
            raise UnknownKey(tenant, id)
        return found

    async def datakey(self, user: str = "ann") -> str:
        return (await self.store.key_of(TENANT, user)).id

    def sealing(self) -> Sealing:
        return Sealing(self)

    def _reach(self) -> None:
        if self.away:
            self.missed += 1
            raise Unreachable("The memory service does not answer.")

    async def missed_by(self, count: int, limit_s: float = 10.0) -> None:
        """Wait until so many have asked in vain."""
        async with asyncio.timeout(limit_s):
            while self.missed < count:
                await asyncio.sleep(0.01)


def under(message: Fact, datakey: str) -> Fact:
    """The fact as it is said in a run whose content is sealed."""
    return replace(message, header=message.header.model_copy(update={"datakey": datakey}))


def order_under(order: Order, datakey: str, **material: object) -> Order:
    header = order.header.model_copy(update={"datakey": datakey})
    return replace(order, header=header, material=material)
