"""Figures with intervals: each is a sum over items divided by another, so that one bootstrap serves all of them.

A rate has one of (0 or 1, 1) for each item and gets Wilson's interval; whatever else - a mean, a micro-averaged F1, a
precision - gets the 2.5th and the 97.5th percentile of DRAWS bootstrap samples of items (Efron and Tibshirani 1993). Two
models are compared on the items that both answered, drawn together, as their replies to one item are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.tools import Value
from services.evaluation.totals import Rate, wilson

DRAWS, SEED = 1_000, 20_260_101
AT_ONCE = 500_000  # items that are drawn in one array


class Measured(NamedTuple):
    """What one item adds to a figure: `hits` above the line, `of` below it."""

    hits: float
    of: float = 1.0


class Difference(Value):
    """How much higher the second of two figures is, over `of` items. p: two-sided, that there is none; None without items."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    of: int = 0


def rate_of(measured: Sequence[Measured]) -> Rate:
    """The figure of these items, with its 95 % interval; `of` is their number. The same items give the same interval."""
    counted = [each for each in measured if each.of]
    if all(each.of == 1 and each.hits in (0, 1) for each in counted):
        return wilson(sum(each.hits for each in counted), len(counted))
    whole = sum(each.of for each in counted)
    low, high = _percentiles([_drawn(counted)])
    return Rate(value=sum(each.hits for each in counted) / whole, low=low, high=high, of=len(counted))


def rates_of(items: Sequence[Mapping[str, Measured]], order: Sequence[str] = ()) -> dict[str, Rate]:
    """All figures of items that were measured: those of `order` first, the others in the order in which they first come."""
    there = dict.fromkeys(name for item in items for name in item)
    names = [*(name for name in order if name in there), *(name for name in there if name not in order)]
    return {name: rate_of([item[name] for item in items if name in item]) for name in names}


def difference(first: Mapping[str, Measured], second: Mapping[str, Measured]) -> Difference:
    """Of one figure, by the ids of the items: the second less the first, over the items that both have, be it with 0 of 0."""
    shared = sorted(id for id in first.keys() & second.keys() if first[id].of or second[id].of)
    before, after = [first[id] for id in shared], [second[id] for id in shared]
    if not sum(each.of for each in before) or not sum(each.of for each in after):
        return Difference()
    drawn = [late - early for early, late in zip(_drawn(before), _drawn(after), strict=True)]
    sound = [each for each in drawn if not math.isnan(each)]
    low, high = _percentiles([sound])
    below, above = sum(each <= 0 for each in sound), sum(each >= 0 for each in sound)
    p = min(1.0, 2 * (min(below, above) + 1) / (len(sound) + 1))
    return Difference(value=_ratio(after) - _ratio(before), low=low, high=high, p=p, of=len(shared))


def _ratio(measured: Sequence[Measured]) -> float:
    return sum(each.hits for each in measured) / sum(each.of for each in measured)


def _drawn(measured: Sequence[Measured]) -> list[float]:
    """The figure in each bootstrap sample; as many items draw the same samples, so that two models are drawn together."""
    import numpy as np

    pairs, count = np.asarray(measured, dtype=np.float64), len(measured)
    random, at_once = np.random.default_rng(SEED), max(1, AT_ONCE // max(1, count))
    blocks = (min(at_once, DRAWS - done) for done in range(0, DRAWS, at_once))
    sums = np.concatenate([pairs[random.integers(count, size=(block, count))].sum(axis=1) for block in blocks])
    with np.errstate(divide="ignore", invalid="ignore"):
        return [float(each) for each in sums[:, 0] / sums[:, 1]]


def _percentiles(drawn: Sequence[Sequence[float]]) -> tuple[float, float]:
    import numpy as np

    low, high = np.nanpercentile(np.asarray(drawn), [2.5, 97.5])
    return float(low), float(high)
