"""Fork: a run left at one of its events, to go on otherwise."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
