"""Runs: list them, look into them, answer and stop them, take them away as a file, replay them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.approvals import Approval, By, HowFar, Reach
from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, outcome, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.cli.runs_below import Below
    from infra.wiring import World
    from runtime.client import Client
    from runtime.log import Stored
    from runtime.replay import Replayed
    from runtime.state import RunState
    from schemas.ids import RunId
    from services.recorder.ports import RunSummary

DIVERGED = 4

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
    for command in (show, follow, cancel, approve, refuse, export):
        runs.command()(command)
    runs.command("ls")(list_)
    app.add_typer(runs, name="runs")
    app.command()(replay)


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


def show(run: Run, home: Home = None, json: Json = False) -> None:
    """Show every event of a run: when, who, what; with --json each of them in full, opened if it is stored sealed."""
    from infra.cli.client import connected, events_of
    from infra.cli.runs_below import runs_below
    from runtime.fold import fold
    from schemas.envelope import encode

    use_json(json)

    async def work(_: Client, world: World) -> tuple[RunState, list[Stored], list[Below]]:
        id, raw = await events_of(world, run)
        facts = [stored for stored, _ in raw]
        state = fold(id, facts).state
        return state, facts, await runs_below(world.log, state, facts)

    state, facts, below = connected(work, home)
    if as_json():
        events = [_loads(encode(stored.fact)) for stored in facts]
        children = [{"run": each.state.run, "depth": each.depth, "outcome": _outcome(each.state)} for each in below]
        told = {"children": children} if children else {}
        print_json({"run": state.run, "outcome": _outcome(state), "events": events, **told})
    else:
        _print_run(state, facts, below)


def _loads(raw: bytes) -> object:
    return json.loads(raw)


def _outcome(state: RunState) -> str:
    return "erased" if state.erased else state.outcome


def _print_run(state: RunState, facts: list[Stored], below: Sequence[Below]) -> None:
    from infra.cli.approval import approval_card
    from infra.cli.runs_below import line_of
    from infra.cli.view import event_line

    out, request = console(), state.request
    out.print(plain("run          ", "dim") + plain(state.run) + plain("  ") + outcome(_outcome(state)))
    if state.erased:
        out.print(plain("What was said in this run was erased on request; that it took place is still told.", "dim"))
    if request:
        asked = f"{local(facts[0].fact.time)} by {request.user}, agent {request.agent.name}"
        out.print(plain("asked        ", "dim") + plain(asked))
        if request.parent:
            root = f", the first of them {request.parent.root}" if request.parent.root != request.parent.run else ""
            out.print(plain("asked by     ", "dim") + plain(f"run {request.parent.run}{root}"))
        out.print(plain("conversation ", "dim") + plain(request.conversation))
        out.print(plain("task         ", "dim") + plain(request.task))
    if state.answer:
        out.print(plain("answer       ", "dim") + plain(state.answer))
    out.print()
    for stored in facts:
        line = event_line(stored, facts[0].fact.time)
        out.print(line, no_wrap=True, overflow="ellipsis", crop=out.is_terminal)
    for each in below:
        out.print(line_of(each), no_wrap=True, overflow="ellipsis", crop=out.is_terminal)
    for id, approval in state.approvals().items():
        plan = state.plan_of(approval)
        out.print(approval_card(approval, plan.planned.preview if plan else None, state.open_calls.get(approval.call.id)))
        out.print(plain(f"milepost approvals approve {state.run} {id}", "magenta"))
    for id, question in state.questions().items():
        out.print(plain(f"{question.call.name}: {question.question.text}"))
        out.print(plain(f"milepost approvals answer {state.run} {id} NAME=VALUE", "magenta"))


def follow(run: Run, home: Home = None, json: Json = False) -> None:
    """Show the events of a run, and of those below it, as they come, until it ends; ctrl-C leaves it running."""
    from infra.cli.client import connected, find_run
    from infra.cli.show import print_json_line
    from infra.cli.view import event_line
    from runtime.tree import follow_tree
    from schemas.envelope import encode

    use_json(json)

    async def work(client: Client, world: World) -> None:
        id, out, start = await find_run(world, run), console(), None
        await client.state(id)  # a run that is not there would be waited for
        async for update in follow_tree(client, id):
            start = start or update.stored.fact.time
            below = "" if update.state.run == id or not update.state.request else f"  {update.state.request.agent.name} "
            if as_json():
                print_json_line(_loads(encode(update.stored.fact)))
            else:
                line = plain(below, "cyan") + event_line(update.stored, start)
                out.print(line, no_wrap=True, overflow="ellipsis", crop=out.is_terminal)

    connected(work, home)


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


def export(
    run: Run, file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write a run to a file that `milepost replay` reads anywhere: a header line, then every event as it is stored."""
    from datetime import UTC, datetime

    from infra.cli.client import connected, events_of
    from infra.files import Exported, exported, save_export

    use_json(json)

    async def work(_: Client, world: World) -> Exported:
        return await exported(*await events_of(world, run), world.keyring)

    what = connected(work, home)
    save_export(file, what, datetime.now(UTC), replace=force)
    count, erased = len(what.events), what.sealed and what.key is None
    then = "their content was erased on request" if erased else f"milepost replay {file}"
    said: dict[str, object] = {"run": what.run, "file": str(file), "events": count}
    _done(said | ({"erased": True} if erased else {}), f"{count} events in {file} · {then}")


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


def _done(said: dict[str, object], text: str) -> None:
    if as_json():
        print_json(said)
    else:
        console().print(plain(text))
