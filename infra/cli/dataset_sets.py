"""`milepost dataset build --set`: parts of a public set as a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.dataset_reasons import reason
from infra.cli.show import as_json, console, plain, print_json, print_table
from infra.cli.words import say
from schemas.errors import MilepostError

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="MILEPOST_DATA", help="The folder that holds the sets' folders.", show_default=False),
]


def data_folder(data: Path | None) -> Path:
    """The folder of the sets. Raises MilepostError where none was named, or it is none."""
    if data is None:
        raise MilepostError(
            "Where are the sets?", why="public sets are read from a folder; none come with Milepost",
            hint="--data FOLDER, or MILEPOST_DATA=FOLDER in the environment",
        )  # fmt: skip
    if not data.is_dir():
        raise MilepostError(f"{data} is no folder.", why="it was named as the one of the sets", hint="--data FOLDER")
    return data


def build_of_set(
    name: str, parts: Sequence[str], data: Path | None, out: Path, formats: Sequence[str], limit: int, seed: int
) -> None:
    """Write parts of a set, and tell what was written."""
    from infra.datasets.building import build_set, known_set, parts_of

    known = known_set(name)
    chosen = tuple(dict.fromkeys(("milepost", *formats)))
    card = build_set(known, parts_of(known, parts), data_folder(data), out, chosen, limit, seed)
    if as_json():
        print_json({"folder": str(out), **card})
        return
    counted = say("dataset conversations")
    examples = card["examples"]
    assert isinstance(examples, Mapping)
    print_table((say("dataset part"), counted), [(part, str(count)) for part, count in examples.items()], right=(counted,))
    lines = [
        say("dataset set written", name=known.name, folder=out, use=say(f"dataset use {card['use']}"), licence=known.licence)
    ]
    for line in (*lines, *skipped_lines(card.get("skipped"))):
        console().print(plain(line))


def skipped_lines(skipped: object) -> list[str]:
    """What was skipped, a line for each reason with the first rows by name."""
    lines = []
    for why, told in skipped.items() if isinstance(skipped, Mapping) else ():
        count, rows = (told.get("count"), told.get("rows", ())) if isinstance(told, Mapping) else (told, ())
        lines.append(say("dataset skipped", count=count, why=reason(why), rows=", ".join(list(rows)[:3])))
    return lines
