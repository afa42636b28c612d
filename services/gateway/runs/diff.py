"""Two runs beside each other, as a page shows them: what `milepost diff --json` tells, in bounded pieces."""

from __future__ import annotations

import json
from typing import Literal

from runtime.contents import Step
from runtime.diff import Diff, How, Pair, Side, diff
from runtime.differing import Change
from runtime.timeline import Language, summary
from runtime.totals import Done
from schemas.tools import Value
from services.gateway.runs.view import Reading

MOST_CHANGES = 100
MOST_TEXT = 20_000
"""Of one value; what is longer is cut, and told so."""


class TotalsTold(Value):
    """runtime.totals.Totals."""

    events: int
    turns: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    model_ms: float
    waited_s: float
    wall_s: float | None
    calls: int
    writes: int
    money: dict[str, str]


class SideTold(Value):
    """One of the two runs in short."""

    run: str
    outcome: str
    answer: str | None
    agent: str
    task: str
    erased: bool
    totals: TotalsTold


class StepTold(Value):
    """A step of one run in one line."""

    n: int
    type: str
    line: str


class ChangeTold(Value):
    """One difference. path: a JSON Pointer. old, new: texts as they are, all else as JSON. words: both word by word.

    cut: not all of it is here.
    """

    path: str
    how: Literal["changed", "removed", "added"]
    old: str | None = None
    new: str | None = None
    words: tuple[tuple[Literal["=", "-", "+"], str], ...] | None = None
    cut: bool = False


class PairTold(Value):
    """A step of each run, or of one alone. more: so many changes are left out."""

    how: How
    a: StepTold | None = None
    b: StepTold | None = None
    changes: tuple[ChangeTold, ...] = ()
    more: int = 0


class WriteTold(Value):
    """A write of one run."""

    n: int
    tool: str
    arguments: str
    state: str
    result: str | None
    note: str


class EffectTold(Value):
    """A write of either run, or of both (runtime.totals.Effect)."""

    how: Literal["same", "result", "arguments", "only a", "only b"]
    a: WriteTold | None
    b: WriteTold | None


class ForkTold(Value):
    """Which of the two is a fork of the other, and where it left it."""

    which: Literal["a", "b"]
    at: int
    changed: tuple[str, ...]
    by: str


class DiffTold(Value):
    """All that differs between two runs. first: the index of the step where they part."""

    a: SideTold
    b: SideTold
    same: bool
    fork: ForkTold | None
    counts: dict[How, int]
    first: int | None
    steps: tuple[PairTold, ...]
    effects: tuple[EffectTold, ...]


def compared(a: Reading, b: Reading, language: Language) -> DiffTold:
    """Compare two runs."""
    found = diff((a.run, a.facts), (b.run, b.facts))
    steps = tuple(_pair(each, language) for each in found.pairs)
    return DiffTold(
        a=_side(found.a, a), b=_side(found.b, b), same=found.same, fork=_fork(found),
        counts={how: found.count(how) for how in _HOW}, steps=steps,
        first=next((index for index, each in enumerate(steps) if each.how not in ("same", "moved")), None),
        effects=tuple(EffectTold(how=each.how, a=_write(each.a), b=_write(each.b)) for each in found.effects),
    )  # fmt: skip


_HOW: tuple[How, ...] = ("same", "moved", "changed", "removed", "added")


def _side(side: Side, reading: Reading) -> SideTold:
    totals = side.totals
    request = reading.request
    return SideTold(
        run=side.run, outcome=side.outcome, answer=side.answer, agent=side.agent, erased=side.erased,
        task=request.task if request else "",
        totals=TotalsTold(
            events=totals.events, turns=totals.turns, tokens_in=totals.tokens_in, tokens_cached=totals.tokens_cached,
            tokens_out=totals.tokens_out, model_ms=totals.model_ms, waited_s=totals.waited_s, wall_s=totals.wall_s,
            calls=totals.calls, writes=totals.writes, money=totals.money,
        ),
    )  # fmt: skip


def _fork(found: Diff) -> ForkTold | None:
    left = found.left
    return ForkTold(which=left.fork, at=left.at.at, changed=left.at.changed, by=left.at.by) if left else None


def _pair(pair: Pair, language: Language) -> PairTold:
    changes = pair.changes()
    told = tuple(_change(each) for each in changes[:MOST_CHANGES])
    return PairTold(
        how=pair.how, a=_step(pair.a, language), b=_step(pair.b, language), changes=told, more=len(changes) - len(told)
    )


def _step(step: Step | None, language: Language) -> StepTold | None:
    return StepTold(n=step.number, type=step.kind, line=summary(step.fact, language)) if step else None


def _change(change: Change) -> ChangeTold:
    old, new = (_text(change.old) if change.how != "added" else None), (_text(change.new) if change.how != "removed" else None)
    cut = any(text is not None and len(text) > MOST_TEXT for text in (old, new))
    words = None if cut else change.words
    return ChangeTold(
        path=change.path, how=change.how, old=old[:MOST_TEXT] if old is not None and words is None else None,
        new=new[:MOST_TEXT] if new is not None and words is None else None, words=tuple(words) if words else None, cut=cut,
    )  # fmt: skip


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _write(done: Done | None) -> WriteTold | None:
    if done is None:
        return None
    return WriteTold(
        n=done.number, tool=done.tool, arguments=json.dumps(done.arguments, ensure_ascii=False)[:MOST_TEXT], state=done.state,
        result=done.result.text[:MOST_TEXT] if done.result else None, note=done.note,
    )  # fmt: skip
