"""Runs: list them, look into them, answer and stop them, take them away as a file, replay them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.approvals import Approval, By, HowFar, Reach
from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, outcome, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import RunId
    from services.recorder.ports import RunSummary

runs = typer.Typer(no_args_is_help=True, help="List, show, follow, answer, cancel and export runs.")


class Status(StrEnum):
    """What `runs ls --status` may ask for."""

    open = "open"
    waiting = "waiting"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    from infra.cli.runs_export import export
    from infra.cli.runs_show import follow, show

    for command in (show, follow, cancel, approve, refuse, export):
        runs.command()(command)
    runs.command("ls")(list_)
    app.add_typer(runs, name="runs")


def list_(
    status: Annotated[Status | None, typer.Option(show_default=False)] = None,
    agent: Annotated[str | None, typer.Option(help="Runs of this agent.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(help="Runs of this user.", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="Stands in the task or the answer.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List runs, newest first."""
    from infra.cli.client import connected, list_runs
    from services.recorder.ports import RunFilter

    use_json(json)
    which = RunFilter(status=status.value if status else None, agent=agent, user=user, text=text)
    found = connected(lambda _, world: list_runs(world, which, limit), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        _print_runs(found)
    else:
        console(stderr=True).print('no such run · milepost ask "What time is it in Shanghai?"')


def _print_runs(found: list[RunSummary]) -> None:
    """On a terminal the columns that leave room for the task; elsewhere all of them, with whole ids.

    ↳ marks the run of an agent that another one asked.
    """
    from infra.cli.client import short_id
    from runtime.children import is_child
    from runtime.timeline import short

    def task(each: RunSummary) -> str:
        return ("↳ " if is_child(each.conversation) else "") + short(each.task, 200)

    def took(each: RunSummary) -> str:
        return f"{(each.ended - each.started).total_seconds():.1f} s" if each.ended else ""

    if console().is_terminal:
        rows = [
            (short_id(each.run), outcome(each.status), local(each.started)[5:16], took(each), each.agent, task(each))
            for each in found
        ]
        print_table(("run", "status", "started", "took", "agent", "task"), rows, right=("took",))
        return
    whole = [
        (each.run, outcome(each.status), local(each.started), took(each), each.agent, each.user, task(each)) for each in found
    ]
    print_table(("run", "status", "started", "took", "agent", "user", "task"), whole, right=("took",))


def cancel(
    run: Run, reason: Annotated[str, typer.Option(help="Why; it stands in the log.")] = "",
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Ask a run to stop; a write that is under way is awaited."""
    from infra.cli.client import connected, find_run

    use_json(json)

    async def work(client: Client, world: World) -> RunId:
        id = await find_run(world, run)
        await client.cancel(id, reason=reason)
        return id

    _done({"run": connected(work, home), "asked": "cancel"}, "asked it to stop")


def approve(
    run: Run, id: Approval = None, scope: HowFar = Reach.once, by: By = None, home: Home = None, json: Json = False
) -> None:
    """Approve the planned write that a run waits for."""
    from infra.cli.approvals import approve as answer

    answer(run, id, scope, by, home, json)


def refuse(
    run: Run, id: Approval = None, reason: Annotated[str, typer.Option(help="Why; the agent reads it.")] = "",
    by: By = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Refuse the planned write that a run waits for."""
    from infra.cli.approvals import refuse as answer

    answer(run, id, reason, by, home, json)


def _done(said: dict[str, object], text: str) -> None:
    if as_json():
        print_json(said)
    else:
        console().print(plain(text))
