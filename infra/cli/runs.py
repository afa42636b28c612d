"""Runs: list them, look into them, answer and stop them, take them away as a file, replay them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.approvals import Approval, By, HowFar, Reach
from infra.cli.options import Home, Json, Run
from infra.cli.run_query import (
    AgentOption,
    ConversationOption,
    CostOver,
    ForkOf,
    Forks,
    ModelOption,
    Query,
    SinceOption,
    StatusOption,
    TextOption,
    TokensOver,
    ToolOption,
    UntilOption,
    UserOption,
)
from infra.cli.show import as_json, console, local, outcome, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from rich.text import Text

    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import RunId
    from services.recorder.ports import RunSummary

runs = typer.Typer(no_args_is_help=True, help="List, search, show, follow, answer, cancel and export runs.")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    from infra.cli.runs_export import export, import_
    from infra.cli.runs_rebuild import rebuild
    from infra.cli.runs_search import search
    from infra.cli.runs_show import follow, show
    from infra.cli.runs_trace import trace

    for command in (search, rebuild, show, follow, trace, cancel, approve, refuse, export):
        runs.command()(command)
    runs.command("ls")(list_)
    runs.command("import")(import_)
    app.add_typer(runs, name="runs")


def list_(
    query: Query = None, status: StatusOption = None, agent: AgentOption = None, user: UserOption = None,
    tool: ToolOption = None, model: ModelOption = None, conversation: ConversationOption = None, text: TextOption = None,
    since: SinceOption = None, until: UntilOption = None, tokens_over: TokensOver = None, cost_over: CostOver = None,
    forks: Forks = None, fork_of: ForkOf = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List runs, newest first: all, or those that options or words such as agent:ops since:7d choose."""
    from infra.cli.client import connected, list_runs
    from infra.cli.run_query import filter_of

    use_json(json)
    which = filter_of(query or (), {
        "status": status, "agent": agent, "user": user, "tool": tool, "model": model, "conversation": conversation,
        "text": text, "since": since, "until": until, "tokens-over": tokens_over, "cost-over": cost_over, "forks": forks,
        "fork-of": fork_of,
    })  # fmt: skip
    found = connected(lambda _, world: list_runs(world, which, limit), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        _print_runs(found)
    else:
        from infra.cli.words import say
        from services.recorder.ports import RunFilter

        console(stderr=True).print(plain(say("no run yet" if which == RunFilter() else "no run fits")), soft_wrap=True)


def _print_runs(found: list[RunSummary]) -> None:
    """On a terminal the columns that leave room for the task; elsewhere all of them, with whole ids.

    Tokens and cost stand there if any run has some. ↳ marks the run of an agent that another one asked, ⑂ a fork.
    """
    from infra.cli.client import short_id
    from infra.cli.words import say
    from runtime.children import is_child
    from runtime.timeline import short

    narrow = console().is_terminal

    def task(each: RunSummary) -> str:
        return "⑂ " * bool(each.fork_of) + "↳ " * is_child(each.conversation) + short(each.task, 200)

    columns: dict[str, list[Text | str]] = {
        "run": [short_id(each.run) if narrow else each.run for each in found],
        "status": [outcome(each.status) for each in found],
        "started": [local(each.started)[5:16] if narrow else local(each.started) for each in found],
        "took": [f"{(each.ended - each.started).total_seconds():.1f} s" if each.ended else "" for each in found],
        "agent": [each.agent for each in found],
    }
    if not narrow:
        columns["user"] = [each.user for each in found]
    if any(each.tokens for each in found):
        columns["tokens"] = [f"{each.tokens:,}" if each.tokens else "" for each in found]
    if any(each.money for each in found):
        columns["cost"] = [" + ".join(f"{amount} {currency}" for currency, amount in each.money.items()) for each in found]
    columns["task"] = [task(each) for each in found]
    print_table(
        [say(f"column {name}") for name in columns], list(zip(*columns.values(), strict=True)),
        right=[say(f"column {name}") for name in ("took", "tokens", "cost")],
        spare=[say(f"column {name}") for name in ("agent", "tokens", "took", "cost")],
    )  # fmt: skip


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
