"""The numbers of a data set as one HTML file with plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from infra.cohort.plots import Bar, bars
from infra.reports.page import escaped, page
from services.datasets.statistics import Statistics, bins, spread

Say = Callable[..., str]
_TOOLS = 20


def statistics_page(
    title: str, parts: Mapping[str, Statistics], longer: int, tokenizer: str, say: Say, language: str,
    reason: Callable[[str], str],
) -> str:  # fmt: skip
    """The whole document. longer: in tokens, what is marked as long; tokenizer: the model whose it is, "" if estimated.

    say: words for a key; reason: a reason for leaving a row out, as it is shown.
    """
    how = say("dataset stats counted", model=tokenizer) if tokenizer else say("dataset stats estimated")
    body = [f"<h1>{escaped(title)}</h1>", _overview(parts, longer, say)]
    for name, numbers in parts.items():
        body += [f"<h2>{escaped(say('dataset stats part', part=name, count=f'{numbers.conversations:,}'))}</h2>"]
        body += [_facts(numbers, say, reason), _spreads(numbers, say)]
        body += [
            _histogram(f"{say('dataset stats tokens title')} ({how})", numbers.tokens, longer),
            _histogram(say("dataset stats turns title"), numbers.turns),
            _histogram(say("dataset stats calls title"), numbers.calls),
            _histogram(say("dataset stats offered title"), numbers.offered),
            _counted(say("dataset stats called title", count=_TOOLS), numbers.called, sum(numbers.called.values())),
            _counted(say("dataset stats groups"), numbers.groups, numbers.conversations),
        ]  # fmt: skip
    return page(title, "\n".join(filter(None, body)), "zh" if language == "zh" else "en")


def _overview(parts: Mapping[str, Statistics], longer: int, say: Say) -> str:
    keys = ("conversations", "no_call", "clarifying", "parallel", "tokens")
    heads = "".join(f'<th class="number">{escaped(say(f"dataset stats {key}"))}</th>' for key in keys)
    heads += f'<th class="number">{escaped(say("dataset stats over", length=f"{longer:,}"))}</th>'
    rows = []
    for name, each in parts.items():
        count = max(1, each.conversations)
        cells = (
            f"{each.conversations:,}", f"{each.no_call / count:.1%}", f"{each.clarifying / count:.1%}",
            f"{each.parallel / count:.1%}", f"{sum(each.tokens):,}", f"{each.longer(longer) / count:.1%}",
        )  # fmt: skip
        rows.append(f"<tr><td>{escaped(name)}</td>{_numbers(cells)}</tr>")
    part = escaped(say("dataset part"))
    return f'<div class="scroll"><table><tr><th>{part}</th>{heads}</tr>{"".join(rows)}</table></div>'


def _numbers(cells: Sequence[str]) -> str:
    return "".join(f'<td class="number">{escaped(cell)}</td>' for cell in cells)


def _facts(numbers: Statistics, say: Say, reason: Callable[[str], str]) -> str:
    total = max(1, numbers.conversations)
    listed = [
        (say("dataset stats languages"), _shares(numbers.languages, total)),
        (say("dataset stats sources"), _shares(numbers.sources, total)),
        (
            say("dataset stats tools word"),
            say("dataset stats tools", offered=f"{len(numbers.tools):,}", called=f"{len(numbers.called):,}"),
        ),
    ]
    listed += [(say("dataset skipped word"), f"{reason(why)}: {count}") for why, count in numbers.skipped.most_common()]
    return f'<dl class="facts">{"".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in listed)}</dl>'


def _shares(counted: Counter[str], total: int) -> str:
    return ", ".join(f"{name} {many:,} ({many / total:.0%})" for name, many in counted.most_common())


def _spreads(numbers: Statistics, say: Say) -> str:
    keys = ("mean", "p50", "p95", "max")
    heads = "".join(f'<th class="number">{escaped(say(f"dataset stats {key}"))}</th>' for key in keys)
    rows = []
    for key, values in (
        ("turns", numbers.turns),
        ("calls", numbers.calls),
        ("offered", numbers.offered),
        ("tokens", numbers.tokens),
    ):
        found = spread(values)
        cells = [f"{found[each]:,.1f}" if each == "mean" else f"{found[each]:,.0f}" for each in keys if found]
        rows.append(f"<tr><td>{escaped(say(f'dataset stats each {key}'))}</td>{_numbers(cells)}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'


def _histogram(title: str, values: Sequence[int], longer: int = 0) -> str:
    found = bins(values)
    most = max((each[2] for each in found), default=0)
    if not most:
        return ""
    return bars(
        title,
        [
            Bar(
                f"{start:,}" if start == end else f"{start:,} – {end:,}", many / most, f"{many:,}",
                colour="--removed" if longer and start > longer else "--accent",
            )
            for start, end, many in found
        ],
    )  # fmt: skip


def _counted(title: str, counted: Counter[str], total: int) -> str:
    most = max(counted.values(), default=0)
    rows = [Bar(name, many / most, f"{many:,} ({many / total:.1%})") for name, many in counted.most_common(_TOOLS)]
    return bars(title, rows) if rows else ""
