"""Uploads in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from datetime import datetime


class MemoryUploads:
    """Sections in a dictionary."""

    def __init__(self) -> None:
        self._sections: dict[tuple[str, str], dict[int, tuple[bytes, datetime]]] = {}

    async def numbers(self, tenant: str, upload: str) -> set[int]:
        return set(self._sections.get((tenant, upload), {}))

    async def put(self, tenant: str, upload: str, number: int, data: bytes, now: datetime) -> None:
        self._sections.setdefault((tenant, upload), {})[number] = (data, now)

    async def get(self, tenant: str, upload: str, number: int) -> bytes | None:
        found = self._sections.get((tenant, upload), {}).get(number)
        return found[0] if found else None

    async def drop(self, tenant: str, upload: str, before: datetime) -> None:
        self._sections.pop((tenant, upload), None)
        for (owner, name), sections in list(self._sections.items()):
            if owner == tenant and max(at for _, at in sections.values()) < before:
                del self._sections[owner, name]
