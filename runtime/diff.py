"""Two runs beside each other: which steps are the same, which differ and in what, and what differs in the end.

Steps are aligned by a longest common subsequence over what they say (runtime.contents). Between two that are the same, steps
of the same kind about the same tool are paired as changed, then those that answer the same question otherwise, as a refusal
in place of an approval; the rest is in one run alone. Steps whose order alone differs, as of answers that came at the same
time, are told as moved, and are no difference.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from runtime.aligning import Stretch, aligned
from runtime.contents import Step, Steps, steps_of
from runtime.differing import Change, changes
from runtime.log import Stored
from runtime.totals import Effect, Totals, effects, totals_of, writes_of
from schemas.events import Fork
from schemas.ids import RunId

How: TypeAlias = Literal["same", "moved", "changed", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A step of each run, or of one alone: removed is in the first one only, added in the second."""

    how: How
    a: Step | None = None
    b: Step | None = None

    def changes(self) -> list[Change]:
        """What differs within a changed pair: first what was said, then, under /prompt, what the model had been told."""
        if self.how != "changed" or self.a is None or self.b is None:
            return []
        kind = changes(self.a.kind, self.b.kind, "/kind")
        said = changes(self.a.content, self.b.content)
        return [*kind, *said, *changes(self.a.prompt or {}, self.b.prompt or {}, "/prompt")]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs in short."""

    run: RunId
    outcome: str
    answer: str | None
    agent: str
    totals: Totals
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """One of the runs is a fork of the other: which one, and where and how it left it."""

    fork: Literal["a", "b"]
    at: Fork


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs between two runs. pairs: in the order of the first run, of the second where that has none."""

    a: Side
    b: Side
    pairs: tuple[Pair, ...]
    effects: tuple[Effect, ...]
    left: Left | None = None

    @property
    def same(self) -> bool:
        """Whether both runs say the same."""
        return self.first is None

    @property
    def first(self) -> Pair | None:
        """Where they part."""
        return next((pair for pair in self.pairs if pair.how not in ("same", "moved")), None)

    def count(self, how: How) -> int:
        """How many pairs are so."""
        return sum(pair.how == how for pair in self.pairs)


def diff(a: tuple[RunId, Iterable[Stored]], b: tuple[RunId, Iterable[Stored]]) -> Diff:
    """Compare two runs by their facts; the same facts give the same difference, and the other way round its mirror image."""
    first, second = steps_of(*a), steps_of(*b)
    pairs = tuple(pairs_of(first.steps, second.steps))
    return Diff(_side(first), _side(second), pairs, effects(writes_of(first), writes_of(second)), _left(first, second))


def pairs_of(a: Sequence[Step], b: Sequence[Step]) -> Iterator[Pair]:
    """The steps of two runs, each of them once."""
    stretches = aligned([step.key for step in a], [step.key for step in b])
    moved = _moved(a, b, [each for each in stretches if not each.same])
    gone, come = {id(one) for one, _ in moved}, {id(other): (one, other) for one, other in moved}
    for each in stretches:
        ours, theirs = a[each.a.start : each.a.stop], b[each.b.start : each.b.stop]
        if each.same:
            yield from (_equal(one, other) for one, other in zip(ours, theirs, strict=True))
            continue
        left_a = [step for step in ours if id(step) not in gone]
        yield from _by(_KINDS, left_a, [step for step in theirs if id(step) not in come])
        yield from (Pair("moved", *come[id(step)]) for step in theirs if id(step) in come)


def _equal(one: Step, other: Step) -> Pair:
    """Two steps that say the same are still another if the model had been told something else."""
    return Pair("same" if one.prompt == other.prompt else "changed", one, other)


def _moved(a: Sequence[Step], b: Sequence[Step], gaps: Sequence[Stretch]) -> list[tuple[Step, Step]]:
    """Steps that say the same and stand elsewhere: those that are out of line in both runs, the first with the first."""
    waiting: defaultdict[str, deque[Step]] = defaultdict(deque)
    for gap in gaps:
        for step in b[gap.b.start : gap.b.stop]:
            waiting[step.key].append(step)
    left = (step for gap in gaps for step in a[gap.a.start : gap.a.stop])
    return [(step, waiting[step.key].popleft()) for step in left if waiting[step.key] and step.prompt is None]


def _by(names: Sequence[Callable[[Step], str]], a: Sequence[Step], b: Sequence[Step]) -> Iterator[Pair]:
    """Steps between two that are the same: paired by their first name, what is left by the next, the rest on its own."""
    if not names or not a or not b:
        yield from (Pair("removed", a=step) for step in a)
        yield from (Pair("added", b=step) for step in b)
        return
    name, *coarser = names
    for each in aligned([name(step) for step in a], [name(step) for step in b]):
        ours, theirs = a[each.a.start : each.a.stop], b[each.b.start : each.b.stop]
        if each.same:
            yield from (Pair("changed", one, other) for one, other in zip(ours, theirs, strict=True))
        else:
            yield from _by(coarser, ours, theirs)


_KINDS: tuple[Callable[[Step], str], ...] = (
    lambda step: f"{step.kind} {step.about}", lambda step: f"{step.asked} {step.about}", lambda step: step.asked,
)  # fmt: skip


def _side(run: Steps) -> Side:
    state = run.state
    agent = state.request.agent.name if state.request else ""
    return Side(run.run, "erased" if state.erased else state.outcome, state.answer, agent, totals_of(run), state.erased)


def _left(a: Steps, b: Steps) -> Left | None:
    for which, run, other in (("a", a, b), ("b", b, a)):
        fork = run.state.request.fork if run.state.request else None
        if fork and fork.run == other.run:
            return Left("a" if which == "a" else "b", fork)
    return None
