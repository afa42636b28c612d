"""Verify: whether a run's file, or a tenant's chain, is what the recorder signed."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
