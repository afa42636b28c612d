"""Models: fetch and build with a progress bar."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infra.cli.show import as_json, console

if TYPE_CHECKING:
    from infra.settings import Settings

EMBEDDER = "multilingual-e5-small"


def fetch_all(settings: Settings) -> None:
    """Fetch and build the language model and the embedder of these settings."""
    asyncio.run(_fetch(settings, (settings.model.name, EMBEDDER)))


async def _fetch(settings: Settings, names: tuple[str, ...]) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from infra.models import build, fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json(), transient=True) as bars:
        for name in names:
            bar = bars.add_task(name, total=None)

            def tell(progress: fetch.Progress, bar=bar, name=name) -> None:  # type: ignore[no-untyped-def]
                bars.update(bar, completed=progress.done, total=progress.total, description=f"{name} from {progress.source}")

            await fetch.ensure(name, home=settings.model.home, offline=settings.model.offline, on_progress=tell)
            bars.update(bar, description=f"{name}: building its graph")
            await (build.build_embedder if name == EMBEDDER else build.build)(name, settings.model.home)
