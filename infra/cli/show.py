"""How things look in a terminal, and the same things as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from rich.console import Console

_STATE = {"json": False}


def use_json(on: bool) -> None:
    """Print JSON instead of text from here on."""
    _STATE["json"] = _STATE["json"] or on


def as_json() -> bool:
    """Whether the person asked for JSON."""
    return _STATE["json"]


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain text where it is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def show_error(error: MilepostError) -> None:
    """What happened, why, and what to do next; on standard error, or as JSON."""
    if as_json():
        print_json({"error": {"type": type(error).__name__, "what": error.what, "why": error.why, "next": error.hint}})
        return
    from rich.text import Text

    out = console(stderr=True)
    out.print(Text("error: ", style="bold red") + Text(error.what, style="bold"))
    if error.why:
        out.print(Text("  why: ", style="yellow") + Text(error.why))
    if error.hint:
        out.print(Text(" next: ", style="green") + Text(error.hint))
