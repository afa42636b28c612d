"""`milepost env`: how any NATS client reaches the stack that runs here."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, print_json, use_json

if TYPE_CHECKING:
    import typer


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(env)


def env(home: Home = None, json: Json = False) -> None:
    """Print NATS_URL, with its password, for other programs: eval "$(milepost env)"."""
    import sys

    from infra.local_stack import attached

    use_json(json)
    settings = attached(settings_from(home).settings)
    values = {"NATS_URL": settings.nats.url or "", "MILEPOST_HOME": str(settings.home)}
    if as_json():
        print_json(values)
        return
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
