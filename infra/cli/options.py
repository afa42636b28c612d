"""Options that many commands share, and what they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.settings import Loaded

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Home = Annotated[Path | None, typer.Option(help="The data directory.", show_default=False)]
NatsUrl = Annotated[str | None, typer.Option("--nats", help="An external nats-server.", show_default=False)]
PostgresUrl = Annotated[str | None, typer.Option("--postgres", help="An external PostgreSQL.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the tools can be found by their meaning, too.")]
Run = Annotated[str, typer.Argument(help="The run's id, or its first ten or more characters.", show_default=False)]


def question_of(text: str, example: str) -> str:
    """What is to be searched for, without the space around it. Raises MilepostError when that is nothing."""
    from schemas.errors import MilepostError

    if not text.strip():
        raise MilepostError("The question is empty.", why="there is nothing to search for", hint=example)
    return text.strip()


def settings_from(home: Path | None = None, nats: str | None = None, postgres: str | None = None) -> Loaded:
    """The settings with what was given on the command line."""
    from infra.settings import load

    return load({"home": str(home) if home else None, "nats.url": nats, "postgres.url": postgres})
