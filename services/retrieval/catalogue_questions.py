"""Questions about the catalogue: what it has, what would be found, what a card has been; and cards in and out by asking.

No answer comes near the megabyte that a message may have: lists are told page by page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import Field

from runtime.bus import Reply
from schemas.errors import MilepostError
from schemas.events import ScoredCard
from schemas.ids import Token
from schemas.tools import Effect, Refusal, ToolCard, Value
from services.retrieval.catalogue import Catalogue
from services.retrieval.hosts import Presence
from services.retrieval.offering import weighed
from services.retrieval.questions import read, within, write
from services.retrieval.search import CANDIDATES, Search
from services.retrieval.tool_index import SHARED, CatalogueState

SCANNED = 2000
"""How many cards one question looks through."""

_PAGE = 500
_DESCRIBED = 240


class FindTools(Value):
    """A question to the catalogue."""

    tenant: Token = "default"
    text: str = Field(default="", max_length=20_000)
    k: int = Field(default=5, ge=1, le=100)


class FoundTool(ScoredCard):
    """A tool that was found, and whether anybody answers it: only then is it offered to agents."""

    presence: Presence = "here"


class ListTools(Value):
    """A page of the catalogue, by name, from the one after `after`; of a lane, of an effect, with a text in it."""

    tenant: Token = "default"
    after: str = ""
    limit: int = Field(default=200, ge=1, le=500)
    lane: Token | None = None
    effect: Effect | None = None
    text: str = Field(default="", max_length=200)


class ListedTool(Value):
    """A line of the list."""

    name: str
    effect: Effect
    lane: str
    presence: Presence
    description: str


class ToolList(Value):
    """A page. after: where the next one begins, None at the end. refused: cards that wait for a name, or are no cards."""

    tools: tuple[ListedTool, ...]
    after: str | None
    state: CatalogueState
    refused: tuple[Refusal, ...] = ()


class GetTools(Value):
    """Cards by name."""

    tenant: Token = "default"
    names: tuple[str, ...] = Field(max_length=500)


class KnownTool(Value):
    """A card, and what is known of its host: since when it is silent, how many calls wait, how many fail."""

    card: ToolCard
    presence: Presence
    seen: datetime | None = None
    queue: int = 0
    failing: float = 0.0


class ToolVersions(Value):
    """What a card has been."""

    tenant: Token = "default"
    name: str = Field(min_length=1, max_length=64)


class RegisterTool(Value):
    """A card whose host lives; answered with an error when it is refused."""

    tenant: Token = "default"
    card: ToolCard


class RegisterTools(Value):
    """Cards of a catalogue that has no host yet; those that are refused are told in the answer."""

    tenant: Token = "default"
    cards: tuple[ToolCard, ...] = Field(max_length=500)


class Registered(Value):
    """What became of them. changed: how many are new or other than before."""

    changed: int
    refused: tuple[Refusal, ...] = ()


class RemoveTools(Value):
    """Take cards out that nobody answers: those named, or a page of a lane's from the one after `after`.

    shared: those that every tenant sees.
    """

    tenant: Token = "default"
    names: tuple[str, ...] = Field(default=(), max_length=500)
    lane: Token | None = None
    after: str = ""
    shared: bool = False


class Removed(Value):
    """Which cards are out, and where the next page begins (None: nowhere)."""

    tools: tuple[ListedTool, ...]
    after: str | None = None


class HostAnswers(MilepostError):
    """A tool cannot be taken out while its host lives: the host would only register it again."""


class NotYours(MilepostError):
    """A tool belongs to every tenant, and one of them cannot take it from the others."""


class CatalogueQuestions:
    """The questions and their answers."""

    def __init__(self, catalogue: Catalogue, search: Search) -> None:
        self._catalogue, self._search = catalogue, search
        self._tools, self._hosts = catalogue.tools, catalogue.hosts
        self.answers: dict[str, Reply] = {
            "find_tools": self.find, "list_tools": self.list_, "get_tools": self.get, "tool_versions": self.versions,
            "register_tool": self.register, "register_tools": self.register_many, "remove_tools": self.remove,
        }  # fmt: skip

    async def find(self, raw: bytes) -> bytes:
        """FindTools -> FoundTool list, whoever answers them."""
        asked = read(FindTools, raw)
        found = await self._search.find(asked.tenant, asked.text, max(CANDIDATES, asked.k))
        ranked = weighed(found, self._hosts.here())[: asked.k]
        return write(within([self._found(each) for each in ranked]))

    async def list_(self, raw: bytes) -> bytes:
        """ListTools -> ToolList."""
        asked = read(ListTools, raw)
        cards, after = await self._scan(asked.tenant, asked.after, asked.limit, asked)
        refused = self._catalogue.refusals.told(asked.tenant, SHARED) if not asked.after else []
        said = ToolList(
            tools=tuple(self._listed(card) for card in cards), after=after, state=await self._tools.state(asked.tenant),
            refused=tuple(within(refused)),
        )  # fmt: skip
        return said.model_dump_json().encode()

    async def get(self, raw: bytes) -> bytes:
        """GetTools -> KnownTool list, as far as they are there and fit into one answer."""
        asked = read(GetTools, raw)
        return write(within([self._known(card) for card in await self._tools.get(asked.tenant, asked.names)]))

    async def versions(self, raw: bytes) -> bytes:
        """ToolVersions -> CardVersion list, oldest first; of very many the newest."""
        asked = read(ToolVersions, raw)
        return write(within((await self._tools.versions(asked.tenant, asked.name))[::-1])[::-1])

    async def register(self, raw: bytes) -> bytes:
        """RegisterTool -> Registered. Raises what the card is refused for."""
        asked = read(RegisterTool, raw)
        self._hosts.alive(asked.card.lane)
        taken = await self._catalogue.take(asked.tenant, [asked.card])
        for refusal in taken.refused:
            raise MilepostError(refusal.what, why=refusal.why, hint=refusal.hint)
        return Registered(changed=taken.changed).model_dump_json().encode()

    async def register_many(self, raw: bytes) -> bytes:
        """RegisterTools -> Registered."""
        asked = read(RegisterTools, raw)
        taken = await self._catalogue.take(asked.tenant, asked.cards)
        return Registered(changed=taken.changed, refused=taken.refused).model_dump_json().encode()

    async def remove(self, raw: bytes) -> bytes:
        """RemoveTools -> Removed. Raises HostAnswers and NotYours."""
        asked = read(RemoveTools, raw)
        owner, after = SHARED if asked.shared else asked.tenant, None
        names: Sequence[str] = asked.names
        if asked.lane:
            self._check_silent(asked.lane, f"The tools of {asked.lane}")
            which = ListTools(tenant=asked.tenant, lane=asked.lane)
            cards, after = await self._scan(owner, asked.after, _PAGE, which)
            names = [card.name for card in cards]
        own = await self._catalogue.own(owner, names)
        if shared := sorted({card.name for card in await self._tools.get(owner, names)} - own.keys()):
            raise NotYours(
                f"{', '.join(shared)} cannot be taken out: every tenant sees it.", why="it is not this tenant's alone",
                hint=f"milepost tools rm --shared {' '.join(shared)}, if it is to be gone for all",
            )  # fmt: skip
        for card in own.values():
            if self._hosts.presence_of(card) == "here":
                self._check_silent(card.lane, card.name)
        await self._tools.remove(owner, list(own))
        return Removed(tools=tuple(self._listed(card) for card in own.values()), after=after).model_dump_json().encode()

    def _check_silent(self, lane: str, what: str) -> None:
        if self._hosts.presence(lane) == "here":
            raise HostAnswers(
                f"{what} cannot be taken out: the host {lane} lives.", why="it would register them again",
                hint=f"stop the host (if it was imported: milepost tools sources rm {lane}), or forbid the tool to the agent",
            )  # fmt: skip

    async def _scan(self, tenant: str, after: str, limit: int, which: ListTools) -> tuple[list[ToolCard], str | None]:
        """The next cards that are asked for, and the name to go on from; None when there are no more."""
        found: list[ToolCard] = []
        looked, size = 0, _PAGE if which.lane or which.effect or which.text else limit
        while looked < SCANNED:
            page = await self._tools.page(tenant, after, size)
            for card in page:
                after = card.name
                if _is_meant(card, which):
                    found.append(card)
                if len(found) == limit:
                    return found, after
            if len(page) < size:
                return found, None
            looked += len(page)
        return found, after

    def _found(self, each: ScoredCard) -> FoundTool:
        return FoundTool(card=each.card, score=each.score, why=each.why, presence=self._hosts.presence_of(each.card))

    def _listed(self, card: ToolCard) -> ListedTool:
        return ListedTool(
            name=card.name, effect=card.effect, lane=card.lane, presence=self._hosts.presence_of(card),
            description=card.description[:_DESCRIBED],
        )  # fmt: skip

    def _known(self, card: ToolCard) -> KnownTool:
        host, presence = self._hosts.known().get(card.lane), self._hosts.presence_of(card)
        if host is None:
            return KnownTool(card=card, presence=presence)
        return KnownTool(card=card, presence=presence, seen=host.seen, queue=host.queue, failing=host.failing)


def _is_meant(card: ToolCard, which: ListTools) -> bool:
    if which.lane not in (None, card.lane) or which.effect not in (None, card.effect):
        return False
    return not which.text or any(which.text.lower() in said.lower() for said in _said(card))


def _said(card: ToolCard) -> Iterator[str]:
    yield from (card.name, card.title, card.description, *card.tags)
