"""Datasets: recorded runs as conversations to train with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.datasets import Written
    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import RunId
    from services.datasets.pseudonyms import Pseudonyms
    from services.recorder.ports import RunFilter

dataset = typer.Typer(no_args_is_help=True, help="Recorded runs as training data.")

DEFAULT_SPLIT = "train=0.9,validation=0.05,test=0.05"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    dataset.command()(build)
    app.add_typer(dataset, name="dataset")


def build(
    query: Annotated[list[str], typer.Argument(help="Which runs, such as agent:ops tool:RenewInstance since:30d.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", show_default=False)],
    format: Annotated[list[str] | None, typer.Option(help="msagent or openai; both without it.", show_default=False)] = None,
    split: Annotated[str, typer.Option(help="Parts and their shares; a conversation is in one part only.")] = DEFAULT_SPLIT,
    single: Annotated[bool, typer.Option("--single-turn", help="Each run by itself, not with its conversation.")] = False,
    keep_personal: Annotated[bool, typer.Option("--keep-personal", help="Leave e-mail addresses and numbers in.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many runs at most.")] = 100_000,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write runs as MSAgent-Bench conversations and OpenAI chats; secrets are always taken out.

    Runs that did not complete, are in doubt, or had replies that nobody could read are left out, and counted. So are forks,
    whose story did not happen, unless the query chooses them: forks:yes.
    """
    from infra.cli.client import connected
    from infra.cli.run_query import filter_of

    use_json(json)
    formats, shares, which = _formats(format), _shares(split), filter_of(query)
    names = _names(personal=not keep_personal)

    async def work(_: Client, world: World) -> Written:
        return await _build(world, which, limit, out, formats, shares, names, single)

    written = connected(work, home)
    _save_card(out, query, written, names, shares, keep_personal=keep_personal)
    _tell(out, written, names, shares)


async def _build(
    world: World, which: RunFilter, limit: int, out: Path, formats: tuple[str, ...], shares: dict[str, float],
    names: Pseudonyms, single: bool,
) -> Written:  # fmt: skip
    from rich.progress import Progress

    from infra.cli.client import events_of
    from infra.cli.run_query import matching
    from infra.cli.words import say
    from infra.datasets import DatasetFiles, conversations
    from runtime.log import Stored

    async def read(run: RunId) -> list[Stored]:
        _, facts = await events_of(world, run)
        return [stored for stored, _ in facts]

    if which.forks is None and which.fork_of is None:
        which = which.model_copy(update={"forks": False})
    talks = await conversations(matching(world, which, limit), single=single)
    files = DatasetFiles(out, formats, shares, names)
    shown = console(stderr=True)
    with Progress(console=shown, transient=True, disable=as_json() or not shown.is_terminal) as bar:
        task = bar.add_task(say("dataset conversations"), total=len(talks))
        await files.add_all(talks, read, lambda done: bar.update(task, completed=done))
    return files.close()


def _formats(named: list[str] | None) -> tuple[str, ...]:
    from services.datasets.formats import FORMATS

    for name in named or ():
        if name not in FORMATS:
            raise typer.BadParameter(f"{name} is no format; there are {', '.join(FORMATS)}", param_hint="--format")
    return tuple(dict.fromkeys(named or FORMATS))


def _shares(text: str) -> dict[str, float]:
    from schemas.ids import checked_token
    from services.datasets.splits import part_of

    try:
        parts = [each.partition("=") for each in text.split(",")]
        shares = {checked_token(name.strip(), "part"): float(share) for name, _, share in parts}
        part_of("", shares)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}; such as {DEFAULT_SPLIT}", param_hint="--split") from error
    return shares


def _names(*, personal: bool) -> Pseudonyms:
    from services.datasets.pseudonyms import Pseudonyms
    from services.tools.redaction import redacted

    return Pseudonyms(clean=redacted, personal=personal)


def _save_card(
    out: Path, query: list[str], written: Written, names: Pseudonyms, shares: dict[str, float], *, keep_personal: bool
) -> None:
    """What the data set is made of, for whoever finds it."""
    import json
    from datetime import UTC, datetime

    from infra.datasets import CARD

    card = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "query": query, "split": shares, **_said(written, names),
        "personal": "kept" if keep_personal else "replaced where a form tells it; names are not",
        "license": "as the conversations' owner decides",
    }  # fmt: skip
    (out / CARD).write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _said(written: Written, names: Pseudonyms) -> dict[str, object]:
    return {
        "runs": written.runs, "examples": dict(written.examples), "skipped": dict(written.skipped),
        "replaced": dict(names.replaced), "tools": dict(written.tools.most_common()), "files": written.files,
    }  # fmt: skip


def _tell(out: Path, written: Written, names: Pseudonyms, shares: dict[str, float]) -> None:
    from infra.cli.words import say

    if as_json():
        print_json({"folder": str(out), **_said(written, names)})
        return
    counted = say("dataset conversations")
    print_table((say("dataset part"), counted), [(part, str(written.examples[part])) for part in shares], right=(counted,))
    lines = [say("dataset runs", count=written.runs, folder=out)]
    lines += [say("dataset left out", count=count, why=why) for why, count in written.skipped.most_common()]
    lines += [say("dataset replaced", count=count, kind=kind) for kind, count in sorted(names.replaced.items())]
    for line in lines:
        console().print(plain(line))
