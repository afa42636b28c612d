"""Cohorts: many recorded runs driven again with one thing swapped."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
