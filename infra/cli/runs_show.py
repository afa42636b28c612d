"""Look into one run: all of it, or as it happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, outcome, plain, print_json, use_json

if TYPE_CHECKING:
    from infra.cli.runs_below import Below
    from infra.wiring import World
    from runtime.client import Client
    from runtime.log import Stored
    from runtime.state import RunState


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
