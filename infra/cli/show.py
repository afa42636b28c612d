"""How things look in a terminal, and the same things as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console
    from rich.text import Text

WIDE = 4096
GAP = 2
ROOM = 24
# Control characters, and those that turn the direction of text: what comes from a model, a tool or a
# document may not move the cursor, and an approval card may not read otherwise than it is.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STATE = {"json": False}
_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "waiting": "magenta", "open": "cyan"}


def use_json(on: bool) -> None:
    """Print JSON instead of text from here on."""
    _STATE["json"] = _STATE["json"] or on


def as_json() -> bool:
    """Whether the person asked for JSON."""
    return _STATE["json"]


def at_terminal() -> bool:
    """Whether a person is there to read and to answer."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not as_json()


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain text that is never wrapped or cut where it is no terminal."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=None if terminal else WIDE)


def clean(text: str) -> str:
    """Text without what could steer the terminal; lines and tabs stay."""
    return _UNSAFE.sub("", text)


def plain(text: str, style: str = "") -> Text:
    """Text that says what it says: no markup is read in it."""
    from rich.text import Text

    return Text(clean(text), style=style)


def outcome(word: str) -> Text:
    """The outcome of a run in its colour."""
    return plain(word, _COLOURS.get(word, ""))


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line, seen at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Text | str]], *, right: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """Rows under headings; on a terminal the last column is cut at its edge, elsewhere nothing is.

    spare: columns that a terminal goes without, the first one first, until the last column has room.
    """
    from rich.cells import cell_len
    from rich.table import Table

    out = console()
    cells = [[plain(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max([cell_len(name), *(row[index].cell_len for row in cells)]) for index, name in enumerate(columns)]
    for name in spare if out.is_terminal else ():
        if out.width - sum(widths[:-1]) - GAP * (len(widths) - 1) >= min(ROOM, widths[-1]):
            break
        if name in columns:
            gone = columns.index(name)
            columns = [*columns[:gone], *columns[gone + 1 :]]
            cells = [[*row[:gone], *row[gone + 1 :]] for row in cells]
            del widths[gone]
    left_over = max(5, out.width - sum(widths[:-1]) - GAP * (len(widths) - 1))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, width in zip(columns, [*widths[:-1], min(widths[-1], left_over)], strict=True):
        side: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=side, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row)
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    sys.stdout.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def local(moment: datetime) -> str:
    """A moment in the time of this machine."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def show_error(error: MilepostError) -> None:
    """What happened, why, and what to do next; on standard error, or as JSON."""
    if as_json():
        print_json({"error": {"type": type(error).__name__, "what": error.what, "why": error.why, "next": error.hint}})
        return
    from rich.text import Text

    out = console(stderr=True)
    out.print(Text("error: ", style="bold red") + plain(error.what, "bold"))
    if error.why:
        out.print(Text("  why: ", style="yellow") + plain(error.why))
    if error.hint:
        out.print(Text(" next: ", style="green") + plain(error.hint))
