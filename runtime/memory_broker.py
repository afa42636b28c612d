"""Log and bus in one process, with the same promises as NATS except surviving it. For tests and scripts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import orjson
import structlog

from runtime.bus import CardChange, Hear, Reply, ServiceInfo
from runtime.errors import NobodyAnswers, Unreachable
from runtime.log import Delivery, Raw, Stored
from runtime.sealing import Erased, Sealing, in_time
from schemas import subjects
from schemas.commands import Role
from schemas.envelope import Fact, Order, decode, decode_fact, encode
from schemas.errors import MilepostError
from schemas.events import RunRequested
from schemas.ids import REQUEST_SLOT, RunId
from schemas.tools import ToolCard

log = structlog.get_logger("runtime.memory_broker")

M = TypeVar("M", Fact, Order)


@dataclass(slots=True)
class _Item(Generic[M]):
    key: str
    message: M
    position: int
    size: int = 0
    attempt: int = 0
    resent: bool = False
    done: bool = False
    due: asyncio.TimerHandle | None = None


class _Queue(Generic[M]):
    """Work shared out among a group: handed out again after ack_wait_s without a sign."""

    def __init__(self) -> None:
        self.items: dict[str, _Item[M]] = {}
        self.ready: asyncio.Queue[_Item[M]] = asyncio.Queue()
        self.turn = 0

    def put(self, key: str, message: M, position: int, *, size: int = 0, resent: bool = False) -> None:
        if key in self.items:
            return
        self.items[key] = item = _Item(key, message, position, size, resent=resent)
        self.ready.put_nowait(item)

    def drop(self, wanted: Callable[[M], bool]) -> None:
        for key, item in list(self.items.items()):
            if wanted(item.message):
                self._finish(item)
                del self.items[key]

    async def take(self, ack_wait_s: float, *, forget: bool) -> AsyncIterator[Delivery[M]]:
        own_turn = -1
        while True:
            item = await self.ready.get()
            if item.done:
                continue
            item.attempt += 1
            self.turn += 1
            gap, own_turn = self.turn != own_turn + 1, self.turn
            self._arm(item, ack_wait_s)
            yield self._delivery(item, ack_wait_s, forget, gap)

    def _delivery(self, item: _Item[M], ack_wait_s: float, forget: bool, gap: bool) -> Delivery[M]:
        async def ack() -> None:
            self._finish(item)
            if forget:
                self.items.pop(item.key, None)

        async def again(delay_s: float) -> None:
            self._arm(item, max(delay_s, 0.0))

        async def working() -> None:
            self._arm(item, ack_wait_s)

        return Delivery(item.message, item.position, item.attempt, gap, item.resent, ack, again, working, item.size)

    def _arm(self, item: _Item[M], delay_s: float) -> None:
        if item.due:
            item.due.cancel()
        if not item.done:
            item.due = asyncio.get_running_loop().call_later(delay_s, self.ready.put_nowait, item)

    @staticmethod
    def _finish(item: _Item[M]) -> None:
        item.done = True
        if item.due:
            item.due.cancel()


class MemoryBroker:
    """Implements runtime.log.Log and runtime.bus.Bus. What cannot cross the wire fails here too.

    It keeps messages as they would lie on disk: sealed, if their header names a data key.
    """

    def __init__(self, sealing: Sealing | None = None) -> None:
        self._sealing = sealing or Sealing()
        self._stored: list[Stored] = []
        self._slots: set[str] = set()
        self._by_run: dict[RunId, list[Stored]] = defaultdict(list)
        self._raw: dict[RunId, list[Raw]] = defaultdict(list)
        self._feeds: dict[str, _Queue[Fact]] = {}
        self._requests: dict[str, _Queue[Fact]] = {}
        self._orders: dict[tuple[str, str], _Queue[Order]] = defaultdict(_Queue)
        self._appended = asyncio.Condition()
        self._hearers: list[tuple[str, Hear]] = []
        self._answers: dict[str, Reply] = {}
        self._cards: dict[str, ToolCard] = {}
        self._card_groups: dict[str, asyncio.Queue[CardChange]] = {}
        self.dead: list[tuple[str, bytes, str]] = []

    # --- log ---

    async def append(self, fact: Fact) -> bool:
        data = encode(await self._sealing.sealed(fact))
        fact = decode_fact(data)
        place = str(subjects.fact(fact.run, fact.tenant, fact.role, fact.slot))  # type: ignore[arg-type]
        if place in self._slots:
            return False
        self._slots.add(place)
        stored = Stored(fact, len(self._stored) + 1)
        self._stored.append(stored)
        self._by_run[fact.run].append(stored)
        self._raw[fact.run].append(Raw(place, data, stored.position))
        for feed in self._feeds.values():
            feed.put(str(stored.position), fact, stored.position, size=len(data))
        for requests in self._requests.values():
            self._offer_request(requests, stored)
        async with self._appended:
            self._appended.notify_all()
        return True

    async def read(self, run: RunId, after: int = 0) -> list[Stored]:
        return [await self._opened(stored) for stored in self._by_run[run] if stored.position > after]

    async def read_raw(self, run: RunId, after: int = 0) -> list[Raw]:
        return [raw for raw in self._raw[run] if raw.position > after]

    async def _opened(self, stored: Stored) -> Stored:
        return Stored(await self._sealing.fact(stored.fact), stored.position) if stored.fact.header.datakey else stored

    async def holds(self, run: RunId, tenant: str, role: str, slot: str) -> bool:
        return str(subjects.FactSubject(run, tenant, role, slot)) in self._slots

    async def facts(self, group: str) -> AsyncIterator[Delivery[Fact]]:
        if group not in self._feeds:
            self._feeds[group] = feed = _Queue()
            sizes = {raw.position: len(raw.data) for run in self._raw.values() for raw in run}
            for stored in self._stored:
                feed.put(str(stored.position), stored.fact, stored.position, size=sizes[stored.position])
        async for delivery in self._feeds[group].take(3.0, forget=True):
            yield await self._as_said(delivery)

    async def requests(self, group: str, every_s: float) -> AsyncIterator[Delivery[Fact]]:
        if group not in self._requests:
            self._requests[group] = queue = _Queue()
            for stored in self._stored:
                self._offer_request(queue, stored)
        async for delivery in self._requests[group].take(every_s, forget=True):
            yield await self._as_said(delivery)

    async def _as_said(self, delivery: Delivery[Fact]) -> Delivery[Fact]:
        if delivery.message.header.datakey is None:
            return delivery
        return replace(delivery, message=await in_time(partial(self._sealing.fact, delivery.message)))

    @staticmethod
    def _offer_request(queue: _Queue[Fact], stored: Stored) -> None:
        if stored.fact.slot == REQUEST_SLOT and stored.fact.kind == RunRequested.__name__:
            queue.put(str(stored.position), stored.fact, stored.position)

    async def follow(self, run: RunId) -> AsyncIterator[Stored]:
        seen = 0
        while True:
            stored = await self.read(run, seen)
            for each in stored:
                seen = each.position
                yield each
            async with self._appended:
                if not await self.read(run, seen):
                    await self._appended.wait()

    # --- bus ---

    async def send(self, order: Order, *, resent: bool = False) -> None:
        queue = self._orders[order.body.role, order.body.lane]
        kept: Order = decode(encode(await self._sealing.sealed(order)))  # type: ignore[assignment]  # it may be sealed
        queue.put(order.id, kept, 0, resent=resent)

    async def orders(self, role: Role, lane: str, *, ack_wait_s: float, at_once: int) -> AsyncIterator[Delivery[Order]]:
        async for delivery in self._orders[role, lane].take(ack_wait_s, forget=True):
            if delivery.message.header.datakey is None:
                yield delivery
                continue
            try:
                order = await in_time(partial(self._sealing.order, delivery.message))
                yield replace(delivery, message=order)
            except Erased:
                await delivery.ack()

    async def forget(self, run: RunId) -> None:
        for queue in self._orders.values():
            queue.drop(lambda order: order.run == run)

    async def tell(self, subject: str, data: bytes) -> None:
        for pattern, receive in list(self._hearers):
            if matches(pattern, subject):
                try:
                    await receive(subject, data)
                except Exception:  # what a listener does wrong is not the speaker's matter
                    log.exception("listener failed", subject=subject)

    @asynccontextmanager
    async def hear(self, subject: str, receive: Hear) -> AsyncIterator[None]:
        entry = (subject, receive)
        self._hearers.append(entry)
        try:
            yield
        finally:
            self._hearers.remove(entry)

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        reply = self._answers.get(subject)
        if reply is None:
            raise NobodyAnswers(f"Nobody answers {subject}.", hint="milepost status")
        try:
            async with asyncio.timeout(timeout_s):
                return await reply(data)
        except TimeoutError as error:
            raise Unreachable(f"{subject} did not answer in time.", hint="milepost status") from error
        except MilepostError:
            raise
        except Exception as error:
            raise MilepostError("The service failed unexpectedly.", why=f"{type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def serve(
        self, info: ServiceInfo, answers: dict[str, Reply], stats: Callable[[], dict[str, object]]
    ) -> AsyncIterator[None]:
        async def stats_reply(_: bytes) -> bytes:
            return orjson.dumps(stats())

        own = {subjects.question(info.role, verb): reply for verb, reply in {**answers, info.stats_verb: stats_reply}.items()}
        self._answers.update(own)
        try:
            yield
        finally:
            for subject in own:
                self._answers.pop(subject, None)

    async def publish_card(self, tenant: str, card: ToolCard) -> None:
        self._cards[subjects.card(tenant, card.lane, card.name)] = card
        self._change(tenant, card, withdrawn=False)

    async def withdraw_card(self, tenant: str, card: ToolCard) -> None:
        self._cards.pop(subjects.card(tenant, card.lane, card.name), None)
        self._change(tenant, card, withdrawn=True)

    async def drop_cards(self, tenant: str, lane: str, tool: str = "*") -> None:
        pattern = subjects.card_pattern(tenant, lane, tool)
        self._cards = {subject: card for subject, card in self._cards.items() if not matches(pattern, subject)}

    async def cards(self, group: str) -> AsyncIterator[CardChange]:
        if group not in self._card_groups:
            self._card_groups[group] = asyncio.Queue()
            for subject, card in self._cards.items():
                owner = subjects.card_owner(subject.split(".")[2])
                self._change(owner, card, withdrawn=False, only=group)
        while True:
            yield await self._card_groups[group].get()

    def _change(self, tenant: str, card: ToolCard, *, withdrawn: bool, only: str = "*") -> None:
        for group, changes in self._card_groups.items():
            if only in ("*", group):
                changes.put_nowait(_card_change(changes, tenant, card, withdrawn))

    async def bury(self, role: str, raw: bytes, why: str) -> None:
        self.dead.append((role, raw, why))


def _card_change(
    changes: asyncio.Queue[CardChange], tenant: str, card: ToolCard, withdrawn: bool, attempt: int = 1
) -> CardChange:
    async def ack() -> None:
        return None

    async def again(delay_s: float) -> None:
        next_time = _card_change(changes, tenant, card, withdrawn, attempt + 1)
        asyncio.get_running_loop().call_later(delay_s, changes.put_nowait, next_time)

    return CardChange(tenant, card.lane, card.name, None if withdrawn else card, ack, again, attempt)


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject pattern (`*` one token, `>` the rest) covers a subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)
