"""The catalogue that cards make up: each is checked, its name settled, and put in, many at a time.

A name of a tenant belongs to one lane. The first living host keeps it: the card of another host is refused and comes again
until the name is free. A host that is away, and cards without a host, lose the name to a host that lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import structlog

from runtime.bus import Bus, CardChange
from runtime.errors import Permanent, Retryable
from schemas import subjects
from schemas.errors import MilepostError
from schemas.tools import Refusal, ToolCard, Value
from services.retrieval.embedding_queue import EmbeddingQueue
from services.retrieval.hosts import Hosts
from services.retrieval.refusals import Refusals
from services.retrieval.tool_index import ToolIndex
from tool_adapters.tool import InvalidTool, checked_card

log = structlog.get_logger("services.retrieval")

AT_ONCE = 500
AGAIN_S = 2.0
CONTENDS_S = 5.0


class Taken(Value):
    """What became of cards: how many are new or changed, those that were refused, and hosts that lost a name to them."""

    changed: int
    refused: tuple[Refusal, ...] = ()
    lost: tuple[Refusal, ...] = ()


class Catalogue:
    """Takes cards in and out."""

    def __init__(self, tools: ToolIndex, hosts: Hosts, refusals: Refusals, queue: EmbeddingQueue) -> None:
        self.tools, self.hosts, self.refusals, self.queue = tools, hosts, refusals, queue
        self.cards_seen = 0

    async def follow(self, bus: Bus) -> None:
        """Take in every card that is published, for ever; what fails for now comes again."""
        waiting: asyncio.Queue[CardChange] = asyncio.Queue()

        async def read() -> None:
            async for change in bus.cards("retrieval-cards"):
                waiting.put_nowait(change)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while True:
                batch = [await waiting.get()]
                while len(batch) < AT_ONCE and not waiting.empty():
                    batch.append(waiting.get_nowait())
                await self._settle(bus, batch)

    async def _settle(self, bus: Bus, batch: Sequence[CardChange]) -> None:
        for changes in _runs(batch):
            try:
                refused = await (self._withdraw(changes) if changes[0].card is None else self._take_published(changes))
            except Retryable as error:
                log.warning("cards not taken in yet", cards=len(changes), error=error.what, why=error.why)
                await asyncio.gather(*(change.again(AGAIN_S) for change in changes))
                continue
            for change in changes:
                refusal = refused.get((change.tenant, change.lane, change.name))
                await (change.again(CONTENDS_S) if refusal and refusal.holder else change.ack())
            for refusal in refused.values():
                await self._tell(bus, refusal)

    async def _take_published(self, changes: Sequence[CardChange]) -> dict[tuple[str, str, str], Refusal]:
        cards = [change.card for change in changes if change.card]
        for lane in {change.lane for change in changes if change.attempt == 1}:
            self.hosts.alive(lane)
        taken = await self.take(changes[0].tenant, cards)
        return {(each.tenant, each.lane, each.tool): each for each in (*taken.refused, *taken.lost)}

    async def _withdraw(self, changes: Sequence[CardChange]) -> dict[tuple[str, str, str], Refusal]:
        tenant = changes[0].tenant
        lanes = {change.name: change.lane for change in changes}
        holders = await self.own(tenant, list(lanes))
        await self.tools.remove(tenant, [name for name, card in holders.items() if card.lane == lanes[name]])
        for change in changes:
            self.refusals.forget(tenant, change.lane, change.name)
        return {}

    async def take(self, tenant: str, cards: Sequence[ToolCard]) -> Taken:
        """Put cards in, as far as they are sound and their names free.

        Raises Retryable when the index is away; then nothing is known of them, and the same may be done again.
        """
        self.cards_seen += len(cards)
        sound, refused = _checked(tenant, cards)
        holders = await self.own(tenant, [card.name for card in sound])
        free: dict[str, ToolCard] = {}
        lost: list[Refusal] = []
        for card in sound:
            holder = free.get(card.name) or holders.get(card.name)
            if holder and holder.lane != card.lane:
                if not self._yields(holder.lane, card.lane):
                    refused.append(_held(tenant, card, holder))
                    continue
                lost.append(_lost(tenant, holder, card))
            free[card.name] = card
            self.refusals.forget(tenant, card.lane, card.name)
        lanes = {name: holder.lane for name, holder in holders.items()}
        changed, unstored = await self._put(tenant, [card for card in free.values() if holders.get(card.name) != card], lanes)
        refused.extend(unstored)
        for refusal in (*refused, *lost):
            self.refusals.note(refusal)
        return Taken(changed=changed, refused=tuple(refused), lost=tuple(lost))

    def _yields(self, holder: str, other: str) -> bool:
        return self.hosts.presence(other) == "here" and self.hosts.presence(holder) != "here"

    async def _put(
        self, tenant: str, cards: Sequence[ToolCard], holders: Mapping[str, str]
    ) -> tuple[int, list[Refusal]]:  # fmt: skip
        """Put them in together, or, if one of them cannot be stored, one by one. holders: as ToolIndex.put has it."""
        if not cards:
            return 0, []
        try:
            with self.queue.after(cards):
                put = await self.tools.put(tenant, cards, holders=holders)
        except Permanent as error:
            if len(cards) == 1:
                return 0, [_refusal(tenant, cards[0], error)]
            each = [await self._put(tenant, [card], holders) for card in cards]
            return sum(changed for changed, _ in each), [refusal for _, refused in each for refusal in refused]
        if put.unembedded:
            self.queue.wake(cards)
        return put.changed, []

    async def own(self, tenant: str, names: Sequence[str]) -> dict[str, ToolCard]:
        """The tenant's own cards of these names."""
        return {card.name: card for card in await self.tools.own(tenant, names)}

    async def _tell(self, bus: Bus, refusal: Refusal) -> None:
        log.warning("card refused", tool=refusal.tool, lane=refusal.lane, what=refusal.what, why=refusal.why)
        subject = subjects.refused(subjects.card(refusal.tenant, refusal.lane, refusal.tool))
        try:
            await bus.tell(subject, refusal.model_dump_json().encode())
        except Retryable:
            return  # it is remembered here, and told again when the card comes again


def _runs(batch: Sequence[CardChange]) -> Iterator[list[CardChange]]:
    """The batch in order, cut where the tenant changes, or cards follow withdrawals."""
    for _, changes in groupby(batch, key=lambda change: (change.tenant, change.card is None)):
        yield list(changes)


def _checked(tenant: str, cards: Iterable[ToolCard]) -> tuple[list[ToolCard], list[Refusal]]:
    sound: list[ToolCard] = []
    refused: list[Refusal] = []
    for card in cards:
        try:
            sound.append(checked_card(card))
        except InvalidTool as error:
            refused.append(_refusal(tenant, card, error))
    return sound, refused


def _refusal(tenant: str, card: ToolCard, error: MilepostError) -> Refusal:
    return Refusal(tenant=tenant, lane=card.lane, tool=card.name, what=error.what, why=error.why, hint=error.hint)


def _held(tenant: str, card: ToolCard, holder: ToolCard) -> Refusal:
    return Refusal(
        tenant=tenant, lane=card.lane, tool=card.name, holder=holder.lane,
        what=f"The name {card.name} is taken by the host {holder.lane}.", why="a name belongs to the first host that lives",
        hint=f"give the tool another name, or take the other out: milepost tools rm {card.name}",
    )  # fmt: skip


def _lost(tenant: str, holder: ToolCard, card: ToolCard) -> Refusal:
    return Refusal(
        tenant=tenant, lane=holder.lane, tool=holder.name,
        what=f"The name {holder.name} went to the host {card.lane}.", why=f"the host {holder.lane} did not answer",
        hint="start the host again, and it waits for its name",
    )  # fmt: skip
