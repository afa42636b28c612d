"""Take runs away as files, and put such files where they can be looked into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.exports.imported import Imported
    from infra.exports.parquet import Parquet
    from infra.exports.payloads import PayloadSpool
    from infra.exports.writing import Exported
    from infra.wiring import World
    from runtime.client import Client
    from services.recorder.ports import RunFilter


def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="RUN FILE", help="A run and the file to write.", show_default=False)
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(help="A folder for many runs as tables; the words choose runs as in runs ls.", show_default=False),
    ] = None,
    payloads: Annotated[bool, typer.Option(help="Whether the bytes that results refer to go into the file.")] = True,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="With --parquet: how many runs at most.")] = 1_000_000,
    force: Annotated[bool, typer.Option("--force", help="Write over what exists.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write a run to a file that `milepost replay` and `milepost verify` read anywhere; or many runs as Parquet tables.

    The file has every event as it is stored, the bytes that results refer to, and the schemas of it all. Whoever has it can
    read the run, also if it is sealed in the log.

    With --parquet FOLDER [QUERY]... the runs of a query become FOLDER/runs.parquet and FOLDER/events.parquet.
    """
    use_json(json)
    if parquet is not None:
        _export_tables(names or [], parquet, limit, home, replace=force)
        return
    if names is None or len(names) != 2:
        raise typer.BadParameter("name a run and a file, or --parquet FOLDER", param_hint="RUN FILE")
    _export_run(names[0], Path(names[1]), home, payloads=payloads, replace=force)


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of `runs export`.", show_default=False)],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Check files of `runs export` and keep them beside the log, where show, replay, verify, diff and fork find their runs.

    Nothing acts on an imported run: it does not enter the log.
    """
    from infra.cli.options import settings_from
    from infra.exports.imported import import_run

    use_json(json)
    home = settings_from(home).settings.home
    said = []
    for file in files:
        imported = import_run(home, file)
        said.append(_said(imported))
        if not as_json():
            _tell(imported)
    if as_json():
        print_json(said)


# --- one run --------------------------------------------------------------------------------------


def _export_run(name: str, file: Path, home: Path | None, *, payloads: bool, replace: bool) -> None:
    from datetime import UTC, datetime

    from infra.cli.client import connected
    from infra.exports.imported import copy_imported
    from infra.exports.payloads import payload_spool
    from infra.exports.writing import Exported, check_place, save_export

    check_place(file, replace=replace)
    with payload_spool(file.parent) as spool:
        kept = spool if payloads else None
        what = connected(lambda client, world: _exported(client, world, name, kept), home)
        if not isinstance(what, Exported):
            copy_imported(what, file, replace=replace)
            _tell_copied(what, file)
            return
        save_export(file, what, datetime.now(UTC), replace=replace)
    erased = what.sealed and what.key is None
    said: dict[str, object] = {"run": what.run, "file": str(file), "events": len(what.events)}
    said |= {"payloads": spool.count - len(spool.missing), "missing": spool.missing} if payloads else {}
    if as_json():
        print_json(said | ({"erased": True} if erased else {}))
        return
    then = say("export erased") if erased else f"milepost verify {file} · milepost replay {file}"
    console().print(plain(say("exported", events=len(what.events), file=file) + _payloads(spool) + f" · {then}"))
    _tell_missing(spool.missing)


async def _exported(client: Client, world: World, name: str, spool: PayloadSpool | None) -> Exported | Path:
    """What goes into the file; or, of a run that was imported, the file that it came in."""
    from infra.cli.client import events_of, whole_log
    from infra.exports.imported import imported_path
    from infra.exports.payloads import fetch
    from infra.exports.references import references
    from infra.exports.writing import exported
    from infra.wiring import open_payloads

    run, facts = await events_of(world, name)
    messages = await whole_log(world).read_raw(run)
    if not messages:
        return imported_path(world.settings.home, run)
    if spool is not None:
        wanted = references(stored.fact for stored, _ in facts)
        await fetch(spool, wanted.values(), open_payloads(world), client.tenant)
    return await exported(run, facts, world.keyring, messages=messages, payloads=spool)


def _tell_copied(source: Path, file: Path) -> None:
    if as_json():
        print_json({"run": source.stem, "file": str(file), "imported": str(source)})
    else:
        console().print(plain(say("export copied", source=source, file=file)))


def _payloads(spool: PayloadSpool) -> str:
    there = spool.count - len(spool.missing)
    return say("export payloads", count=there, bytes=f"{spool.bytes:,}") if there else ""


def _tell_missing(missing: dict[str, str]) -> None:
    for ref, why in missing.items():
        console(stderr=True).print(plain(say("export missing", ref=ref, why=why), "yellow"))


# --- many runs ------------------------------------------------------------------------------------


def _export_tables(query: Sequence[str], folder: Path, limit: int, home: Path | None, *, replace: bool) -> None:
    from infra.cli.client import connected
    from infra.cli.run_query import filter_of
    from infra.exports.parquet import EVENTS, parquet_files

    which = filter_of(query)
    with parquet_files(folder, replace=replace) as tables:
        left = connected(lambda _, world: _fill(world, which, limit, tables), home)
    if as_json():
        print_json({"folder": str(folder), "runs": tables.runs, "events": tables.events, "left_out": left})
        return
    console().print(plain(say("exported tables", runs=tables.runs, events=tables.events, folder=folder)))
    console().print(plain(f"duckdb -c \"SELECT type, count(*) FROM '{folder / EVENTS}' GROUP BY ALL\"", "dim"))
    for run in left:
        console(stderr=True).print(plain(say("export left out", run=run), "yellow"))


async def _fill(world: World, which: RunFilter, limit: int, tables: Parquet) -> list[str]:
    """Add every run that matches; gives those that no log holds any more."""
    from rich.progress import Progress

    from infra.cli.client import events_of
    from infra.cli.run_query import matching
    from runtime.client import UnknownRun

    left: list[str] = []
    with Progress(console=console(stderr=True), transient=True, disable=as_json()) as bar:
        task = bar.add_task(say("exporting"), total=None)
        async for run in matching(world, which, limit):
            try:
                _, facts = await events_of(world, run.run)
                tables.add(run, facts)
            except UnknownRun:
                left.append(run.run)
            bar.update(task, advance=1)
    return left


# --- imported -------------------------------------------------------------------------------------


def _said(imported: Imported) -> dict[str, object]:
    from runtime.fold import fold

    export = imported.export
    state = fold(export.run, export.facts).state
    request = state.request
    seals = [stored.fact.kind for stored in export.facts].count("RunSealed")
    return {
        "run": export.run, "file": str(imported.path), "fresh": imported.fresh, "tenant": export.facts[0].fact.tenant,
        "outcome": "erased" if state.erased else state.outcome, "agent": request.agent.name if request else None,
        "user": request.user if request else None, "task": request.task if request else None, "events": len(export.facts),
        "payloads": len(export.payloads), "missing": export.absent, "unread": export.unread, "receipts": seals,
    }  # fmt: skip


def _tell(imported: Imported) -> None:
    from infra.cli.show import outcome
    from runtime.timeline import short

    said, out = _said(imported), console()
    out.print(plain(f"{said['run']}  ") + outcome(str(said["outcome"])) + plain(f"  {short(str(said['task'] or ''), 60)}"))
    fresh = say("imported" if imported.fresh else "imported before", file=imported.path)
    counted = say("imported counts", events=said["events"], payloads=said["payloads"], receipts=said["receipts"])
    out.print(plain(f"{fresh} · {counted}", "dim"))
    out.print(plain(f"milepost verify {imported.path} · milepost runs show {said['run']}", "dim"))
    _tell_missing(imported.export.absent)
