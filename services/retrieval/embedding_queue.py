"""Vectors follow the cards: the queue is what the index lacks, and nothing else, so it survives any restart.

Cards that came one by one go before those of a long import, and a long import is taken in before any of it is embedded:
first all can be found by words. Every process says which texts it takes on, so that with
several of them no text is embedded twice needlessly; what a process that died has taken on is free again soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import orjson
import structlog

from runtime.bus import Bus
from runtime.clock import Clock
from runtime.errors import Retryable
from schemas import subjects
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.retrieval.embedder import Embedder
from services.retrieval.tool_index import ToolIndex
from services.retrieval.words import card_text

log = structlog.get_logger("services.retrieval")

BATCH = 8
"""Cards embedded at a time: a new card waits for one such batch."""

LOOK = 64
TAKEN_S = 30.0
IDLE_S = 5.0
QUIET_S = 1.0
"""How long no more cards of an import have come when its embedding begins."""

LONGEST_PAUSE_S = 30.0
FEW = 16
"""So many cards at once are no import."""


class EmbeddingQueue:
    """Gives vectors to the cards that lack them. process: its name on the bus."""

    def __init__(self, tools: ToolIndex, embedder: Embedder, clock: Clock, process: str) -> None:
        self._tools, self._embedder, self._clock, self._process = tools, embedder, clock, process
        self._first: deque[str] = deque(maxlen=LOOK)  # those that fall out wait with all others
        self._taken: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._held = 0
        self._quiet_from = 0.0
        self.embedded = 0

    def wake(self, cards: Sequence[ToolCard] = ()) -> None:
        """There is something to do; these few cards first."""
        if len(cards) <= FEW:
            self._first.extend(card_text(card) for card in cards)
        self._wake.set()

    @contextmanager
    def after(self, cards: Sequence[ToolCard]) -> Iterator[None]:
        """While these are taken in, and for a moment more, nothing of a long import is embedded."""
        many = len(cards) > FEW
        self._held += many
        try:
            yield
        finally:
            self._held -= many
            if many:
                self._quiet_from = self._now() + QUIET_S

    async def run(self, bus: Bus) -> None:
        """Embed for ever; while the index or the embedder is away, wait for it."""
        pause = 0.1
        async with bus.hear(subjects.embedding("*"), self._others_take):
            while True:
                self._wake.clear()
                try:
                    busy = await self._step(bus)
                    pause = 0.1
                except MilepostError as error:
                    log.warning("cards wait for their vectors", what=error.what, why=error.why, pause_s=pause)
                    await asyncio.sleep(pause)
                    pause = min(LONGEST_PAUSE_S, pause * 2)
                    continue
                if not busy:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(QUIET_S if self._held or self._now() < self._quiet_from else IDLE_S):
                            await self._wake.wait()

    async def _step(self, bus: Bus) -> bool:
        texts = await self._next()
        if not texts:
            return False
        with suppress(Retryable):  # then a text may be embedded twice
            await bus.tell(subjects.embedding(self._process), orjson.dumps([digest(text) for text in texts]))
        vectors = await self._embedder.embed(texts, "passage")
        await self._tools.embedded(dict(zip(texts, vectors, strict=True)))
        self.embedded += len(texts)
        return True

    async def _next(self) -> list[str]:
        """The texts to embed now: single cards, or else those that nobody has taken on; the newest of them."""
        if self._first:
            return list(dict.fromkeys(self._first.pop() for _ in range(min(BATCH, len(self._first)))))
        now = self._now()
        if self._held or now < self._quiet_from:
            return []
        self._taken = {key: until for key, until in self._taken.items() if until > now}
        waiting = await self._tools.unembedded(LOOK + len(self._taken))
        texts = dict.fromkeys(card_text(card) for _, card in waiting)
        return [text for text in texts if digest(text) not in self._taken][:BATCH]

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _others_take(self, subject: str, raw: bytes) -> None:
        if subject == subjects.embedding(self._process):
            return
        try:
            digests = [str(each) for each in orjson.loads(raw)]
        except (orjson.JSONDecodeError, TypeError):
            return
        until = self._now() + TAKEN_S
        self._taken.update(dict.fromkeys(digests, until))
