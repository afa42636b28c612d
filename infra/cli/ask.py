"""`ask` and `chat`: give an agent a task and see it done."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, at_terminal, console, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.cli.approval import Doubt
    from infra.cli.turn import Answers, Turn
    from schemas.agent import AgentSpec

WAITING, INTERRUPTED = 3, 130


class YesToDoubt(StrEnum):
    """What `--yes` covers only if it is named."""

    ungrounded = "ungrounded"
    repeated = "repeated"
    destructive = "destructive"


Agent = Annotated[
    Path | None,
    typer.Option(help="A YAML, TOML or JSON file, or NAME[@VERSION] of an agent that is kept.", show_default=False),
]
Tools = Annotated[list[str] | None, typer.Option("--tool", help="A tool to offer always; repeatable.", show_default=False)]
Conversation = Annotated[str | None, typer.Option(help="Go on with this conversation.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve every plain write, each once.")]
YesTo = Annotated[
    list[YesToDoubt] | None,
    typer.Option(
        "--yes-to", help="With --yes: also what nobody named, was done before, or destroys; repeatable.", show_default=False
    ),
]
No = Annotated[bool, typer.Option("--no", help="Refuse every planned write.")]
Certified = Annotated[
    bool, typer.Option("--certified", help="Let the model speak so that `milepost certify` can repeat it token for token.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show every event as it happens.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (ask, chat):
        app.command()(command)


def ask(
    task: Annotated[str, typer.Argument(help="What to do; - reads it from standard input.", show_default=False)],
    agent: Agent = None, tool: Tools = None, conversation: Conversation = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key is the same run.", show_default=False)] = None,
    yes: Yes = False, yes_to: YesTo = None, no: No = False, certified: Certified = False, follow: Follow = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Give an agent a task and see it done.

    Exit code: 0 answered, 1 failed or cancelled, 3 it waits for an approval, 130 left with ctrl-C.
    """
    from infra.cli.agents import agent_named

    use_json(json)
    answers = answers_from(yes, no, yes_to)
    task = _checked(sys.stdin.read() if task == "-" else task)
    spec = agent_named(agent, tool or (), home)
    spec = _certified(spec) if certified else spec
    turn = _turn(task, spec, answers, _doubts(yes_to), conversation, key, follow, home)
    code = exit_code(turn)
    if code:
        raise typer.Exit(code)


def chat(
    agent: Agent = None, tool: Tools = None, conversation: Conversation = None, yes: Yes = False, yes_to: YesTo = None,
    no: No = False, follow: Follow = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Talk with an agent in one conversation: /new begins another, /exit or ctrl-D leaves, ctrl-C stops a run."""
    from infra.cli.agents import agent_named

    use_json(json)
    answers, spec = answers_from(yes, no, yes_to), agent_named(agent, tool or (), home)
    conversation = conversation or _new_conversation()
    if at_terminal():
        import readline  # noqa: F401  # input() edits lines and remembers them

        console().print(f"[dim]conversation {conversation} · /new · /exit[/dim]")
    while True:
        line = _line()
        if line is None or line == "/exit":
            return
        if line == "/new":
            conversation = _new_conversation()
            console(stderr=True).print(f"[dim]conversation {conversation}[/dim]")
        elif line:
            turn = _turn(_checked(line), spec, answers, _doubts(yes_to), conversation, None, follow, home)
            if turn.waits and not at_terminal():
                raise typer.Exit(WAITING)


def _turn(
    task: str, spec: AgentSpec, answers: Answers, yes_to: frozenset[Doubt], conversation: str | None, key: str | None,
    follow: bool, home: Path | None,
) -> Turn:  # fmt: skip
    """Begin a run and go through it."""
    from pydantic import ValidationError

    from infra.cli.client import connected
    from infra.cli.turn import Turn
    from infra.cli.view import view
    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import checked_token

    if conversation is not None:
        checked_token(conversation, "conversation")

    async def work(client: Client, _: World) -> Turn:
        try:
            asked = await client.ask(task, agent=spec, conversation=conversation, key=key)
        except ValidationError as error:
            fault = error.errors()[0]
            raise MilepostError(
                "The run cannot be asked for.", why=f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}",
                hint="milepost ask --help",
            ) from error  # fmt: skip
        turn = Turn(client, asked.run, view(json=as_json(), events=follow), answers, yes_to)
        await turn.go()
        return turn

    return connected(work, home)


def _certified(spec: AgentSpec) -> AgentSpec:
    return spec.model_copy(update={"manner": spec.manner.model_copy(update={"certified": True})})


def exit_code(turn: Turn) -> int:
    """How a turn ended, for a shell: 0 answered, 1 failed or cancelled, 3 it waits for an answer, 130 left with ctrl-C."""
    if turn.state.outcome == "completed":
        return 0
    if turn.interrupted:
        return INTERRUPTED
    return WAITING if turn.waits else 1


def answers_from(yes: bool, no: bool, yes_to: list[YesToDoubt] | None) -> Answers:
    """Who answers what the run asks: the command line, the person at the terminal, or nobody here. Raises MilepostError."""
    if (yes or yes_to) and no:
        raise MilepostError("--yes and --no say opposite things.", hint="give one of them, or none to be asked")
    if yes_to and not yes:
        raise MilepostError("--yes-to says what --yes covers beside plain writes.", hint="give --yes with it")
    if yes or no:
        return "yes" if yes else "no"
    return "ask" if at_terminal() else "leave"


def _doubts(yes_to: list[YesToDoubt] | None) -> frozenset[Doubt]:
    return frozenset(each.value for each in yes_to or ())


def _checked(task: str) -> str:
    task = task.strip()
    if not task:
        raise MilepostError("The task is empty.", hint='milepost ask "What time is it in Shanghai?"')
    return task


def _line() -> str | None:
    """What the person says next; None at the end of the input."""
    try:
        return input("› " if at_terminal() else "").strip()
    except EOFError:
        sys.stderr.write("\n" if at_terminal() else "")
        return None
    except KeyboardInterrupt:
        sys.stderr.write("  (ctrl-D leaves)\n")
        return ""


def _new_conversation() -> str:
    import secrets

    return f"c-{secrets.token_hex(8)}"
