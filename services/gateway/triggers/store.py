"""Where triggers are kept, and what came of each thing that fired one. The port."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from schemas.tools import Value
from services.gateway.triggers.trigger import Firing, Kept, Outcome

FIRINGS_KEPT = 1000
"""Of each trigger; the oldest go first."""


class Claim(Value):
    """Asks for the right to begin a run. key: what tells the event from others; within window_s the same key is the same.

    window_s None: for ever. cooldown_s, at_most: what else must hold; at_most None: whatever is open.
    """

    tenant: str
    trigger: str
    key: str
    at: datetime
    window_s: float | None = None
    cooldown_s: float = 0.0
    at_most: int | None = None


class TriggerStore(Protocol):
    """Triggers of tenants. Every call is idempotent."""

    async def put(self, kept: Kept) -> None:
        """Keep a trigger, new (version 1) or changed. Raises Conflict if somebody else put that version first."""
        ...

    async def get(self, tenant: str, name: str) -> Kept | None: ...

    async def triggers(self, tenant: str) -> list[Kept]:
        """Those of a tenant, by name."""
        ...

    async def watched(self) -> list[Kept]:
        """Of all tenants, those that are enabled and fired by clocks or subjects."""
        ...

    async def remove(self, tenant: str, name: str) -> bool:
        """Forget a trigger and its firings; False if it was not there."""
        ...

    async def scheduled(self, tenant: str, name: str, moment: datetime) -> None:
        """A clock's time was fired."""
        ...

    async def claim(self, claim: Claim) -> Firing:
        """The firing of an event: a new one, pending or skipped, or the one that the same key made before.

        A pending one is whoever's who asks: the run's own key sees to it that there is one run.
        """
        ...

    async def settle(self, firing: Firing, outcome: Outcome, run: str | None = None, why: str = "") -> Firing:
        """What came of it."""
        ...

    async def open(self, tenant: str, name: str, limit: int = 200) -> list[Firing]:
        """Those with a run that was not seen to have ended, oldest first."""
        ...

    async def ended(self, tenant: str, name: str, key: str) -> None:
        """The run of a firing has ended."""
        ...

    async def firings(self, tenant: str, name: str | None = None, limit: int = 100) -> list[Firing]:
        """Newest first."""
        ...
