"""Knowledge: documents that answers may be taken from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from schemas.events import Passage
    from services.retrieval.ports import Document

LARGEST = 900 * 1024
EMBED_S = 600.0

knowledge = typer.Typer(no_args_is_help=True, help="Add, search, list and remove documents.")

Collection = Annotated[str, typer.Option(help="The collection of documents.")]


class NoDocuments(MilepostError):
    """Nothing that was named can be read as a document."""


@dataclass(slots=True)
class Tried:
    """What became of one path. state: added, skipped (no document by its name) or refused; why: in words."""

    path: Path
    state: str
    why: str = ""
    kept: int = 0
    added: int = 0
    removed: int = 0

    def row(self) -> dict[str, object]:
        return {
            "path": str(self.path), "state": self.state, "why": self.why, "kept": self.kept, "added": self.added,
            "removed": self.removed,
        }  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (add, search):
        knowledge.command()(command)
    knowledge.command("ls")(list_)
    knowledge.command("rm")(remove)
    app.add_typer(knowledge, name="knowledge")


def add(
    paths: Annotated[list[Path], typer.Argument(help="Markdown and text files, or folders with such.", show_default=False)],
    collection: Collection = "default", home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Add documents; one that is there already is replaced, and only what is new in it is read again."""
    from infra.cli.client import connected

    use_json(json)
    files = list(_files(paths))
    tried = connected(lambda client, world: _add(client, world, files, collection), home)
    if as_json():
        print_json([each.row() for each in tried])
    else:
        _print_tried(tried)
    if any(each.state == "refused" for each in tried):
        raise typer.Exit(1)
    if not any(each.state == "added" for each in tried):
        why = "only .md, .markdown and .txt files are read"
        raise NoDocuments("There is no document to add.", why=why, hint="name such a file")


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are meant, each once; hidden folders are passed over. Raises NoDocuments for a path that is not there."""
    for path in dict.fromkeys(path.resolve() for path in paths):
        if not path.exists():
            raise NoDocuments(f"There is no {path}.", hint="name a file or a folder")
        if not path.is_dir():
            yield path
            continue
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


async def _add(client: Client, world: World, files: list[Path], collection: str) -> list[Tried]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    tried = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json(), transient=True) as bars:
        bar = bars.add_task("", total=len(files))
        for file in files:
            bars.update(bar, description=plain(file.name).plain.replace("[", "\\["))
            tried.append(await _add_one(client, world, file, collection))
            bars.advance(bar)
    return tried


async def _add_one(client: Client, world: World, file: Path, collection: str) -> Tried:
    import asyncio

    from infra.cli.client import ask
    from runtime.errors import Unreachable
    from schemas.canonical import canonical
    from services.retrieval.chunks import UnsupportedDocument, read_document
    from services.retrieval.ports import Added

    try:
        text = read_document(file.name, await asyncio.to_thread(file.read_bytes))
        document = {
            "tenant": client.tenant, "collection": collection, "source": str(file), "title": file.name, "text": text,
        }  # fmt: skip
        if (size := len(canonical(document))) > LARGEST:
            return Tried(file, "refused", f"it has {size // 1024} KiB, the limit is {LARGEST // 1024}; split it")
        added = Added.model_validate(await ask(world, "retrieval", "add_document", document, EMBED_S))
        return Tried(file, "added", "", added.kept, added.added, added.removed)
    except UnsupportedDocument as error:
        return Tried(file, "skipped", error.why)
    except OSError as error:
        return Tried(file, "refused", error.strerror or str(error))
    except Unreachable:
        raise
    except MilepostError as error:
        return Tried(file, "refused", f"{error.what} {error.why}".strip())


def _print_tried(tried: Sequence[Tried]) -> None:
    out = console()
    for each in tried:
        if each.state == "added":
            what = plain(f" {each.added} chunks added, {each.kept} kept, {each.removed} removed", "dim")
            out.print(plain("✓ ", "green") + plain(str(each.path)) + what, soft_wrap=True)
        else:
            mark = plain("- ", "yellow") if each.state == "skipped" else plain("✗ ", "red")
            out.print(mark + plain(str(each.path)) + plain(f" {each.state}: {each.why}", "dim"), soft_wrap=True)


def search(
    text: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many passages.")] = 3,
    collection: Collection = "default", home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Find the passages that an agent would be given."""
    from infra.cli.client import ask_list, connected
    from schemas.events import Passage

    use_json(json)

    async def work(client: Client, world: World) -> list[Passage]:
        asked = {"tenant": client.tenant, "text": text, "k": k, "collections": [collection]}
        return [Passage.model_validate(each) for each in await ask_list(world, "retrieval", "find_knowledge", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
        return
    for each in found:
        _print_passage(each)
    if not found:
        console(stderr=True).print("nothing found · milepost knowledge ls")


def _print_passage(passage: Passage) -> None:
    out = console()
    place = " › ".join(filter(None, (passage.title, passage.heading)))
    similar = "" if passage.similarity is None else f" · similarity {passage.similarity:.2f}"
    about = f"  score {passage.score:.3f}{similar} · characters {passage.start}-{passage.end}"
    out.print(plain(place, "bold") + plain(about, "dim"))
    out.print(plain(passage.text.strip()))
    out.print()


def list_(home: Home = None, json: Json = False) -> None:
    """List the documents that are known."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _documents(world), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        rows = [(each.collection, str(each.chunks), local(each.added), each.source) for each in found]
        print_table(("collection", "chunks", "added", "source"), rows, right=("chunks",))
    else:
        console(stderr=True).print("no document is known · milepost knowledge add PATH")


async def _documents(world: World) -> list[Document]:
    from infra.cli.client import ask_list
    from services.retrieval.ports import Document

    asked = {"tenant": world.settings.tenant}
    return [Document.model_validate(each) for each in await ask_list(world, "retrieval", "list_documents", asked)]


def remove(
    source: Annotated[str, typer.Argument(help="Its source as `knowledge ls` has it, or its path.", show_default=False)],
    collection: Collection = "default", home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Forget a document."""
    from infra.cli.client import ask, connected

    use_json(json)

    names = dict.fromkeys((source, str(Path(source).resolve())))

    async def work(client: Client, world: World) -> str | None:
        for name in names:
            asked = {"tenant": client.tenant, "collection": collection, "source": name}
            if await ask(world, "retrieval", "remove_document", asked):
                return name
        return None

    gone = connected(work, home)
    if gone is None:
        raise MilepostError(f"No document {source} is known in {collection}.", hint="milepost knowledge ls")
    print_json({"removed": gone, "collection": collection}) if as_json() else console().print(plain(f"forgot {gone}"))
