"""Receipts: the chain of what the recorder signed, its checkpoints and its keys."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
