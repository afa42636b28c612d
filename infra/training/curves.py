"""Curves over a training run as inline SVG, in the colours of a report's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from infra.reports.page import escaped

Place: TypeAlias = Callable[[float, float], str]

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 200
_SMOOTH = 0.05  # of a series: the window of its running mean
_MOST = 600  # points that are drawn of a series


@dataclass(frozen=True)
class Curve:
    """A named series of (x, y). smooth: draw its running mean over it; points: mark each one."""

    name: str
    values: Sequence[tuple[float, float]]
    colour: str = "--accent"
    smooth: bool = False
    points: bool = False


def curves(title: str, across: str, drawn: Sequence[Curve], *, from_zero: bool = False) -> str:
    """A figure of several series over one axis; empty text where there is nothing to draw."""
    kept = [curve for curve in drawn if curve.values]
    if not kept:
        return ""
    xs = [x for curve in kept for x, _ in curve.values]
    ys = [y for curve in kept for _, y in curve.values]
    low_x, high_x = min(xs), max(*xs, min(xs) + 1e-9)
    low, high = (0.0 if from_zero else min(ys)), max(ys)
    steps = ticks(low, high)
    low, high = min(low, steps[0]), max(high, steps[-1])

    def place(x: float, y: float) -> str:
        left = LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        return f"{left:.1f} {BOTTOM - (y - low) / (high - low) * (BOTTOM - TOP):.1f}"

    parts = [
        f'<path d="M{LEFT} {level}H{WIDTH - RIGHT}" stroke="var(--line)"/>'
        f'<text x="{LEFT - 6}" y="{float(level) + 4:.0f}" text-anchor="end" class="v">{number(step)}</text>'
        for step in steps
        for level in [place(low_x, step).split()[1]]
    ]
    parts += [
        f'<text x="{place(x, low).split()[0]}" y="{BOTTOM + 16}" text-anchor="{anchor}" class="v">{number(x)}</text>'
        for x, anchor in ((low_x, "start"), ((low_x + high_x) / 2, "middle"), (high_x, "end"))
    ]
    left = LEFT
    for curve in kept:
        parts.append(_drawn(curve, place))
        parts.append(f'<rect x="{left}" y="{BOTTOM + 26}" width="12" height="3" fill="var({curve.colour})"/>')
        parts.append(f'<text x="{left + 18}" y="{BOTTOM + 32}" class="v">{escaped(curve.name)}</text>')
        left += 40 + 8 * sum(2 if ord(letter) > 0x2E80 else 1 for letter in curve.name)
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{BOTTOM + 32}" text-anchor="end" class="v">{escaped(across)}</text>')
    return _figure(title, "".join(parts))


def _drawn(curve: Curve, place: Place) -> str:
    values = thinned(curve.values)
    faint = ' opacity=".3"' if curve.smooth and len(values) > 2 else ""
    made = _path(values, curve.colour, place, faint)
    if faint:
        made += _path(thinned(running_mean(curve.values)), curve.colour, place, "")
    if curve.points or len(values) == 1:
        for x, y in values:
            left, top = place(x, y).split()
            made += f'<circle cx="{left}" cy="{top}" r="2.5" fill="var({curve.colour})"/>'
    return made


def _path(values: Sequence[tuple[float, float]], colour: str, place: Place, more: str) -> str:
    line = "L".join(place(x, y) for x, y in values)
    return f'<path d="M{line}" stroke="var({colour})" fill="none" stroke-width="1.6"{more}/>'


def running_mean(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value as the mean of those up to it, over a twentieth of the series."""
    window = max(2, round(len(values) * _SMOOTH))
    sums = [0.0]
    for _, y in values:
        sums.append(sums[-1] + y)
    return [
        (x, (sums[at + 1] - sums[max(0, at + 1 - window)]) / (at + 1 - max(0, at + 1 - window)))
        for at, (x, _) in enumerate(values)
    ]


def thinned(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST of them, evenly, the last one among them."""
    step = max(1, math.ceil(len(values) / _MOST))
    return [*values[:-1:step], values[-1]]


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around what lies between two."""
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """Short, for an axis: 1,200; 0.25; 2e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:g}" if abs(value) >= 0.001 else f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")


def _figure(title: str, inside: str) -> str:
    style = "<style>text{font:12px system-ui,sans-serif}.l{fill:var(--ink)}.v{fill:var(--quiet)}</style>"
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escaped(title)}">{style}{inside}</svg></figure>'
    )
