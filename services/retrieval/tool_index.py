"""What retrieval needs of the outside to know tools: a catalogue that is found by meaning, by words and by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from runtime.errors import Retryable
from schemas.events import ScoredCard
from schemas.ids import Token
from schemas.tools import ToolCard, Value

SHARED = "*"
"""The tenant whose tools every tenant sees; its own tool of the same name comes first."""

Vector: TypeAlias = Sequence[float]


class Host(Value):
    """Who answers the calls of a lane, as it last told. queue: calls that wait; failing: share of its last calls (0 to 1).

    answers: those of its tools that somebody answers for; None: all. It is told anew with each beat, and not stored.
    """

    lane: Token
    seen: datetime
    queue: int = 0
    failing: float = 0.0
    answers: frozenset[str] | None = None

    def has(self, name: str) -> bool:
        """Whether somebody answers for a tool of this host."""
        return self.answers is None or name in self.answers


class Put(Value):
    """What putting cards in did: how many are new or changed, and how many of them lack their vector."""

    changed: int
    unembedded: int


class NameMoved(Retryable):
    """A name went to another host, or came free, while cards were put in: the caller is to look anew."""


class CatalogueState(Value):
    """Which catalogue a tenant sees.

    revision: grows with every change of a card it sees; revisions of all tenants are counted together. cards: the shared ones
    and its own, also those that stand in place of shared ones.
    """

    revision: int
    cards: int
    unembedded: int


class CardVersion(Value):
    """A card as it was from one revision up to another (None: it still is)."""

    card: ToolCard
    since: int
    until: int | None = None


class ToolIndex(Protocol):
    """The catalogue. Every change gives it a new revision, under which it can be looked up for ever after.

    `why` of a found card holds its raw scores by list (dense, lexical, name), what they came to (see rank.score), and what
    reciprocal rank fusion of the lists would give it (rrf).
    Vectors are only compared with vectors of the same embedder, and are kept by the text they stand for: a card whose text
    was embedded before has its vector at once.
    """

    async def put(
        self, tenant: str, cards: Sequence[ToolCard], vectors: Mapping[str, Vector] | None = None,
        holders: Mapping[str, str] | None = None,
    ) -> Put:  # fmt: skip
        """Put cards in, or in place of those of their names; equal ones change nothing.

        vectors: by the text that `words.card_text` makes of a card. Without one a card is found by words and name only.
        holders: the lanes that hold these names by what the caller knows; NameMoved if another process was faster.
        """
        ...

    async def unembedded(self, limit: int) -> list[tuple[str, ToolCard]]:
        """Tenant and card of those that lack their vector, the newest first."""
        ...

    async def embedded(self, vectors: Mapping[str, Vector]) -> None:
        """Give vectors (by text) to every card that has such a text, of whichever tenant."""
        ...

    async def remove(self, tenant: str, names: Sequence[str]) -> None:
        """Take cards out; nothing happens for those that are not there. Their versions stay."""
        ...

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = (),
        lanes: Sequence[str] | None = None,
    ) -> list[ScoredCard]:  # fmt: skip
        """The k best of the tenant's and the shared cards, best first. lanes: of those of these hosts only."""
        ...

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        """The cards of these names, in that order; names that are not there are left out."""
        ...

    async def own(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        """The same of the tenant's own cards, without the shared ones."""
        ...

    async def page(self, tenant: str, after: str = "", limit: int = 200) -> list[ToolCard]:
        """Cards the tenant sees, by name, from the one after that name."""
        ...

    async def state(self, tenant: str) -> CatalogueState:
        """Which catalogue the tenant sees now; costs the same however large it is, but for cards that lack their vector."""
        ...

    async def versions(self, tenant: str, name: str) -> list[CardVersion]:
        """What the tenant's own and the shared card of the name have been, oldest first."""
        ...

    async def heard(self, hosts: Sequence[Host]) -> None:
        """Note signs of life; older ones than known change nothing."""
        ...

    async def hosts(self) -> dict[str, Host]:
        """Who answers which lane, as last heard."""
        ...


def check_holders(known: Mapping[str, str] | None, holders: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise NameMoved if another lane holds one of the names than is known, or none does. known: None knows nothing."""
    if known is None:
        return
    if moved := sorted(name for name in names if known.get(name) != holders.get(name)):
        raise NameMoved(f"The name {moved[0]} moved just now.", why="another process put in a card, or took one out")
