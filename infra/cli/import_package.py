"""`milepost tools import package`: the tools that an installed package offers, in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.import_folder import lane_of, with_cards
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tools.sources import Source, Spec


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(package)


def package(
    name: Annotated[str, typer.Argument(help="The installed package, as pip names it.", show_default=False)],
    lane: Annotated[str, typer.Option(help="The name of their host.", show_default="the package's name")] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import what a package offers as entry points of the group "milepost.tools"; its code is run."""
    from infra.cli.tools_import import new_source, run_import

    use_json(json)
    source, specs, groups = read_again(new_source("package", lane or lane_of(name), {"package": name}, name, home))
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The tools that the package offers now, and the source with the version that does."""
    from importlib.metadata import PackageNotFoundError, version

    name = str(source.settings["package"])
    try:
        settings = {"package": name, "version": version(name)}
    except PackageNotFoundError:
        settings = {"package": name}
    return with_cards(source.model_copy(update={"settings": settings}), "package", name)
