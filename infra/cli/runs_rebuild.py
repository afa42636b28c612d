"""The index of runs made anew from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from infra.wiring import World
    from services.recorder.rebuild import Rebuilt


def rebuild(
    drop: Annotated[bool, typer.Option("--drop", help="Drop the index first; else what is missing is added.")] = False,
    processes: Annotated[
        int | None, typer.Option(help="How many processes read the log.", min=1, max=64, show_default=False)
    ] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Make the index of runs anew from the log; the stack may go on meanwhile.

    What was erased on request stays erased. Until it is done, `milepost forget` waits.
    """
    import time

    from infra.cli.client import connected
    from infra.cli.words import say

    use_json(json)
    began = time.monotonic()
    done = connected(lambda _, world: _rebuild(world, drop, processes), home)
    took = time.monotonic() - began
    rate = round(done.events / took) if took else 0
    if as_json():
        counts = {"events": done.events, "receipts": done.receipts, "unreadable": done.unreadable}
        print_json({**counts, "seconds": round(took, 3), "events_per_s": rate})
        return
    console().print(plain(say("rebuilt", events=f"{done.events:,}", seconds=f"{took:.1f}", rate=f"{rate:,}")))
    if done.unreadable:
        console().print(plain(say("unreadable", count=done.unreadable), "yellow"))


async def _rebuild(world: World, drop: bool, processes: int | None) -> Rebuilt:
    """With a bar on a terminal: how far it is, how fast it goes, how long it will take."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from infra.cli.words import say
    from infra.rebuilding import rebuild_index

    out = console(stderr=True)
    speed = TextColumn("{task.fields[speed]}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True) as bars:
        bar = bars.add_task(say("events"), total=None, speed="")

        def moved(read: int, total: int) -> None:
            passed = bars.tasks[bar].elapsed or 0.0
            bars.update(bar, completed=read, total=total, speed=f"{read / passed:,.0f}/s" if passed else "")

        return await rebuild_index(world, drop=drop, processes=processes, moved=moved)
