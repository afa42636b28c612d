"""Runs wherever they are kept: in the log, in the archive, in a file that was imported. The port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from runtime.log import Stored
from schemas.ids import RunId


class History(Protocol):
    """Reads whole runs of one tenant; another tenant's run is one that is not there."""

    async def find(self, tenant: str, name: str) -> RunId:
        """The run of an id or of the beginning of one. Raises UnknownRun."""
        ...

    async def both(self, tenant: str, run: RunId) -> list[tuple[Stored, bytes]]:
        """Every fact, each with its bytes as stored. Raises UnknownRun, Erased."""
        ...

    def export(self, tenant: str, run: RunId) -> AsyncIterator[bytes]:
        """The run as an export file, piece by piece. Raises UnknownRun, Erased."""
        ...
