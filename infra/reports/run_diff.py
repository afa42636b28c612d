"""Two runs beside each other as a page: what differs in the steps, in the totals, and in what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from infra.cli.diff_lines import (
    brief,
    counts_line,
    done_line,
    first_line,
    fork_line,
    same_steps,
    shortened,
    totals_rows,
    value_line,
)
from infra.cli.words import language, say
from infra.reports.page import escaped, page
from runtime.contents import Step
from runtime.diff import Diff, Pair
from runtime.differing import Change
from runtime.totals import Done

_LONG = 2_000
_MOST = 12


def diff_page(found: Diff) -> str:
    """The whole page, in the language that is spoken."""
    title = say("diff title")
    body = "\n".join((f"<h1>{escaped(title)}</h1>", *_head(found), *_totals(found), *_writes(found), *_steps(found)))
    return page(f"{title}: {found.a.run} · {found.b.run}", body, language(), _STYLE)


def _head(found: Diff) -> Iterator[str]:
    yield '<dl class="facts">'
    for name, side in (("A", found.a), ("B", found.b)):
        agent = f" · {escaped(side.agent)}" if side.agent else ""
        yield f"<dt>{name}</dt><dd><code>{escaped(side.run)}</code> · {escaped(side.outcome)}{agent}</dd>"
    yield "</dl>"
    if fork := fork_line(found):
        yield f'<p class="note">{escaped(fork)}</p>'
    yield f"<p><strong>{escaped(counts_line(found))}</strong></p>"
    if first := first_line(found):
        yield f'<p><a href="#first">{escaped(first)}</a></p>'


def _totals(found: Diff) -> Iterator[str]:
    yield f'<h2>{escaped(say("totals"))}</h2><div class="scroll"><table class="totals"><thead><tr><th scope="col"></th>'
    yield '<th scope="col" class="number">A</th><th scope="col" class="number">B</th></tr></thead><tbody>'
    for name, ours, theirs in totals_rows(found):
        mark = "" if ours == theirs else " changed"
        cells = "".join(f'<td class="number{mark}">{escaped(each)}</td>' for each in (ours, theirs))
        yield f'<tr><th scope="row">{escaped(say(name))}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _writes(found: Diff) -> Iterator[str]:
    yield f"<h2>{escaped(say('writes'))}</h2>"
    if not found.effects:
        yield f'<p class="quiet">{escaped(say("no writes"))}</p>'
        return
    yield '<div class="scroll"><table><thead><tr><th scope="col"></th><th scope="col">A</th><th scope="col">B</th></tr></thead>'
    yield "<tbody>"
    for each in found.effects:
        mark = "" if each.how == "same" else " changed"
        yield f"<tr><td class='label{mark}'>{escaped(say(f'effect {each.how}'))}</td>{_done(each.a)}{_done(each.b)}</tr>"
    yield "</tbody></table></div>"


def _done(done: Done | None) -> str:
    if done is None:
        return "<td></td>"
    mark = ' class="removed"' if done.state == "in doubt" else ""
    return f"<td{mark}><code>#{done.number} {escaped(done_line(done))}</code></td>"


# --- steps ----------------------------------------------------------------------------------------


def _steps(found: Diff) -> Iterator[str]:
    yield f"<h2>{escaped(say('steps'))}</h2>"
    first = found.first
    for same, pairs in groupby(found.pairs, lambda pair: pair.how == "same"):
        together = list(pairs)
        if same:
            yield from _same(together)
            continue
        for pair in together:
            yield from _pair(pair, first=pair is first)


def _same(pairs: Sequence[Pair]) -> Iterator[str]:
    yield f'<details class="alike"><summary>{escaped(same_steps(len(pairs)))}</summary><ol>'
    for pair in pairs:
        if pair.a and pair.b:
            places = f"#{pair.a.number}" if pair.a.number == pair.b.number else f"A#{pair.a.number} B#{pair.b.number}"
            yield f'<li><span class="place">{places}</span> <b>{escaped(pair.a.kind)}</b> {escaped(brief(pair.a))}</li>'
    yield "</ol></details>"


def _pair(pair: Pair, *, first: bool) -> Iterator[str]:
    name = ' id="first"' if first else ""
    yield f'<section class="step {pair.how}-step"{name}><p class="badge {pair.how}">{escaped(say(pair.how))}</p>'
    yield f'<div class="sides">{_side("A", pair.a)}{_side("B", pair.b)}</div>'
    if changes := pair.changes():
        yield _changes(changes[:_MOST])
    if len(changes) > _MOST:
        more = say("more", count=len(changes) - _MOST)
        yield f"<details><summary>{escaped(more)}</summary>{_changes(changes[_MOST:])}</details>"
    yield "</section>"


def _changes(changes: Sequence[Change]) -> str:
    rows = (f"<dt><code>{escaped(each.path or '/')}</code></dt><dd>{_change(each)}</dd>" for each in changes)
    return f'<dl class="changes">{"".join(rows)}</dl>'


def _side(name: str, step: Step | None) -> str:
    if step is None:
        return f'<div class="side nothing" aria-label="{name}"></div>'
    place = f'<span class="place">{name}#{step.number}</span> <b>{escaped(step.kind)}</b>'
    return f'<div class="side">{place}<br>{escaped(brief(step))}</div>'


def _change(change: Change) -> str:
    words = change.words
    if words is None:
        old = f"<del class='removed'>{_folded(value_line(change.old))}</del>" if change.how != "added" else ""
        new = f"<ins class='added'>{_folded(value_line(change.new))}</ins>" if change.how != "removed" else ""
        return f"{old} {new}".strip()
    whole = "".join(_piece(how, text) for how, text in words)
    brief_pieces = list(shortened(words))
    if brief_pieces == list(words):
        return f'<span class="text">{whole}</span>'
    brief_text = "".join(_piece(how, text) for how, text in brief_pieces)
    return f'<details><summary class="text">{brief_text}</summary><div class="text">{whole}</div></details>'


def _piece(how: str, text: str) -> str:
    if how == "=":
        return escaped(text)
    return f'<del class="removed">{escaped(text)}</del>' if how == "-" else f'<ins class="added">{escaped(text)}</ins>'


def _folded(text: str) -> str:
    """A value; a very long one is cut, since a page is for reading (--json has it whole)."""
    return escaped(text if len(text) <= _LONG else f"{text[:_LONG]}… ({len(text):,})")


_STYLE = """
.step { border: 1px solid var(--line); border-left-width: 4px; border-radius: 6px; background: var(--raised);
  margin: .5rem 0; padding: .5rem .75rem; }
.changed-step { border-left-color: var(--changed); }
.removed-step { border-left-color: var(--removed); }
.added-step { border-left-color: var(--added); }
.step > .badge { margin: 0 0 .3rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.side { overflow-wrap: anywhere; }
.nothing { border: 1px dashed var(--line); border-radius: 4px; min-height: 1.5rem; }
.place { color: var(--quiet); font-variant-numeric: tabular-nums; }
.totals { max-width: 38rem; }
.label { white-space: nowrap; }
.changes { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .15rem 1rem; margin: .6rem 0 0;
  border-top: 1px solid var(--line); padding-top: .5rem; }
.changes dt { color: var(--quiet); max-width: 22rem; overflow-wrap: anywhere; }
.changes dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.step > details { margin: .5rem 0 0; }
.text, .changes del, .changes ins { white-space: pre-wrap; overflow-wrap: anywhere; }
.alike ol { list-style: none; padding: 0 0 .5rem; margin-top: 0; margin-bottom: 0; }
.alike li { padding: .1rem 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { .sides { grid-template-columns: 1fr; gap: .4rem; } .nothing { display: none; }
  .changes { grid-template-columns: 1fr; } .changes dd { margin: 0 0 .3rem .75rem; } }
"""
