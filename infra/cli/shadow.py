"""Shadows: a candidate that gets a copy of live traffic."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
