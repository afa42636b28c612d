"""Certify: what a model said, executed again token for token."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
