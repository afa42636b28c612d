"""`milepost tools import`: what another system describes becomes tools that are found, hosted and called from then on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from infra.cli import (
    import_agent,
    import_aliyun,
    import_aws,
    import_folder,
    import_mcp,
    import_openapi,
    import_package,
    tools_sources,
)
from infra.cli.import_shown import Outcome, bar, preview, summary
from infra.cli.show import console, plain

if TYPE_CHECKING:
    from pathlib import Path

    from services.tools.sources import Source, Spec

imports = typer.Typer(no_args_is_help=True, help="Make tools of what other systems describe.")


def add_to(tools: typer.Typer) -> None:
    """Add this file's commands to those about tools: one file for each kind of source."""
    for kind in (import_agent, import_aliyun, import_aws, import_folder, import_mcp, import_openapi, import_package):
        kind.add_to(imports)
    tools.add_typer(imports, name="import")
    tools_sources.add_to(tools)


def new_source(kind: str, lane: str, settings: dict[str, object], title: str, home: Path | None) -> Source:
    """A source of the tenant and user that the settings name, imported now. Raises ProtocolError for a lane that is none."""
    from datetime import UTC, datetime

    from infra.cli.options import settings_from
    from schemas.ids import checked_token
    from services.tools.sources import Source

    said = settings_from(home).settings
    return Source.model_validate({
        "tenant": said.tenant, "lane": checked_token(lane, "lane"), "kind": kind, "settings": settings, "title": title,
        "owner": said.user, "since": datetime.now(UTC),
    })  # fmt: skip


def run_import(
    source: Source, specs: Sequence[Spec], groups: Sequence[str], *, dry_run: bool, wait: bool, home: Path | None,
    adds: bool = False,
) -> None:  # fmt: skip
    """Store a source and its tools, put their cards into the catalogue, take out what a newer import does not have, and wait
    until its lane is hosted; then say what has become of it.

    groups: for the preview, what each spec belongs to. wait: also until every card has its vector. What was imported before
    under this lane and is not among the specs is gone afterwards, unless this import only adds to it. An import that was
    stopped goes on when it is run again.
    """
    if dry_run:
        preview([spec.card for spec in specs], groups)
        return
    from infra.cli.client import connected
    from infra.cli.importing import bring, embedded

    outcome = Outcome(len(specs))
    try:
        with bar("tools", len(specs)) as advance:
            connected(lambda client, world: bring(client, world, source, specs, outcome, advance, adds), home)
        if wait and outcome.waiting:
            with bar("vectors", outcome.waiting) as advance:
                connected(lambda client, world: embedded(client, world, outcome, advance), home)
    except KeyboardInterrupt:
        console(stderr=True).print(
            plain(f"stopped: {outcome.done:,} of {outcome.cards:,} tools are in; run the same again to go on")
        )
        raise typer.Exit(130) from None
    summary(source, outcome)
