"""`milepost`: the commands by name, and what each needs to be told."""

from __future__ import annotations

import typer

from infra.cli import stack

app = typer.Typer(
    name="milepost", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Agents as services on a message bus: every step an event that can be audited, resumed and replayed.",
)  # fmt: skip
stack.add_to(app)
