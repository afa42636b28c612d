"""The host of tools that answer on subjects by themselves: it finds them by their cards, and asks them for a run.

Their cards are published by anybody with a NATS client, in the lane `bus`; the catalogue keeps them over restarts, so it is
asked for each call. Their processes give no signs of life: which of them listen is looked up now and then, and told with the
host's own beats, so that nobody is offered a tool that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from runtime.bus import Bus
from runtime.errors import Unreachable
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError
from schemas.tools import Beat, ToolCard, Value
from tool_adapters.subject import SubjectTool
from tool_adapters.tool import Tool

LANE = "bus"
ASK_S = 5.0
ANSWER_BYTES = 1024 * 1024
LOOK_S = 2.0

Heard = Callable[[], Awaitable[frozenset[str] | None]]
"""The tools that somebody listens for now; None when that cannot be told."""


class _Known(Value):
    """What the catalogue answers about a card, as far as it is needed here."""

    card: ToolCard


class BusShelf:
    """services.tools.shelf.Shelf of all tools in the lane `bus`. Their cards are published by themselves."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def find(self, tenant: str, name: str) -> Tool | None:
        """The tool of the card that the catalogue has now. Raises Unreachable while that does not answer."""
        question = canonical({"tenant": tenant, "names": [name]})
        try:
            raw = await self._bus.ask(subjects.question("retrieval", "get_tools"), question, ASK_S)
            told = read_json(raw, limit=ANSWER_BYTES)
            cards = [_Known.model_validate(each).card for each in told] if isinstance(told, list) else []
        except Unreachable:
            raise
        except (MilepostError, ValidationError) as error:  # its database may be away: that passes
            raise Unreachable("The catalogue gave no card.", why=str(error)[:300], hint="milepost status") from error
        for card in cards:
            if (card.name, card.lane) == (name, LANE):
                return SubjectTool(card, self._bus)
        return None

    def cards(self) -> list[ToolCard]:
        """None: whoever answers a tool publishes its card."""
        return []

    def __len__(self) -> int:
        return 0


class Listeners:
    """Which tools are answered, looked up again and again; a part of the host's beats."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._now: frozenset[str] | None = None

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self._now = await self._heard()
            await asyncio.sleep(LOOK_S)

    def beside(self, beat: Callable[[], Beat]) -> Callable[[], Beat]:
        """The host's beat, with the tools that are answered."""

        def told() -> Beat:
            now = self._now
            return beat() if now is None or len(now) > MOST else beat().model_copy(update={"answers": tuple(sorted(now))})

        return told


MOST = 5_000
"""Names that one beat may carry."""
