"""Models: what the catalogue has and what is on this disk; fetch and build with a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.models.catalogue import ModelCard
    from infra.settings import Settings

EMBEDDER = "multilingual-e5-small"
_COLOURS = {"verified": "green", "not verified": "yellow"}

models = typer.Typer(no_args_is_help=True, help="List models and fetch them.")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    models.command("ls")(list_)
    models.command()(pull)
    app.add_typer(models, name="models")


def list_(home: Home = None, json: Json = False) -> None:
    """List the models of the catalogue: size, licence, where they lie, verified or not."""
    from infra.models.catalogue import CATALOGUE

    use_json(json)
    settings = settings_from(home).settings
    found = [_row(card, settings) for card in CATALOGUE.values()]
    if as_json():
        print_json(found)
        return
    rows = [
        (
            plain(each["name"], "bold" if each["in_use"] else ""), plain(each["state"], _COLOURS.get(each["state"], "dim")),
            f"{each['size'] / 1e6:.0f} MB", each["licence"], each["kind"], each["languages"],
        )
        for each in found
    ]  # fmt: skip
    print_table(("model", "state", "size", "licence", "kind", "languages"), rows, right=("size",))
    about = plain(f"They lie in {settings.model.home}; bold: in use here · milepost models pull NAME", "dim")
    console(stderr=True).print(about)


class Row(TypedDict):
    """A model as it is listed. size: bytes; path: empty when its file is not here."""

    name: str
    title: str
    kind: str
    size: int
    licence: str
    languages: str
    state: str
    path: str
    sha256: str
    in_use: bool


def _row(card: ModelCard, settings: Settings) -> Row:
    from infra.models.fetch import on_disk

    there = on_disk(card.name, settings.model.home)
    if there.size:
        state = "verified" if there.verified else "not verified"
    else:
        state = f"{there.partial * 100 // card.file.size} % fetched" if there.partial else "not fetched"
    return {
        "name": card.name, "title": card.title, "kind": card.kind, "size": card.file.size, "licence": card.licence,
        "languages": ", ".join(card.languages), "state": state, "path": str(there.path) if there.size else "",
        "sha256": card.file.sha256, "in_use": card.name in (settings.model.name, EMBEDDER),
    }  # fmt: skip


def pull(
    name: Annotated[str, typer.Argument(help="A model of `models ls`.", show_default=False)],
    home: Home = None,
    json: Json = False,
) -> None:
    """Fetch a model, check it against its pinned SHA-256 and build its graph; goes on where it stopped."""
    import asyncio

    from infra.models.fetch import on_disk

    use_json(json)
    settings = settings_from(home).settings
    folder = asyncio.run(_fetch(settings, (name,)))[0]
    there = on_disk(name, settings.model.home)
    if as_json():
        about = {"name": name, "path": str(there.path), "size": there.size, "verified": there.verified}
        print_json({**about, "built": str(folder)})
    else:
        console().print(plain(f"{name} is ready in {folder}"), soft_wrap=True)


def fetch_all(settings: Settings) -> None:
    """Fetch and build the language model and the embedder of these settings."""
    import asyncio

    asyncio.run(_fetch(settings, (settings.model.name, EMBEDDER)))


async def _fetch(settings: Settings, names: tuple[str, ...]) -> list[Path]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from infra.models import build, fetch

    out, said = console(stderr=True), set[str]()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    built = []
    with Progress(*columns, console=out, disable=as_json(), transient=True) as bars:
        for name in names:
            bar = bars.add_task(name, total=None)

            def tell(progress: fetch.Progress, bar=bar, name=name) -> None:  # type: ignore[no-untyped-def]
                if (
                    progress.why
                    and not as_json()
                    and (line := f"{name}: {progress.total / 1e6:.0f} MB {progress.why}") not in said
                ):
                    said.add(line)
                    bars.console.print(plain(line, "dim"))
                bars.update(bar, completed=progress.done, total=progress.total, description=f"{name} from {progress.source}")

            await fetch.ensure(name, home=settings.model.home, offline=settings.model.offline, on_progress=tell)
            bars.update(bar, description=f"{name}: building its graph")
            built.append(await build.build(name, settings.model.home))
    return built
