"""The catalogue of tools in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.events import ScoredCard
from schemas.tools import ToolCard
from services.retrieval import bm25, rank
from services.retrieval.tool_index import SHARED, CardVersion, CatalogueState, Host, Put, Vector, check_holders
from services.retrieval.words import asked_words, card_text, card_weights, identifiers

SIMILAR = 0.3
"""How similar a name must be to count, as pg_trgm's default."""


@dataclass(frozen=True)
class _Entry:
    tenant: str
    card: ToolCard
    text: str
    weights: dict[str, float]
    since: int


class _Rarity(NamedTuple):
    """How rare the words of a request are that any card holds, and which of them lead to cards."""

    rarity: dict[str, float]
    telling: list[str]


class _Asked(NamedTuple):
    """A request as it is looked up."""

    vector: Vector | None
    words: _Rarity
    identifiers: list[str]


class MemoryToolIndex:
    """The catalogue in dictionaries."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._versions: dict[tuple[str, str], list[CardVersion]] = {}
        self._vectors: dict[str, Vector] = {}
        self._hosts: dict[str, Host] = {}
        self._revision = 0
        self._revisions: dict[str, int] = {}

    async def put(
        self, tenant: str, cards: Sequence[ToolCard], vectors: Mapping[str, Vector] | None = None,
        holders: Mapping[str, str] | None = None,
    ) -> Put:  # fmt: skip
        self._vectors.update(vectors or {})
        mine = self._entries.setdefault(tenant, {})
        lanes = {card.name: mine[card.name].card.lane for card in cards if card.name in mine}
        check_holders(holders, lanes, (card.name for card in cards))
        changed = [card for card in _by_name(cards) if card.name not in mine or mine[card.name].card != card]
        if changed:
            self._next_revision(tenant)
        for card in changed:
            text = card_text(card)
            self._close(tenant, card.name)
            self._versions.setdefault((tenant, card.name), []).append(CardVersion(card=card, since=self._revision))
            mine[card.name] = _Entry(tenant, card, text, card_weights(card), self._revision)
        return Put(changed=len(changed), unembedded=sum(card_text(card) not in self._vectors for card in changed))

    async def unembedded(self, limit: int) -> list[tuple[str, ToolCard]]:
        waiting = [
            entry for mine in self._entries.values() for entry in mine.values() if entry.text not in self._vectors
        ]  # fmt: skip
        waiting.sort(key=lambda entry: (-entry.since, entry.tenant, entry.card.name))
        return [(entry.tenant, entry.card) for entry in waiting[:limit]]

    async def embedded(self, vectors: Mapping[str, Vector]) -> None:
        self._vectors.update(vectors)

    async def remove(self, tenant: str, names: Sequence[str]) -> None:
        mine = self._entries.get(tenant, {})
        gone = [name for name in dict.fromkeys(names) if name in mine]
        if gone:
            self._next_revision(tenant)
        for name in gone:
            self._close(tenant, name)
            del mine[name]

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = (),
        lanes: Sequence[str] | None = None,
    ) -> list[ScoredCard]:  # fmt: skip
        entries = {
            name: entry for name, entry in self._visible(tenant).items()
            if name not in exclude and (lanes is None or entry.card.lane in lanes)
        }  # fmt: skip
        asked = _Asked(vector, self._rarity(tenant, text), identifiers(text))
        lists = {part: rank.best(scores) for part, scores in self._lists(asked, entries).items()}
        rrf = {name: sum(parts.values()) for name, parts in rank.fuse(lists).items()}
        raw = {name: self._raw(asked, entries[name], name in lists["name"]) for name in rrf}
        shares = rank.score(raw)
        best = sorted(rrf, key=lambda name: (-shares[name]["fused"], name))[:k]
        whys = {name: {**raw[name], "rrf": rrf[name], **shares[name]} for name in best}
        return [ScoredCard(card=entries[name].card, score=why["fused"], why=why) for name, why in whys.items()]

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        entries = self._visible(tenant)
        return [entries[name].card for name in dict.fromkeys(names) if name in entries]

    async def own(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        mine = self._entries.get(tenant, {})
        return [mine[name].card for name in dict.fromkeys(names) if name in mine]

    async def page(self, tenant: str, after: str = "", limit: int = 200) -> list[ToolCard]:
        return [entry.card for name, entry in sorted(self._visible(tenant).items()) if name > after][:limit]

    async def state(self, tenant: str) -> CatalogueState:
        revisions = [self._revisions.get(owner, 0) for owner in (tenant, SHARED)]
        seen = list(self._seen(tenant))
        waiting = sum(entry.text not in self._vectors for entry in seen)
        return CatalogueState(revision=max(revisions), cards=len(seen), unembedded=waiting)

    async def versions(self, tenant: str, name: str) -> list[CardVersion]:
        both = [version for owner in {tenant, SHARED} for version in self._versions.get((owner, name), [])]
        return sorted(both, key=lambda version: version.since)

    async def heard(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            known = self._hosts.get(host.lane)
            if known is None or host.seen > known.seen:
                self._hosts[host.lane] = host

    async def hosts(self) -> dict[str, Host]:
        return dict(self._hosts)

    def _seen(self, tenant: str) -> Iterator[_Entry]:
        for owner in {tenant, SHARED}:
            yield from self._entries.get(owner, {}).values()

    def _visible(self, tenant: str) -> dict[str, _Entry]:
        return self._entries.get(SHARED, {}) | self._entries.get(tenant, {})

    def _next_revision(self, tenant: str) -> None:
        self._revision += 1
        self._revisions[tenant] = self._revision

    def _close(self, tenant: str, name: str) -> None:
        past = self._versions.get((tenant, name))
        if past and past[-1].until is None:
            past[-1] = past[-1].model_copy(update={"until": self._revision})

    def _rarity(self, tenant: str, text: str) -> _Rarity:
        seen = list(self._seen(tenant))
        held = {word: count for word in asked_words(text) if (count := sum(word in entry.weights for entry in seen))}
        return _Rarity(bm25.rarity(held, len(seen)), bm25.telling(held))

    def _lists(self, asked: _Asked, entries: Mapping[str, _Entry]) -> dict[str, dict[str, float]]:
        """The candidates by list, with their scores."""
        led = [name for name, entry in entries.items() if any(word in entry.weights for word in asked.words.telling)]
        all_ = {name: self._raw(asked, entry, True) for name, entry in entries.items()}
        return {
            "dense": {name: raw["dense"] for name, raw in all_.items() if "dense" in raw},
            "lexical": {name: all_[name]["lexical"] for name in led},
            "name": {name: raw["name"] for name, raw in all_.items() if raw.get("name", 0.0) >= SIMILAR},
        }

    def _raw(self, asked: _Asked, entry: _Entry, by_name: bool) -> dict[str, float]:
        """The scores of a card by list; of those that it has."""
        scores: dict[str, float] = {}
        known = self._vectors.get(entry.text)
        if asked.vector is not None and known is not None:
            scores["dense"] = rank.cosine(asked.vector, known)
        if asked.words.rarity:
            scores["lexical"] = sum(rare * entry.weights.get(word, 0.0) for word, rare in asked.words.rarity.items())
        if by_name and asked.identifiers:
            scores["name"] = max(rank.trigram_similarity(word, entry.card.name) for word in asked.identifiers)
        return scores


def _by_name(cards: Sequence[ToolCard]) -> list[ToolCard]:
    """Of cards of one name the last."""
    return list({card.name: card for card in cards}.values())
