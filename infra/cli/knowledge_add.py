"""`milepost knowledge add`: what it takes, and what a person sees meanwhile and at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.ingestion.ingest import Outcome, Plan
    from infra.ingestion.originals import Original
    from infra.wiring import World
    from runtime.client import Client

Collection = Annotated[str, typer.Option(help="The collection of documents.")]
Meta = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Said of every document; may be repeated.")]


def add(
    documents: Annotated[
        list[str], typer.Argument(metavar="PATH|URL...", help="Files, folders and web addresses.", show_default=False)
    ],
    collection: Collection = "default",
    meta: Meta = None,
    title: Annotated[str | None, typer.Option(help="The title, of a single document.", show_default=False)] = None,
    glob: Annotated[
        str | None, typer.Option(help="Only these files of folders, as '*.md' or 'guides/**/*.html'.", show_default=False)
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="A place to ask though not public.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option(help="Read documents again that have not changed.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Add documents: txt, md, html, pdf, docx, xlsx, csv, json.

    What has not changed is passed over; what was stopped goes on.
    """
    from infra.cli.client import connected
    from infra.ingestion.ingest import Plan
    from infra.ingestion.originals import find_originals

    use_json(json)
    originals = find_originals(documents, glob)
    if title is not None and len(originals) != 1:
        raise MilepostError("A title is for one document.", why=f"these are {len(originals)}")
    metadata = pairs(meta)
    began = time.monotonic()

    async def work(client: Client, world: World) -> list[Outcome]:
        plan = Plan(client.tenant, collection, metadata, title, tuple(allow or ()), again)
        return await _ingest(world, plan, originals)

    try:
        outcomes = connected(work, home)
    except KeyboardInterrupt:
        if not as_json():
            console(stderr=True).print("stopped · the same command goes on from here")
        raise
    _report(outcomes, time.monotonic() - began)


def pairs(given: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE arguments. Raises MilepostError."""
    found = {}
    for each in given or ():
        key, sign, value = each.partition("=")
        if not sign or not key.strip():
            raise MilepostError(f"{each!r} says nothing of a document.", hint="write it as key=value")
        found[key.strip()] = value
    return found


async def _ingest(world: World, plan: Plan, originals: Sequence[Original]) -> list[Outcome]:
    from infra.cli.client import ask
    from infra.cli.knowledge_bars import watching
    from infra.ingestion.ingest import Ingest

    with watching(len(originals)) as watch:
        return await Ingest(lambda verb, question, s: ask(world, "retrieval", verb, question, s), plan, watch).run(originals)


def _report(outcomes: Sequence[Outcome], seconds: float) -> None:
    from infra.ingestion.originals import NoDocuments

    states = Counter(each.state for each in outcomes)
    if as_json():
        print_json([_row(each) for each in outcomes])
    else:
        skipped = Counter(each.original.name.rpartition(".")[2] for each in outcomes if each.state == "skipped")
        counts = ", ".join(
            f"{states[state]} {state}" for state in ("added", "unchanged", "skipped", "refused") if states[state]
        )
        kinds = f" ({', '.join(f'{count} .{kind}' for kind, count in skipped.most_common(5))})" if skipped else ""
        tokens = sum(each.tokens for each in outcomes)
        rate = f"; {tokens} tokens embedded, {tokens / seconds:,.0f} a second" if tokens else ""
        console().print(plain(f"{counts or 'nothing'}{kinds}{rate}"), soft_wrap=True)
    if states["refused"]:
        raise typer.Exit(1)
    if not states["added"] and not states["unchanged"]:
        raise NoDocuments(
            "There is no document to add.", why="no file of a format that is read", hint="milepost knowledge add --help"
        )


def _row(each: Outcome) -> dict[str, object]:
    return {
        "path": each.original.source, "state": each.state, "why": each.why, "next": each.hint, "title": each.title,
        "kept": each.kept, "added": each.added, "removed": each.removed, "tokens": each.tokens,
    }  # fmt: skip
