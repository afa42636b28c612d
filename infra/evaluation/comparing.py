"""Results side by side: each figure with its paired difference to the first, and the items whose verdict changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from infra.cohort.plots import bars
from infra.evaluation.report import (
    COUNTS,
    MOST,
    NUMBER,
    STYLE,
    asked,
    bar,
    conversation,
    figure_name,
    gold,
    is_share,
    number,
    said,
    told,
)
from infra.evaluation.result import Outcome, Result, outcomes, read
from infra.reports.page import escaped, page
from schemas.errors import MilepostError
from services.evaluation.metrics.intervals import Difference, Measured, difference, rate_of
from services.evaluation.metrics.replies import FIGURES
from services.evaluation.totals import Rate

Say = Callable[..., str]


class NotComparable(MilepostError):
    """The results are of different things."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: of each result, and how far each but the first is from the first, over the same items."""

    name: str
    rates: tuple[Rate, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """An item that the results do not agree on: what each of them has of it."""

    id: str
    sides: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results over the items that all have. left_out: items that not all of them have."""

    results: tuple[Result, ...]
    shared: int
    left_out: int
    figures: tuple[Figure, ...]
    changed: tuple[Change, ...]

    def names(self) -> tuple[str, ...]:
        """Of those compared, told apart where two have one name."""
        found = [each.who.name for each in self.results]
        return tuple(
            name if found.count(name) == 1 else f"{name} {each.how.name} {each.id[:4]}"
            for name, each in zip(found, self.results, strict=True)
        )


def compare(folders: Sequence[Path], *, shared: bool = False) -> Comparison:
    """Compare results with the first. shared: over the items that all have, where they are not the same ones.

    Raises NotComparable, BadResult.
    """
    if len(folders) < 2:
        raise NotComparable("One result is nothing to compare.", hint="milepost eval compare A B")
    results = tuple(read(folder) for folder in folders)
    for first, second in pairwise(results):
        if first.benchmark != second.benchmark:
            raise NotComparable(
                f"{first.benchmark} and {second.benchmark} are different benchmarks.", why="they have no items in common",
                hint="milepost eval results",
            )  # fmt: skip
    sides = [{each.id: each for each in outcomes(folder)} for folder in folders]
    common = sorted(id for id in sides[0] if all(id in side and side[id].key == sides[0][id].key for side in sides))
    left_out = len({id for side in sides for id in side}) - len(common)
    if not common:
        raise NotComparable(
            "The results have no item in common.", why="their data or their draws differ", hint="ask both again"
        )
    if left_out and not shared:
        raise NotComparable(
            f"The results are of different items: {len(common)} are in all of them, {left_out} are not.",
            why=", ".join(f"{each.who.name}: {each.items} of {each.part}, draw {each.draw}" for each in results),
            hint="--shared compares over those that all have",
        )  # fmt: skip
    changed = tuple(
        Change(id, tuple(side[id] for side in sides)) for id in common if len({side[id].right for side in sides}) > 1
    )
    return Comparison(results, len(common), left_out, _figures(sides, common), changed)


def _figures(sides: Sequence[dict[str, Outcome]], common: Sequence[str]) -> tuple[Figure, ...]:
    names = dict.fromkeys(name for side in sides for id in common for name in side[id].measured)
    ordered = sorted(names, key=lambda name: FIGURES.index(name) if name in FIGURES else len(FIGURES))
    return tuple(_figure(name, sides, common) for name in ordered)


def _figure(name: str, sides: Sequence[dict[str, Outcome]], common: Sequence[str]) -> Figure:
    measured = [
        {id: Measured(*side[id].measured[name]) for id in common if name in side[id].measured} for side in sides
    ]  # fmt: skip
    rates = tuple(rate_of(list(each.values())) for each in measured)
    return Figure(name, rates, tuple(difference(measured[0], each) for each in measured[1:]))


# --- for people -------------------------------------------------------------------------------------


def rows(found: Comparison, say: Say) -> list[list[str]]:
    """A line for each figure: its name, each one's value, then each difference with its interval."""
    return [
        [
            figure_name(each.name, say),
            *(told(rate, each.name in COUNTS)[0] for rate in each.rates),
            *(change(one, each.name in COUNTS) for one in each.differences),
        ]
        for each in found.figures
    ]


def columns(found: Comparison, say: Say) -> list[str]:
    """The headings of these lines."""
    names = found.names()
    return [say("eval figure"), *names, *(say("eval minus", other=name, first=names[0]) for name in names[1:])]


def change(one: Difference, count: bool = False) -> str:
    """A difference with its interval; marked where there hardly is none."""
    if one.value is None or one.low is None or one.high is None:
        return "–"
    sure = " *" if one.low > 0 or one.high < 0 else ""
    value, low, high = (_signed(each, count) for each in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]{sure}"


def _signed(value: float, count: bool) -> str:
    return f"{'+' if value >= 0 else '−'}{number(abs(value), count).removesuffix('%')}"


def verdicts(found: Comparison) -> list[tuple[str, int, int]]:
    """For each but the first: its name, items that it alone of the two has right, items that the first alone has."""
    return [
        (
            name, sum(each.sides[place].right and not each.sides[0].right for each in found.changed),
            sum(each.sides[0].right and not each.sides[place].right for each in found.changed),
        )
        for place, name in enumerate(found.names()) if place
    ]  # fmt: skip


def as_data(found: Comparison) -> dict[str, object]:
    """The comparison as JSON."""
    return {
        "results": [each.model_dump(mode="json") for each in found.results], "shared": found.shared, "left_out": found.left_out,
        "figures": [
            {
                "name": each.name, "rates": [rate.model_dump() for rate in each.rates],
                "differences": [one.model_dump() for one in each.differences],
            }
            for each in found.figures
        ],
        "changed": [{"id": each.id, "reasons": [side.reason for side in each.sides]} for each in found.changed],
    }  # fmt: skip


def report(found: Comparison, say: Say, language: str) -> str:
    """The comparison as one HTML file."""
    first = found.results[0]
    title = say("eval compare title", names=", ".join(found.names()), benchmark=first.benchmark)
    head = "".join(f"<th{NUMBER if place else ''}>{escaped(each)}</th>" for place, each in enumerate(columns(found, say)))
    lines = "".join(
        "<tr>" + "".join(f"<td{NUMBER if place else ''}>{escaped(cell)}</td>" for place, cell in enumerate(row)) + "</tr>"
        for row in rows(found, say)
    )
    plots = [
        bars(figure_name(each.name, say), [bar(name, rate) for name, rate in zip(found.names(), each.rates, strict=True)])
        for each in found.figures if all(is_share(each.name, rate) for rate in each.rates)
    ]  # fmt: skip
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="quiet">{escaped(say("eval compared", items=found.shared, part=first.part, left=found.left_out))}</p>',
        f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>',
        f'<p class="quiet">{escaped(say("eval star"))}</p>', *plots, _changed(found, say),
    ]  # fmt: skip
    return page(title, "\n".join(body), "zh" if language == "zh" else "en", STYLE)


def _changed(found: Comparison, say: Say) -> str:
    if not found.changed:
        return f'<p class="note">{escaped(say("eval none changed"))}</p>'
    parts = [f"<h2>{escaped(say('eval changed', count=len(found.changed)))}</h2>"]
    parts += [_one(each, found.names(), say) for each in found.changed[:MOST]]
    if len(found.changed) > MOST:
        parts.append(f'<p class="quiet">{escaped(say("eval more", count=len(found.changed) - MOST))}</p>')
    return "\n".join(parts)


def _one(each: Change, names: Sequence[str], say: Say) -> str:
    marks = " ".join(
        f'<span class="badge {"added" if side.right else "removed"}">{escaped(name)}</span>'
        for name, side in zip(names, each.sides, strict=True)
    )
    texts = [(say("eval asked"), conversation(each.sides[0])), (say("eval gold"), gold(each.sides[0], say))]
    texts += [
        (name, "\n\n".join(filter(None, (said(side, say), side.reason if side.reply.readable else ""))))
        for name, side in zip(names, each.sides, strict=True)
    ]  # fmt: skip
    sides = "".join(f"<div><h3>{escaped(name)}</h3><pre>{escaped(text)}</pre></div>" for name, text in texts)
    head = f"{marks} <code>{escaped(each.id)}</code> {escaped(asked(each.sides[0])[:120])}"
    return f'<details id="{escaped(each.id)}"><summary>{head}</summary><div class="sides">{sides}</div></details>'
