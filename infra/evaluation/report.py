"""A result for people: its figures as rows of a table, and as one HTML file with plots and every item that went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from infra.cohort.plots import Bar, bars, distributions
from infra.evaluation.result import Outcome, Result
from infra.reports.page import escaped, page
from schemas.messages import Message
from schemas.tools import ToolCall
from services.evaluation.totals import Rate

MOST = 300
COUNTS = frozenset({"calls_made", "path_length"})
"""Figures that are no shares."""
Say = Callable[..., str]
Row = tuple[str, str, str, str]


def rows(result: Result, say: Say) -> list[Row]:
    """Figures, then groups: name, value, interval, over how many."""
    found = [_row(say("eval right"), result.right)]
    found += [_row(say("eval unreadable"), result.unreadable)] if result.unreadable.value else []
    found += [_row(figure_name(name, say), rate, name in COUNTS) for name, rate in result.figures.items()]
    if len(result.groups) > 1:
        found += [_row(f"  {name}", rate) for name, rate in result.groups.items()]
    return found


def figure_name(name: str, say: Say) -> str:
    """A figure in words, `attacked_exfiltrate` as that of `attacked` of a kind; one that has none as it is called."""
    stem, _, end = name.rpartition("_")
    return (
        _words(say, f"eval figure {name}") or _words(say, f"eval figure {stem} of", of=_words(say, f"eval of {end}") or end)
        or name.replace("_", " ")
    )  # fmt: skip


def _words(say: Say, key: str, **values: str) -> str:
    try:
        return say(key, **values)
    except KeyError:
        return ""


def _row(name: str, rate: Rate, count: bool = False) -> Row:
    return name, *told(rate, count)


def told(rate: Rate, count: bool = False) -> tuple[str, str, str]:
    """A rate, its interval, over how many."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "–", "", str(rate.of)
    return number(rate.value, count), f"{number(rate.low, count)} … {number(rate.high, count)}", str(rate.of)


def number(value: float, count: bool = False) -> str:
    """A share as a percentage; a count as it is."""
    return f"{value:,.2f}" if count else f"{value:.1%}"


def spending(result: Result, say: Say) -> list[tuple[str, str]]:
    """What it took: name and value."""
    spent = result.spent
    about = say("eval estimated", count=spent.estimated) if spent.estimated else ""
    tokens = say(
        "eval tokens line", read=f"{spent.prompt_tokens:,}", cached=f"{spent.cached_tokens:,}",
        written=f"{spent.completion_tokens:,}",
    )  # fmt: skip
    found = [
        (say("eval tokens"), tokens + about),
        (say("eval time"), say("eval time line", p50=_ms(spent.ms_p50), p95=_ms(spent.ms_p95), first=_ms(spent.first_ms_p50))),
        (say("eval seconds"), say("eval seconds line", seconds=f"{spent.seconds:,.1f}", kept=result.kept)),
    ]
    if result.cut:
        found.append((say("eval cut"), say("eval cut line", count=result.cut, context=f"{result.how.context:,}")))
    if result.unfinished:
        line = say("eval unfinished line", count=result.unfinished, longest=result.how.longest)
        found.append((say("eval unfinished"), line))
    if spent.money:
        found.append((say("eval money"), ", ".join(f"{amount} {currency}" for currency, amount in spent.money.items())))
    return found


def _ms(value: float) -> str:
    return f"{value / 1000:,.1f} s" if value >= 1000 else f"{value:.0f} ms"


def heading(result: Result, say: Say) -> str:
    """A result in a line."""
    return say(
        "eval heading", who=result.who.name, benchmark=result.benchmark, part=result.part, items=result.items,
        manner=result.how.name,
    )  # fmt: skip


def facts(result: Result, say: Say) -> list[tuple[str, str]]:
    """Who was asked what, how, where and when: name and value."""
    who = result.who
    about = " · ".join(filter(None, (who.name, who.model if who.model != who.name else "", who.precision, who.provider)))
    items = say("eval items line", items=result.items, of=result.of, draw=result.draw)
    skipped = say("eval skipped", count=result.skipped) if result.skipped else ""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return [
        (say("eval who"), about), (say("eval hash"), who.hash), (say("eval benchmark"), f"{result.title} · {result.part}"),
        (say("eval items"), items + skipped), (say("eval manner"), result.how.name), (say("eval machine"), result.machine),
        (say("eval versions"), versions), (say("eval began"), result.began.strftime("%Y-%m-%d %H:%M UTC")),
    ]  # fmt: skip


# --- HTML -------------------------------------------------------------------------------------------


def report(result: Result, outcomes: Sequence[Outcome], say: Say, language: str) -> str:
    """The whole document; of the wrong items, at most MOST are told."""
    title = say("eval title", who=result.who.name, benchmark=result.benchmark, part=result.part)
    took = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in spending(result, say))
    known = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts(result, say))
    body = [
        f"<h1>{escaped(title)}</h1>", f'<dl class="facts">{known}</dl>', _figures(result, say), _plots(result, outcomes, say),
        f"<h2>{escaped(say('eval spent'))}</h2>", f'<dl class="facts">{took}</dl>', _troubled(result, say),
        _wrong(outcomes, say),
    ]  # fmt: skip
    return page(title, "\n".join(filter(None, body)), "zh" if language == "zh" else "en", STYLE)


STYLE = """
h1::first-letter { text-transform: none; }
td:first-child { white-space: pre-wrap; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .25rem 1rem; }
.sides > div { min-width: 0; }
.sides h3 { margin: .5rem 0 0; color: var(--quiet); font-size: .87em; }
"""


def _figures(result: Result, say: Say) -> str:
    columns = (say("eval figure"), say("eval value"), say("eval interval"), "n")
    head = "".join(f"<th{'' if place == 0 else NUMBER}>{escaped(each)}</th>" for place, each in enumerate(columns))
    lines = "".join(
        "<tr>" + "".join(f"<td{'' if place == 0 else NUMBER}>{escaped(cell)}</td>" for place, cell in enumerate(row)) + "</tr>"
        for row in rows(result, say)
    )
    return f"<h2>{escaped(say('eval figures'))}</h2><table><tr>{head}</tr>{lines}</table>"


NUMBER = ' class="number"'


def _plots(result: Result, outcomes: Sequence[Outcome], say: Say) -> str:
    shares = {figure_name(name, say): rate for name, rate in result.figures.items() if is_share(name, rate)}
    parts = [
        bars(say("eval by figure"), [bar(name, rate) for name, rate in {say("eval right"): result.right, **shares}.items()])
    ]
    if len(result.groups) > 1:
        parts.append(bars(say("eval by group"), [bar(name, rate) for name, rate in result.groups.items()]))
    names = (say("eval were right"), say("eval were wrong"))
    answered = [each for each in outcomes if not each.reply.trouble]
    for what, unit, of in (
        (say("eval time"), "s", lambda each: each.reply.ms / 1000),
        (say("eval prompt tokens"), "", lambda each: float(each.reply.prompt_tokens)),
        (say("eval written tokens"), "", lambda each: float(each.reply.completion_tokens)),
    ):
        right, wrong = ([of(each) for each in answered if each.right is good] for good in (True, False))
        parts.append(distributions(say("eval an item", what=what), right, wrong, unit, names))
    return "\n".join(filter(None, parts))


def is_share(name: str, rate: Rate) -> bool:
    """Whether a figure can be a bar from 0 to 100 %."""
    return name not in COUNTS and rate.value is not None and 0 <= rate.value <= 1


def bar(label: str, rate: Rate) -> Bar:
    """A rate as a bar with its interval."""
    return Bar(label, rate.value or 0.0, f"{number(rate.value or 0.0)} n={rate.of}", rate.low, rate.high)


def _troubled(result: Result, say: Say) -> str:
    if not result.troubled:
        return ""
    lines = "".join(
        f'<tr><td class="number">{count}</td><td>{escaped(reason)}</td></tr>' for reason, count in result.troubled.items()
    )
    return f"<h2>{escaped(say('eval troubled', count=sum(result.troubled.values())))}</h2><table>{lines}</table>"


def _wrong(outcomes: Sequence[Outcome], say: Say) -> str:
    wrong = [each for each in outcomes if not each.right]
    if not wrong:
        return f'<p class="note">{escaped(say("eval none wrong"))}</p>'
    parts = [f"<h2>{escaped(say('eval wrong', count=len(wrong)))}</h2>", *(_one(each, say) for each in wrong[:MOST])]
    if len(wrong) > MOST:
        parts.append(f'<p class="quiet">{escaped(say("eval more", count=len(wrong) - MOST))}</p>')
    return "\n".join(parts)


def _one(outcome: Outcome, say: Say) -> str:
    head = (
        f'<span class="badge removed">{escaped(outcome.reason[:120])}</span> <code>{escaped(outcome.id)}</code> '
        f"{escaped(asked(outcome)[:120])}"
    )
    sides = "".join(
        f"<div><h3>{escaped(name)}</h3><pre>{escaped(text)}</pre></div>"
        for name, text in (
            (say("eval asked"), conversation(outcome)), (say("eval said"), said(outcome, say)),
            (say("eval gold"), gold(outcome, say)),
        )
    )  # fmt: skip
    return f'<details id="{escaped(outcome.id)}"><summary>{head}</summary><div class="sides">{sides}</div></details>'


def asked(outcome: Outcome) -> str:
    """The last request, on one line."""
    last = next((each.content for each in reversed(outcome.messages) if each.role == "user"), "")
    return " ".join(last.split())


def conversation(outcome: Outcome) -> str:
    """What was said before, and the names of the tools."""
    lines = [line(each) for each in outcome.messages]
    return "\n\n".join([*lines, f"[{', '.join(outcome.tools)}]"])


def line(message: Message) -> str:
    """A message with who says it."""
    who = f"{message.role} {message.name}" if message.name else message.role
    return "\n".join(filter(None, (f"{who}:", message.content, *map(call_line, message.calls))))


def said(outcome: Outcome, say: Say) -> str:
    """What was replied."""
    reply = outcome.reply
    lines = [*map(call_line, reply.calls), reply.text, reply.malformed and say("eval malformed", why=reply.malformed)]
    return "\n".join(filter(None, [*lines, reply.trouble])) or say("eval nothing")


def gold(outcome: Outcome, say: Say) -> str:
    """What should have been replied."""
    return "\n".join(filter(None, [*map(call_line, outcome.calls), outcome.text])) or say("eval no call")


def call_line(call: ToolCall) -> str:
    """A call on one line."""
    return f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}"
