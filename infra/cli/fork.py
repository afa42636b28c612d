"""Fork: a run left at one of its events, to go on otherwise; nothing of it happens in the world."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, plain, print_json, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.cli.turn import Answers, Turn
    from infra.settings import Settings
    from infra.wiring import World
    from runtime.client import Asked, Client
    from runtime.forking import Change, Original
    from schemas.agent import AgentSpec
    from schemas.tools import ToolCard


class Reads(StrEnum):
    """Where calls that only read are answered from."""

    recorded = "recorded"
    live = "live"


At = Annotated[
    int | None,
    typer.Option("--at", min=1, help="The event after which it goes on by itself; without it, the last --answer.",
                 show_default=False),
]  # fmt: skip
Model = Annotated[str | None, typer.Option(help="Another model.", show_default=False)]
Prompt = Annotated[Path | None, typer.Option(help="A file with other instructions.", show_default=False)]
Agent = Annotated[Path | None, typer.Option(help="A TOML, JSON or YAML file with another agent.", show_default=False)]
Tools = Annotated[
    Path | None, typer.Option(help="Other tools, as `milepost tools ls --json` has them.", metavar="FILE", show_default=False)
]
Answer = Annotated[
    list[str] | None,
    typer.Option(
        "--answer", metavar="EVENT=...", help="What an event says instead: approve, refuse:WHY, text or JSON; repeatable.",
        show_default=False,
    ),
]  # fmt: skip
ReadsFrom = Annotated[Reads | None, typer.Option("--reads", help="May reads that the log lacks be made?", show_default=False)]
Simulate = Annotated[bool, typer.Option("--simulate", help="Go on as if writes had been done.")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Go through it here, or only begin it.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who forks.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve every write: none of them happens.")]
No = Annotated[bool, typer.Option("--no", help="Refuse every write.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(fork)


def fork(
    run: Run, at: At = None, model: Model = None, prompt: Prompt = None, agent: Agent = None, tools: Tools = None,
    answer: Answer = None, reads: ReadsFrom = None, simulate: Simulate = False, follow: Follow = True, by: By = None,
    yes: Yes = False, no: No = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Leave a run at one of its events and go on otherwise: another model, other words, another answer.

    Up to there all is taken from the log. What comes after is real but for tools: a call that the log holds is answered from
    it, others are not made, and nothing is written anywhere. Exit code: as of `milepost ask`.
    """
    from infra.cli.ask import answers_from, exit_code
    from infra.cli.client import connected

    use_json(json)
    answers = answers_from(yes, no, None)
    name, at = _place(run, at)
    wanted = _Wanted(model, prompt, agent, tools, tuple(answer or ()), reads, simulate, by)

    async def work(client: Client, world: World) -> Turn | None:
        original = await _original(world, name)
        number, change = _change(original, at, wanted, world.settings)
        asked = await client.fork(original, number, change, by=by)
        _tell(original, number, change, asked, follow=follow)
        return await _followed(client, asked, answers) if follow else None

    turn = connected(work, home)
    if turn is None:
        return
    if not as_json() and turn.state.fork:
        from infra.cli.words import say

        command = f"milepost diff {turn.state.fork.run} {turn.state.run}"
        console().print(plain(say("fork compare", command=command), "dim"))
    code = exit_code(turn)
    if code:
        raise typer.Exit(code)


def _place(run: str, at: int | None) -> tuple[str, int | None]:
    """The run, and the event where it is left, which may stand behind the run: RUN#N."""
    from infra.cli.reading import names_file
    from runtime.permalink import place_of

    if names_file(run):
        why = "the recorder must be able to read what it copies"
        raise MilepostError("A file cannot be forked.", why=why, hint=f"milepost runs import {run}")
    place = place_of(run)
    if at is not None and place.event not in (None, at):
        raise MilepostError(f"{run} and --at {at} name two events.", hint="give one of them")
    return place.run, at if at is not None else place.event


class _Wanted:
    """What the command line asks for."""

    def __init__(
        self, model: str | None, prompt: Path | None, agent: Path | None, tools: Path | None, answers: Sequence[str],
        reads: Reads | None, simulate: bool, by: str | None,
    ) -> None:  # fmt: skip
        if prompt and agent:
            raise MilepostError("--prompt and --agent both say what the agent is told.", hint="write it into the agent's file")
        self.model, self.prompt, self.agent, self.tools = model, prompt, agent, tools
        self.answers, self.reads, self.simulate, self.by = answers, reads, simulate, by


async def _original(world: World, name: str) -> Original:
    from infra.cli.client import events_of
    from runtime.forking import Original

    return Original(*await events_of(world, name))


def _change(original: Original, at: int | None, wanted: _Wanted, settings: Settings) -> tuple[int, Change]:
    """Where the run is left, and what is different then. Raises MilepostError for what cannot be."""
    from runtime.fork_answers import contents_of
    from runtime.forking import Change

    contents = contents_of(original, wanted.answers, wanted.by or settings.user)
    if at is None and not contents:
        raise MilepostError(
            "Nothing says where the run is to be left.", hint=f"--at EVENT; milepost runs show {original.run} numbers them"
        )
    number = at if at is not None else max(contents)
    spec, said = _agent(original.request.agent, wanted, settings)
    cards = _cards(wanted.tools) if wanted.tools else None
    words = [*said, *([f"tools: {wanted.tools}"] if wanted.tools else [])]
    words += [f"event {each.partition('=')[0]}: {each.partition('=')[2][:80]}" for each in wanted.answers]
    return number, Change(
        agent=spec, tools=cards, answers=contents, reads=wanted.reads.value if wanted.reads else None,
        writes="simulated" if wanted.simulate else None, words=tuple(words),
    )  # fmt: skip


def _agent(before: AgentSpec, wanted: _Wanted, settings: Settings) -> tuple[AgentSpec, list[str]]:
    """The agent of the fork, and what is different about it, in words."""
    from infra.cli.agents import agent_from

    spec, words = before, []
    if wanted.agent:
        spec = agent_from(wanted.agent)
        words.append(f"agent: {spec.name} of {wanted.agent}")
    if wanted.prompt:
        spec = spec.model_copy(update={"instructions": _instructions(wanted.prompt)})
        words.append(f"instructions: {wanted.prompt}")
    if wanted.model:
        _known(wanted.model, settings)
        words.append(f"model: {spec.model} -> {wanted.model}")
        spec = spec.model_copy(update={"model": wanted.model})
    return spec, words


def _instructions(file: Path) -> str:
    from schemas.agent import AgentSpec

    limit = next(each.max_length for each in AgentSpec.model_fields["instructions"].metadata if hasattr(each, "max_length"))
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MilepostError(f"{file} cannot be read.", why=why, hint="--prompt takes a text file in UTF-8") from error
    if not text or len(text) > limit:
        raise MilepostError(f"{file} holds no instructions.", why=f"it has {len(text)} characters, 1 to {limit} may be")
    return text


def _known(model: str, settings: Settings) -> None:
    """Raises UnknownModel for one that is neither in the catalogue, nor added, nor elsewhere."""
    from infra.models.catalogue import ModelElsewhere, find

    if model in ("default", settings.model.name):
        return
    try:
        find(model, settings.model.home)
    except ModelElsewhere:
        return


def _cards(file: Path) -> tuple[ToolCard, ...] | None:
    from infra.cohort.swap import BadSwap, swap_of

    try:
        return swap_of((f"tools={file}",)).tools
    except BadSwap as error:
        hint = "--tools takes a JSON list of tool cards, as `milepost tools ls --json` prints them"
        raise MilepostError(error.what, why=error.why, hint=hint) from error


def _tell(original: Original, at: int, change: Change, asked: Asked, *, follow: bool) -> None:
    from infra.cli.words import say

    if as_json():
        if not follow:
            print_json({"run": asked.run, "fork_of": original.run, "at": at, "changed": list(change.words)})
        return
    out = console()
    out.print(plain(say("fork begun", fork=asked.run, run=original.run, at=at), "bold"))
    out.print(plain(say("fork differs", what="; ".join(change.words) or say("fork same")), "dim"))
    out.print(plain(say("fork nothing"), "bold yellow"))


async def _followed(client: Client, asked: Asked, answers: Answers) -> Turn:
    from infra.cli.ask import YesToDoubt
    from infra.cli.turn import Turn
    from infra.cli.view import view

    turn = Turn(client, asked.run, view(json=as_json(), events=False), answers, frozenset(each.value for each in YesToDoubt))
    await turn.go()
    return turn
