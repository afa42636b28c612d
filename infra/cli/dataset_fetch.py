"""`milepost dataset fetch`: the files of a public set from its hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Json
from infra.cli.show import as_json, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.datasets.hub import HuggingFace, ModelScope


def add_to(dataset: typer.Typer) -> None:
    """Add this file's command."""
    dataset.command()(fetch)


def fetch(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME, such as iic/MSAgent-Bench.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to fill, such as DATA/msagent-bench.", show_default=False)
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="modelscope, huggingface or the https address of its mirror; both in turn without.",
                     show_default=False),
    ] = None,
    largest: Annotated[float, typer.Option("--max-gb", min=0.0, help="How large its files may be in all.")] = 20.0,
    json: Json = False,
) -> None:  # fmt: skip
    """Fetch a data set's files from ModelScope or Hugging Face; again to go on where it stopped.

    Sizes are bounded and checked, and so are sums that the hub announces; provenance.json says what came from where.
    """
    import asyncio

    from infra.cli.models import fetching
    from infra.datasets import hub

    use_json(json)
    with fetching(repository) as tell:
        fetched = asyncio.run(hub.fetch(repository, out, hubs=_hubs(source), largest=int(largest * 1e9), on_progress=tell))
    if as_json():
        print_json({"folder": str(out), "hub": fetched.hub, "files": dict(fetched.files)})
        return
    console().print(plain(say("dataset fetched", count=len(fetched.files), hub=fetched.hub, folder=out)))


def _hubs(source: str | None) -> tuple[HuggingFace | ModelScope, ...]:
    """Where to ask, in turn."""
    from infra.datasets.hub import HuggingFace, ModelScope

    if source is None:
        return ModelScope(), HuggingFace()
    if source.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        return (HuggingFace(source.rstrip("/"), "the mirror"),)
    known: dict[str, HuggingFace | ModelScope] = {"modelscope": ModelScope(), "huggingface": HuggingFace()}
    if source not in known:
        raise typer.BadParameter(f"{source}: it is modelscope, huggingface or an https address", param_hint="--from")
    return (known[source],)
