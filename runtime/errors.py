"""Failure as a type: the service loop decides by it whether a command is tried again."""

from __future__ import annotations

from schemas.errors import MilepostError


class Retryable(MilepostError):
    """It may work later: a server that is away, a limit that passes. Tried again with growing pauses."""


class Permanent(MilepostError):
    """It will not work however often it is tried; the command is answered with StepFailed."""


class NotYet(Exception):
    """The command's time has not come. Not a failure and not counted as an attempt. delay_s: seconds to wait."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"in {delay_s:.3f} s")
        self.delay_s = delay_s


class NotAsked(Exception):
    """The order is not what was asked under its name: it is dropped without an answer, which would stand in another's place."""


class Unreachable(Retryable):
    """The bus, the log or a store does not answer."""


class NobodyAnswers(Unreachable):
    """What was asked reached nobody, so nothing was done."""


class Busy(Retryable):
    """A queue is full; the caller should come back later."""
