"""`milepost tools import folder`: every tool in a folder of Python files, in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.import_shown import says
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tools.sources import Source, Spec


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(folder)


def folder(
    path: Annotated[Path, typer.Argument(help="The folder that has the Python files.", show_default=False)],
    lane: Annotated[str, typer.Option(help="The name of their host.", show_default="the folder's name")] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import every @tool function and Tool class of a folder; its files are run. Again after each change."""
    from infra.cli.tools_import import new_source, run_import

    use_json(json)
    place = path.resolve()
    source, specs, groups = read_again(
        new_source("folder", lane or lane_of(place.name), {"folder": str(place)}, str(place), home)
    )
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The tools that the folder has now, and the source with a digest of their code: another one starts it anew."""
    from schemas.canonical import digest
    from tool_adapters.own_process.loading import files_of

    place = Path(str(source.settings["folder"]))
    code = digest(*(part for file in files_of(place) for part in (file.name, file.read_bytes())))
    return with_cards(source.model_copy(update={"settings": {"folder": str(place), "digest": code}}), "folder", str(place))


def with_cards(source: Source, kind: str, where: str) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The source with the tools that its code has; the code is run in a process of its own. Raises InvalidTool."""
    import asyncio

    from schemas.tools import ToolCard
    from services.tools.sources import Spec
    from tool_adapters.own_process.parent import OwnProcess
    from tool_adapters.tool import InvalidTool

    async def ask() -> list[ToolCard]:
        process = OwnProcess(kind, where)
        try:
            return await process.cards()
        finally:
            await process.close()

    with says("loading the code"):
        cards = asyncio.run(ask())
    if not cards:
        raise InvalidTool(
            f"No tool is in {where}.", why="none of its Python files has an @tool function or a Tool class",
            hint="milepost tools new NAME writes one",
        )  # fmt: skip
    specs = [Spec(card=card.model_copy(update={"lane": source.lane}), call={}) for card in cards]
    return source, specs, [spec.card.effect for spec in specs]


def lane_of(name: str) -> str:
    """A lane from the name of a folder or package."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "code"
