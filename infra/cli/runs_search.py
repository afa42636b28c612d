"""Runs in which something was said: where it stands, and the words around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.run_query import (
    AgentOption,
    ConversationOption,
    ModelOption,
    SinceOption,
    StatusOption,
    ToolOption,
    UntilOption,
    UserOption,
)
from infra.cli.show import as_json, clean, console, local, outcome, plain, print_json, use_json

if TYPE_CHECKING:
    from rich.text import Text

    from infra.wiring import World
    from services.recorder.ports import EventRow, RunFilter, RunSummary

AROUND = 60
LINES = 3


@dataclass(frozen=True, slots=True)
class Found:
    """Where a text stands: task, answer or the type of an event, and what that says."""

    where: str
    text: str


def search(
    text: Annotated[str, typer.Argument(help="What was said.", show_default=False)],
    deep: Annotated[bool, typer.Option("--deep", help="Look into the lines of events, too.")] = False,
    status: StatusOption = None, agent: AgentOption = None, user: UserOption = None, tool: ToolOption = None,
    model: ModelOption = None, conversation: ConversationOption = None, since: SinceOption = None, until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many runs at most.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Search tasks and answers, with --deep also what every event said in one line; newest runs first."""
    from infra.cli.client import connected
    from infra.cli.options import question_of
    from infra.cli.run_query import filter_of

    use_json(json)
    asked = question_of(text, "milepost runs search renew")
    which = filter_of((), {
        "text": asked, "deep": deep, "status": status, "agent": agent, "user": user, "tool": tool, "model": model,
        "conversation": conversation, "since": since, "until": until,
    })  # fmt: skip
    found = connected(lambda _, world: _search(world, which, limit), home)
    if as_json():
        print_json([_as_json(run, places, asked) for run, places in found])
    elif found:
        _print(found, asked)
    else:
        from infra.cli.words import say

        console(stderr=True).print(plain(say("nothing found", text=asked) + ("" if deep else f" · {say('look deeper')}")))


async def _search(world: World, which: RunFilter, limit: int) -> list[tuple[RunSummary, list[Found]]]:
    from infra.cli.client import ask_list
    from infra.cli.run_query import PAGE, matching
    from services.recorder.ports import EventRow

    runs = [each async for each in matching(world, which, limit)]
    lines: dict[str, list[EventRow]] = {}
    for begin in range(0, len(runs) if which.deep else 0, PAGE):
        names = [each.run for each in runs[begin : begin + PAGE]]
        question = {"tenant": world.settings.tenant, "runs": names, "text": which.text, "each": LINES}
        for row in await ask_list(world, "recorder", "lines", question):
            line = EventRow.model_validate(row)
            lines.setdefault(line.run, []).append(line)
    return [(run, list(_places(run, lines.get(run.run, ()), which.text or ""))) for run in runs]


def _places(run: RunSummary, lines: Sequence[EventRow], text: str) -> Iterator[Found]:
    """The task and the answer, each if the text stands in it, and the lines of other events."""
    said = [Found("task", run.task), Found("answer", run.answer or "")]
    whole = [each for each in said if text.lower() in each.text.lower()]
    yield from whole
    told = {"RunRequested": "task", "RunCompleted": "answer"}
    yield from (Found(each.type, each.summary) for each in lines if told.get(each.type) not in {one.where for one in whole})


def marks(text: str, part: str) -> list[tuple[int, int]]:
    """Where a text holds a part, in whatever case: begins and ends."""
    return [found.span() for found in re.finditer(re.escape(part), text, re.IGNORECASE)]


def snippet(text: str, part: str, around: int = AROUND) -> str:
    """One line with the first place of the part, and what stands around it."""
    line = " ".join(clean(text).split())
    place = next(iter(marks(line, " ".join(part.split()))), (0, 0))
    begin, end = max(0, place[0] - around), min(len(line), place[1] + around)
    return ("…" if begin else "") + line[begin:end] + ("…" if end < len(line) else "")


def _as_json(run: RunSummary, places: Sequence[Found], part: str) -> dict[str, object]:
    found = [{"where": each.where, "text": each.text, "at": marks(each.text, part)} for each in places]
    return {**run.model_dump(mode="json"), "found": found}


def _print(found: Sequence[tuple[RunSummary, list[Found]]], part: str) -> None:
    from infra.cli.client import short_id
    from infra.cli.words import say

    out = console()
    for run, places in found:
        name = short_id(run.run) if out.is_terminal else run.run
        out.print(plain(name) + plain("  ") + outcome(run.status) + plain(f"  {local(run.started)}  {run.agent}", "dim"))
        for each in places:
            where = say(f"in {each.where}") if each.where in ("task", "answer") else each.where
            out.print(plain(f"  {where}: ", "dim") + _marked(snippet(each.text, part), part), no_wrap=True)


def _marked(line: str, part: str) -> Text:
    text = plain(line)
    for begin, end in marks(text.plain, " ".join(part.split())):
        text.stylize("bold yellow", begin, end)
    return text
