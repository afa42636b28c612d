"""Triggers in Postgres."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine


class PostgresTriggerStore:
    """services.gateway.triggers.store.TriggerStore. keeper: an engine whose role sees every tenant."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self._engine, self._keeper = engine, keeper
