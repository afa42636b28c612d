"""Receipts and checkpoints in memory, for tests and simulations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from runtime.receipts import SignedCheckpoint, receipt_hash
from schemas.events import RunSealed
from schemas.ids import RunId
from schemas.receipts import NO_HASH
from services.recorder.receipt_ports import Due, Make


@dataclass
class MemoryReceiptStore:
    """ReceiptStore that lasts as long as its process."""

    _chains: defaultdict[str, list[RunSealed]] = field(default_factory=lambda: defaultdict(list))
    _due: dict[tuple[str, str], Due] = field(default_factory=dict)
    _unpublished: dict[tuple[str, int], RunSealed] = field(default_factory=dict)
    _checkpoints: dict[str, SignedCheckpoint] = field(default_factory=dict)

    async def note(self, due: Sequence[Due]) -> None:
        for each in due:
            place = (each.tenant, each.run)
            old = self._due.get(place, each)
            both = {"position": max(old.position, each.position), "at": min(old.at, each.at)}
            self._due[place] = each.model_copy(update=both)

    async def due(self, now: datetime, limit: int, *, but: Collection[str] = ()) -> list[Due]:
        found = (each for each in self._due.values() if each.at <= now and each.tenant not in but)
        return sorted(found, key=lambda each: each.at)[:limit]

    async def add(self, tenant: str, makes: Mapping[RunId, Make], read: Mapping[RunId, int]) -> list[RunSealed]:
        chain, made = self._chains[tenant], list[RunSealed]()
        before = {each.receipt.run: each.receipt for each in sorted(chain, key=lambda each: each.receipt.part)}
        number, head = (chain[-1].receipt.number, receipt_hash(chain[-1].receipt)) if chain else (0, NO_HASH)
        for run, make in makes.items():
            event = make(before.get(run), number + 1, head)
            if event is not None:
                number, head = number + 1, receipt_hash(event.receipt)
                made.append(event)
        chain.extend(made)
        self._unpublished.update(((tenant, each.receipt.number), each) for each in made)
        for run, position in read.items():
            noted = self._due.get((tenant, run))
            if noted is not None and noted.position <= position:
                del self._due[tenant, run]
        return made

    async def restore(self, rows: Sequence[RunSealed]) -> list[RunSealed]:
        refused = []
        for row in rows:
            chain, receipt = self._chains[row.receipt.tenant], row.receipt
            same = [
                each for each in chain
                if each.receipt.number == receipt.number or (each.receipt.run, each.receipt.part) == (receipt.run, receipt.part)
            ]  # fmt: skip
            if any(each.receipt != receipt for each in same):
                refused.append(row)
            elif not same:
                chain.append(row)
                chain.sort(key=lambda each: each.receipt.number)
        return refused

    async def unpublished(self, limit: int, *, but: Collection[str] = ()) -> list[RunSealed]:
        found = (each for each in self._unpublished.values() if each.receipt.run not in but)
        return sorted(found, key=lambda each: (each.receipt.tenant, each.receipt.number))[:limit]

    async def published(self, rows: Sequence[RunSealed]) -> None:
        for row in rows:
            self._unpublished.pop((row.receipt.tenant, row.receipt.number), None)

    async def chain(self, tenant: str, after: int = 0, limit: int = 500) -> list[RunSealed]:
        return [each for each in self._chains[tenant] if each.receipt.number > after][:limit]

    async def of_run(self, tenant: str, run: str) -> list[RunSealed]:
        own = [each for each in self._chains[tenant] if each.receipt.run == run]
        return sorted(own, key=lambda each: each.receipt.part)

    async def heads(self) -> dict[str, tuple[int, str]]:
        last = {tenant: chain[-1].receipt for tenant, chain in self._chains.items() if chain}
        return {tenant: (receipt.number, receipt_hash(receipt)) for tenant, receipt in last.items()}

    async def keep(self, signed: SignedCheckpoint) -> None:
        old = self._checkpoints.get(signed.checkpoint.tenant)
        if old is None or old.checkpoint.number <= signed.checkpoint.number:
            self._checkpoints[signed.checkpoint.tenant] = signed

    async def checkpoint(self, tenant: str) -> SignedCheckpoint | None:
        return self._checkpoints.get(tenant)


@dataclass
class MemoryShelf:
    """CheckpointShelf that lasts as long as its process."""

    put_down: list[SignedCheckpoint] = field(default_factory=list)

    def put(self, signed: SignedCheckpoint) -> None:
        self.put_down.append(signed)

    def last(self, tenant: str) -> SignedCheckpoint | None:
        return next((each for each in reversed(self.put_down) if each.checkpoint.tenant == tenant), None)
