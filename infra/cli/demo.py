"""`milepost demo`: the whole way of four requests, live, then a timeline and a replay with nothing running."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from pathlib import Path

    from infra.demo.play import Played, Scene
    from infra.settings import Loaded
    from runtime.client import Client
    from runtime.replay import Replayed
    from schemas.commands import RequestApproval
    from schemas.tools import Preview, Value


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(demo)


def demo(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve for me.")] = False, home: Home = None, json: Json = False
) -> None:
    """Show it all: a renewal with approval (twice), an answer from documents, an answer without tools, a replay."""
    use_json(json)
    import asyncio

    from infra import logs
    from infra.cli.models import fetch_all

    begun = time.monotonic()
    loaded = settings_from(home)
    logs.configure("demo", level="error")
    if loaded.settings.model.scripted is None:
        fetch_all(loaded.settings)
    ready = time.monotonic()
    screen = Screen(yes=yes or json or not sys.stdin.isatty())
    played, exported, started_s = asyncio.run(_play(loaded, screen))
    replayed = _replay(exported)
    times = {"models_s": round(ready - begun, 1), "stack_s": round(started_s, 1), "total_s": round(time.monotonic() - begun, 1)}
    if as_json():
        print_json(_as_json(played, replayed, times))
    else:
        _epilogue(played[0], replayed, exported, times)
    if not replayed.same:
        raise typer.Exit(4)


async def _play(loaded: Loaded, screen: Screen) -> tuple[list[Played], Path, float]:
    from infra import stack as stacks
    from infra.demo import play
    from infra.local_stack import start_detached
    from infra.session import session

    settings, begun = loaded.settings, time.monotonic()
    try:
        stacks.attach(settings.home)
        ours = False
    except stacks.NotRunning:
        await start_detached(loaded)
        ours = True
    started = time.monotonic() - begun
    try:
        async with session(settings, user="you") as (client, world):
            await _catalogue_ready(client)
            screen.ready(started, await play.ingest(client))
            played = await play.play_all(client, screen)
            exported = settings.home / "demo-run-1.jsonl"
            await play.export(world, played[0].run, exported)
    finally:
        if ours:
            await stacks.down(settings.home)
    return played, exported, started


async def _catalogue_ready(client: Client) -> None:
    """Wait until the shipped tools can be found: the catalogue has stopped growing."""
    import asyncio

    from schemas import subjects
    from services.retrieval.catalogue_questions import GetTools, ListTools, ToolList

    async def ask(verb: str, question: Value) -> bytes:
        return await client.bus.ask(subjects.question("retrieval", verb), question.model_dump_json().encode(), 60.0)

    known = -1
    while True:
        page = ToolList.model_validate_json(await ask("list_tools", ListTools(tenant=client.tenant, limit=1)))
        renewal = await ask("get_tools", GetTools(tenant=client.tenant, names=("RenewInstance",)))
        if page.state.cards == known and renewal != b"[]":
            return
        known = page.state.cards
        await asyncio.sleep(0.3)


def _replay(exported: Path) -> Replayed:
    from infra.demo.play import replay_file

    return replay_file(exported)


class Screen:
    """The demo on a terminal; says nothing when JSON was asked for."""

    def __init__(self, *, yes: bool) -> None:
        self._yes, self._out, self._line_open = yes, console(), False

    def ready(self, seconds: float, documents: int) -> None:
        self._print(f"bus, database and services are up ({seconds:.1f} s); {documents} documents ingested", "dim")

    def scene(self, number: int, scene: Scene) -> None:
        self._print("")
        self._print(f"{number}. {scene.title}", "bold cyan")
        self._print(f"you › {scene.task}", "bold")

    def step(self, who: str, event: str, line: str, ms: float) -> None:
        if event in _QUIET:
            return
        self._end_line()
        self._print(f"{ms:8.0f} ms  {who:<10} {event:<18} {line}", "dim")

    def text(self, piece: str, *, anew: bool) -> None:
        if as_json():
            return
        if anew:
            self._end_line()
            self._out.print(plain("ops › ", "bold green"), end="")
        self._line_open = True
        self._out.print(plain(piece), end="")
        sys.stdout.flush()

    async def approve(self, asked: RequestApproval, preview: Preview) -> bool:
        from infra.cli.approval import approval_card
        from infra.cli.keyboard import yes_or_no

        self._end_line()
        if not as_json():
            self._out.print(approval_card(asked, preview))
        if self._yes:
            self._print("approved by --yes", "green")
            return True
        return bool(await yes_or_no("Approve?"))

    def end(self, played: Played) -> None:
        self._end_line()
        for passage in played.sources[:1]:
            place = passage.title if passage.heading in ("", passage.title) else f"{passage.title} › {passage.heading}"
            self._print(f"source: {place}, characters {passage.start}-{passage.end}", "dim")

    def _print(self, line: str, style: str = "") -> None:
        if not as_json():
            self._out.print(plain(line, style))

    def _end_line(self) -> None:
        if self._line_open:
            self._out.print()
            self._line_open = False


_QUIET = frozenset({"RunRequested", "MemoryRecalled", "TurnStored", "RunCompleted", "TimerFired"})


def _epilogue(first: Played, replayed: Replayed, exported: Path, times: dict[str, float]) -> None:
    out = console()
    out.print()
    out.print(plain(f"Timeline of run 1 ({first.run})", "bold cyan"))
    for at, who, event, line, ms in first.steps:
        out.print(plain(f"{at:%H:%M:%S.%f}"[:12] + f" {ms:8.0f} ms  {who:<10} {event:<18} {line}"))
    out.print()
    out.print(plain("Replay of run 1 from its exported log, with no service running", "bold cyan"))
    if replayed.same:
        out.print(
            plain(f"{replayed.decisions} decisions made again from {replayed.events} events: every one is the same", "green")
        )
    elif replayed.divergence:
        out.print(plain(f"diverges at event {replayed.divergence.event}: {replayed.divergence.why}", "red"))
    out.print(plain(f"{times['total_s']:.1f} s in all: models {times['models_s']:.1f}, stack {times['stack_s']:.1f}", "dim"))
    out.print()
    out.print(plain("Try next", "bold cyan"))
    for command, what in _NEXT:
        out.print(plain(f"  {command:<46}", "bold") + plain(what))
    out.print(plain(f"  milepost replay {exported}", "bold"))


_NEXT = (
    ("milepost up -d", "start the stack and leave it running"),
    ("milepost chat", "talk to it"),
    ('milepost ask "What time is it in Shanghai?"', "ask one thing"),
    ("milepost runs ls", "every run, and: runs show RUN"),
    ('milepost tools search "stop a server"', "what the agent would be offered"),
    ("milepost knowledge add docs/", "answer from your own documents"),
)


def _as_json(played: list[Played], replayed: Replayed, times: dict[str, float]) -> dict[str, object]:
    return {
        "scenes": [
            {
                "task": each.scene.task, "run": each.run, "answer": each.answer, "seconds": round(each.seconds, 3),
                "approvals": [preview.model_dump(mode="json") for preview in each.approvals],
                "sources": [{"document": p.title, "heading": p.heading, "start": p.start, "end": p.end} for p in each.sources],
                "timeline": [
                    {"time": at.isoformat(), "who": who, "event": event, "summary": line, "ms": round(ms, 1)}
                    for at, who, event, line, ms in each.steps
                ],
            }
            for each in played
        ],
        "replay": {
            "run": replayed.run, "same": replayed.same, "events": replayed.events, "decisions": replayed.decisions,
            "outcome": replayed.outcome,
        },
        "times": times,
    }  # fmt: skip
