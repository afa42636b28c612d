"""What memory needs of the outside: a store of conversations in which one turn is open at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

from schemas.agent import FactsWhen, WhenBusy
from schemas.errors import MilepostError
from schemas.events import Summary, Turn, TurnResult, UserFact
from schemas.tools import Value
from services.memory.similar import Meaning

Outcome: TypeAlias = Literal["answered", "failed", "cancelled"]
Kind: TypeAlias = Literal["query", "passage"]
Embed: TypeAlias = Callable[[Sequence[str], Kind], Awaitable[list[Meaning]]]
"""Vectors of texts, in order. Raises MilepostError when nobody makes any now."""


class NewTurn(Value):
    """A run that asks for its turn. deadline: when others may take over from it."""

    conversation: str
    run: str
    user: str
    when_busy: WhenBusy
    deadline: datetime


class Begun(Value):
    """The turn is open."""


class Queued(Value):
    """Another turn is open; this one waits. behind: the run it waits for; interrupts: that run is to be cancelled."""

    behind: str
    interrupts: bool = False


class Refused(Value):
    """Another turn is open, and a second one is not wanted."""

    by: str


TurnBegin: TypeAlias = Begun | Queued | Refused


class Wanted(Value):
    """What an open turn wants to be told.

    history_tokens: of the turns just before it. similar, facts: how many at most; facts_when: see Recall. summary: of what
    came before the history. query: what the turn is about; meaning: its vector, if there is one.
    """

    run: str
    history_tokens: int
    similar: int = 0
    facts: int = 0
    facts_when: FactsWhen = "always"
    summary: bool = False
    query: str = ""
    meaning: Meaning | None = None


class Recollection(Value):
    """What a turn is told: turns just before it, newest last; older ones that are near it, oldest first; and the rest."""

    history: tuple[Turn, ...] = ()
    similar: tuple[Turn, ...] = ()
    summary: Summary | None = None
    facts: tuple[UserFact, ...] = ()


class EndedTurn(Value):
    """What is kept of a turn. answer: None if it has none."""

    conversation: str
    run: str
    user: str
    task: str
    answer: str | None
    outcome: Outcome
    results: tuple[TurnResult, ...] = ()


class Ended(Value):
    """released: the run that may begin now. history_tokens: how much history the turn took, if it wanted summaries."""

    released: str | None = None
    history_tokens: int | None = None


class PastTurn(Value):
    """A turn as people look it up. ended: by the conversation's clock; score: how near it is to what was searched."""

    conversation: str
    user: str
    ended: int
    since: datetime
    turn: Turn
    score: float | None = None


class Talk(Value):
    """A conversation in a list. last: when its last turn ended; task: what that was about."""

    conversation: str
    users: tuple[str, ...]
    turns: int
    last: datetime
    task: str


class Scope(Value):
    """Whose turns are searched: those of one conversation, or of all conversations that a user had a part in."""

    conversation: str | None = None
    user: str | None = None


class Unembedded(NamedTuple):
    """A turn that has no vector yet, and the text that it is embedded as."""

    run: str
    text: str


class Forgotten(Value):
    """How many rows of a user were deleted."""

    turns: int = 0
    facts: int = 0
    summaries: int = 0
    vectors: int = 0


class OtherConversation(MilepostError):
    """A run asks for a turn in one conversation while it has one in another."""


class ConversationStore(Protocol):
    """Conversations with at most one open turn each. Every call is idempotent by run: asked again, it answers the same.

    A waiting turn begins when the one before it ends (`end_turn` names it) - interrupting ones first, else in order
    of arrival. A turn that is open past its deadline is stale: whoever asks next takes over, waiting or new.
    """

    async def begin_turn(self, tenant: str, turn: NewTurn, now: datetime) -> TurnBegin:
        """Open the run's turn, or say what it waits for or why not. Raises OtherConversation."""
        ...

    async def recall(self, tenant: str, wanted: Wanted) -> Recollection:
        """What the run's turn is told; decided when it is first asked. Empty for a turn that has not begun."""
        ...

    async def end_turn(self, tenant: str, turn: EndedTurn, now: datetime) -> Ended:
        """Close the run's turn and remember it. Raises OtherConversation."""
        ...

    async def turns(self, tenant: str, conversation: str, limit: int, before: int | None = None) -> list[PastTurn]:
        """The last answered turns that ended before a moment of the conversation's clock, newest last."""
        ...

    async def talks(self, tenant: str, user: str | None, limit: int, before: datetime | None = None) -> list[Talk]:
        """Conversations, those with the newest turn first. user: only those that this user had a part in."""
        ...

    async def search(self, tenant: str, scope: Scope, query: str, meaning: Meaning | None, k: int) -> list[PastTurn]:
        """The k answered turns nearest to a text, best first."""
        ...

    async def unembedded(self, tenant: str, embedder: str | None, limit: int) -> list[Unembedded]:
        """Answered turns that have no vector, or one of another embedder than this."""
        ...

    async def embedded(self, tenant: str, vectors: Mapping[str, Meaning]) -> None:
        """Keep the vectors of runs' turns."""
        ...

    async def unsummarised(self, tenant: str, conversation: str) -> tuple[Summary | None, list[Turn]]:
        """The last summary, and the first answered turns after what it covers (UNSUMMARISED at most), oldest first."""
        ...

    async def want_summary(
        self, tenant: str, conversation: str, upto: str, run: str, now: datetime, beginning: str = ""
    ) -> bool:
        """Expect a run's answer, after a beginning, as the summary of the turns up to that of the run `upto`.

        False while another one is expected. One that failed, or was expected in vain, stands in the way for PATIENCE.
        """
        ...

    async def summarised(self, tenant: str, run: str, text: str | None) -> bool:
        """Keep what a run says as the summary that was expected of it; None: it failed. False if none was."""
        ...

    async def last_summary(self, tenant: str, conversation: str) -> Summary | None:
        """The summary that covers most."""
        ...

    async def forget_user(self, tenant: str, user: str) -> Forgotten:
        """Delete the user's turns, facts and vectors, and every summary of a conversation that the user had a part in.

        A run that is under way at that moment keeps what it says afterwards: call it again when that has ended.
        """
        ...


class FactStore(Protocol):
    """What is known about users: one text a key."""

    async def remember(self, tenant: str, user: str, fact: UserFact, now: datetime) -> None:
        """Keep it in place of what the key said before. Raises FactRefused when the user has too many."""
        ...

    async def forget(self, tenant: str, user: str, key: str) -> bool:
        """Delete it; whether it was there."""
        ...

    async def facts(self, tenant: str, user: str, limit: int | None = None) -> list[UserFact]:
        """By key; with a limit only those stated last."""
        ...
