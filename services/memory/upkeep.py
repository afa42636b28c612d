"""What memory does after a turn, in nobody's way: vectors for turns that have none, summaries of what grew long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import structlog

from runtime.clock import Clock
from schemas.errors import MilepostError
from services.memory import summaries
from services.memory.ports import ConversationStore, Embed

log = structlog.get_logger("services.memory")

BATCH = 16
PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0


class Upkeep:
    """Hears of every stored turn and looks after its conversation. What fails is tried again.

    embed and ask: None where nobody makes vectors, or writes summaries.
    """

    def __init__(
        self, store: ConversationStore, clock: Clock, *, embed: Embed | None = None, ask: summaries.Ask | None = None
    ) -> None:  # fmt: skip
        self._store, self._clock, self._embed, self._ask = store, clock, embed, ask
        self._tenants: set[str] = set()
        self._grown: dict[tuple[str, str], tuple[str, int]] = {}
        self._embedder: str | None = None
        self._woken = asyncio.Event()

    def stored(self, tenant: str, conversation: str, user: str, history_tokens: int | None) -> None:
        """A turn was stored. history_tokens: the history it took, if it wanted what falls out of that summarised."""
        if summaries.of_summary(conversation):
            return
        self._tenants.add(tenant)
        if history_tokens is not None:
            self._grown[tenant, conversation] = (user, history_tokens)
        self._woken.set()

    @property
    def pending(self) -> bool:
        """Whether something waits to be looked after."""
        return bool(self._tenants or self._grown)

    async def run(self) -> None:
        """Look after what was stored, for ever."""
        pause = PAUSE_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if self._tenants else None):
                    await self._woken.wait()
            self._woken.clear()
            while self._grown:
                (tenant, conversation), (user, history_tokens) = self._grown.popitem()
                await self._trying("a summary", self.summarise(tenant, conversation, user, history_tokens))
            for tenant in list(self._tenants):
                await self._trying("vectors", self.embed(tenant))
            pause = min(2 * pause, LONGEST_PAUSE_S) if self._tenants else PAUSE_S

    async def embed(self, tenant: str) -> None:
        """Give the tenant's turns their vectors. Raises MilepostError when nobody makes any now."""
        while self._embed:
            turns = await self._store.unembedded(tenant, self._embedder, BATCH)
            if not turns:
                break
            vectors = await self._embed([turn.text for turn in turns], "passage")
            self._embedder = vectors[0].embedder
            await self._store.embedded(tenant, {turn.run: vector for turn, vector in zip(turns, vectors, strict=True)})
        self._tenants.discard(tenant)

    async def summarise(self, tenant: str, conversation: str, user: str, history_tokens: int) -> None:
        """Ask for a summary if it is due and none is expected. Raises MilepostError."""
        if self._ask is None:
            return
        earlier, turns = await self._store.unsummarised(tenant, conversation)
        chosen, now = summaries.due(turns, history_tokens), self._clock.now()
        if not chosen:
            return
        request = summaries.request(tenant, conversation, user, earlier, chosen, now)
        if await self._store.want_summary(tenant, conversation, request.upto, request.run, now, request.beginning):
            await self._ask(tenant, request)
            log.info("summary asked for", conversation=conversation, turns=len(chosen), run=request.run)

    async def _trying(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except MilepostError as error:
            log.warning("not yet", what=what, error=error.what, why=error.why)
