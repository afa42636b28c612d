"""Replay: every decision of a run computed again, from the log or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, outcome, plain, print_json, use_json

if TYPE_CHECKING:
    from runtime.log import Stored
    from runtime.replay import Replayed
    from schemas.ids import RunId

DIVERGED = 4


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(replay)


def replay(
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of `runs export`.", show_default=False)],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Compute every decision of a run again from its log alone, and compare.

    A file needs no stack and no settings. Exit code: 0 every decision is the same, 4 one is not.
    """
    use_json(json)
    result = _replay_file(Path(run)) if _names_file(run) else _replay_run(run, home)
    if as_json():
        print_json(_replayed(result))
    else:
        _print_replayed(result)
    if not result.same:
        raise typer.Exit(DIVERGED)


def _names_file(name: str) -> bool:
    return Path(name).is_file() or "/" in name or "." in name


def _replay_file(path: Path) -> Replayed:
    from infra.files import load_export

    exported = load_export(path)
    return _again(exported.run, exported.facts)


def _replay_run(name: str, home: Path | None) -> Replayed:
    from infra.cli.client import connected, events_of

    run, facts = connected(lambda _, world: events_of(world, name), home)
    return _again(run, [stored for stored, _ in facts])


def _again(run: RunId, facts: Sequence[Stored]) -> Replayed:
    from runtime.fold import fold
    from runtime.replay import replay as again
    from runtime.sealing import Erased

    if fold(run, facts).state.erased:
        raise Erased(f"run {run}")
    return again(run, facts)


def _replayed(result: Replayed) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(result), "same": result.same}


def _print_replayed(result: Replayed) -> None:
    out = console()
    counts = f"{result.events} events, {result.decisions} decisions, {result.answered} of them answered in the log"
    out.print(plain("run ", "dim") + plain(result.run) + plain("  ") + outcome(result.outcome))
    if result.divergence is None:
        out.print(plain("every decision is the same", "green") + plain(f": {counts}"))
        return
    wrong = result.divergence
    out.print(plain("a decision differs", "bold red") + plain(f" at event {wrong.event} ({wrong.type}, slot {wrong.slot})"))
    out.print(plain("  why: ", "yellow") + plain(wrong.why))
    out.print(plain(f"  in {counts}", "dim"))
