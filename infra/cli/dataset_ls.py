"""`milepost dataset ls`: the public sets, their parts, and what these are for."""

from __future__ import annotations

from pathlib import Path

import typer

from infra.cli.dataset_sets import Data
from infra.cli.options import Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say


def add_to(dataset: typer.Typer) -> None:
    """Add this file's command."""
    dataset.command("ls")(list_)


def list_(data: Data = None, json: Json = False) -> None:
    """List the public sets that can be read: parts, use, languages, licence, and whether they are in --data."""
    from services.datasets.sets import NAMES, data_set

    use_json(json)
    rows = [_row(name, data) for name in NAMES]
    if as_json():
        print_json(rows)
        return
    names = [say(f"dataset column {name}") for name in ("set", "use", "here", "languages", "licence", "parts")]
    lines = []
    for name in NAMES:
        known = data_set(name)
        here = "" if data is None else say("dataset here yes" if (data / name).is_dir() else "dataset here no")
        for use in dict.fromkeys(known.parts.values()):
            parts = ", ".join(part for part, each in known.parts.items() if each == use)
            colour = "green" if use == "training" else "yellow"
            lines.append(
                (known.name, plain(say(f"dataset use {use}"), colour), here, ", ".join(known.languages), known.licence, parts)
            )
    print_table(names, lines, spare=(names[3],))
    console(stderr=True).print(plain(say("dataset ls hint") if data else say("dataset ls where"), "dim"))


def _row(name: str, data: Path | None) -> dict[str, object]:
    from services.datasets.sets import data_set

    known = data_set(name)
    return {
        "name": known.name, "title": known.title, "licence": known.licence, "languages": list(known.languages),
        "home": known.home, "parts": dict(known.parts), "here": None if data is None else (data / name).is_dir(),
    }  # fmt: skip
