"""How a host of tools does: what is under way, and how many of its last calls went wrong on its side."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.errors import NotYet, Retryable
from runtime.service import Context
from schemas.commands import Command
from schemas.events import AnyEvent, ToolFailed, ToolInDoubt
from schemas.tools import Beat

CommandT = TypeVar("CommandT", bound=Command)
Handle = Callable[[CommandT, Context], Awaitable[AnyEvent]]

LAST = 50
"""How many calls the failing share is of."""

BLAMELESS = frozenset({
    "InvalidArguments", "ToolRefused", "Unplanned", "EffectUnderWay", "InDoubt", "StateChanged", "NotPlannable",
})  # fmt: skip
"""Failures that say nothing about the host: what was asked was wrong, or is not to be done."""


class Pulse:
    """Counts what goes through the handlers of one host."""

    def __init__(self) -> None:
        self._under_way = 0
        self._last: deque[bool] = deque(maxlen=LAST)

    def beat(self) -> Beat:
        """How it does now."""
        return Beat(queue=self._under_way, failing=sum(self._last) / len(self._last) if self._last else 0.0)

    def watched(self, handle: Handle[CommandT]) -> Handle[CommandT]:
        """The same handler, counted."""

        async def counted(command: CommandT, context: Context) -> AnyEvent:
            self._under_way += 1
            try:
                event = await handle(command, context)
            except (Retryable, NotYet):
                self._last.append(True)
                raise
            finally:
                self._under_way -= 1
            self._last.append(_at_fault(event))
            return event

        return counted


def _at_fault(event: AnyEvent) -> bool:
    return isinstance(event, ToolFailed | ToolInDoubt) and event.failure.type not in BLAMELESS
