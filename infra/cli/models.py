"""Models: what the catalogue has, what a person added, and what of it is on this disk, built, verified and how fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, TypeVar

import typer

from infra.cli import models_trained
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from rich.progress import Progress

    from infra.models import fetch
    from infra.models.adapters import Trained
    from infra.models.catalogue import ModelCard, Source
    from infra.models.remote import Remote
    from infra.settings import Settings

T = TypeVar("T")
EMBEDDER = "multilingual-e5-small"
_COLOURS = {"verified": "green", "not verified": "yellow", "ok": "green"}

_REMOTE_OPTIONS = {
    "base_url": ("--url", "it begins with http:// or https:// and a host, such as http://host:8000/v1"),
    "model": ("--model", "it is the model's name at the endpoint: 1 to 200 characters"),
    "key_env": ("--key-env", "it is the name of a variable (A-Z a-z 0-9 _), not the key itself"),
}

Name = Annotated[str, typer.Argument(help="A model of `models ls`.", show_default=False)]
NewName = Annotated[str | None, typer.Option("--name", help="What to call it here; made of the file's if not given.")]
Chat = Annotated[str | None, typer.Option(help="The chat format it speaks, in place of the one its template tells.")]
Licence = Annotated[str | None, typer.Option(help="Its licence, where its files do not tell.")]
Precision = Annotated[str, typer.Option(help="int8, int4, fp32, fp16, bf16 or int4-fp16; auto: the model's usual one.")]

models = typer.Typer(no_args_is_help=True, help="List, fetch, build, check and add models.")


def _run(work: Coroutine[None, None, T]) -> T:
    import asyncio

    return asyncio.run(work)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    models.command("ls")(list_)
    for command in (show, pull, build, verify, bench, add, export, remote, rm):
        models.command()(command)
    models_trained.add_to(models)
    app.add_typer(models, name="models")


# --- looking --------------------------------------------------------------------------------------


class Row(TypedDict):
    """A model as it is listed. size: bytes; path: empty when its file is not here; built: precisions that are there."""

    name: str
    title: str
    kind: str
    size: int
    licence: str
    languages: str
    state: str
    path: str
    sha256: str
    built: list[str]
    origin: str
    in_use: bool


def list_(home: Home = None, json: Json = False) -> None:
    """List the models of the catalogue and those that were added: size, licence, where they lie, verified or not."""
    from infra.models.adapters import shipped
    from infra.models.added import added
    from infra.models.catalogue import CATALOGUE
    from infra.models.remote import remotes

    use_json(json)
    settings = settings_from(home).settings
    cards = [*CATALOGUE.values(), *added(settings.model.home)]
    found = [_row(card, settings) for card in cards]
    found += [
        _shipped_row(name, each, settings) for name, each in shipped().items() if name not in {card.name for card in cards}
    ]
    found += [_remote_row(name, each, settings) for name, each in sorted(remotes(settings.model.home).items())]
    if as_json():
        print_json(found)
        return
    rows = [
        (
            plain(each["name"], "bold" if each["in_use"] else ""), plain(each["state"], _COLOURS.get(each["state"], "dim")),
            f"{each['size'] / 1e6:.0f} MB" if each["size"] else "", ", ".join(each["built"]), each["licence"], each["kind"],
            each["languages"],
        )
        for each in found
    ]  # fmt: skip
    print_table(("model", "state", "size", "built", "licence", "kind", "languages"), rows, right=("size",))
    about = plain(f"They lie in {settings.model.home}; bold: in use here · milepost models show NAME", "dim")
    console(stderr=True).print(about)


def _row(card: ModelCard, settings: Settings) -> Row:
    from infra.models.build import built
    from infra.models.fetch import on_disk

    there = on_disk(card.name, settings.model.home)
    if there.size:
        state = "verified" if there.verified else "not verified"
    elif card.parts:
        state = "gone"
    else:
        state = f"{there.partial * 100 // card.file.size} % fetched" if there.partial else "not fetched"
    return {
        "name": card.name, "title": card.title, "kind": card.kind, "size": card.file.size, "licence": card.licence,
        "languages": ", ".join(card.languages), "state": state, "path": str(there.path) if there.size else "",
        "sha256": card.file.sha256, "built": [precision for precision, _ in built(card, settings.model.home)],
        "origin": "added" if card.parts else "catalogue", "in_use": card.name in (settings.model.name, EMBEDDER),
    }  # fmt: skip


def _shipped_row(name: str, card: Trained, settings: Settings) -> Row:
    return {
        "name": name, "title": say("models adapter", base=card.base), "kind": "text", "size": card.size,
        "licence": card.licence, "languages": ", ".join(card.languages), "state": "not made", "path": "",
        "sha256": card.sha256, "built": [], "origin": "adapter", "in_use": name == settings.model.name,
    }  # fmt: skip


def _remote_row(name: str, remote: Remote, settings: Settings) -> Row:
    return {
        "name": name, "title": remote.model, "kind": "remote", "size": 0, "licence": "", "languages": "",
        "state": remote.base_url, "path": "", "sha256": "", "built": [], "origin": "remote",
        "in_use": name == settings.model.name,
    }  # fmt: skip


def show(name: Name, home: Home = None, json: Json = False) -> None:
    """Show one model: sources, sums, licence, chat format, context, and what was built of it."""
    from infra.models.build import built, precisions, written
    from infra.models.catalogue import find
    from infra.models.remote import remotes

    use_json(json)
    settings = settings_from(home).settings
    if far := remotes(settings.model.home).get(name):
        _show_remote(name, far, settings)
        return
    card = find(name, settings.model.home)
    builds = {precision: folder for precision, folder in built(card, settings.model.home)}
    chat = card.chat if isinstance(card.chat, str) or card.chat is None else dict(card.chat)
    sources = [card.added_from] if card.added_from else [_source(source) for source in card.file.sources]
    facts: dict[str, object] = {
        **_row(card, settings), "chat": chat, "context": card.context, "memory": card.memory,
        "sources": sources, "precision": card.precision,
        "precisions": list(precisions(card)), "exporter": card.exporter,
        "files": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in card.parts or (card.file,)],
        "built": [{"precision": each, "path": str(path), "size": written(path)} for each, path in builds.items()],
        "trained": card.trained.model_dump(mode="json") if card.trained else None,
    }  # fmt: skip
    if as_json():
        print_json(facts)
        return
    spoken = chat if isinstance(chat, str) else str(chat["name"]) if chat else ""
    rows = [
        ("model", f"{card.title} ({card.kind})"), ("state", facts["state"]), ("licence", card.licence),
        ("languages", ", ".join(card.languages)), ("chat", spoken), ("context", f"{card.context} tokens"),
        ("memory", f"about {card.memory / 1e6:.0f} MB"),
        *models_trained.about(card.trained),
        *((f"source {number}", source) for number, source in enumerate(sources, start=1)),
        *(("file", f"{file.name}, {file.size} bytes, SHA-256 {file.sha256}") for file in card.parts or (card.file,)),
        *(("built", f"{each}, {written(path) / 1e6:.0f} MB, {path}") for each, path in builds.items()),
    ]  # fmt: skip
    print_table(("", ""), [(plain(label, "dim"), str(value)) for label, value in rows if value])


def _show_remote(name: str, far: Remote, settings: Settings) -> None:
    there = far.key_env in os.environ
    if as_json():
        print_json({**_remote_row(name, far, settings), **far.model_dump(mode="json"), "key_set": there})
        return
    key = f"in {far.key_env}, which is {'set' if there else 'not set'} here" if far.key_env else "none"
    rows = (
        ("model", f"{far.model} (remote)"), ("endpoint", far.base_url), ("API key", key),
        ("patience", f"{far.timeout_s:g} s"),
    )  # fmt: skip
    print_table(("", ""), [(plain(label, "dim"), value) for label, value in rows])


def _source(source: Source) -> str:
    from infra.models.catalogue import Folder, Hub, Wheels

    match source:
        case Hub(name=name, url=url):
            return f"{name}: {url}"
        case Folder(path=path):
            return f"local: {path}"
        case Wheels(parts=parts):
            last = f" ... {parts[-1].distribution}" if len(parts) > 1 else ""
            return f"wheels: {parts[0].distribution}{last} {parts[0].version}"


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Models of `models ls`; all that are here if none.")] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Read every byte of models and of what was built of them, and compare with the sums that were pinned."""
    from infra.models.added import added
    from infra.models.catalogue import CATALOGUE, find
    from infra.models.fetch import on_disk

    use_json(json)
    where = settings_from(home).settings.model.home
    here = [card.name for card in (*CATALOGUE.values(), *added(where)) if card.parts or on_disk(card.name, where).size]
    checked = [check for name in names or here for check in _checks(find(name, where), where)]
    if as_json():
        print_json(checked)
    elif not checked:
        console(stderr=True).print(plain(f"No model is in {where} yet · milepost models pull NAME", "dim"))
    else:
        rows = [(each["model"], each["what"], plain(each["state"], _COLOURS.get(each["state"], "red"))) for each in checked]
        print_table(("model", "what", "state"), rows)
    if any(each["state"] != "ok" for each in checked):
        raise typer.Exit(1)


def _checks(card: ModelCard, home: Path) -> Iterator[dict[str, str]]:
    """The source of a model, then each of its builds: ok, or what is wrong."""
    from infra.models import fetch
    from infra.models.build import built

    try:
        _run(fetch.verify(card.name, home=home))
        state = "ok"
    except MilepostError as error:
        state = f"{error.what} {error.why}".strip()
    yield {"model": card.name, "what": card.file.name, "state": state}
    for precision, folder in built(card, home):
        yield {"model": card.name, "what": f"built {precision}", "state": _built_state(card, folder)}


def _built_state(card: ModelCard, folder: Path) -> str:
    if card.kind == "embedding":
        return "ok" if any(folder.iterdir()) else "it is empty"  # its manifest pins no files
    from services.llm.build import faults

    try:
        return "; ".join(faults(folder)) or "ok"
    except MilepostError as error:
        return error.why


def bench(
    name: Name, precision: Precision = "auto",
    seconds: Annotated[float, typer.Option(help="No round begins after so many.")] = 20.0,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Measure prefill, decode and time to first token on this machine, roughly, in less than a minute."""
    from dataclasses import asdict

    from infra.models import bench as speed
    from infra.models.build import build as build_model
    from infra.models.build import precision_for
    from infra.models.catalogue import find
    from infra.models.fetch import ensure

    use_json(json)
    model = settings_from(home).settings.model
    card = find(name, model.home)
    if card.kind != "text":
        raise MilepostError(
            f"{name} says nothing that could be measured.", why="it is an embedding model", hint="milepost models ls"
        )
    wanted = precision_for(card, model.precision if precision == "auto" else precision, model.provider)

    async def measured() -> speed.Figures:
        await ensure(name, home=model.home, offline=model.offline, folder=model.folder)
        folder = await build_model(name, model.home, wanted)
        return await speed.bench(folder, threads=model.threads, provider=model.provider, seconds=seconds)

    figures = _run(measured())
    if as_json():
        print_json({"name": name, "precision": wanted, **asdict(figures)})
        return
    rows = [
        ("prefill", f"{figures.prefill_tok_s:.0f} tokens/s", f"{figures.prompt_tokens} tokens"),
        ("decode", f"{figures.decode_tok_s:.1f} tokens/s", "one stream"),
        ("first token", f"{figures.ttft_cold_ms:.0f} ms", "new prompt"),
        ("first token", f"{figures.ttft_warm_ms:.0f} ms", "same prompt again"),
        ("loading", f"{figures.load_s:.1f} s", f"{wanted} on {figures.provider}"),
    ]
    print_table(("", "", ""), [(plain(label, "dim"), value, plain(about, "dim")) for label, value, about in rows])


# --- having ---------------------------------------------------------------------------------------


def pull(
    name: Name,
    source: Annotated[Path | None, typer.Option("--from", help="A folder that has the file.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Fetch a model, check it against its pinned SHA-256 and build its graph; goes on where it stopped."""
    from infra.models.fetch import on_disk

    use_json(json)
    settings = settings_from(home).settings
    folder = _run(_fetch(settings, (name,), source))[0]
    there = on_disk(name, settings.model.home)
    if as_json():
        about = {"name": name, "path": str(there.path), "size": there.size, "verified": there.verified}
        print_json({**about, "built": str(folder)})
    else:
        console().print(plain(f"{name} is ready in {folder}"), soft_wrap=True)


def build(name: Name, precision: Precision = "auto", home: Home = None, json: Json = False) -> None:
    """Build the graph of a model that is here, in a precision; builds in several lie side by side."""
    from infra.models.build import build as build_model
    from infra.models.build import built_folder, written
    from infra.models.catalogue import find
    from infra.models.fetch import ensure

    use_json(json)
    model = settings_from(home).settings.model
    built_folder(find(name, model.home), model.home, precision)  # a precision that is none is refused before a download

    async def built() -> Path:
        await ensure(name, home=model.home, offline=model.offline, folder=model.folder)
        with _bars() as bars:
            return await build_model(name, model.home, precision, on_bytes=_counter(bars, name))

    folder = _run(built())
    if as_json():
        print_json({"name": name, "built": str(folder), "size": written(folder)})
    else:
        console().print(plain(f"{name} is built in {folder}, {written(folder) / 1e6:.0f} MB"), soft_wrap=True)


def add(
    source: Annotated[str, typer.Argument(help="A GGUF file, a folder with safetensors, or OWNER/NAME on a hub.")],
    name: NewName = None, chat: Chat = None, licence: Licence = None, precision: Precision = "int8",
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Add a model of the Llama, Qwen2 or Qwen3 family: it is checked, pinned and built; its files stay where they are."""
    from infra.models.adding import add as add_model
    from infra.models.hub import is_repository, repository

    use_json(json)
    where = settings_from(home).settings.model.home
    wanted = "int8" if precision == "auto" else precision

    local = Path(source).exists() or not is_repository(source)

    async def added() -> ModelCard:
        with _bars() as bars:
            if local:
                return await add_model(
                    Path(source), home=where, name=name, chat=chat, licence=licence, precision=wanted,
                    on_bytes=_counter(bars, source),
                )  # fmt: skip
            async with repository(source, home=where, on_progress=_teller(bars, source)) as fetched:
                return await add_model(
                    fetched, home=where, name=name, chat=chat, licence=licence, precision=wanted, added_from=source,
                    on_bytes=_counter(bars, source),
                )  # fmt: skip

    _tell_added(_run(added()), where)


def export(
    source: Annotated[Path, typer.Argument(help="A folder with config.json and safetensors, or a GGUF file.")],
    exporter: Annotated[str, typer.Option("--with", help="Who exports it: optimum.")] = "optimum",
    name: NewName = None, chat: Chat = None, licence: Licence = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Add a model of another architecture with the graph that optimum exports; it runs slower than one of our own."""
    from infra.models.adding import export as export_model

    use_json(json)
    if exporter != "optimum":
        raise MilepostError(
            f"There is no exporter {exporter!r}.",
            why="the one known is optimum",
            hint=f"milepost models export --with optimum {source}",
        )
    where = settings_from(home).settings.model.home
    out = console(stderr=True)
    silent = as_json()

    def on_line(line: str) -> None:
        if not silent:
            out.print(plain(line, "dim"))

    _tell_added(export_model(source, home=where, name=name, chat=chat, licence=licence, on_line=on_line), where)


def _tell_added(card: ModelCard, home: Path) -> None:
    chat = str(card.chat["name"]) if card.chat and not isinstance(card.chat, str) else str(card.chat)
    if as_json():
        print_json({
            "name": card.name, "sha256": card.file.sha256, "licence": card.licence, "chat": chat, "context": card.context,
            "path": str(home / card.name), "precision": card.precision,
        })  # fmt: skip
        return
    console().print(plain(f"{card.name} is added: chat format {chat}, context {card.context}, licence {card.licence}"))
    if card.licence == "unknown":
        console(stderr=True).print(plain("its files tell no licence: say it with --licence", "yellow"))
    console(stderr=True).print(plain(f"use it: MILEPOST_MODEL_NAME={card.name} milepost up", "dim"))


def remote(
    name: Annotated[str, typer.Argument(help="What to call it here.")],
    url: Annotated[str, typer.Option(help="The endpoint, such as http://host:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    key_env: Annotated[str, typer.Option(help="The environment variable that holds its API key.")] = "",
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Name a model behind an OpenAI-compatible endpoint; its key is never stored."""
    from pydantic import ValidationError

    from infra.models.added import read_card
    from infra.models.remote import Remote, add_remote

    use_json(json)
    where = settings_from(home).settings.model.home
    if read_card(name, where):
        raise MilepostError(f"There is a model {name} already.", hint=f"milepost models rm {name}, or choose another name")
    try:
        known = Remote(base_url=url, model=model, key_env=key_env)
    except ValidationError as error:
        option, why = _REMOTE_OPTIONS[str(error.errors()[0]["loc"][0])]
        raise MilepostError(f"{option} has a wrong value.", why=why, hint="milepost models remote --help") from error
    add_remote(where, name, known)
    if as_json():
        print_json({"name": name, **known.model_dump(mode="json")})
    else:
        console().print(plain(f"{name} speaks through {url} as {model}"))


def rm(name: Name, home: Home = None, json: Json = False) -> None:
    """Forget a model that was added, and what was built of it; its own files stay where they are."""
    from infra.models.added import remove
    from infra.models.remote import drop_remote

    use_json(json)
    where = settings_from(home).settings.model.home
    if not drop_remote(where, name):
        remove(name, where)
    if as_json():
        print_json({"removed": name})
    else:
        console().print(plain(f"{name} is forgotten"))


def fetch_all(settings: Settings) -> None:
    """Fetch and build the language model and the embedder of these settings."""
    from infra.models.remote import remotes

    here = () if settings.model.name in remotes(settings.model.home) else (settings.model.name,)
    _run(_fetch(settings, (*here, EMBEDDER)))


async def _fetch(settings: Settings, names: tuple[str, ...], source: Path | None = None) -> list[Path]:
    from infra.models import build as builds
    from infra.models import fetch
    from infra.models.catalogue import find

    model, made = settings.model, []
    with _bars() as bars:
        for name in names:
            tell = _teller(bars, name)
            folder = source or model.folder
            await fetch.ensure(name, home=model.home, offline=model.offline, folder=folder, on_progress=tell)
            wanted = builds.precision_for(find(name, model.home), model.precision, model.provider)
            made.append(await builds.build(name, model.home, wanted, on_bytes=_counter(bars, name)))
    return made


# --- progress -------------------------------------------------------------------------------------


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True) as bars:
        yield bars


@contextmanager
def fetching(name: str) -> Iterator[Callable[[fetch.Progress], None]]:
    """Show how far a model's download is while the block runs."""
    with _bars() as bars:
        yield _teller(bars, name)


def _teller(bars: Progress, name: str) -> Callable[[fetch.Progress], None]:
    """Show how far a download is, and once for each source why from there."""
    bar, said = bars.add_task(name, total=None), set[str]()

    def tell(progress: fetch.Progress) -> None:
        line = f"{name}: {progress.total / 1e6:.0f} MB {progress.why}"
        if progress.why and not as_json() and line not in said:
            said.add(line)
            bars.console.print(plain(line, "dim"))
        bars.update(bar, completed=progress.done, total=progress.total, description=f"{name} from {progress.source}")

    return tell


def _counter(bars: Progress, name: str) -> Callable[[int], None]:
    """Show how much of a graph is written; how much it will be nobody knows before."""
    bar = bars.add_task(f"{name}: building its graph", total=None)
    return lambda written: bars.update(bar, completed=written)
