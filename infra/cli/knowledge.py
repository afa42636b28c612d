"""Knowledge: documents that answers may be taken from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.knowledge_add import Collection, add, pairs
from infra.cli.options import Home, Json, question_of
from infra.cli.show import as_json, at_terminal, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from schemas.events import Passage
    from services.retrieval.knowledge_index import Document

REMOVE_S = 120.0
_PAGE = 500

knowledge = typer.Typer(no_args_is_help=True, help="Add, search, list, show and remove documents.")

Source = Annotated[str, typer.Argument(help="Its source as `knowledge ls` has it, or its path.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (add, search, show):
        knowledge.command()(command)
    knowledge.command("ls")(list_)
    knowledge.command("rm")(remove)
    app.add_typer(knowledge, name="knowledge")


def search(
    text: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many passages.")] = 3,
    collection: Annotated[list[str] | None, typer.Option(help="A collection; may be repeated. [default: default]")] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="What a document's metadata must say.", show_default=False),
    ] = None,
    neighbours: Annotated[int, typer.Option(min=0, max=10, help="Passages to show before and after each.")] = 0,
    as_of: Annotated[
        int | None, typer.Option(min=1, help="The collections as they were in this version.", show_default=False)
    ] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Find the passages that an agent would be given; those that are too unlike the question for it are marked."""
    from infra.cli.client import ask_list, connected
    from schemas.events import Passage

    use_json(json)
    text = question_of(text, 'milepost knowledge search "how long are backups kept?"')
    collections = collection or ["default"]
    wanted = {
        "text": text, "k": k, "collections": collections, "filters": pairs(filter), "neighbours": neighbours,
        "versions": dict.fromkeys(collections, as_of) if as_of else {},
    }  # fmt: skip

    async def work(client: Client, world: World) -> tuple[list[Passage], float]:
        if as_of:
            await _check_past(world, collections, as_of)
        answer = await ask_list(world, "retrieval", "find_knowledge", wanted | {"tenant": client.tenant})
        return [Passage.model_validate(each) for each in answer], await _least(world) if answer else 0.0

    found, least = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") | {"fits": _fits(each, least)} for each in found])
        return
    for each in found:
        _print_passage(each, least)
    if not found:
        console(stderr=True).print("nothing found · milepost knowledge ls")


async def _check_past(world: World, collections: Sequence[str], as_of: int) -> None:
    """Raises MilepostError when a collection has not had that version yet."""
    from infra.cli.client import ask

    said = await ask(world, "retrieval", "collection_versions", {"tenant": world.settings.tenant, "collections": collections})
    now = said if isinstance(said, dict) else {}
    for name in collections:
        newest = now.get(name, 0)
        if not isinstance(newest, int) or newest < as_of:
            raise MilepostError(
                f"{name} has no version {as_of} yet.", why=f"its newest is {newest}", hint="leave --as-of out for the newest"
            )


async def _least(world: World) -> float:
    """How similar a passage must be to be shown to a model."""
    from infra.cli.client import ask

    said = await ask(world, "retrieval", "embed", {"texts": ["?"], "kind": "query"})
    least = said.get("fits") if isinstance(said, dict) else None
    return float(least) if isinstance(least, int | float) else 0.0


def _fits(passage: Passage, least: float) -> bool:
    return passage.similarity is None or passage.similarity >= least


def _print_passage(passage: Passage, least: float) -> None:
    out = console()
    own = passage.heading.removeprefix(passage.title).removeprefix(" > ")
    place = " › ".join([passage.title, *filter(None, own.split(" > "))])
    page = "" if passage.page is None else f" · page {passage.page}"
    similar = "" if passage.similarity is None else f" · similarity {passage.similarity:.2f}"
    unlike = "" if _fits(passage, least) else " · too unlike, so no model is shown it"
    out.print(plain(place, "bold") + plain(f"  score {passage.score:.3f}{similar}", "dim") + plain(unlike, "yellow"))
    where = f"{passage.source or passage.document}{page} · characters {passage.start}-{passage.end} · chunk {passage.hash[:12]}"
    out.print(plain(where, "dim"), soft_wrap=True)
    out.print(plain(passage.text.strip()))
    out.print()


def list_(
    collection: Annotated[str | None, typer.Option(help="Of this collection only.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List the documents that are known."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _documents(world, collection), home)
    found.sort(key=lambda each: (each.collection, each.source))
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        rows = [(each.collection, str(each.chunks), local(each.added), each.title[:40], each.source) for each in found]
        print_table(("collection", "chunks", "added", "title", "source"), rows, right=("chunks",))
    else:
        console(stderr=True).print("no document is known · milepost knowledge add PATH")


def show(source: Source, collection: Collection = "default", home: Home = None, json: Json = False) -> None:
    """Show what is known about a document."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _find(world, collection, names_of(source)), home)
    if as_json():
        print_json(found.model_dump(mode="json"))
        return
    out = console()
    out.print(plain(found.title, "bold"))
    about = {
        "source": found.source, "id": found.id, "collection": f"{found.collection}, since version {found.version}",
        "chunks": str(found.chunks),
        "added": local(found.added), "digest": found.digest, **found.metadata,
    }  # fmt: skip
    for name, value in about.items():
        if value:
            out.print(plain(f"{name:>12}  ", "dim") + plain(value), soft_wrap=True)


def remove(
    source: Annotated[
        str | None, typer.Argument(help="Its source as `knowledge ls` has it, or its path.", show_default=False)
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The collection. [default: default]", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Forget a document, or with --collection alone all of a collection; nothing of its text stays."""
    from infra.cli.client import connected

    use_json(json)
    if source is None and collection is None:
        raise MilepostError("What is to be forgotten?", hint="name a document, or --collection")

    names = names_of(source) if source else ()

    async def work(client: Client, world: World) -> tuple[str, int]:
        if names:
            return await _remove_document(world, collection or "default", names, yes)
        return await _remove_collection(world, str(collection), yes)

    said, count = connected(work, home)
    if as_json():
        print_json({"removed": said if source else None, "collection": collection or "default", "documents": count})
    else:
        console().print(plain(f"forgot {said}"))


async def _remove_document(world: World, collection: str, names: Sequence[str], yes: bool) -> tuple[str, int]:
    from infra.cli.client import ask

    found = await _find(world, collection, names)
    _confirm(f"Forget {found.source} with its {found.chunks} chunks?", yes)
    asked = {"tenant": world.settings.tenant, "collection": collection, "source": found.source}
    await ask(world, "retrieval", "remove_document", asked, REMOVE_S)
    return found.source, 1


async def _remove_collection(world: World, collection: str, yes: bool) -> tuple[str, int]:
    from infra.cli.client import ask

    count = len(await _documents(world, collection))
    if not count:
        raise MilepostError(f"There is no document in {collection}.", hint="milepost knowledge ls")
    _confirm(f"Forget all documents of {collection}, {count} of them?", yes)
    await ask(world, "retrieval", "remove_collection", {"tenant": world.settings.tenant, "collection": collection}, REMOVE_S)
    return f"{count} {'document' if count == 1 else 'documents'} of {collection}", count


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not at_terminal():
        raise MilepostError(question, why="it cannot be taken back, and nobody is here to be asked", hint="add --yes")
    typer.confirm(question, abort=True)


def names_of(source: str) -> Sequence[str]:
    """What a document may be known by, of which a person says this."""
    from infra.ingestion.originals import is_address

    return (source,) if is_address(source) else (source, str(Path(source).expanduser().resolve()))


async def _find(world: World, collection: str, names: Sequence[str]) -> Document:
    """A document by one of its names. Raises MilepostError."""
    known = await _documents(world, collection)
    for each in known:
        if each.source in names:
            return each
    near = [each.source for each in known if each.source.endswith(f"/{names[0]}")]
    hint = f"did you mean {near[0]}?" if near else "milepost knowledge ls"
    raise MilepostError(
        f"No document {names[0]} is known in {collection}.", why=f"it has {len(known)} others" if known else "it is empty",
        hint=hint,
    )  # fmt: skip


async def _documents(world: World, collection: str | None = None) -> list[Document]:
    from infra.cli.client import ask_list
    from services.retrieval.knowledge_index import Document

    found: list[Document] = []
    while True:
        asked = {
            "tenant": world.settings.tenant, "collection": collection, "after": found[-1].id if found else "", "limit": _PAGE
        }  # fmt: skip
        page = [Document.model_validate(each) for each in await ask_list(world, "retrieval", "list_documents", asked)]
        if not page:
            return found
        found.extend(page)
