"""Picking tools for a run: what its agent always offers, then the best of the others that a living host answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress

from runtime.bus import Bus, Hear, Reply
from runtime.clock import Clock, SystemClock
from runtime.errors import Retryable
from runtime.service import Context
from schemas import subjects
from schemas.commands import SelectTools
from schemas.errors import MilepostError
from schemas.events import AnyEvent, ScoredCard, ToolsSelected
from schemas.tools import ToolCard
from services.retrieval.catalogue import Catalogue
from services.retrieval.catalogue_questions import CatalogueQuestions
from services.retrieval.embedder import Embedder
from services.retrieval.embedding_queue import EmbeddingQueue
from services.retrieval.fitness import Fitness
from services.retrieval.hosts import Hosts
from services.retrieval.leaning import Leaning
from services.retrieval.offering import offering
from services.retrieval.refusals import Refusals
from services.retrieval.search import CANDIDATES, Search
from services.retrieval.tool_index import CatalogueState, ToolIndex
from services.retrieval.tuned import for_tools

LOOK_S = 1.0


class Selection:
    """What the handlers about tools share. process: its name on the bus."""

    def __init__(self, tools: ToolIndex, embedder: Embedder, clock: Clock | None = None, process: str = "") -> None:
        clock = clock or SystemClock()
        self.tools = tools
        self.leaning, self.fitness = Leaning(embedder), Fitness(embedder)
        tuned = for_tools(embedder)
        self.search = Search(tools, tuned)
        self.hosts = Hosts(tools, clock)
        self.refusals = Refusals(clock)
        self.queue = EmbeddingQueue(tools, tuned, clock, process or f"retrieval-{secrets.token_hex(4)}")
        self.catalogue = Catalogue(tools, self.hosts, self.refusals, self.queue)
        self.answers: dict[str, Reply] = CatalogueQuestions(self.catalogue, self.search).answers
        self.hears: dict[str, Hear] = {}

    def stats(self) -> dict[str, object]:
        """Cards taken in and embedded since the start; what is refused and who is away now."""
        away = sorted(lane for lane in self.hosts.known() if self.hosts.presence(lane) == "away")
        return {
            "cards_seen": self.catalogue.cards_seen, "cards_embedded": self.queue.embedded,
            "cards_refused": len(self.refusals.told()) or None, "hosts_away": ", ".join(away),
        }  # fmt: skip

    async def follow_cards(self, bus: Bus) -> None:
        """Keep the catalogue for ever: cards, the beats of their hosts, and the vectors that follow."""
        await self._loaded()
        async with (
            bus.hear(subjects.beat("*"), self.hosts.hear),
            bus.hear(subjects.refused_of("*"), self.refusals.hear),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self.catalogue.follow(bus))
            group.create_task(self.queue.run(bus))
            group.create_task(self._keep_hosts())

    async def _loaded(self) -> None:
        while True:
            try:
                await self.hosts.load()
                return
            except Retryable:
                await asyncio.sleep(LOOK_S)

    async def _keep_hosts(self) -> None:
        while True:
            with suppress(MilepostError):  # it is known here; the index hears it later
                await self.hosts.store()
            await asyncio.sleep(LOOK_S)

    async def select(self, command: SelectTools, context: Context) -> AnyEvent:
        """The tools that are always offered, then the best of the others."""
        query = context.text("query")
        state = await self.tools.state(context.tenant)
        always = await self._always(context.tenant, command.always)
        here = self.hosts.here()
        found: list[ScoredCard] = []
        if command.k and here:
            exclude = (*command.forbidden, *command.always)
            candidates = await self.search.find(context.tenant, query, max(CANDIDATES, command.k), exclude, lanes=list(here))
            found = offering(candidates, here, command.k, forbidden=command.forbidden)
        tools = (*(ScoredCard(card=card, score=1.0, why={"always": 1.0}) for card in always), *found)
        return await self._selected(command, query, tools, state)

    async def _selected(
        self, command: SelectTools, query: str, tools: tuple[ScoredCard, ...], state: CatalogueState
    ) -> ToolsSelected:
        cards = [each.card for each in tools]
        return ToolsSelected(
            command=command, tools=tools, catalog=str(state.revision), searched=state.cards,
            leaning=await self.leaning.of(query, cards), fits=await self.fitness.of(query, cards),
        )  # fmt: skip

    async def _always(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        """The cards of these names, if all are there and answered. Raises Retryable: their host may be starting just now."""
        cards = await self.tools.get(tenant, names)
        missing = sorted(set(names) - {card.name for card in cards})
        if missing:
            raise Retryable(
                f"The agent always offers tools that nobody has registered: {', '.join(missing)}.",
                why="their cards are not in the catalogue", hint="milepost tools ls",
            )  # fmt: skip
        silent = {card.lane: self.hosts.presence(card.lane) for card in cards if self.hosts.presence(card.lane) != "here"}
        if silent:
            names = sorted(card.name for card in cards if card.lane in silent)
            hosts = [f"{lane} {'is away' if told == 'away' else 'was never heard'}" for lane, told in sorted(silent.items())]
            raise Retryable(
                f"The agent always offers tools that no host answers: {', '.join(names)}.",
                why=f"the host {', the host '.join(hosts)}", hint="start the host again, or look at: milepost tools ls",
            )  # fmt: skip
        return cards
