"""`milepost dataset stats`: what a data set is made of, in numbers and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.dataset_reasons import reason
from infra.cli.dataset_show import Folder, Part
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import language, say

if TYPE_CHECKING:
    from services.datasets.statistics import Statistics

_BAR = 40


def add_to(dataset: typer.Typer) -> None:
    """Add this file's command."""
    dataset.command()(stats)


def stats(
    folder: Folder,
    part: Part = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Count tokens by this built model's; estimated without.", metavar="MODEL", show_default=False),
    ] = None,
    longer: Annotated[int, typer.Option("--longer-than", min=1, help="Tell how many have more tokens.")] = 2048,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Count conversations, languages, turns, calls, tools and tokens."""
    from infra.datasets.folder import part_file, parts_in, rows_of
    from infra.datasets.lengths import estimated, of_model
    from services.datasets.statistics import statistics

    use_json(json)
    length = of_model(tokenizer, settings_from(home).settings.model.home) if tokenizer else estimated
    files = {part: part_file(folder, part)} if part else parts_in(folder)
    counted = {name: statistics(rows_of(path), length) for name, path in files.items()}
    if html:
        _write(html, folder, counted, longer, tokenizer or "")
    if as_json():
        print_json({"folder": str(folder), "tokenizer": tokenizer, "parts": {n: told(e, longer) for n, e in counted.items()}})
        return
    for name, each in counted.items():
        _tell(name, each, longer, tokenizer)
    if html:
        console(stderr=True).print(plain(say("dataset page", file=html), "dim"))


def _write(html: Path, folder: Path, counted: Mapping[str, Statistics], longer: int, tokenizer: str) -> None:
    from infra.datasets.statistics_page import statistics_page
    from schemas.errors import MilepostError

    try:
        html.write_text(
            statistics_page(say("dataset page title", name=folder.name), counted, longer, tokenizer, say, language(), reason),
            encoding="utf-8",
        )
    except OSError as error:
        why = error.strerror or str(error)
        raise MilepostError(f"{html} cannot be written.", why=why, hint="--html FILE in a folder that is there") from error


def told(numbers: Statistics, longer: int) -> dict[str, object]:
    """The numbers as data."""
    from services.datasets.statistics import spread

    return {
        "conversations": numbers.conversations, "languages": dict(numbers.languages), "sources": dict(numbers.sources),
        "groups": dict(numbers.groups), "no_call": numbers.no_call, "parallel": numbers.parallel,
        "clarifying": numbers.clarifying, "tools_offered": len(numbers.tools), "tools_called": len(numbers.called),
        "turns": spread(numbers.turns), "calls": spread(numbers.calls), "tools": spread(numbers.offered),
        "tokens": {**spread(numbers.tokens), "sum": sum(numbers.tokens), "longer_than": {str(longer): numbers.longer(longer)}},
        "skipped": dict(numbers.skipped),
    }  # fmt: skip


def _tell(name: str, numbers: Statistics, longer: int, tokenizer: str | None) -> None:
    from services.datasets.statistics import bins, spread

    out, count = console(), max(1, numbers.conversations)
    out.print(plain(say("dataset stats part", part=name, count=numbers.conversations), "bold"))
    for key, value in (("languages", numbers.languages), ("sources", numbers.sources), ("groups", numbers.groups)):
        out.print(plain(f"  {say(f'dataset stats {key}')}: {_shares(value, count)}"))
    for key, some in (("no_call", numbers.no_call), ("parallel", numbers.parallel), ("clarifying", numbers.clarifying)):
        out.print(plain(f"  {say(f'dataset stats {key}')}: {some} ({some / count:.1%})"))
    out.print(plain("  " + say("dataset stats tools", offered=f"{len(numbers.tools):,}", called=f"{len(numbers.called):,}")))
    columns = ["", *(say(f"dataset stats {key}") for key in ("mean", "p50", "p95", "max"))]
    rows = [
        (say(f"dataset stats each {key}"), *_figures(spread(values)))
        for key, values in (
            ("turns", numbers.turns), ("calls", numbers.calls), ("offered", numbers.offered), ("tokens", numbers.tokens),
        )
    ]  # fmt: skip
    print_table(columns, rows, right=columns[1:])
    how = say("dataset stats counted", model=tokenizer) if tokenizer else say("dataset stats estimated")
    out.print(plain(f"{say('dataset stats tokens title')} ({how})", "dim"))
    most = max((each[2] for each in bins(numbers.tokens)), default=1)
    for start, end, many in bins(numbers.tokens):
        bar = plain(f"  {f'{start:,}-{end:,}':>13} ")
        bar.append("█" * max(1 if many else 0, round(many / most * _BAR)), "red" if start > longer else "cyan")
        bar.append(f" {many}")
        out.print(bar)
    over = numbers.longer(longer)
    out.print(plain("  " + say("dataset stats longer", length=f"{longer:,}", count=over, share=f"{over / count:.1%}")))
    for why, many in numbers.skipped.most_common():
        out.print(plain("  " + say("dataset left out", count=many, why=reason(why)), "yellow"))


def _shares(counted: Mapping[str, int], total: int) -> str:
    """The commonest, with their shares."""
    ordered = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    shown = ", ".join(f"{name} {many / total:.0%}" for name, many in ordered[:6])
    return shown + (f", +{len(ordered) - 6}" if len(ordered) > 6 else "")


def _figures(spread: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(
        f"{spread[key]:,.1f}" if key == "mean" else f"{spread[key]:,.0f}" for key in ("mean", "p50", "p95", "max") if spread
    )
