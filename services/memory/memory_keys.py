"""Data keys and forgettings in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from runtime.keyring import BeingForgotten
from runtime.sealing import DataKey
from services.memory.forgetting import Forgetting, Report
from services.memory.keys import new_key


class MemoryKeyStore:
    """KeyStore and ForgettingStore in dictionaries; a Keyring too, for those in the same process."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], DataKey] = {}
        self._users: dict[tuple[str, str], str] = {}
        self._forgettings: dict[str, Forgetting] = {}

    async def key_of(self, tenant: str, user: str) -> DataKey:
        if any((each.tenant, each.user) == (tenant, user) for each in self._forgettings.values()):
            raise BeingForgotten
        id = self._users.get((tenant, user))
        if id is None:
            made = new_key()
            self._keys[tenant, made.id], self._users[tenant, user] = made, made.id
            return made
        return self._keys[tenant, id]

    async def key(self, tenant: str, id: str) -> DataKey | None:
        return self._keys.get((tenant, id))

    async def destroy(self, tenant: str, user: str) -> tuple[str, ...]:
        id = self._users.pop((tenant, user), None)
        if id is None:
            return ()
        self._keys[tenant, id] = DataKey(id, None)
        return (id,)

    async def begin(self, wanted: Forgetting) -> Forgetting:
        for each in self._forgettings.values():
            if (each.tenant, each.user) == (wanted.tenant, wanted.user):
                return each
        return self._forgettings.setdefault(wanted.id, wanted)

    async def get(self, tenant: str, id: str) -> Forgetting | None:
        found = self._forgettings.get(id)
        return found if found and found.tenant == tenant else None

    async def unfinished(self) -> list[Forgetting]:
        return [each for each in self._forgettings.values() if each.finished is None]

    async def save(self, tenant: str, id: str, report: Report, finished: datetime | None = None) -> None:
        old = self._forgettings[id]
        if old.finished is None:
            self._forgettings[id] = replace(old, report=report, finished=finished, user=None if finished else old.user)
