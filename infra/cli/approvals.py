"""What waits for a person, across runs: approvals of planned writes, and questions of tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.wiring import World
    from runtime.client import Client
    from runtime.state import RunState
    from schemas.commands import AskPerson, RequestApproval
    from schemas.ids import CommandId, RunId

T = TypeVar("T")

approvals = typer.Typer(no_args_is_help=True, help="What waits for a person: list, look at, approve, refuse, answer.")


class Reach(StrEnum):
    """How far an approval reaches."""

    once = "once"
    conversation = "conversation"
    always = "always"


Approval = Annotated[str | None, typer.Argument(help="The approval's id, if several wait.", show_default=False)]
Question = Annotated[str | None, typer.Option("--id", help="The question's id, if several wait.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who answers; the user of the settings if not given.", show_default=False)]
HowFar = Annotated[
    Reach, typer.Option("--scope", help="This call; this tool in this conversation; always, with these arguments.")
]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (show, approve, refuse, answer):
        approvals.command()(command)
    approvals.command("ls")(list_)
    app.add_typer(approvals, name="approvals")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits for a person, in a run."""

    state: RunState
    id: CommandId
    asked: RequestApproval | AskPerson


def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many runs to look at, at most.")] = 100,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List what waits for a person, the longest waiting first."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _waiting(client, world, limit), home)
    found.sort(key=lambda each: each.asked.expires)
    if as_json():
        print_json([{"run": each.state.run, **_data(each)} for each in found])
    elif found:
        print_table(("run", "id", "what", "by", "answer by", "who", "about"), [_row(each) for each in found])
    else:
        console(stderr=True).print("nothing waits for a person")


def show(run: Run, id: Approval = None, home: Home = None, json: Json = False) -> None:
    """Show what a run waits for in full: the card, and what stands behind it."""
    from infra.cli.approval import approval_card, approval_details
    from infra.cli.client import connected, find_run
    from schemas.commands import RequestApproval

    use_json(json)

    async def work(client: Client, world: World) -> list[Waiting]:
        state = await client.state(await find_run(world, run))
        found = _all(state)
        wanted = _chosen(state, {each.id: each.asked for each in found}, id, "show")[0] if id else None
        return [each for each in found if wanted in (None, each.id)]

    found = connected(work, home)
    if as_json():
        print_json([{"run": each.state.run, **_data(each)} for each in found])
        return
    if not found:
        raise MilepostError(f"Run {run} waits for nobody.", hint=f"milepost runs show {run}")
    out = console()
    for each in found:
        if isinstance(each.asked, RequestApproval):
            open_call = each.state.open_calls.get(each.asked.call.id)
            plan = each.state.plan_of(each.asked)
            fork = each.state.fork is not None
            out.print(approval_card(each.asked, plan.planned.preview if plan else None, open_call, fork=fork))
            out.print(approval_details(each.asked, open_call))
            out.print(plain(f"milepost approvals approve {each.state.run} {each.id}", "magenta"))
        else:
            _print_question(each)


def approve(
    run: Run, id: Approval = None, scope: HowFar = Reach.once, by: By = None, home: Home = None, json: Json = False
) -> None:
    """Approve a planned write that a run waits for."""
    from infra.cli.approval import scopes_of
    from infra.cli.client import connected, find_run
    from runtime.timeline import call_line

    use_json(json)

    async def work(client: Client, world: World) -> tuple[RunId, CommandId, RequestApproval]:
        found = await find_run(world, run)
        state = await client.state(found)
        approval, asked = _chosen(state, state.approvals(), id, "approve")
        if scope.value not in scopes_of(asked):
            raise MilepostError(
                "This can be approved once and no further.", why="it is a repeat, has an argument that nobody named, or needs"
                " another person each time", hint=f"milepost approvals approve {found}",
            )  # fmt: skip
        await client.approve(found, approval, by=by, scope=scope.value)
        return found, approval, asked

    found, approval, asked = connected(work, home)
    said: dict[str, object] = {
        "run": found,
        "approval": approval,
        "approved": asked.call.name,
        "arguments": asked.call.arguments,
    }
    far = {"once": "", "conversation": " for this conversation", "always": " always with these arguments"}[scope.value]
    _done({**said, "scope": scope.value}, f"approved {call_line(asked.call)}{far}")


def refuse(
    run: Run, id: Approval = None,
    note: Annotated[str, typer.Option("--note", "--reason", help="Why; the agent reads it.")] = "",
    by: By = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Refuse a planned write that a run waits for."""
    from infra.cli.client import connected, find_run
    from runtime.timeline import call_line

    use_json(json)

    async def work(client: Client, world: World) -> tuple[RunId, CommandId, RequestApproval]:
        found = await find_run(world, run)
        state = await client.state(found)
        approval, asked = _chosen(state, state.approvals(), id, "refuse")
        await client.refuse(found, approval, reason=note, by=by)
        return found, approval, asked

    found, approval, asked = connected(work, home)
    said: dict[str, object] = {
        "run": found,
        "approval": approval,
        "refused": asked.call.name,
        "arguments": asked.call.arguments,
    }
    _done(said, f"refused {call_line(asked.call)}")


def answer(
    run: Run,
    values: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="The answer, field by field.")] = None,
    id: Question = None, decline: Annotated[bool, typer.Option("--decline", help="Do not answer it.")] = False,
    by: By = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Answer what a tool asks before it goes on."""
    from infra.cli.client import connected, find_run
    from infra.cli.questions import given

    use_json(json)

    async def work(client: Client, world: World) -> tuple[RunId, CommandId, AskPerson]:
        found = await find_run(world, run)
        state = await client.state(found)
        question, asked = _chosen(state, state.questions(), id, "answer")
        await client.answer(found, question, None if decline else given(asked, values or ()), by=by)
        return found, question, asked

    found, question, asked = connected(work, home)
    word = "declined" if decline else "answered"
    _done({"run": found, "question": question, word: asked.call.name}, f"{word} {asked.call.name}: {asked.question.text}")


async def _waiting(client: Client, world: World, limit: int) -> list[Waiting]:
    """Everything that waits, as the runs' logs tell it; the index tells which runs to look at."""
    import asyncio

    from infra.cli.client import list_runs
    from runtime.client import UnknownRun
    from runtime.sealing import Erased
    from schemas.ids import RunId
    from services.recorder.ports import RunFilter

    async def state(run: str) -> RunState | None:
        try:
            return await client.state(RunId(run))
        except (UnknownRun, Erased):
            return None  # forgotten between the list and the look

    runs = await list_runs(world, RunFilter(status="waiting"), limit)
    states = await asyncio.gather(*(state(each.run) for each in runs))
    return [each for state in states if state for each in _all(state)]


def _all(state: RunState) -> list[Waiting]:
    """What a run waits for."""
    asked = [Waiting(state, id, approval) for id, approval in state.approvals().items()]
    return asked + [Waiting(state, id, question) for id, question in state.questions().items()]


def _chosen(state: RunState, waiting: Mapping[CommandId, T], id: str | None, verb: str) -> tuple[CommandId, T]:
    """What is meant: by its id or the beginning of it, or the only one."""
    found = [each for each in waiting if each.startswith(id or "")]
    if len(found) == 1:
        return found[0], waiting[found[0]]
    what = "answer" if verb == "answer" else "approval"
    if not waiting:
        raise MilepostError(
            f"Run {state.run} waits for no {what}.", why=f"it is {state.outcome}", hint=f"milepost runs show {state.run}"
        )
    names = "; ".join(f"{each} {waiting[each].call.name}" for each in waiting)  # type: ignore[attr-defined]  # both have one
    said = f"Run {state.run} waits for {len(found)} {what}s." if found else f"No {what} of {state.run} begins with {id}."
    raise MilepostError(said, why=names, hint=f"milepost approvals {verb} {state.run} {'--id ' * (verb == 'answer')}ID")


def _row(each: Waiting) -> Sequence[str]:
    from infra.cli.approval import doubts_of, effect_of, who_may
    from infra.cli.client import short_id
    from runtime.timeline import call_line, short
    from schemas.commands import RequestApproval

    asked, request = each.asked, each.state.request
    user, until = request.user if request else "", _until(asked.expires)
    if not isinstance(asked, RequestApproval):
        return (short_id(each.state.run), each.id[:8], f"{asked.call.name} asks", user, until, "", short(asked.question.text))
    plan = each.state.plan_of(asked)
    doubts = doubts_of(asked, effect_of(each.state.open_calls.get(asked.call.id)))
    about = plan.planned.preview.summary if plan else call_line(asked.call)
    marked = f"[{', '.join(doubts)}] {about}" if doubts else about
    return (short_id(each.state.run), each.id[:8], asked.call.name, user, until, who_may(asked), short(marked, 200))


def _until(moment: datetime) -> str:
    return local(moment)[5:16]


def _data(each: Waiting) -> dict[str, object]:
    from infra.cli.result import approval_of, question_of
    from schemas.commands import RequestApproval

    if isinstance(each.asked, RequestApproval):
        return approval_of(each.id, each.asked, each.state.open_calls.get(each.asked.call.id))
    return question_of(each.id, each.asked)


def _print_question(each: Waiting) -> None:
    from infra.cli.questions import field_line, fields_of, secret_field
    from infra.cli.words import say
    from schemas.commands import AskPerson

    asked, out = each.asked, console()
    assert isinstance(asked, AskPerson)
    out.print(plain(say("asks", tool=asked.call.name), "bold yellow"))
    out.print(plain(asked.question.text))
    for name, field in fields_of(asked).items():
        out.print(plain(f"  {field_line(asked, name, field)}"))
    secret = secret_field(asked)
    if secret:
        out.print(plain(say("secret", name=secret), "bold red"))
    out.print(plain(f"milepost approvals answer {each.state.run} --id {each.id} NAME=VALUE ...", "magenta"))


def _done(said: Mapping[str, object], text: str) -> None:
    if as_json():
        print_json(said)
    else:
        console().print(plain(text))
