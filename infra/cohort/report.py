"""A cohort as one HTML file: figures, plots, and every run that changed with its differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.cohort.driving import Result
from infra.cohort.plots import Bar, bars, distributions
from infra.cohort.summary import Summary, place
from infra.reports.page import escaped, page
from runtime.timeline import short
from schemas.canonical import canonical
from services.evaluation.course import Action, Spending
from services.evaluation.totals import Rate, Totals

MOST = 500
Say = Callable[..., str]
RISKY = ("new_write", "other_write", "lost_write")


def report(summary: Summary, shown: Sequence[Result], say: Say, language: str) -> str:
    """The whole document. shown: the runs that changed, riskiest first, opened as far as they can be; at most MOST are told."""
    about = summary.about
    head = say("cohort head", id=about.id, runs=len(about.runs), swap=_swap(summary, say))
    title = say("cohort title", swap=_swap(summary, say))
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="quiet">{escaped(about.query)} · {escaped(head)} · '
        f"{escaped(about.created.strftime('%Y-%m-%d %H:%M UTC'))}</p>",
        _facts(summary, say), _plots(summary, say), _spent(summary.totals, say), _changed(summary, shown[:MOST], say),
        _troubled(summary, say),
    ]  # fmt: skip
    return page(title, "\n".join(body), "zh" if language == "zh" else "en")


def _swap(summary: Summary, say: Say) -> str:
    return ", ".join(summary.about.swap) or say("cohort nothing")


def _facts(summary: Summary, say: Say) -> str:
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in table(summary, say))
    return f'<dl class="facts">{rows}</dl>'


def table(summary: Summary, say: Say) -> list[tuple[str, str]]:
    """The figures of a cohort in words: name and value."""
    totals = summary.totals
    rows = [
        (say("cohort agreement"), told(totals.agreement)), (say("cohort actions"), told(totals.actions)),
        (say("cohort calls"), told(totals.calls)),
        (say("cohort arguments"), "–" if totals.arguments is None else f"{totals.arguments:.2%}"),
        (say("cohort verdicts"), told(totals.verdicts)), (say("cohort answers"), told(totals.answers)),
    ]  # fmt: skip
    if totals.stopped:
        rows.append((say("cohort stopped"), say("cohort stopped line", runs=totals.stopped, actions=totals.unreached)))
    if summary.erased:
        rows.append((say("cohort erased"), str(len(summary.erased))))
    if summary.troubled or summary.missing:
        rows.append((say("cohort troubled"), str(len(summary.troubled) + summary.missing)))
    return rows


def told(rate: Rate) -> str:
    """A rate with its interval and what it is of."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "–"
    return f"{rate.value:.2%}  [{rate.low:.2%}, {rate.high:.2%}]  n={rate.of}"


def spending(totals: Totals, say: Say) -> list[tuple[str, str, str]]:
    """What the runs took then and now: name, recorded, driven."""
    then, now = totals.recorded, totals.driven
    rows = [
        (say("cohort tokens"), f"{then.tokens:,}", f"{now.tokens:,}"),
        (say("cohort generations"), f"{then.generations:,}", f"{now.generations:,}"),
        (say("cohort models"), f"{then.models_s:,.1f} s", f"{now.models_s:,.1f} s"),
        (say("cohort seconds"), f"{then.seconds:,.1f} s", f"{now.seconds:,.1f} s"),
    ]
    currencies = sorted(then.money.keys() | now.money.keys())
    return rows + [(say("cohort money"), _money(then, each), _money(now, each)) for each in currencies]


def _money(spent: Spending, currency: str) -> str:
    return f"{spent.money.get(currency, '0')} {currency}"


def _plots(summary: Summary, say: Say) -> str:
    totals, whole = summary.totals, [each for each in summary.compared if not each.stopped]
    tools = sorted(totals.tools.items(), key=lambda each: (each[1].value or 0.0, each[0]))[:40]
    most = max(totals.risks.values(), default=1)
    names = (say("cohort recorded"), say("cohort driven"))
    parts = [
        bars(say("cohort by tool"), [
            Bar(tool, rate.value or 0.0, f"{rate.value or 0:.1%} n={rate.of}", rate.low, rate.high) for tool, rate in tools
        ]) if tools else "",
        bars(say("cohort risks"), [
            Bar(say(f"cohort risk {risk}"), count / most, str(count), colour="--removed" if risk in RISKY else "--accent")
            for risk, count in totals.risks.items()
        ]) if totals.risks else "",
    ]  # fmt: skip
    measures: tuple[tuple[str, str, Callable[[Spending], float]], ...] = (
        ("cohort tokens", "", lambda each: float(each.tokens)),
        ("cohort models", "s", lambda each: each.models_s),
        ("cohort seconds", "s", lambda each: each.seconds),
        ("cohort money", "", lambda each: sum(float(amount) for amount in each.money.values())),
    )
    for name, unit, of in measures:
        then, now = [of(each.recorded) for each in whole], [of(each.driven) for each in whole]
        parts.append(distributions(say("cohort a run", what=say(name)), then, now, unit, names))
    return "\n".join(filter(None, parts))


def _spent(totals: Totals, say: Say) -> str:
    sides = (say("cohort recorded"), say("cohort driven"))
    head = "<th></th>" + "".join(f'<th class="number">{escaped(each)}</th>' for each in sides)
    rows = "".join(
        f'<tr><td>{escaped(name)}</td><td class="number">{escaped(then)}</td><td class="number">{escaped(now)}</td></tr>'
        for name, then, now in spending(totals, say)
    )
    return f"<h2>{escaped(say('cohort spent'))}</h2><table><tr>{head}</tr>{rows}</table>"


def _changed(summary: Summary, shown: Sequence[Result], say: Say) -> str:
    if not summary.changed:
        same = "cohort same driven" if summary.troubled or summary.missing else "cohort same"
        return f'<p class="note">{escaped(say(same))}</p>'
    parts = [f"<h2>{escaped(say('cohort changed', count=len(summary.changed)))}</h2>"]
    parts.extend(_one(each, say) for each in shown)
    if len(summary.changed) > len(shown):
        parts.append(f'<p class="quiet">{escaped(say("cohort more", count=len(summary.changed) - len(shown)))}</p>')
    return "\n".join(parts)


def _one(result: Result, say: Say) -> str:
    found = result.agreement
    if found is None:
        return ""
    loud = "removed" if found.risk in RISKY else "changed"
    head = (
        f'<span class="badge {loud}">{escaped(say(f"cohort risk {found.risk}"))}</span> <code>{escaped(place(result))}</code> '
        f"{escaped(short(result.task, 120))}"
    )
    rows = "".join(
        f"<tr><td>{escaped(say(f'cohort risk {pair.risk}'))}</td><td>{_cell(pair.recorded, 'removed', say)}</td>"
        f"<td>{_cell(pair.driven, 'added', say)}</td></tr>"
        for pair in found.differences
    )
    columns = "".join(f"<th>{escaped(each)}</th>" for each in ("", say("cohort recorded"), say("cohort driven")))
    inside = [f"<table><tr>{columns}</tr>{rows}</table>"] if rows else []
    if found.stopped:
        inside.append(f'<p class="quiet">{escaped(say("cohort stopped at", what=", ".join(found.stopped)))}</p>')
    if found.endings[0] != found.endings[1] and not found.stopped:
        inside.append(f"<p>{escaped(found.endings[0])} → {escaped(found.endings[1])}</p>")
    if found.answers.recorded != found.answers.driven:
        inside.append(_texts(found.answers.recorded, found.answers.driven))
    if result.sealed is not None:
        inside.append(f'<p class="quiet">{escaped(say("cohort sealed"))}</p>')
    return f"<details><summary>{head}</summary>{''.join(inside)}</details>"


def _cell(action: Action | None, colour: str, say: Say) -> str:
    return f'<span class="code {colour}">{escaped(line(action))}</span><br>{escaped(fate(action, say))}' if action else "–"


def _texts(then: str | None, now: str | None) -> str:
    return f'<pre class="removed">{escaped(then or "–")}</pre><pre class="added">{escaped(now or "–")}</pre>'


def line(action: Action | None) -> str:
    """A call on one line."""
    return "–" if action is None else f"{action.tool} {canonical(action.arguments).decode()}"


def fate(action: Action, say: Say) -> str:
    """What became of a call, in words."""
    return " · ".join(filter(None, (action.verdict, say(f"cohort fate {action.fate}"))))


def _troubled(summary: Summary, say: Say) -> str:
    if not summary.troubled:
        return ""
    rows = "".join(
        f"<tr><td><code>{escaped(each.run)}</code></td><td>{escaped(each.trouble)}</td></tr>"
        for each in summary.troubled[:MOST]
    )
    return f"<h2>{escaped(say('cohort troubled'))}</h2><table>{rows}</table>"
