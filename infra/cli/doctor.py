"""`doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from infra.cli.checks import Finding

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(doctor)


def doctor(home: Home = None, json: Json = False) -> None:
    """Check this machine, its models and the stack; exit 1 if something is broken."""
    import asyncio

    from infra import logs

    use_json(json)
    loaded = settings_from(home)
    logs.configure("doctor", level="error")

    async def work() -> list[Finding]:
        from pathlib import Path

        from infra.cli.checks import look

        found = []
        async for finding in look(loaded.settings, Path.cwd()):
            found.append(finding)
            if not as_json():
                _print(finding)
        return found

    found = asyncio.run(work())
    if as_json():
        print_json([{"name": each.name, "level": each.level, "text": each.text, "next": each.next} for each in found])
    if any(each.level == "fail" for each in found):
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    from rich.table import Table

    line = Table.grid(padding=(0, 1))
    line.add_column(width=6, no_wrap=True)
    line.add_column(width=13, no_wrap=True)
    line.add_column(overflow="fold")
    mark, colour = _MARKS[finding.level]
    line.add_row(plain(f"{mark} {finding.level}", colour), plain(finding.name, "bold"), plain(finding.text))
    if finding.next:
        line.add_row("", plain("next", "dim"), plain(finding.next))
    console().print(line)
