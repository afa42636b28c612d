"""The events of a run in lines: as they came, or as a tree by cause."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from infra.cli.show import clean, console, plain
from infra.cli.words import language, say
from runtime.causes import Causes, Finding, Node, causes_of
from runtime.log import Stored
from runtime.numbering import numbered, said_in
from runtime.timeline import summary
from schemas.envelope import Fact
from schemas.events import AnswerCopied, ApprovalGranted, ApprovalRefused, Generated, PersonAnswered

if TYPE_CHECKING:
    from rich.text import Text

Line: TypeAlias = Sequence[tuple[str, str]]
"""Pieces of text, each with its style."""

_LONG = timedelta(seconds=1)
_DEEPEST = 16
_HEADING = 14
_WHOLE, _CLOCK = 100, 64
_PEOPLE = (ApprovalGranted, ApprovalRefused, PersonAnswered)


def print_timeline(facts: Sequence[Stored]) -> None:
    """One line an event: its number, when, how long after what caused it, who, what."""
    causes = causes_of(facts)
    out = console()
    write_lines(timeline_lines(facts, causes, out.width if out.is_terminal else None))
    write_lines(_finding(each) for each in causes.findings)


def timeline_lines(facts: Sequence[Stored], causes: Causes, width: int | None = None) -> Iterable[Line]:
    """The lines of a timeline, without what is wrong with its causes.

    width: of a terminal, in columns; a narrow one shows less of when and who.
    """
    start, speaks, receipt = facts[0].fact.time, language(), say("receipt mark")
    clock, whole = width is None or width >= _CLOCK, width is None or width >= _WHOLE
    for node in causes.nodes:
        number = f"#{node.number}" if node.number else receipt
        yield (
            (f"{number:>6}  ", "bold"), (f"{spent(node.fact.time - start):>10}" if clock else "", "dim"),
            (f"{_gap(node):>12}  " if whole else "  " * clock, _gap_style(node)),
            (f"{node.fact.role:<10}" if whole else "", "cyan"),
            (f"{_kind(node.fact):<20} ", ""), (summary(node.fact, speaks), ""),
        )  # fmt: skip


def print_tree(facts: Sequence[Stored]) -> None:
    """The events by cause, those that one event caused below it. A model's turn stands at the margin again."""
    causes = causes_of(facts)
    write_lines(tree_lines(causes))
    write_lines(_finding(each) for each in causes.findings)


def tree_lines(causes: Causes) -> Iterable[Line]:
    """The lines of a tree."""
    last = {id(branches[-1]) for node in causes.nodes if (branches := [each for each in node.below if not _is_turn(each)])}
    bars: list[str] = []
    for depth, node in causes.walk():
        del bars[depth:]
        turn = depth > 0 and _is_turn(node)
        if turn or not depth:
            bars = [""] * (depth + 1)
            branch = ""
        else:
            branch = "".join(bars[-_DEEPEST:]) + ("└─ " if id(node) in last else "├─ ")
            bars.append("   " if id(node) in last else "│  ")
        after = say("after", number=node.under) if turn else ""
        others = say("also after", numbers=", ".join(f"#{each}" for each in node.others)) if node.others else ""
        note = " · ".join(each for each in (after, others) if each)
        yield (
            (branch, "dim"), (f"{_number(node)} ", "bold"), (f"{_kind(node.fact)} ", "cyan"),
            (f"{_gap(node)} ".lstrip(), _gap_style(node)), (summary(node.fact, language()), ""),
            (f"  ({note})" if note else "", "dim"),
        )  # fmt: skip


def _is_turn(node: Node) -> bool:
    return isinstance(said_in(node.fact), Generated)


def numbers_of(facts: Sequence[Stored]) -> dict[str, int]:
    """The numbers of events by their ids; a receipt has none."""
    return {stored.fact.id: number for number, stored in numbered(facts) if number}


def spent(time: timedelta) -> str:
    """A length of time as people write it: 12 ms, 1.25 s, 3 m 12 s, 2 h 03 m, 4 d 11 h."""
    seconds = time.total_seconds()
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{sign}{seconds:.2f} s"
    whole = round(seconds)
    for unit, lower, size in (("d", "h", 86_400), ("h", "m", 3_600), ("m", "s", 60)):
        if whole >= size:
            return f"{sign}{whole // size} {unit} {whole % size // (size // (24 if unit == 'd' else 60)):02d} {lower}"
    return f"{sign}{whole} s"


def _number(node: Node) -> str:
    return f"#{node.number}" if node.number else say("receipt mark")


def _kind(fact: Fact) -> str:
    """What it is; of an answer that was copied from another run, the answer."""
    body = fact.body
    return f"↺ {type(body.answer).__name__}" if isinstance(body, AnswerCopied) else fact.kind


def _gap(node: Node) -> str:
    """How long after what it stands under; a clock that went back is told with a minus."""
    if node.after is None:
        return ""
    return f"+{spent(node.after)}" if node.after >= timedelta() else spent(node.after)


def _gap_style(node: Node) -> str:
    """Waiting for people is no slowness of the run; what took long, or went back in time, is seen."""
    if node.after is None or timedelta() <= node.after < _LONG:
        return "dim"
    if node.after < timedelta():
        return "bold red"
    return "magenta" if isinstance(said_in(node.fact), _PEOPLE) else "yellow"


def _finding(finding: Finding) -> Line:
    return ((say(f"cause {finding.kind}", number=finding.event, cause=finding.cause), "red"),)


def joined(*parts: Text) -> Text:
    """Pieces one after the other, each in its own style: a sum of texts would take that of the first."""
    whole = plain("")
    for part in parts:
        whole.append_text(part)
    return whole


def heading(key: str) -> Text:
    """The words for a key before what is told of it, in a column of their own."""
    from rich.cells import cell_len

    words = say(key) if key else ""
    return joined(plain(words + " " * max(1, _HEADING - cell_len(words)), "dim"))


def print_told(key: str, text: str) -> None:
    """A line that tells one thing of a run."""
    console().print(heading(key) + plain(text.replace("\n", "\n" + " " * _HEADING)), soft_wrap=True)


def write_lines(lines: Iterable[Line]) -> None:
    """Lines of styled pieces: on a terminal cut at its edge, elsewhere plain and whole; ten thousand of them take no time."""
    out = console()
    if not out.is_terminal:
        sys.stdout.writelines(clean("".join(text for text, _ in line)).replace("\n", " ").rstrip() + "\n" for line in lines)
        return
    from rich.color import ColorSystem
    from rich.style import Style

    colours = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
    system = colours.get(out.color_system or "")
    styles: dict[str, Style] = {}
    for line in lines:
        written, left = [], out.width
        for text, style in line:
            shown, left = _cut(clean(text).replace("\n", " "), left)
            look = styles.get(style) or styles.setdefault(style, Style.parse(style) if style else Style.null())
            written.append(look.render(shown, color_system=system) if shown else "")
        sys.stdout.write("".join(written) + "\n")


def _cut(text: str, width: int) -> tuple[str, int]:
    """As much of a text as fits, with an ellipsis if some does not, and how much room is left after it."""
    from rich.cells import cell_len, set_cell_size

    taken = len(text) if text.isascii() else cell_len(text)
    if taken <= width:
        return text, width - taken
    return (set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""), 0
