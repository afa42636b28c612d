"""Data sets: recorded runs and public sets as conversations to train with and to be examined on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli import dataset_fetch, dataset_ls, dataset_mix, dataset_show, dataset_stats
from infra.cli.dataset_sets import Data
from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.datasets.recorded import Written
    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import RunId
    from services.datasets.pseudonyms import Pseudonyms
    from services.recorder.ports import RunFilter

dataset = typer.Typer(no_args_is_help=True, help="Conversations to learn from: recorded runs, public sets, and mixtures.")

ALL_RUNS = 100_000
DEFAULT_SPLIT = "train=0.9,validation=0.05,test=0.05"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    dataset.command()(build)
    for part in (dataset_fetch, dataset_mix, dataset_show, dataset_stats, dataset_ls):
        part.add_to(dataset)
    app.add_typer(dataset, name="dataset")


def build(
    query: Annotated[
        list[str] | None,
        typer.Argument(help="Which runs, such as agent:ops tool:RenewInstance since:30d.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", show_default=False)],
    set: Annotated[
        str | None, typer.Option("--set", help="A public set in place of runs: `dataset ls`.", show_default=False)
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="A part of the set; again for more.", show_default=False)] = None,
    data: Data = None,
    format: Annotated[
        list[str] | None,
        typer.Option(help="msagent or openai; of runs both without it. A set is always written as milepost, too.",
                     show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Parts of runs and their shares; a conversation is in one only.")] = DEFAULT_SPLIT,
    single: Annotated[bool, typer.Option("--single-turn", help="Each run by itself, not with its conversation.")] = False,
    keep_personal: Annotated[bool, typer.Option("--keep-personal", help="Leave e-mail addresses and numbers in.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="How many runs (100000 without) or rows of a part at most.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which rows of a set are drawn under --limit.")] = 0,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write runs, or parts of a public set, as a folder of conversations; secrets of runs are always taken out.

    Runs that did not complete, are in doubt, or had replies that nobody could read are left out, and counted. So are forks,
    whose story did not happen, unless the query chooses them: forks:yes. Rows of a set that are of no use are named in the
    folder's dataset.json, which tells also whether the set is for training or for evaluation.
    """
    use_json(json)
    if set is not None and not query:
        from infra.cli.dataset_sets import build_of_set

        build_of_set(set, part or [], data, out, _formats(format) if format else (), limit or 0, seed)
    elif query and set is None:
        _build_of_runs(
            query, out, _formats(format), _shares(split), limit or ALL_RUNS, single, keep_personal=keep_personal, home=home
        )
    else:
        raise typer.BadParameter("name runs by a query, or a public set by --set", param_hint="QUERY")


def _build_of_runs(
    query: list[str], out: Path, formats: tuple[str, ...], shares: dict[str, float], limit: int, single: bool, *,
    keep_personal: bool, home: Path | None,
) -> None:  # fmt: skip
    from infra.cli.client import connected
    from infra.cli.run_query import filter_of

    which, names = filter_of(query), _names(personal=not keep_personal)
    told = _about(query, shares, keep_personal=keep_personal)

    async def work(_: Client, world: World) -> Written:
        return await _build(world, which, limit, out, formats, shares, names, single, told)

    _tell(out, connected(work, home), names, shares)


async def _build(
    world: World, which: RunFilter, limit: int, out: Path, formats: tuple[str, ...], shares: dict[str, float],
    names: Pseudonyms, single: bool, told: dict[str, object],
) -> Written:  # fmt: skip
    from rich.progress import Progress

    from infra.cli.client import events_of
    from infra.cli.run_query import matching
    from infra.cli.words import say
    from infra.datasets.recorded import DatasetFiles, conversations
    from runtime.log import Stored

    async def read(run: RunId) -> list[Stored]:
        _, facts = await events_of(world, run)
        return [stored for stored, _ in facts]

    if which.forks is None and which.fork_of is None:
        which = which.model_copy(update={"forks": False})
    talks = await conversations(matching(world, which, limit), single=single)
    shown = console(stderr=True)
    with (
        DatasetFiles(out, formats, shares, names) as files,
        Progress(console=shown, transient=True, disable=as_json() or not shown.is_terminal) as bar,
    ):
        task = bar.add_task(say("dataset conversations"), total=len(talks))
        await files.add_all(talks, read, lambda done: bar.update(task, completed=done))
        return files.close(told)


def _formats(named: list[str] | None) -> tuple[str, ...]:
    from services.datasets.formats.writing import FORMATS

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


def _about(query: list[str], shares: dict[str, float], *, keep_personal: bool) -> dict[str, object]:
    """What the card says of a data set beside what is in it."""
    from datetime import UTC, datetime

    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "query": query, "split": shares,
        "personal": "kept" if keep_personal else "replaced where a form tells it; names are not",
        "license": "as the conversations' owner decides",
    }  # fmt: skip


def _tell(out: Path, written: Written, names: Pseudonyms, shares: dict[str, float]) -> None:
    from infra.cli.dataset_reasons import reason
    from infra.cli.words import say

    if as_json():
        print_json({"folder": str(out), **written.told(), "replaced": dict(names.replaced)})
        return
    counted = say("dataset conversations")
    print_table((say("dataset part"), counted), [(part, str(written.examples[part])) for part in shares], right=(counted,))
    lines = [say("dataset runs", count=written.runs, folder=out)]
    lines += [say("dataset left out", count=count, why=reason(why)) for why, count in written.skipped.most_common()]
    lines += [say("dataset replaced", count=count, kind=kind) for kind, count in sorted(names.replaced.items())]
    for line in lines:
        console().print(plain(line))
