"""Datasets: recorded runs as conversations to train with."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
