"""The root of every error Milepost raises on purpose: what happened, why, and the next command to try."""

from __future__ import annotations


class MilepostError(Exception):
    """Something went wrong that a person can act on.

    what: one sentence on what happened. why: the cause as far as it is known.
    hint: the next command or change to try.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.hint:
            parts.append(f"Next: {self.hint}")
        return "\n".join(parts)


class Mistyped(MilepostError):
    """What a person asked for is written wrongly; nothing was done."""


class ProtocolError(MilepostError):
    """A message, subject, id or file does not follow the protocol; it is refused or parked, never acted on."""


class PayloadTooLarge(ProtocolError):
    """A message is larger than the bus may carry."""

    def __init__(self, *, actual: int, limit: int) -> None:
        super().__init__(
            f"The message has {actual} bytes, the limit is {limit}.",
            why="nats-server closes a connection that sends more, for good.",
            hint="send a reference to the content instead, or shorten it",
        )
        self.actual = actual
        self.limit = limit


def first_error(group: BaseExceptionGroup[MilepostError]) -> MilepostError:
    """The first error in a group of groups."""
    for error in group.exceptions:
        if isinstance(error, MilepostError):
            return error
        return first_error(error)
    raise AssertionError("an empty group")
