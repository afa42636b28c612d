"""What a verification of the archive came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from infra.archive.layout import Counts

MOST = 100
"""How many problems are told one by one."""

Tell: TypeAlias = Callable[[int, int], None]
"""Hears how many messages of how many are done."""


def tell_nobody(done: int, all: int) -> None:
    """For who does not show progress."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was archived. file, run: where; empty where it is about neither."""

    what: str
    file: str = ""
    run: str = ""


@dataclass(slots=True)
class Report:
    """A segment that was looked at. log: whether its stream was there to be compared; more: problems beyond those told."""

    segment: str
    log: bool
    counts: Counts = field(default_factory=Counts)
    problems: list[Problem] = field(default_factory=list)
    more: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, what: str, *, file: str = "", run: str = "") -> None:
        """One problem more."""
        if len(self.problems) < MOST:
            self.problems.append(Problem(what, file, run))
        else:
            self.more += 1
