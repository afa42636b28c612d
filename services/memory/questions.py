"""Questions that people ask memory: what it knows, and what it is to know of a user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import orjson
from pydantic import Field, ValidationError

from runtime.bus import Reply
from runtime.clock import Clock
from schemas.canonical import read_json
from schemas.errors import ProtocolError
from schemas.ids import Token
from schemas.tools import Value
from services.memory.facts import fact_of
from services.memory.over_the_bus import meaning_of
from services.memory.ports import ConversationStore, Embed, FactStore, Scope

QUESTION_BYTES = 256 * 1024
PAGE_BYTES = 700 * 1024

ValueT = TypeVar("ValueT", bound=Value)


class Remember(Value):
    """A fact about a user. source: who or what stated it."""

    tenant: Token = "default"
    user: Token = "me"
    key: str
    text: str
    source: str = Field(default="", max_length=200)


class OfUser(Value):
    """A question about a user. key: of one fact."""

    tenant: Token = "default"
    user: Token = "me"
    key: str = ""


class ListTalks(Value):
    """A page of the conversations, newest first. before: when the last one of the page before ended."""

    tenant: Token = "default"
    user: Token | None = None
    before: datetime | None = None
    limit: int = Field(default=20, ge=1, le=200)


class ListTurns(Value):
    """A page of a conversation's turns, the last ones. before: `ended` of the first one of the page after."""

    tenant: Token = "default"
    conversation: Token
    before: int | None = Field(default=None, ge=0, lt=2**62)
    limit: int = Field(default=20, ge=1, le=200)


class SearchTurns(Value):
    """A search in the turns of a conversation, of a user, or of all."""

    tenant: Token = "default"
    conversation: Token | None = None
    user: Token | None = None
    text: str = Field(min_length=1, max_length=20_000)
    k: int = Field(default=5, ge=1, le=32)


class Questions:
    """The verbs of the memory service. embed: without it turns are found by their words alone."""

    def __init__(self, store: ConversationStore, facts: FactStore, clock: Clock, embed: Embed | None = None) -> None:
        self._store, self._facts, self._clock, self._embed = store, facts, clock, embed
        self.answers: dict[str, Reply] = {
            "remember": self.remember, "forget_fact": self.forget_fact, "facts": self.facts, "talks": self.talks,
            "turns": self.turns, "summary": self.summary, "search_turns": self.search_turns,
        }  # fmt: skip

    async def remember(self, raw: bytes) -> bytes:
        """Remember -> UserFact as it is kept."""
        asked = _read(Remember, raw)
        fact = fact_of(asked.key, asked.text, asked.source or asked.user)
        await self._facts.remember(asked.tenant, asked.user, fact, self._clock.now())
        return fact.model_dump_json().encode()

    async def forget_fact(self, raw: bytes) -> bytes:
        """OfUser (key) -> whether it was there."""
        asked = _read(OfUser, raw)
        return orjson.dumps(await self._facts.forget(asked.tenant, asked.user, asked.key))

    async def facts(self, raw: bytes) -> bytes:
        """OfUser -> UserFact list, by key."""
        asked = _read(OfUser, raw)
        return _write(await self._facts.facts(asked.tenant, asked.user))

    async def talks(self, raw: bytes) -> bytes:
        """ListTalks -> Talk list."""
        asked = _read(ListTalks, raw)
        return _write(await self._store.talks(asked.tenant, asked.user, asked.limit, asked.before))

    async def turns(self, raw: bytes) -> bytes:
        """ListTurns -> PastTurn list, newest last; fewer than asked for where they would be more than a message holds."""
        asked = _read(ListTurns, raw)
        found = await self._store.turns(asked.tenant, asked.conversation, asked.limit, asked.before)
        while len(found) > 1 and len(_write(found)) > PAGE_BYTES:
            found = found[(len(found) + 1) // 2 :]
        return _write(found)

    async def summary(self, raw: bytes) -> bytes:
        """ListTurns (conversation) -> Summary or null."""
        asked = _read(ListTurns, raw)
        found = await self._store.last_summary(asked.tenant, asked.conversation)
        return b"null" if found is None else found.model_dump_json().encode()

    async def search_turns(self, raw: bytes) -> bytes:
        """SearchTurns -> PastTurn list with scores, best first."""
        asked = _read(SearchTurns, raw)
        meaning = await meaning_of(asked.text, self._embed)
        scope = Scope(conversation=asked.conversation, user=asked.user)
        found = await self._store.search(asked.tenant, scope, asked.text, meaning, asked.k)
        while len(found) > 1 and len(_write(found)) > PAGE_BYTES:
            found = found[: len(found) // 2]
        return _write(found)


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def _write(values: Sequence[Value]) -> bytes:
    return orjson.dumps([value.model_dump(mode="json") for value in values])
