"""Faults that a test or a drill switches on: errors, silence, cut connections, slowness, a wrong clock, late sight.

Some are errors with the real service's codes: `Throttling.User` (400), `ServiceUnavailable` (503), `InternalError` (500),
`LastOrderProcessing` (400), `InvalidSecurityToken.Expired` (403), `SignatureDoesNotMatch` (400).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

When = Literal["before", "after"]
How = Literal["error", "hang", "drop", "slow", "skew", "lag"]


AT_ONCE: tuple[How, ...] = ("error", "hang", "drop", "slow")


class Fault(BaseModel):
    """What goes wrong with the next `times` requests.

    how: answer an error, never answer, cut the connection, answer `seconds` later, believe that it is `seconds` later than it
    is (clock skew), or show the world as it was `seconds` ago (eventual consistency; reads alone). when: before the effect is
    committed, or after. action: only this action; any when absent. code and status: of an error answer.
    """

    model_config = ConfigDict(extra="forbid")

    how: How
    when: When = "before"
    times: int = Field(default=1, ge=1, le=1_000_000)
    action: str | None = None
    code: str = "Throttling.User"
    status: int = Field(default=400, ge=400, le=599)
    seconds: float = Field(default=1.0, ge=-86_400, le=86_400)


class Faults:
    """The faults still to come, used up one request at a time."""

    def __init__(self) -> None:
        self._coming: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault behind those already there."""
        self._coming.append(fault)

    def clear(self) -> None:
        """No more faults."""
        self._coming.clear()

    def coming(self) -> list[Fault]:
        """What is still to go wrong."""
        return list(self._coming)

    def take(self, action: str, when: When, *hows: How) -> Fault | None:
        """The fault of one of these kinds for this request at this moment, used once; None if all is well.

        hows: those that meet the answer, if none is named.
        """
        for place, fault in enumerate(self._coming):
            if fault.when == when and fault.how in (hows or AT_ONCE) and fault.action in (None, action):
                if fault.times == 1:
                    del self._coming[place]
                else:
                    self._coming[place] = fault.model_copy(update={"times": fault.times - 1})
                return fault
        return None
