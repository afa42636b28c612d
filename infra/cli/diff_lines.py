"""Two runs beside each other in a terminal: in two columns where there is room, else one under the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from infra.cli.runs_lines import heading, joined, print_told, spent
from infra.cli.show import console, outcome, plain
from infra.cli.words import language, say
from runtime.diff import Diff, How, Pair, Side
from runtime.differing import Change
from runtime.permalink import permalink
from runtime.timeline import call_line, line_of, short
from runtime.totals import Done, Totals

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from runtime.contents import Step

_WIDE = 120
_MOST = 12
_CONTEXT = 48
_LINE = 240
_MARKS = {"same": "=", "moved": "»", "changed": "~", "removed": "-", "added": "+"}
_STYLES = {"same": "dim", "moved": "cyan", "changed": "yellow", "removed": "red", "added": "green"}


def print_diff(found: Diff, *, everything: bool) -> None:
    """Print all that differs. everything: also the steps that are the same, and long changes as a whole."""
    out = console()
    wide = out.is_terminal and out.width >= _WIDE
    _print_head(out, found)
    if found.pairs:
        out.print()
    for same, pairs in groupby(found.pairs, lambda pair: pair.how == "same" and not everything):
        together = list(pairs)
        if same:
            out.print(plain(f"  = {same_steps(len(together))}  {_span(together)}", "dim"))
            continue
        for pair in together:
            _print_pair(out, pair, wide=wide, everything=everything)
    out.print()
    _print_totals(out, found)
    _print_effects(out, found)


def same_steps(count: int) -> str:
    """How many steps are the same."""
    return say("same step" if count == 1 else "same steps", count=count)


def _span(pairs: Sequence[Pair]) -> str:
    first, last = pairs[0], pairs[-1]
    ours = f"{_at(first.a)}…{_at(last.a)}" if len(pairs) > 1 else _at(first.a)
    theirs = f"{_at(first.b)}…{_at(last.b)}" if len(pairs) > 1 else _at(first.b)
    return ours if ours == theirs else f"A {ours}  B {theirs}"


def _at(step: Step | None) -> str:
    return f"#{step.number}" if step else "·"


# --- the head -------------------------------------------------------------------------------------


def _print_head(out: Console, found: Diff) -> None:
    for name, side in (("A", found.a), ("B", found.b)):
        out.print(
            joined(plain(f"{name}  ", "bold"))
            + plain(side.run)
            + plain("  ")
            + outcome(side.outcome)
            + plain(f"  {side.agent}")
        )
    if head := fork_line(found):
        out.print(plain(head, "cyan"), soft_wrap=True)
    out.print(plain(counts_line(found), "green" if found.same else "bold"))
    if line := first_line(found):
        out.print(plain(line, "yellow"), soft_wrap=True)


_COUNTED: tuple[How, ...] = ("same", "changed", "removed", "added")
_TOTALS = ("events", "turns", "calls", "tokens_in", "tokens_cached", "tokens_out", "model_ms", "waited_s", "wall_s", "writes")


def counts_line(found: Diff) -> str:
    """How many steps are the same, and how many are not."""
    counts = say("all same") if found.same else say("counts", **{str(how): found.count(how) for how in _COUNTED})
    return counts + (say("counts moved", moved=found.count("moved")) if found.count("moved") else "")


def fork_line(found: Diff) -> str:
    """Where one of the runs left the other, if it did."""
    if found.left is None:
        return ""
    fork, other = (found.a, found.b) if found.left.fork == "a" else (found.b, found.a)
    changed = say("fork changed", what=", ".join(found.left.at.changed)) if found.left.at.changed else ""
    names = {"fork": found.left.fork.upper(), "other": "B" if found.left.fork == "a" else "A"}
    return say("fork head", place=permalink(other.run, found.left.at.at), changed=changed, **names) if fork else ""


def first_line(found: Diff) -> str:
    """Where the runs part, and in what."""
    pair = found.first
    if pair is None:
        return ""
    place = " / ".join(f"{name}#{step.number}" for name, step in (("A", pair.a), ("B", pair.b)) if step)
    step = pair.a or pair.b
    kind = f"{step.kind} {step.about}".rstrip() if step else ""
    differs = ", ".join(each.path or "/" for each in pair.changes()[:3])
    return say("first", place=place, what=" ".join(filter(None, (kind, differs or say(pair.how)))))


# --- steps ----------------------------------------------------------------------------------------


def _print_pair(out: Console, pair: Pair, *, wide: bool, everything: bool) -> None:
    style, mark = _STYLES[pair.how], _MARKS[pair.how]
    if wide:
        _columns(out, mark, style, _said(pair.a), _said(pair.b))
    elif pair.how in ("same", "moved"):
        _line(out, f"  {mark} {_at(pair.a)}|{_at(pair.b)} {_brief(pair.a)}", style)
    elif pair.how == "changed" and _brief(pair.a) == _brief(pair.b):
        _line(out, f"  ~ {_at(pair.a)}|{_at(pair.b)} {_brief(pair.a)}", style)
    else:
        for sign, step in (("-", pair.a), ("+", pair.b)):
            if step:
                _line(out, f"  {sign} {_at(step)} {_brief(step)}", _STYLES["removed" if sign == "-" else "added"])
    changes = pair.changes()
    for change in changes if everything else changes[:_MOST]:
        _print_change(out, change, wide=wide, everything=everything)
    if len(changes) > _MOST and not everything:
        _line(out, f"      {say('more', count=len(changes) - _MOST)}", "dim")


def _brief(step: Step | None) -> str:
    return f"{step.kind}  {brief(step)}" if step else ""


def brief(step: Step) -> str:
    """What a step says on one line; an answer that was copied is told as the answer."""
    return short(line_of(step.event, language()), _LINE) if step.event else say("erased")


def _said(step: Step | None) -> str:
    return f"{_at(step)} {_brief(step)}" if step else ""


def _line(out: Console, text: str, style: str) -> None:
    out.print(plain(text, style), no_wrap=True, overflow="ellipsis", crop=out.is_terminal)


def _columns(out: Console, mark: str, style: str, left: str | Text, right: str | Text) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=3)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    table.add_row(plain(f" {mark}", style), _text(left, style), _text(right, style))
    out.print(table)


def _text(said: str | Text, style: str) -> Text:
    return plain(said, style) if isinstance(said, str) else said


def _print_change(out: Console, change: Change, *, wide: bool, everything: bool) -> None:
    left, right = _sides(change, everything=everything)
    path = joined(plain(f"{change.path or '/'} ", "dim"))
    if wide:
        nothing = plain("")
        _columns(out, "", "", path + left if change.how != "added" else nothing, path + right if right else nothing)
    elif words := change.words:
        told = _worded(list(words if everything else shortened(words)), "-+", marked=not out.is_terminal)
        out.print(plain("      ") + path + told, soft_wrap=True)
    else:
        signs = {"changed": ("", " → "), "removed": ("- ", ""), "added": ("", "+ ")}[change.how]
        out.print(plain("      ") + path + plain(signs[0], "red") + left + plain(signs[1], "dim") + right, soft_wrap=True)


def _sides(change: Change, *, everything: bool) -> tuple[Text, Text]:
    """What was there, and what is: word by word where that can be told."""
    if words := change.words:
        pieces = list(words if everything else shortened(words))
        return _worded(pieces, "-", marked=False), _worded(pieces, "+", marked=False)
    cut = value_line if everything else _short_value
    return (
        plain("" if change.how == "added" else cut(change.old), "red"),
        plain("" if change.how == "removed" else cut(change.new), "green"),
    )


def _short_value(value: object) -> str:
    return short(value_line(value), _LINE)


def _worded(pieces: Sequence[tuple[str, str]], signs: str, *, marked: bool) -> Text:
    """A text with what is gone and what is new in it, in colours, or between marks where there are none."""
    told = plain("")
    for how, text in pieces:
        if how == "=":
            told += plain(text)
        elif how in signs:
            shown = f"[-{text}-]" if how == "-" else f"{{+{text}+}}"
            told += plain(shown if marked else text, "red strike" if how == "-" else "green")
    return told


def shortened(words: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Words of which what is the same is told only next to what differs."""
    for index, (how, text) in enumerate(words):
        if how != "=" or len(text) <= 2 * _CONTEXT + 3:
            yield how, text
            continue
        before = "" if index == 0 else text[:_CONTEXT]
        yield how, f"{before} … {'' if index == len(words) - 1 else text[-_CONTEXT:]}"


def value_line(value: object) -> str:
    """A value as it stands in JSON; a text as it is."""
    return value if isinstance(value, str) and value.strip() else json.dumps(value, ensure_ascii=False)


# --- totals and writes ----------------------------------------------------------------------------


def totals_rows(found: Diff) -> list[tuple[str, str, str]]:
    """What each run took: a name, then A, then B."""
    rows = [("outcome", found.a.outcome, found.b.outcome)]
    rows.extend((name, _amount(found.a.totals, name), _amount(found.b.totals, name)) for name in _TOTALS)
    rows.append(("money", _money(found.a), _money(found.b)))
    return rows


def _amount(totals: Totals, name: str) -> str:
    from datetime import timedelta

    value = getattr(totals, name)
    if value is None:
        return "–"
    if name.endswith("_s"):
        return spent(timedelta(seconds=value))
    return spent(timedelta(milliseconds=value)) if name.endswith("_ms") else f"{value:,}"


def _money(side: Side) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in side.totals.money.items()) or "–"


def _print_totals(out: Console, found: Diff) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(say("totals"), style="dim")
    table.add_column("A", justify="right")
    table.add_column("B", justify="right")
    for name, ours, theirs in totals_rows(found):
        style = "" if ours == theirs else "yellow"
        table.add_row(plain(say(name)), plain(ours, style), plain(theirs, style))
    out.print(table)


def _print_effects(out: Console, found: Diff) -> None:
    out.print()
    if not found.effects:
        print_told("writes", say("no writes"))
    for index, each in enumerate(found.effects):
        style = "" if each.how == "same" else "yellow"
        out.print(heading("writes" if index == 0 else "") + plain(say(f"effect {each.how}"), style))
        for name, done in (("A", each.a), ("B", each.b)):
            if done:
                doubt = "bold red" if done.state == "in doubt" else ""
                out.print(plain(f"  {name}#{done.number} {done_line(done)}", doubt), soft_wrap=True)


def done_line(done: Done) -> str:
    """A write and what came of it."""
    from schemas.tools import ToolCall

    call = call_line(ToolCall(id="c", name=done.tool, arguments=done.arguments))
    came = done.result.text if done.result else done.note
    return short(f"{call}  {say(done.state)}" + (f": {came}" if came else ""), _LINE)
