"""`milepost dataset mix`: data sets mixed by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.dataset_reasons import reason
from infra.cli.dataset_sets import Data, data_folder, skipped_lines
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.datasets.recipe import Recipe


def add_to(dataset: typer.Typer) -> None:
    """Add this file's command."""
    dataset.command()(mix)


def mix(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or one of Milepost's own: controller, controller-small.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", show_default=False)],
    data: Data = None,
    format: Annotated[
        list[str] | None, typer.Option(help="msagent or openai beside milepost's own form.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.", show_default=False)] = None,
    split_by: Annotated[
        str | None, typer.Option("--split-by", help="tool or conversation, in place of the recipe's.", show_default=False)
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens by this model's; estimated without.", metavar="MODEL", show_default=False)
    ] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Mix data sets by a recipe: by weight, under caps, with other tools beside the right ones, without what is examined on.

    The same recipe over the same data writes the same bytes. Conversations that touch an evaluation part whose set is in
    --data are left out and counted, unless the recipe says `contamination: none`.
    """
    from infra.datasets.lengths import estimated, of_model
    from infra.datasets.mixing import Mixer
    from services.datasets.formats.writing import FORMATS

    use_json(json)
    for name in format or ():
        if name not in FORMATS:
            raise typer.BadParameter(f"{name} is no format; there are {', '.join(FORMATS)}", param_hint="--format")
    if split_by not in (None, "tool", "conversation"):
        raise typer.BadParameter(f"{split_by}: it is tool or conversation", param_hint="--split-by")
    path = _recipe_file(recipe)
    read = _recipe(path, seed, split_by)
    folder = settings_from(home).settings.model.home
    length = of_model(tokenizer, folder) if tokenizer else estimated
    with _progress() as progress:
        needs = any(source.set for source in read.sources)
        mixer = Mixer(
            read, path.parent, data_folder(data) if needs or data else None, folder / ".fingerprints", length, progress
        )  # fmt: skip
        mixed = mixer.mix(out, tuple(dict.fromkeys(("milepost", *(format or ())))))
    card = {**mixed.card, "files": mixed.files}
    if as_json():
        print_json({"folder": str(out), **card})
    else:
        _tell(out, card)


def _recipe_file(name: str) -> Path:
    """The file of this name; else Milepost's own recipe. Raises MilepostError."""
    from difflib import get_close_matches

    from schemas.errors import MilepostError

    own = Path(__file__).parents[1] / "datasets" / "recipes"
    names = sorted(path.stem for path in own.glob("*.yaml"))
    if Path(name).is_file() or name not in names:
        if not Path(name).exists():
            close = get_close_matches(name, names, n=1)
            raise MilepostError(
                f"There is no recipe {name}.", why=f"it is no file; Milepost's own are {', '.join(names)}",
                hint=f"did you mean {close[0]}?" if close else "docs/datasets.md shows how one is written",
            )  # fmt: skip
        return Path(name)
    return own / f"{name}.yaml"


def _recipe(path: Path, seed: int | None, split_by: str | None) -> Recipe:
    from infra.datasets.recipe import Split, read_recipe

    read = read_recipe(path)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    if split_by is not None:
        read = read.model_copy(update={"split": Split.model_validate({**read.split.model_dump(), "by": split_by})})
    return read


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=as_json() or not shown.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda doing: bar.update(task, description=plain(doing).plain)


def _tell(out: Path, card: Mapping[str, object]) -> None:
    names = [say(f"dataset column {name}") for name in ("source", "rows", "left", "taken")]
    rows = []
    lines: list[str] = []
    for source, said_of in _mapping(card["sources"]).items():
        told = _mapping(said_of)
        rows.append((source, *(str(told[name]) for name in ("rows", "left", "taken"))))
        lines += [
            say("dataset dropped", source=source, count=count, why=reason(why))
            for why, count in _mapping(told["dropped"]).items()
        ]
        lines += _touched(source, _mapping(told["contaminated"]))
        lines += [
            say("dataset shares", source=source, part=part, count=count)
            for part, count in _mapping(told["shares_with"]).items()
        ]
        lines += [f"{source}: {line}" for line in skipped_lines(told["skipped"])]
    print_table(names, rows, right=names[1:])
    lines += [say("dataset changed", what=reason(what), count=count) for what, count in _mapping(card["changed"]).items()]
    lines += [
        say("dataset part written", part=part, count=count, folder=out) for part, count in _mapping(card["examples"]).items()
    ]
    checked = card["checked_against"]
    assert isinstance(checked, list)
    lines.append(say("dataset checked", count=len(checked)) if checked else say("dataset not checked"))
    lines += [say("dataset unchecked", part=part, why=why) for part, why in _mapping(card["unchecked"]).items()]
    for line in lines:
        console().print(plain(line))


def _touched(source: str, contaminated: Mapping[str, object]) -> list[str]:
    """A line for each evaluation set that was touched: its parts that were touched alike are told together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, how in contaminated.items():
        known, _, part = name.partition("/")
        said = ", ".join(f"{say(f'dataset touched {way}')} {count}" for way, count in _mapping(how).items())
        alike.setdefault((known, said), []).append(part)
    return [
        say("dataset contaminated", source=source, part=f"{known}/{', '.join(parts)}", how=said)
        for (known, said), parts in alike.items()
    ]


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value
