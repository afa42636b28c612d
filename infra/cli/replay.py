"""Replay: every decision of runs computed again, from the log, the archive or files, and what differs explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, outcome, plain, print_json, show_error, use_json
from infra.cli.words import say
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from runtime.divergence import Differing, Divergence
    from runtime.log import Stored
    from runtime.replay import Note, Replayed
    from schemas.ids import RunId

DIVERGED = 4
UNREAD = 1
SUFFIXES = (".jsonl", ".jsonl.gz")
SHOWN = 60  # characters of a value
FIELDS = 12


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(replay)


def replay(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN|FILE...", help="Runs, exported files, folders of them.", show_default=False)
    ],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Compute every decision of runs again from their logs alone, compare, and explain the first difference.

    Files need no stack and no settings. Exit code: 0 every decision is the same, 4 one is not, 1 a run could not be read.
    """
    use_json(json)
    results = _replayed([name for each in runs for name in _expanded(each)], home)
    if len(results) == 1 and isinstance(results[0][1], MilepostError):
        raise results[0][1]
    _show(results)
    replayed = [result for _, result in results if not isinstance(result, MilepostError)]
    if any(not result.same for result in replayed):
        raise typer.Exit(DIVERGED)
    if len(replayed) < len(results):
        raise typer.Exit(UNREAD)


def _expanded(name: str) -> list[str]:
    """The files that a folder holds, or a pattern names; anything else is what it is."""
    import glob

    path = Path(name)
    if path.is_dir():
        found = sorted(str(each) for each in path.iterdir() if each.name.endswith(SUFFIXES))
    elif not path.exists() and glob.has_magic(name):
        found = sorted(glob.glob(name))
    else:
        return [name]
    if not found:
        hint = "name files that `milepost runs export` wrote"
        raise MilepostError(f"There is no export in {name}.", why=f"no file ends in {' or '.join(SUFFIXES)}", hint=hint)
    return found


def _replayed(names: Sequence[str], home: Path | None) -> list[tuple[str, Replayed | MilepostError]]:
    """Each name with what its replay came to: what is wrong with one says nothing about the others."""
    from infra import garbage
    from infra.cli.reading import names_file

    if len(names) > 1:
        garbage.settle()
    runs = [name for name in names if not names_file(name)]  # files need no stack
    found = _runs(runs, home) if runs else {}
    return [(name, found[name] if name in found else _file(Path(name))) for name in names]


def _runs(names: Sequence[str], home: Path | None) -> dict[str, Replayed | MilepostError]:
    """Runs that no file holds, over one connection; while one is replayed the next ones are read."""
    from infra.cli.client import connected, events_of
    from infra.prefetch import prefetched

    async def work(_: Client, world: World) -> dict[str, Replayed | MilepostError]:
        async def read(name: str) -> tuple[str, tuple[RunId, list[tuple[Stored, bytes]]] | MilepostError]:
            try:
                return name, await events_of(world, name)
            except MilepostError as error:
                return name, error

        found: dict[str, Replayed | MilepostError] = {}
        async for name, events in prefetched(read, names):
            if isinstance(events, MilepostError):
                found[name] = events
            else:
                found[name] = _again(events[0], [stored for stored, _ in events[1]])
        return found

    try:
        return connected(work, home)
    except MilepostError as error:
        return dict.fromkeys(names, error)


def _file(path: Path) -> Replayed | MilepostError:
    try:
        return _again(*_read_file(path))
    except MilepostError as error:
        return error


def _read_file(path: Path) -> tuple[RunId, Sequence[Stored]]:
    from infra.exports.reading import load_export

    export = load_export(path)
    return export.run, export.facts


def _again(run: RunId, facts: Sequence[Stored]) -> Replayed | MilepostError:
    from runtime.replay import replay as replayed
    from runtime.sealing import Erased

    result = replayed(run, facts)
    return Erased(f"run {run}") if result.erased else result


# --- what is shown --------------------------------------------------------------------------------


def _show(results: list[tuple[str, Replayed | MilepostError]]) -> None:
    if as_json():
        told = [_told(result) for _, result in results]
        named = [{"name": name, **each} for (name, _), each in zip(results, told, strict=True)]
        print_json(told[0] if len(told) == 1 else {"runs": named, "same": all(each["same"] for each in told)})
        return
    for name, result in results:
        if isinstance(result, MilepostError):
            show_error(result)
        else:
            _print(result, name if len(results) > 1 else "")
    if len(results) > 1:
        same = sum(not isinstance(result, MilepostError) and result.same for _, result in results)
        unread = sum(isinstance(result, MilepostError) for _, result in results)
        summed = say("replay all", same=same, all=len(results)) + (say("replay unread", count=unread) if unread else "")
        console().print(plain(summed, "green" if same == len(results) else "bold red"))


def _told(result: Replayed | MilepostError) -> dict[str, object]:
    from dataclasses import asdict

    if isinstance(result, MilepostError):
        error = {"type": type(result).__name__, "what": result.what, "why": result.why, "next": result.hint}
        return {"error": error, "same": False}
    return {**asdict(result), "same": result.same}


def _print(result: Replayed, name: str) -> None:
    out = console()
    counts = say("replay counts", events=result.events, decisions=result.decisions, answered=result.answered)
    of = plain(f"  {name}", "dim") if name else plain("")
    out.print(plain(f"{say('run')} ", "dim") + plain(result.run) + plain("  ") + outcome(result.outcome) + of)
    if result.divergence is None:
        out.print(plain(say("replay same"), "green") + plain(f": {counts}"))
    else:
        for line in _lines(result.divergence):
            out.print(line)
        out.print(plain(f"  {counts}", "dim"))
    for note in result.notes:
        out.print(plain(f"  {_note(note)}", "yellow"))


def _note(note: Note) -> str:
    return say(f"replay {note.kind}", event=note.event, detail=note.detail)


def _lines(wrong: Divergence) -> Iterator[object]:
    yield plain(say("replay differs", event=wrong.event, type=wrong.type, slot=wrong.slot), "bold red")
    yield plain(f"  {say('replay why')}: ", "yellow") + plain(_why(wrong))
    for field in wrong.fields[:FIELDS]:
        yield plain(f"  {_field(field)}")
        if field.made_by:
            key = "replay follows" if field.of else "replay made by"
            yield plain(f"    {say(key, code=field.made_by, of=field.of)}", "dim")
    if len(wrong.fields) > FIELDS:
        yield plain(f"  {say('more', count=len(wrong.fields) - FIELDS)}", "dim")
    if wrong.instead:
        yield plain(f"  {say('replay instead')}: {', '.join(wrong.instead)}")
    if wrong.cause and wrong.code:
        number, kind = wrong.cause
        yield plain(f"  {say('replay cause', cause=number, cause_type=kind)}")
        yield plain(f"  {say('replay code', code=wrong.code)}")
    yield plain(f"  {say('replay decider', began=wrong.began, today=wrong.today)}", "dim")


def _why(wrong: Divergence) -> str:
    command = wrong.command.get("kind") if isinstance(wrong.command, dict) else ""
    number, kind = wrong.cause or (0, "")
    key = "not now" if wrong.kind == "decision" and not wrong.fields else wrong.kind
    return say(f"replay {key}", command=command, cause=number, cause_type=kind)


def _field(field: Differing) -> str:
    log, now = (say("replay absent") if value is None else _shown(value) for value in _window(field.log, field.now))
    return say("replay field", field=field.path.lstrip("/").replace("/", "."), log=log, now=now)


def _window(log: object, now: object) -> tuple[object, object]:
    """Both values; of long texts what stands about the first place where they differ."""
    if not isinstance(log, str) or not isinstance(now, str) or max(len(log), len(now)) <= SHOWN:
        return log, now
    first = next((at for at, (a, b) in enumerate(zip(log, now, strict=False)) if a != b), min(len(log), len(now)))
    begin = max(0, first - SHOWN // 3)
    return tuple(f"{'…' if begin else ''}{text[begin:]}" for text in (log, now))  # type: ignore[return-value]  # two of them


def _shown(value: object) -> str:
    import json

    from runtime.timeline import short

    return short(json.dumps(value, ensure_ascii=False), SHOWN)
