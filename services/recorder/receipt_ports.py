"""What sealing needs of the outside: each tenant's receipts in a chain without gaps, and a place for checkpoints elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from pydantic import Field

from runtime.errors import Retryable
from runtime.receipts import SignedCheckpoint
from schemas.events import RunSealed
from schemas.ids import RunId
from schemas.receipts import Receipt
from schemas.tools import Value

Make: TypeAlias = Callable[[Receipt | None, int, str], RunSealed | None]
"""Makes a run's next receipt from its last one, the next number of the chain and the hash of the chain's head; or none."""


class ChainBehind(Retryable):
    """The chain that is kept has less than a checkpoint saw, or something else: sealing on would begin a second one."""


class Due(Value):
    """A run with facts that no receipt counts yet. position: of the last of them that is known; at: when it is to be sealed."""

    tenant: str
    run: str
    position: int = Field(ge=0)
    at: datetime


class ReceiptStore(Protocol):
    """Receipts by tenant and number, and what is still to be done. What it holds of receipts, the log holds too."""

    async def note(self, due: Sequence[Due]) -> None:
        """Remember runs that are to be sealed; of two notes of a run the later position and the earlier moment hold."""
        ...

    async def due(self, now: datetime, limit: int, *, but: Collection[str] = ()) -> list[Due]:
        """Runs whose time has come, the oldest first. but: tenants whose are left out."""
        ...

    async def add(self, tenant: str, makes: Mapping[RunId, Make], read: Mapping[RunId, int]) -> list[RunSealed]:
        """Let each run have its next receipt, alone in this tenant's chain, all or none of them; gives those that were made.

        read: up to which position each run was read; notes that are no later are struck.
        """
        ...

    async def restore(self, rows: Sequence[RunSealed]) -> list[RunSealed]:
        """Keep receipts that the log tells of; gives those whose number or place in their run has another one already."""
        ...

    async def unpublished(self, limit: int, *, but: Collection[str] = ()) -> list[RunSealed]:
        """Receipts that may not be in the log yet, in order of their numbers. but: runs whose are left out."""
        ...

    async def published(self, rows: Sequence[RunSealed]) -> None:
        """They are in the log."""
        ...

    async def chain(self, tenant: str, after: int = 0, limit: int = 500) -> list[RunSealed]:
        """Receipts in order of their numbers, from the one behind `after`."""
        ...

    async def of_run(self, tenant: str, run: str) -> list[RunSealed]:
        """A run's receipts by part."""
        ...

    async def heads(self) -> dict[str, tuple[int, str]]:
        """The last number of each tenant's chain and its hash; tenants without receipts are not there."""
        ...

    async def keep(self, signed: SignedCheckpoint) -> None:
        """Keep a checkpoint."""
        ...

    async def checkpoint(self, tenant: str) -> SignedCheckpoint | None:
        """The last checkpoint of a tenant."""
        ...


class CheckpointShelf(Protocol):
    """Where checkpoints are kept beside the store, so that both must be lost for the chain to be shortened unseen."""

    def put(self, signed: SignedCheckpoint) -> None:
        """Write it down. Raises OSError."""
        ...

    def last(self, tenant: str) -> SignedCheckpoint | None:
        """The last one of a tenant that can be read."""
        ...
