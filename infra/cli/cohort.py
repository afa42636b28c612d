"""Cohorts: many recorded runs driven again with one thing swapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from infra.cli.words import language, say, use_language

if TYPE_CHECKING:
    from typer._click.core import Context

    from infra.cohort.driver import Source
    from infra.cohort.driving import Result
    from infra.cohort.over_bus import Item
    from infra.cohort.recorded import Recorded
    from infra.cohort.store import Cohort
    from infra.cohort.summary import Summary
    from infra.cohort.swap import Swap
    from infra.settings import Settings
    from infra.wiring import World
    from runtime.client import Client
    from schemas.ids import RunId

BELOW = 5
INTERRUPTED = 130
_DRIVE = "drive"


class _OrQuery(TyperGroup):
    """`cohort QUERY` drives; `cohort ls|show|work` are words of their own."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--help"
        known = first in self.commands or first in ("--help", "--install-completion", "--show-completion")
        return super().parse_args(ctx, args if known else [_DRIVE, *args])


cohort = typer.Typer(
    cls=_OrQuery, no_args_is_help=True,
    help="Drive recorded runs again with one thing swapped: `milepost cohort QUERY --swap ...` (`cohort drive --help`).",
)  # fmt: skip

Html = Annotated[Path | None, typer.Option("--html", help="Write a report with plots.", show_default=False)]
Show = Annotated[int, typer.Option("--show", min=0, help="How many of the runs that changed to show.")]
FailUnder = Annotated[
    str | None,
    typer.Option("--fail-under", help="Exit 5 if it is less: agreement=0.95,answers=0.8.", metavar="NAME=LEAST,...",
                 show_default=False),
]  # fmt: skip
From = Annotated[
    list[Path] | None, typer.Option("--from", help="Files of `runs export`, or folders of them; no stack.", show_default=False)
]
Swaps = Annotated[
    list[str] | None,
    typer.Option("--swap", help="llm=MODEL|SCRIPT, prompt=FILE, tools=FILE or policy=FILE; again for more.", metavar="WHAT",
                 show_default=False),
]  # fmt: skip
Workers = Annotated[int | None, typer.Option("--processes", min=1, max=256, help="One a core without.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    cohort.command(_DRIVE, help=drive.__doc__)(drive)
    cohort.command("ls")(list_)
    cohort.command()(show)
    cohort.command()(work)
    app.add_typer(cohort, name="cohort")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    swap: Swap
    fresh: bool
    over_bus: bool
    processes: int | None
    shown: int


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to be shown: the summary, the runs that changed as far as they are shown and can be opened."""

    summary: Summary
    shown: Sequence[Result]
    driven: int = 0
    seconds: float = 0.0


def drive(
    query: Annotated[
        list[str] | None, typer.Argument(help="Which runs, as agent:ops tool:RenewInstance since:7d.", show_default=False)
    ] = None,
    swap: Swaps = None, from_: From = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many runs at most, the newest.")] = 1000,
    fail_under: FailUnder = None, html: Html = None, show: Show = 10,
    fresh: Annotated[bool, typer.Option("--fresh", help="Drive all of them anew.")] = False,
    over_bus: Annotated[bool, typer.Option("--over-bus", help="Share the work out to `milepost cohort work`.")] = False,
    processes: Workers = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Drive recorded runs again, from their logs but for what is swapped, and say what that changes.

    Without a swap it checks the logs against today's code. Nothing is written or called but models. The same command goes on
    where it was interrupted. Exit code: 0 done, 5 below --fail-under, 130 interrupted.
    """
    from infra.cohort.summary import below, gates_of
    from infra.cohort.swap import swap_of

    use_json(json)
    gates = gates_of(fail_under) if fail_under is not None else {}
    wanted = _Wanted(swap_of(swap or ()), fresh, over_bus, processes, max(show, _most(html)))
    told = _from_files(from_, query, limit, wanted, home) if from_ else _from_stack(query or (), limit, wanted, home)
    _tell(told, show, html)
    if gates and (failed := below(told.summary, gates)):
        if not as_json():
            console(stderr=True).print(plain(say("cohort below", what="; ".join(failed)), "bold red"))
        raise typer.Exit(BELOW)


def _most(html: Path | None) -> int:
    from infra.cohort.report import MOST

    return MOST if html else 0


# --- where runs come from ---------------------------------------------------------------------------


def _from_files(places: Sequence[Path], query: Sequence[str] | None, limit: int, wanted: _Wanted, home: Path | None) -> _Told:
    import asyncio

    from infra import logs
    from infra.cohort.driver import Source, drive_here
    from infra.cohort.recorded import in_files
    from schemas.errors import MilepostError

    if query or wanted.over_bus:
        what = (
            "A query chooses runs of a stack, --from names files." if query else "Workers elsewhere cannot read files of here."
        )
        raise MilepostError(what, hint="leave --from out, or the other")
    settings = settings_from(home).settings
    use_language(settings.language)
    logs.configure("client", level="error")
    found = {each.run: each for each in in_files(places)[:limit]}

    async def read(run: RunId) -> Recorded:
        return found[run]

    source = Source(" ".join(map(str, places)), tuple(found), read)

    async def work(cohort: Cohort, tell: Callable[[int], None]) -> None:
        await drive_here(cohort, source, wanted.swap, settings, tell=tell, processes=wanted.processes)

    with _opened(source, wanted, settings, [each.name for each in found.values()]) as open_:
        began, before = time.monotonic(), len(open_.results)
        with _bar(open_) as tell:
            asyncio.run(work(open_, tell))
        return _result(open_, wanted, began, before)


def _from_stack(query: Sequence[str], limit: int, wanted: _Wanted, home: Path | None) -> _Told:
    from infra.cli.client import connected
    from infra.cli.run_query import filter_of
    from infra.cohort.driver import drive_here, drive_over_bus

    which = filter_of(query)

    async def work(_: Client, world: World) -> _Told:
        source = await _source(world, which, " ".join(query), limit)
        settings = world.settings
        with _opened(source, wanted, settings, source.runs) as open_:
            began, before = time.monotonic(), len(open_.results)
            with _bar(open_) as tell:
                if wanted.over_bus:
                    if not as_json():
                        console(stderr=True).print(plain(say("cohort waits"), "dim"))
                    await drive_over_bus(open_, wanted.swap, world.connection, settings.tenant, tell=tell)
                else:
                    await drive_here(open_, source, wanted.swap, settings, tell=tell, processes=wanted.processes)
            told = _result(open_, wanted, began, before)
        return _Told(told.summary, await _open_all(told.shown, world), told.driven, told.seconds)

    return connected(work, home)


async def _source(world: World, which: object, query: str, limit: int) -> Source:
    """The runs of a query that have ended, newest first."""
    from infra.cli.run_query import matching
    from infra.cohort.driver import Source
    from infra.cohort.recorded import NoRuns, recorded_in
    from schemas.ids import checked_run
    from services.recorder.ports import OPEN, RunFilter

    assert isinstance(which, RunFilter)
    runs = [checked_run(each.run) async for each in matching(world, which, limit) if each.status not in OPEN]
    if not runs:
        raise NoRuns("No run that has ended fits.", why=f"asked for: {query or 'all of them'}", hint="milepost runs ls")
    return Source(query, tuple(runs), lambda run: recorded_in(world, run))


@contextmanager
def _opened(source: Source, wanted: _Wanted, settings: Settings, names: Sequence[str]) -> Iterator[Cohort]:
    """The cohort of these runs. names: what tells a run from every other, with its content where that may be another one."""
    from datetime import UTC, datetime

    from infra.cohort.store import About, cohort_id, open_cohort

    about = About(
        id=cohort_id(names, wanted.swap), query=source.query, swap=wanted.swap.said, runs=source.runs,
        created=datetime.now(UTC),
    )  # fmt: skip
    with open_cohort(settings.home, about, fresh=wanted.fresh) as open_:
        yield open_


@contextmanager
def _bar(open_: Cohort) -> Iterator[Callable[[int], None]]:
    """Progress on a terminal; who interrupts is told how to go on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    out = console(stderr=True)
    total, before = len(open_.about.runs), len(open_.results)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=out, transient=True, disable=as_json() or not out.is_terminal) as progress:
            task = progress.add_task(say("cohort driving"), total=total, completed=len(open_.results))
            yield lambda done: progress.update(task, completed=done)
    except BaseException:
        kept = sum(not each.trouble for each in open_.results.values())
        if kept > before and not as_json():
            out.print(plain(say("cohort interrupted", done=kept, all=total), "yellow"))
        raise


def _result(open_: Cohort, wanted: _Wanted, began: float, before: int) -> _Told:
    from infra.cohort.summary import summary_of

    summary = summary_of(open_.about, list(open_.results.values()))
    seconds = time.monotonic() - began
    return _Told(summary, summary.changed[: wanted.shown], len(open_.results) - before, seconds)


async def _open_all(results: Sequence[Result], world: World) -> list[Result]:
    """What is quoted of sealed runs, opened with the keys that are left."""
    from infra.cohort.driving import opened
    from runtime.errors import Unreachable
    from runtime.sealing import UnknownKey, run_key
    from schemas.ids import RunId

    found: list[Result] = []
    for each in results:
        secret = None
        if each.sealed is not None and each.datakey is not None:
            try:
                secret = (await world.keyring.key(each.tenant, each.datakey)).secret
            except (UnknownKey, Unreachable):
                secret = None
        found.append(opened(each, run_key(secret, RunId(each.run)) if secret else None))
    return found


# --- what is shown ----------------------------------------------------------------------------------


def _tell(told: _Told, count: int, html: Path | None) -> None:
    from infra.cohort.summary import as_data

    if html is not None:
        _write(html, told)
    if as_json():
        print_json(as_data(told.summary, told.shown[:count]) | {"driven": told.driven, "seconds": round(told.seconds, 3)})
        return
    _print_totals(told)
    _print_changed(told, count)
    if html is not None:
        console().print(plain(say("cohort report", file=html), "dim"))


def _write(html: Path, told: _Told) -> None:
    from infra.cohort.report import report
    from schemas.errors import MilepostError

    try:
        html.write_text(report(told.summary, told.shown, say, language()), encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise MilepostError(f"{html} cannot be written.", why=why, hint="--html FILE in a folder that is there") from error


def _print_totals(told: _Told) -> None:
    from infra.cohort.report import spending, table

    out, summary = console(), told.summary
    swap = ", ".join(summary.about.swap) or say("cohort nothing")
    out.print(plain(say("cohort head", id=summary.about.id, runs=len(summary.about.runs), swap=swap), "bold"))
    if told.driven:
        out.print(plain(say("cohort took", driven=told.driven, seconds=f"{told.seconds:.1f}"), "dim"))
    print_table(("", say("cohort interval")), table(summary, say))
    print_table(("", say("cohort recorded"), say("cohort driven")), spending(summary.totals, say),
                right=(say("cohort recorded"), say("cohort driven")))  # fmt: skip
    for each in summary.troubled[:3]:
        out.print(plain(f"{each.run}: {each.trouble}", "yellow"))


def _print_changed(told: _Told, count: int) -> None:
    out, changed = console(), told.summary.changed
    if not told.summary.compared:
        return
    whole = not (told.summary.troubled or told.summary.missing)
    same = say("cohort same") if whole else say("cohort same driven")
    out.print(
        plain(say("cohort changed", count=len(changed)), "bold") if changed else plain(same, "green" if whole else "yellow")
    )
    for each in told.shown[:count]:
        _print_one(each)
    if len(changed) > count:
        out.print(plain(say("cohort more", count=len(changed) - count), "dim"))


def _print_one(result: Result) -> None:
    """A run that changed: its risk and where, then both actions or both answers."""
    from infra.cohort.report import RISKY, fate, line
    from infra.cohort.summary import place
    from runtime.timeline import short

    out, found = console(), result.agreement
    if found is None:
        return
    risk = plain(say(f"cohort risk {found.risk}"), "bold red" if found.risk in RISKY else "yellow")
    out.print(risk + plain(f"  {place(result)}  ") + plain(short(result.task, 80), "dim"))
    for pair in found.differences[:3]:
        for sign, action in (("-", pair.recorded), ("+", pair.driven)):
            if action:
                out.print(plain(f"  {sign} {short(line(action), 160)}") + plain(f"  {fate(action, say)}", "dim"))
    if found.stopped:
        out.print(plain("  " + say("cohort stopped at", what=", ".join(found.stopped)), "dim"))
    if not found.differences and found.answers.recorded != found.answers.driven:
        for sign, answer in (("-", found.answers.recorded), ("+", found.answers.driven)):
            out.print(plain(f"  {sign} {short(answer or '–', 160)}"))
    if result.sealed is not None:
        out.print(plain("  " + say("cohort sealed"), "dim"))


def list_(home: Home = None, json: Json = False) -> None:
    """List the cohorts of this data directory, newest first."""
    from infra.cohort.store import cohorts

    use_json(json)
    settings = settings_from(home).settings
    use_language(settings.language)
    found = cohorts(settings.home)
    if as_json():
        print_json([{**about.model_dump(mode="json", exclude={"runs"}), "runs": len(about.runs), "done": done}
                    for about, done in found])  # fmt: skip
    elif found:
        rows = [(about.id, local(about.created), f"{done}/{len(about.runs)}", ", ".join(about.swap) or say("cohort nothing"),
                 about.query) for about, done in found]  # fmt: skip
        print_table(("id", "when", "runs", "swap", "query"), rows)
    else:
        console(stderr=True).print("no cohort yet · milepost cohort agent:ops --swap llm=MODEL")


def show(
    id: Annotated[str, typer.Argument(help="A cohort's id, or its beginning.", show_default=False)],
    html: Html = None, show: Show = 20, fail_under: FailUnder = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show what a cohort came to; what it quotes of sealed runs needs the stack, which has their keys."""
    from infra.cohort.store import read_cohort
    from infra.cohort.summary import below, gates_of, summary_of

    use_json(json)
    gates = gates_of(fail_under) if fail_under is not None else {}
    settings = settings_from(home).settings
    use_language(settings.language)
    summary = summary_of(*read_cohort(settings.home, id))
    shown = summary.changed[: max(show, _most(html))]
    _tell(_Told(summary, _with_keys(shown, home)), show, html)
    if gates and (failed := below(summary, gates)):
        console(stderr=True).print(plain(say("cohort below", what="; ".join(failed)), "bold red"))
        raise typer.Exit(BELOW)


def _with_keys(results: Sequence[Result], home: Path | None) -> Sequence[Result]:
    """The results opened if some are sealed and a stack runs here; else as they are."""
    from infra.cli.client import connected
    from schemas.errors import MilepostError

    if not any(each.sealed for each in results):
        return results
    try:
        return connected(lambda _, world: _open_all(results, world), home)
    except MilepostError:
        return results


def work(processes: Workers = None, home: Home = None, json: Json = False) -> None:
    """Work on cohorts that others share out with --over-bus, until ctrl-C; any number of machines may."""
    from infra.cli.client import connected
    from infra.cohort.pool import Processes, processes_of
    from infra.cohort.worker import CohortWorker

    use_json(json)
    count = processes_of(processes, 1_000_000)

    async def run(_: Client, world: World) -> None:
        with Processes(count) as pool:
            console(stderr=True).print(plain(say("cohort works", count=count), "dim"))
            await CohortWorker(world, pool, _tell_item).run()

    connected(run, home)


def _tell_item(item: Item, results: Sequence[Result], why: str) -> None:
    told: Mapping[str, object] = {"cohort": item.cohort, "item": item.item, "runs": len(results), "why": why}
    if as_json():
        from infra.cli.show import print_json_line

        print_json_line(told)
        return
    key = "cohort given back" if why else "cohort item"
    console().print(plain(say(key, **told), "yellow" if why else "dim"))
