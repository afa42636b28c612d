"""The archive: closed segments written down, verified and dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from infra.archive.layout import Counts
    from infra.archive.overview import Alarm, SegmentRow
    from infra.archive.report import Report, Tell
    from infra.archive.retention import Expiring
    from infra.archive.source import Source
    from infra.archive.store import Store
    from infra.settings import Settings
    from infra.wiring import World

T = TypeVar("T")

NOT_WHOLE = 4
_UNITS = ("B", "KB", "MB", "GB", "TB")

archive = typer.Typer(no_args_is_help=True, help="Closed segments of the log: archive, verify, drop and expire them.")

Segment = Annotated[str, typer.Argument(help="The month, YYYYMM.", show_default=False)]
To = Annotated[str | None, typer.Option("--to", help="A folder or s3://BUCKET/PREFIX; else archive.to.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it; it cannot be taken back.")]
By = Annotated[str | None, typer.Option("--by", help="In whose name; it stands in the archive.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    archive.command("ls")(list_)
    for command in (write, verify, drop, expire):
        archive.command()(command)
    app.add_typer(archive, name="archive")


def list_(to: To = None, home: Home = None, json: Json = False) -> None:
    """List the segments of the log and of the archive: runs, size, state, and what should be done about them."""
    from dataclasses import asdict

    from pydantic import TypeAdapter

    from infra.archive.overview import SegmentRow, room, rows

    use_json(json)

    async def work(world: World) -> tuple[list[SegmentRow], list[Alarm]]:
        settings = world.settings
        store = _store(world, to) if to or settings.archive.to else None
        disk = settings.home if (settings.home / "nats").is_dir() else None
        found = await rows(world.connection, store, settings.archive, world.clock.now())
        return found, await room(world.connection, settings.archive, home=disk, monitor=settings.nats.monitor)

    segments, alarms = _with_stack(work, home)
    if as_json():
        everything = [*(alarm for row in segments for alarm in row.alarms), *alarms]
        told = TypeAdapter(list[SegmentRow]).dump_python(segments, mode="json")
        print_json({"segments": told, "alarms": [asdict(alarm) for alarm in everything]})
        return
    _print_segments(segments, alarms)


def write(
    segment: Segment, to: To = None, by: By = None,
    again: Annotated[bool, typer.Option("--again", help="Also if it is archived as it is.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write a closed segment into the archive; after an interruption it goes on where it was."""
    from infra.archive.dropping import needs_closed
    from infra.archive.layout import Segment as Archived
    from infra.archive.layout import checked_segment, get, segment_name
    from infra.archive.writing import Writer

    use_json(json)
    checked_segment(segment)

    async def work(world: World) -> tuple[Archived, bool, str]:
        store, source, now = _store(world, to), _source(world), world.clock.now()
        needs_closed(segment, now)
        there, state = get(store, segment_name(segment), Archived), await source.state(segment)
        if there and not again and (state is None or (state.created, state.last) == (there.created, there.last)):
            return there, False, store.place
        with _progress(say("archive writing", segment=segment)) as tell:
            return await Writer(source, store, _by(world, by), now).write(segment, tell), True, store.place

    archived, fresh, place = _with_stack(work, home)
    if as_json():
        print_json({**archived.model_dump(mode="json"), "counts": archived.counts.model_dump(), "fresh": fresh, "to": place})
        return
    key = "archive written" if fresh else "archive there"
    console().print(plain(say(key, segment=segment, place=place, counts=_counts(archived.counts))))
    console().print(plain(say("archive verify next", segment=segment), "dim"))


def verify(
    segment: Segment, to: To = None, by: By = None,
    offline: Annotated[bool, typer.Option("--offline", help="Look at the archive alone; no stack is needed.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Hold every byte of an archived segment against its manifest and, if it is there, against the log.

    Exit code: 0 it is whole, 4 it is not.
    """
    from datetime import UTC, datetime

    from infra.archive.layout import checked_segment, needed
    from infra.archive.store import open_store
    from infra.archive.verifying import Verifier

    use_json(json)
    checked_segment(segment)

    async def checked(store: Store, source: Source | None, trusted: dict[str, bytes], who: str) -> Report:
        archived = needed(store, segment)
        verifier = Verifier(store, source, trusted)
        with _progress(say("archive verifying", segment=segment)) as tell:
            report = await verifier.verify(archived, tell)
        if report.ok:
            verifier.mark(archived, report, who, datetime.now(UTC))
        return report

    if offline:
        import asyncio

        settings = settings_from(home).settings
        report = asyncio.run(checked(open_store(settings.archive, to), None, _trusted(settings), by or settings.user))
    else:
        report = _with_stack(
            lambda world: checked(_store(world, to), _source(world), _trusted(world.settings), _by(world, by)), home
        )
    _show_report(report)
    if not report.ok:
        raise typer.Exit(NOT_WHOLE)


def drop(
    segment: Segment, to: To = None, by: By = None, yes: Yes = False,
    unproved: Annotated[bool, typer.Option("--unproved", help="Also with runs that have no receipt.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Take a segment out of the log, once its archive was found whole right now. Its runs are read from the archive then."""
    from infra.archive.dropping import Dropper, needs_closed
    from infra.archive.layout import checked_segment
    from infra.archive.verifying import Verifier

    use_json(json)
    checked_segment(segment)

    async def work(world: World) -> Counts:
        needs_closed(segment, world.clock.now())
        _needs_yes(yes, say("archive drop what", segment=segment), f"milepost archive drop {segment} --yes")
        source = _source(world)
        verifier = Verifier(_store(world, to), source, _trusted(world.settings))
        with _progress(say("archive verifying", segment=segment)) as tell:
            return await Dropper(verifier, source, _by(world, by), world.clock.now(), unproved).drop(segment, tell)

    counts = _with_stack(work, home)
    if as_json():
        print_json({"dropped": segment, "counts": counts.model_dump()})
    else:
        console().print(plain(say("archive dropped", segment=segment, counts=_counts(counts))))


def expire(
    keep: Annotated[str, typer.Option("--keep", help="How long to keep: 24m, 2y.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="Of which tenant; yours if not given.", show_default=False)] = None,
    to: To = None, by: By = None, yes: Yes = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Remove a tenant's archived segments that are older; without --yes it only tells what would go."""
    import asyncio

    from infra.archive.retention import expire as remove
    from infra.archive.retention import expiring, months
    from infra.jetstream import streams
    from schemas.ids import checked_token

    use_json(json)
    time = months(keep)

    async def work(world: World) -> tuple[str, list[Expiring]]:
        whose, store, now = checked_token(tenant or world.settings.tenant, "tenant"), _store(world, to), world.clock.now()
        in_log = await streams.segments(world.connection)
        old = await asyncio.to_thread(expiring, store, whose, time, now, in_log)
        for each in old:
            if yes and not each.in_log:
                await asyncio.to_thread(remove, store, each, _by(world, by), now)
        return whose, old

    _show_expired(*_with_stack(work, home), keep, yes)


# --- parts ----------------------------------------------------------------------------------------


def _with_stack(work: Callable[[World], Awaitable[T]], home: Path | None) -> T:
    from infra.cli.client import connected

    return connected(lambda _, world: work(world), home)


def _store(world: World, to: str | None) -> Store:
    from infra.archive.store import open_store

    return open_store(world.settings.archive, to)


def _source(world: World) -> Source:
    from infra.archive.source import Source

    return Source(world.connection, world.log, world.keyring)


def _by(world: World, by: str | None) -> str:
    return by or world.settings.user


def _needs_yes(yes: bool, what: str, hint: str) -> None:
    from schemas.errors import MilepostError

    if not yes:
        raise MilepostError(what, why=say("archive no way back"), hint=hint)


def _progress(label: str) -> AbstractContextManager[Tell]:
    """A bar on a terminal's standard error; nothing elsewhere."""
    from contextlib import contextmanager

    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[Tell]:
        with Progress(console=console(stderr=True), transient=True, disable=not console(stderr=True).is_terminal) as bar:
            task = bar.add_task(label)
            yield lambda done, all: bar.update(task, completed=done, total=all)

    return shown()


def _trusted(settings: Settings) -> dict[str, bytes]:
    """The public keys of this data directory's recorder; without any, receipts are checked but for who signed them."""
    from infra.receipt_keys import key_file, public_file, read_public

    found = read_public(public_file(key_file(settings)))
    return found.by_id() if found else {}


# --- showing --------------------------------------------------------------------------------------


def _print_segments(segments: Sequence[SegmentRow], alarms: Sequence[Alarm]) -> None:
    rows = [
        (
            each.segment, say(f"archive state {each.state}"), f"{each.runs:,}", f"{each.open:,}", _size(each.log_bytes),
            _size(each.archive_bytes), *(local(at)[:10] if at else "" for at in (each.archived, each.verified, each.dropped)),
        )
        for each in segments
    ]  # fmt: skip
    names = ("segment", "state", "runs", "not ended", "in log", "in archive", "archived at", "verified at", "dropped at")
    columns = [say(f"archive column {name}") for name in names]
    print_table(columns, rows, right=columns[2:6])
    for alarm in (*(alarm for row in segments for alarm in row.alarms), *alarms):
        console().print(plain(f"! {alarm_text(alarm)}", "yellow"))


def alarm_text(alarm: Alarm) -> str:
    """What an alarm says."""
    return say(f"alarm {alarm.kind}", segment=alarm.segment, days=alarm.days, percent=alarm.percent)


def _show_report(report: Report) -> None:
    from dataclasses import asdict

    if as_json():
        print_json({
            "segment": report.segment, "ok": report.ok, "log": report.log, "counts": report.counts.model_dump(),
            "problems": [asdict(each) for each in report.problems], "more": report.more,
        })  # fmt: skip
        return
    out = console()
    if report.ok:
        against = say("archive against log" if report.log else "archive against itself")
        out.print(plain(say("archive whole", segment=report.segment, against=against, counts=_counts(report.counts)), "green"))
        return
    for each in report.problems:
        where = " · ".join(part for part in (each.file, f"run {each.run}" if each.run else "") if part)
        out.print(plain(f"✗ {where}", "red") + plain(f"{': ' if where else ''}{each.what}"))
    count = len(report.problems) + report.more
    out.print(plain(say("archive not whole", segment=report.segment, count=count), "bold red"))


def _show_expired(tenant: str, old: list[Expiring], keep: str, done: bool) -> None:
    if as_json():
        told = [
            {"segment": each.segment, "kept": "in the log" if each.in_log else None, "removed": done and not each.in_log,
             "counts": each.counts.model_dump()}
            for each in old
        ]  # fmt: skip
        print_json({"tenant": tenant, "keep": keep, "segments": told})
        return
    if not old:
        console().print(plain(say("archive nothing old", tenant=tenant, keep=keep)))
    for each in old:
        key = "archive still in log" if each.in_log else "archive expired" if done else "archive would expire"
        console().print(plain(say(key, segment=each.segment, tenant=tenant, counts=_counts(each.counts))))
    if old and not done:
        console().print(plain(say("archive expire how", tenant=tenant, keep=keep), "dim"))


def _counts(counts: Counts) -> str:
    return say(
        "archive counts", runs=f"{counts.runs:,}", events=f"{counts.events + counts.strays:,}", payloads=f"{counts.payloads:,}",
        receipts=f"{counts.sealed:,}", size=_size(counts.bytes),
    )  # fmt: skip


def _size(count: int) -> str:
    if not count:
        return ""
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"
