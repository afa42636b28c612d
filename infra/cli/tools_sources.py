"""`milepost tools sources`: what was imported, read again, and taken out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Protocol, cast

import typer

from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.wiring import World
    from runtime.client import Client
    from services.tools.source_questions import KnownSource
    from services.tools.sources import Source, Spec

sources = typer.Typer(no_args_is_help=True, help="List, refresh and remove what was imported.")

Lane = Annotated[str, typer.Argument(help="The source's lane.", show_default=False)]


class UnknownSource(MilepostError):
    """Nothing was imported into a lane."""


class Importer(Protocol):
    """What infra/cli/import_<kind>.py has beside its command."""

    def read_again(self, source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
        """What the source describes now, and the groups that a preview shows. Raises MilepostError."""
        ...


def add_to(tools: typer.Typer) -> None:
    """Add this file's commands to those about tools."""
    sources.command("ls")(list_)
    sources.command("rm")(remove)
    sources.command()(refresh)
    tools.add_typer(sources, name="sources")


def list_(home: Home = None, json: Json = False) -> None:
    """List what was imported."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(_sources, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif not found:
        console(stderr=True).print("nothing was imported · milepost tools import --help")
    else:
        rows = [
            (each.source.lane, each.source.kind, f"{each.tools:,}", local(each.source.since), each.source.title)
            for each in found
        ]
        print_table(("lane", "kind", "tools", "imported", "of"), rows, right=("tools",))


def remove(lane: Lane, home: Home = None, json: Json = False) -> None:
    """Take a source out: its tools are found, offered and answered no more."""
    from infra.cli.client import connected

    use_json(json)
    gone = connected(lambda client, world: _removed(client, world, lane), home)
    if as_json():
        print_json(gone)
    else:
        console().print(plain(f"{lane} is out, and {len(gone):,} {'tool' if len(gone) == 1 else 'tools'} with it"))


def refresh(lane: Lane, dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False) -> None:
    """Import a source again from where it came: what is new, changed and gone."""
    from datetime import UTC, datetime

    from infra.cli.client import connected
    from infra.cli.tools_import import run_import

    use_json(json)
    known = connected(lambda client, world: _source(client, world, lane), home).source
    importer = cast("Importer", importlib.import_module(f"infra.cli.import_{known.kind}"))
    source, specs, groups = importer.read_again(known)
    source = source.model_copy(update={"since": datetime.now(UTC)})
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


async def _sources(client: Client, world: World) -> list[KnownSource]:
    from infra.cli.client import ask_list
    from services.tools.source_questions import KnownSource

    return [KnownSource.model_validate(each) for each in await ask_list(world, "tools", "sources", {"tenant": client.tenant})]


async def _source(client: Client, world: World, lane: str) -> KnownSource:
    found = await _sources(client, world)
    for each in found:
        if each.source.lane == lane:
            return each
    known = ", ".join(each.source.lane for each in found)
    raise UnknownSource(
        f"Nothing was imported as {lane}.", why=f"there is {known}" if known else "nothing was imported at all",
        hint="milepost tools sources ls",
    )  # fmt: skip


async def _removed(client: Client, world: World, lane: str) -> list[str]:
    from infra.cli.importing import keep_only, patiently
    from services.tools.source_questions import DropSource

    source = (await _source(client, world, lane)).source
    gone: list[str] = []
    await keep_only(world, source, (), gone)
    await patiently(world, "tools", "drop_source", DropSource(tenant=source.tenant, lane=lane))
    return gone
