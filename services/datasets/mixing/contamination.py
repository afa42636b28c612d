"""Whether a conversation to learn from holds what a model is to be examined on.

It does if its first request is one of an examination's, word for word; if its users say a run of 8 words or 13 Chinese
characters that an examination's users say, unless it is a phrase that many say; or, where a set is split by tool, if it calls
a tool that is held back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.datasets.example import Example
from services.datasets.mixing.shingles import normal, runs, sum_of

How: TypeAlias = Literal["query", "run", "tool"]

SPLIT_BY_TOOL = frozenset({"hammerbench"})
"""The sets whose parts have no called tool in common."""

_LEAST_WORDS = 4
_LEAST_LETTERS = 12  # a greeting is in every set; of Chinese half as many


@dataclass(frozen=True)
class Fingerprint:
    """What of an evaluation part is looked for. name: "set/part"; queries, runs, tools: sorted sums of 64 bits."""

    name: str
    rows: int
    queries: NDArray[np.uint64]
    runs: NDArray[np.uint64]
    tools: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Hit:
    """Which evaluation part a conversation touches, and how."""

    part: str
    how: How


def fingerprint(name: str, examples: Iterable[Example], *, by_tool: bool = False) -> Fingerprint:
    """The fingerprint of an evaluation part. by_tool: its tools are held back, too."""
    rows = 0
    queries: set[int] = set()
    said: set[int] = set()
    tools: set[int] = set()
    for example in examples:
        rows += 1
        queries.update(_query(example))
        said.update(_runs(example))
        if by_tool:
            tools.update(map(sum_of, example.calls))
    return Fingerprint(name, rows, _sorted(queries), _sorted(said), _sorted(tools))


def _query(example: Example) -> list[int]:
    """The first request, if it is long enough to be anybody's own."""
    first = next((each.content for each in example.messages if each.role == "user" and not each.context), "")
    plain = normal(first)
    wide = sum(2 if "\u3400" <= letter <= "\u9fff" else 1 for letter in plain)
    own = wide >= _LEAST_LETTERS and (wide > len(plain) or len(plain.split()) >= _LEAST_WORDS)
    return [sum_of(plain)] if own else []


def _runs(example: Example) -> set[int]:
    texts = (each.content for each in example.messages if each.role == "user" and not each.context)
    return {sum_of(run) for text in texts for run in runs(text)}


def _sorted(sums: set[int]) -> NDArray[np.uint64]:
    return np.sort(np.fromiter(sums, np.uint64, len(sums)))


@dataclass(frozen=True, slots=True)
class Touch:
    """What of a conversation is in an evaluation part as well: the sums of its first request, of runs and of called tools."""

    queries: frozenset[int]
    runs: frozenset[int]
    tools: frozenset[int]


class Check:
    """Looks for all evaluation parts at once."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        self.names = tuple(each.name for each in prints)
        self._queries = _Index([each.queries for each in prints])
        self._runs = _Index([each.runs for each in prints])
        self._tools = _Index([each.tools for each in prints])

    def touch(self, example: Example) -> Touch:
        """What of it is in any of the parts."""
        return Touch(
            self._queries.known(_query(example)), self._runs.known(_runs(example)),
            self._tools.known(map(sum_of, example.calls)),
        )  # fmt: skip

    def hits(self, touch: Touch, common: Container[int] = ()) -> tuple[Hit, ...]:
        """Every part that a conversation touches, the plainest way first. common: runs that are everybody's."""
        found: dict[str, How] = {}
        looked: tuple[tuple[How, _Index, Iterable[int]], ...] = (
            ("query", self._queries, touch.queries), ("tool", self._tools, touch.tools),
            ("run", self._runs, (run for run in touch.runs if run not in common)),
        )  # fmt: skip
        for how, index, sums in looked:
            for owner in index.owners(sums):
                found.setdefault(self.names[owner], how)
        return tuple(Hit(part, how) for part, how in found.items())


def common_runs(touches: Iterable[Touch], most: int) -> frozenset[int]:
    """Runs that more than so many conversations to learn from have: everybody's phrases (arXiv 2005.14165, appendix C)."""
    held = Counter(run for touch in touches for run in touch.runs)
    return frozenset(run for run, count in held.items() if count > most)


class _Index:
    """Whose a sum is: all sums of all parts in one sorted row."""

    def __init__(self, sums: Sequence[NDArray[np.uint64]]) -> None:
        every = np.concatenate([np.zeros(0, np.uint64), *sums])
        owner = np.concatenate([np.zeros(0, np.int64), *(np.full(len(each), place) for place, each in enumerate(sums))])
        order = np.argsort(every, kind="stable")
        self._sums, self._owner = every[order], owner[order]

    def known(self, sums: Iterable[int]) -> frozenset[int]:
        wanted = np.fromiter(sums, np.uint64)
        if not len(self._sums) or not len(wanted):
            return frozenset()
        places = np.minimum(np.searchsorted(self._sums, wanted), len(self._sums) - 1)
        return frozenset(map(int, wanted[self._sums[places] == wanted]))

    def owners(self, sums: Iterable[int]) -> list[int]:
        """Whose they are, in the order of the parts."""
        wanted = np.fromiter(sums, np.uint64)
        starts = np.searchsorted(self._sums, wanted, "left")
        ends = np.searchsorted(self._sums, wanted, "right")
        return sorted({int(self._owner[at]) for start, end in zip(starts, ends, strict=True) for at in range(start, end)})
