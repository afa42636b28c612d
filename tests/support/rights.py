"""Capabilities for tests: a key pair in memory, orders that carry a right, and a gate before a service that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from runtime.bus import Bus
from runtime.capability import MATERIAL, Issuer, SigningKey
from runtime.clock import Clock
from runtime.service import Context
from schemas.canonical import canonical
from schemas.envelope import Order
from schemas.events import RunRequested
from schemas.ids import RunId
from services.tools.gate import Gate, KeySource
from services.tools.revocations import Revocations
from tests.support.builders import NOW, requested


class KeysInMemory:
    """Key pairs of a test, newest first."""

    def __init__(self, *seeds: int) -> None:
        self.pairs = [SigningKey(bytes([seed]) * 32) for seed in seeds or (1,)]

    def signing(self) -> SigningKey:
        return self.pairs[0]

    def trusted(self) -> dict[str, bytes]:
        return {each.id: each.public for each in self.pairs}


KEYS = KeysInMemory(1)
ROGUE = KeysInMemory(66)


def signed(order: Order, keys: KeysInMemory = KEYS, *, request: RunRequested | None = None, now: datetime = NOW) -> Order:
    """The order with the right to it, as the conductor sends it."""
    right = Issuer(keys).issue(order, request or requested(), now)
    return replace(order, material={**order.material, MATERIAL: right})


def trusting(keys: KeysInMemory = KEYS) -> KeySource:
    """A source that tells these keys."""

    async def source() -> Mapping[str, bytes]:
        return keys.trusted()

    return source


def gate(bus: Bus, clock: Clock, keys: KeySource | None = None, *, patience_s: float = 0.0) -> Gate:
    """A gate that trusts the tests' key."""
    return Gate(keys or trusting(), bus, clock, Revocations(bus, patience_s=patience_s))


def context(order: Order, bus: Bus, attempt: int = 1) -> Context:
    """What a handler gets with the order."""

    async def append(run: RunId, slot: str, event: object) -> bool:
        raise AssertionError("nothing is stated here")

    return Context(order, attempt, append, bus.tell)


class Voucher:
    """A conductor that answers for some orders; all others are nothing that it asked for."""

    def __init__(self, *orders: Order) -> None:
        self._orders = {order.id: order for order in orders}
        self.asked = 0

    async def __call__(self, raw: bytes) -> bytes:
        import json

        self.asked += 1
        order = self._orders.get(json.loads(raw)["command"])
        return canonical({MATERIAL: order.material[MATERIAL] if order else None})
