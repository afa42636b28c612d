"""Take a run away as a file that proves itself anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client


def export(
    run: Run, file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write a run to a file that `milepost replay` reads anywhere: a header line, then every event as it is stored."""
    from datetime import UTC, datetime

    from infra.cli.client import connected, events_of
    from infra.files import Exported, exported, save_export

    use_json(json)

    async def work(_: Client, world: World) -> Exported:
        return await exported(*await events_of(world, run), world.keyring)

    what = connected(work, home)
    save_export(file, what, datetime.now(UTC), replace=force)
    count, erased = len(what.events), what.sealed and what.key is None
    then = "their content was erased on request" if erased else f"milepost replay {file}"
    said: dict[str, object] = {"run": what.run, "file": str(file), "events": count}
    _done(said | ({"erased": True} if erased else {}), f"{count} events in {file} · {then}")


def _done(said: dict[str, object], text: str) -> None:
    if as_json():
        print_json(said)
    else:
        console().print(plain(text))
