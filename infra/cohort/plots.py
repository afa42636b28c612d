"""Plots as inline SVG in the colours of a report's page: bars with intervals, and two distributions over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infra.reports.page import escaped

WIDTH = 720
_LABEL = 200
_ROW = 26
_VALUE = 110
_BINS = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. share: its length, 0 to 1; said: what stands behind it; low, high: of its interval, if it has one."""

    label: str
    share: float
    said: str
    low: float | None = None
    high: float | None = None
    colour: str = "--accent"


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars under each other, as a figure."""
    room = WIDTH - _LABEL - _VALUE
    parts = []
    for number, row in enumerate(rows):
        top = number * _ROW
        length = max(0.0, min(1.0, row.share)) * room
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end" class="l">{escaped(_cut(row.label))}</text>'
            f'<rect x="{_LABEL}" y="{top + 5}" width="{room}" height="16" fill="var(--line)" opacity=".35"/>'
            f'<rect x="{_LABEL}" y="{top + 5}" width="{length:.1f}" height="16" fill="var({row.colour})"/>'
            f"{_whisker(row, top + 13, room)}"
            f'<text x="{WIDTH - _VALUE + 8}" y="{top + 17}" class="v">{escaped(row.said)}</text>'
        )
    return _figure(title, len(rows) * _ROW + 6, "".join(parts))


def _whisker(row: Bar, middle: int, room: int) -> str:
    if row.low is None or row.high is None:
        return ""
    start, end = _LABEL + row.low * room, _LABEL + row.high * room
    return (
        f'<path d="M{start:.1f} {middle}H{end:.1f}M{start:.1f} {middle - 4}v8M{end:.1f} {middle - 4}v8" '
        'stroke="var(--ink)" fill="none" stroke-width="1.2"/>'
    )


def _cut(label: str) -> str:
    return label if len(label) <= 28 else label[:27] + "…"


def distributions(title: str, recorded: Sequence[float], driven: Sequence[float], unit: str, names: tuple[str, str]) -> str:
    """How two sets of values spread: a histogram with equal bins for both, empty text where there is nothing to tell."""
    values = [*recorded, *driven]
    if not values or max(values) <= 0:
        return ""
    top = max(values)
    heights = [_counts(each, top) for each in (recorded, driven)]
    most = max(max(each) for each in heights)
    height, base = 190, 150
    step = (WIDTH - 80) / _BINS
    parts = [f'<path d="M40 {base}H{WIDTH - 40}" stroke="var(--line)"/>']
    for which, colour in enumerate(("--quiet", "--accent")):
        for place, count in enumerate(heights[which]):
            tall = count / most * (base - 20)
            left = 40 + place * step + which * step / 2
            where = f'x="{left:.1f}" y="{base - tall:.1f}" width="{step / 2 - 1:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect {where} fill="var({colour})"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        left = 40 + share * (WIDTH - 80)
        parts.append(f'<text x="{left:.0f}" y="{base + 16}" text-anchor="middle" class="v">{_number(top * share)}</text>')
    parts.append(f'<text x="{WIDTH - 40}" y="{base + 34}" text-anchor="end" class="v">{escaped(unit)}</text>')
    for which, (colour, name) in enumerate(zip(("--quiet", "--accent"), names, strict=True)):
        left = 40 + which * 170
        parts.append(f'<rect x="{left}" y="{base + 24}" width="12" height="12" fill="var({colour})"/>')
        parts.append(f'<text x="{left + 18}" y="{base + 34}" class="v">{escaped(name)}</text>')
    return _figure(title, height, "".join(parts))


def _counts(values: Sequence[float], top: float) -> list[int]:
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int(value / top * _BINS))] += 1
    return counts


def _number(value: float) -> str:
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value < 1 else f"{value:.1f}"


def _figure(title: str, height: int, inside: str) -> str:
    style = "<style>text{font:12px system-ui,sans-serif}.l{fill:var(--ink)}.v{fill:var(--quiet)}</style>"
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escaped(title)}">{style}{inside}</svg></figure>'
    )
