"""A stream: tokens still to be read (its prompt at first) and a guide that says what follows them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from services.llm.model import Terms
from services.llm.scores import Scores
from services.llm.speculation import Drafter


@dataclass(frozen=True)
class Next:
    """What follows: tokens to go on with, none at the end of the stream; drop: how many of the last ones were wrong."""

    tokens: Sequence[int]
    drop: int = 0


END = Next(())


class Guide(Protocol):
    """Who decides what follows."""

    def follow(self, scores: Scores) -> Next:
        """What comes after these scores."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a stream went.

    cached_tokens: of its prompt, not computed again. Seconds since submit: waited_s until it got a slot, first_token_s,
    total_s. drafted: tokens that speculation guessed; accepted: those of them that were right.
    """

    cached_tokens: int
    first_token_s: float
    total_s: float
    waited_s: float = 0.0
    drafted: int = 0
    accepted: int = 0


@dataclass(eq=False)
class Stream:
    """One request on its way through the engine.

    pending: to be read; known: how many of them a slot already held when it got its own. placed: whether its slot's tokens
    are its own. speaks: its prompt has been read, and somebody hears its tokens. said: how many those are. began: the tick in
    which it got its slot. settled: it gives its slot to nobody (again).
    """

    pending: list[int]
    guide: Guide
    terms: Terms
    certified: bool = False
    done: Future[Outcome] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    entered: float | None = None
    first: float | None = None
    cached: int | None = None
    known: int = 0
    placed: bool = False
    speaks: bool = False
    said: int = 0
    began: int = 0
    settled: bool = False
    drafter: Drafter = field(default_factory=Drafter)

    def outcome(self) -> Outcome:
        """How it went, as of now."""
        now = time.perf_counter()
        return Outcome(
            cached_tokens=self.cached or 0,
            first_token_s=(self.first or now) - self.submitted,
            total_s=now - self.submitted,
            waited_s=(self.entered or now) - self.submitted,
            drafted=self.drafter.drafted,
            accepted=self.drafter.accepted,
        )

    def finish(self) -> None:
        """Tell who waits that it has come to its end."""
        if self.done.set_running_or_notify_cancel():
            self.done.set_result(self.outcome())

    def fail(self, error: BaseException) -> None:
        """Tell who waits that it will not."""
        if self.done.set_running_or_notify_cancel():
            self.done.set_exception(error)
