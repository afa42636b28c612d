"""Faults that a test or a drill switches on: errors, silence and cut connections, before or after the commit."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

When = Literal["before", "after"]


class Fault(BaseModel):
    """What goes wrong with the next `times` requests.

    how: answer an error, never answer, or cut the connection. when: before the effect is committed, or after.
    action: only this action; any when absent. code and status: of an error answer.
    """

    model_config = ConfigDict(extra="forbid")

    how: Literal["error", "hang", "drop"]
    when: When = "before"
    times: int = Field(default=1, ge=1, le=1_000_000)
    action: str | None = None
    code: str = "Throttling.User"
    status: int = Field(default=400, ge=400, le=599)


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

    def take(self, action: str, when: When) -> Fault | None:
        """The fault for this request at this moment, used once; None if all is well."""
        for place, fault in enumerate(self._coming):
            if fault.when == when and fault.action in (None, action):
                if fault.times == 1:
                    del self._coming[place]
                else:
                    self._coming[place] = fault.model_copy(update={"times": fault.times - 1})
                return fault
        return None
