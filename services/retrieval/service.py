"""The retrieval service: picks tools and passages, and keeps the catalogue that cards on the bus make up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import orjson
import structlog
from pydantic import Field, ValidationError

from runtime.bus import Bus, CardChange
from runtime.clock import Clock
from runtime.errors import Retryable
from runtime.service import Context, Service
from schemas.canonical import read_json
from schemas.commands import RetrieveKnowledge, SelectTools
from schemas.errors import ProtocolError
from schemas.events import AnyEvent, KnowledgeRetrieved, ScoredCard, ToolsSelected
from schemas.ids import Token
from schemas.tools import ToolCard, Value
from services.retrieval.chunks import chunk
from services.retrieval.embedder import Embedder
from services.retrieval.leaning import Leaning
from services.retrieval.ports import KnowledgeIndex, ToolIndex
from services.retrieval.words import card_text

log = structlog.get_logger("services.retrieval")

_ValueT = TypeVar("_ValueT", bound=Value)

QUESTION_BYTES = 1024 * 1024


class Search(Value):
    """A question to the catalogue or the knowledge. collections: only for knowledge."""

    tenant: Token = "default"
    text: str = Field(default="", max_length=20_000)
    k: int = Field(default=5, ge=1, le=100)
    collections: tuple[Token, ...] = ("default",)


class AddDocument(Value):
    """A document to be known. source: its path or address; the same source again replaces it."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)
    title: str = Field(default="", max_length=300)
    text: str = Field(min_length=1)


class RemoveDocument(Value):
    """A document to be forgotten."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)


class Retrieval:
    """What the service's handlers share."""

    def __init__(self, tools: ToolIndex, knowledge: KnowledgeIndex, embedder: Embedder, clock: Clock) -> None:
        self.tools, self.knowledge, self.embedder, self.clock = tools, knowledge, embedder, clock
        self.leaning = Leaning(embedder)
        self.cards_seen = 0

    def service(self) -> Service:
        """The service with its commands and questions."""
        service = Service("retrieval", f"finds tools and knowledge with {self.embedder.name}", stats=self.stats)
        service.on(SelectTools)(self.select)
        service.on(RetrieveKnowledge)(self.retrieve)
        service.answer("find_tools")(self.find_tools)
        service.answer("list_tools")(self.list_tools)
        service.answer("find_knowledge")(self.find_knowledge)
        service.answer("add_document")(self.add_document)
        service.answer("remove_document")(self.remove_document)
        service.answer("list_documents")(self.list_documents)
        return service

    def stats(self) -> dict[str, object]:
        """Cards taken in since the start."""
        return {"cards_seen": self.cards_seen, "embedder": self.embedder.name}

    async def follow_cards(self, bus: Bus) -> None:
        """Take in every card that is published, for ever; one that fails comes again."""
        async for change in bus.cards("retrieval-cards"):
            try:
                await self._take_in(change)
                await change.ack()
            except Retryable as error:
                log.warning("card not taken in yet", tool=change.name, error=error.what)
                await change.again(2.0)

    async def _take_in(self, change: CardChange) -> None:
        if change.card is None:
            known = await self.tools.get(change.tenant, [change.name])
            if known and known[0].lane == change.lane:  # another host may offer the tool by now
                await self.tools.remove(change.tenant, change.name)
            return
        if await self.tools.missing(change.tenant, [change.card]):
            vector = (await self.embedder.embed([card_text(change.card)], "passage"))[0]
            await self.tools.upsert(change.tenant, change.card, vector)
        self.cards_seen += 1

    # --- commands ---

    async def select(self, command: SelectTools, context: Context) -> AnyEvent:
        """The tools that are always offered, then the best of the others."""
        always = await self.tools.get(context.tenant, command.always)
        missing = set(command.always) - {card.name for card in always}
        if missing:
            raise Retryable(  # their host may be starting at this moment
                f"The agent always offers tools that nobody has registered: {', '.join(sorted(missing))}.",
                why="their cards are not in the catalogue", hint="milepost tools ls",
            )  # fmt: skip
        exclude = (*command.forbidden, *command.always)
        found = await self._search(context.tenant, context.text("query"), command.k, exclude) if command.k else []
        tools = (*(ScoredCard(card=card, score=1.0, why={"always": 1.0}) for card in always), *found)
        everything = await self.tools.all(context.tenant)
        leaning = await self.leaning.of(context.text("query"), [each.card for each in tools])
        return ToolsSelected(
            command=command, tools=tools, catalog=_digest(everything), searched=len(everything), leaning=leaning
        )  # fmt: skip

    async def retrieve(self, command: RetrieveKnowledge, context: Context) -> AnyEvent:
        """The passages nearest to the request, as far as they fit it at all."""
        text = context.text("query")
        vector = (await self.embedder.embed([text], "query"))[0]
        found = await self.knowledge.search(context.tenant, command.collections, text, vector, command.k)
        fitting = (each for each in found if each.similarity is None or each.similarity >= self.embedder.fits)
        return KnowledgeRetrieved(command=command, passages=tuple(fitting))

    async def _search(self, tenant: str, text: str, k: int, exclude: Sequence[str] = ()) -> list[ScoredCard]:
        vector = (await self.embedder.embed([text], "query"))[0]
        return await self.tools.search(tenant, text, vector, k, exclude)

    # --- questions ---

    async def find_tools(self, raw: bytes) -> bytes:
        """Search -> ScoredCard list, as the agent would see them."""
        asked = _read(Search, raw)
        return _write(await self._search(asked.tenant, asked.text, asked.k))

    async def list_tools(self, raw: bytes) -> bytes:
        """Search (tenant) -> ToolCard list."""
        return _write(await self.tools.all(_read(Search, raw).tenant))

    async def find_knowledge(self, raw: bytes) -> bytes:
        """Search -> Passage list."""
        asked = _read(Search, raw)
        vector = (await self.embedder.embed([asked.text], "query"))[0]
        return _write(await self.knowledge.search(asked.tenant, asked.collections, asked.text, vector, asked.k))

    async def add_document(self, raw: bytes) -> bytes:
        """AddDocument -> Added. Only chunks that are new are embedded."""
        asked = _read(AddDocument, raw)
        chunks = chunk(asked.source, asked.text)
        new = await self.knowledge.missing(asked.tenant, asked.collection, asked.source, chunks)
        fresh = list({each.hash: each for each in chunks if each.hash in new}.values())
        texts = [each.to_embed() for each in fresh]
        vectors = dict(zip((each.hash for each in fresh), await self.embedder.embed(texts, "passage"), strict=True))
        title = asked.title or asked.source.rsplit("/", 1)[-1]
        added = await self.knowledge.add_document(
            asked.tenant, asked.collection, asked.source, title, chunks, vectors, self.clock.now()
        )
        return added.model_dump_json().encode()

    async def remove_document(self, raw: bytes) -> bytes:
        """RemoveDocument -> whether it was there."""
        asked = _read(RemoveDocument, raw)
        return orjson.dumps(await self.knowledge.remove(asked.tenant, asked.collection, asked.source))

    async def list_documents(self, raw: bytes) -> bytes:
        """Search (tenant) -> Document list."""
        return _write(await self.knowledge.documents(_read(Search, raw).tenant))


def _digest(cards: Sequence[ToolCard]) -> str:
    """Which catalogue was searched: a digest over all cards' hashes."""
    sha = hashlib.sha256()
    for card in sorted(card.hash() for card in cards):
        sha.update(card.encode())
    return sha.hexdigest()[:32]


def _read(kind: type[_ValueT], raw: bytes) -> _ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def _write(values: Sequence[Value]) -> bytes:
    return orjson.dumps([value.model_dump(mode="json") for value in values])
