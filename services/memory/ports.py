"""What memory needs of the outside: a store of conversations in which one turn is open at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from schemas.agent import WhenBusy
from schemas.errors import MilepostError
from schemas.events import Turn
from schemas.tools import Value

Outcome: TypeAlias = Literal["answered", "failed", "cancelled"]


class Begun(Value):
    """The turn is open. history: earlier answered turns, newest last, within the token budget."""

    history: tuple[Turn, ...]


class Queued(Value):
    """Another turn is open; this one waits. behind: the run it waits for; interrupts: that run is to be cancelled."""

    behind: str
    interrupts: bool = False


class Refused(Value):
    """Another turn is open, and a second one is not wanted."""

    by: str


TurnBegin: TypeAlias = Begun | Queued | Refused


class OtherConversation(MilepostError):
    """A run asks for a turn in one conversation while it has one in another."""


class ConversationStore(Protocol):
    """Conversations with at most one open turn each. Every call is idempotent by run: asked again, it answers the same.

    A waiting turn begins when the one before it ends (`end_turn` names it) - interrupting ones first, else in order
    of arrival. A turn that is open past its deadline is stale: whoever asks next takes over, waiting or new.
    """

    async def begin_turn(
        self,
        tenant: str,
        conversation: str,
        run: str,
        user: str,
        when_busy: WhenBusy,
        deadline: datetime,
        now: datetime,
        history_tokens: int,
    ) -> TurnBegin:
        """Open the run's turn, or say what it waits for or why not. Raises OtherConversation."""
        ...

    async def end_turn(
        self,
        tenant: str,
        conversation: str,
        run: str,
        user: str,
        task: str,
        answer: str | None,
        outcome: Outcome,
        now: datetime,
    ) -> str | None:
        """Close the run's turn and remember it; returns the run that may begin now, if one waited for this."""
        ...

    async def history(self, tenant: str, conversation: str, limit: int) -> list[Turn]:
        """The last answered turns, newest last."""
        ...


HISTORY_TURNS = 50
"""How far back a turn looks, whatever the token budget."""


def within(turns: Sequence[Turn], tokens: int) -> tuple[Turn, ...]:
    """The newest of the turns whose estimated tokens fit the budget, newest last; none is cut in two."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        tokens -= estimate(turn.task) + estimate(turn.answer)
        if tokens < 0:
            break
        kept.append(turn)
    return tuple(reversed(kept))


def estimate(text: str) -> int:
    """Tokens of a text without a tokenizer: one for four ASCII characters, one for each other character."""
    ascii_characters = sum(map(str.isascii, text))
    return -(-ascii_characters // 4) + len(text) - ascii_characters
