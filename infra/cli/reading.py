"""Runs by name, wherever they are: in the log, in the archive, or in a file of `runs export`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.wiring import World
    from runtime.client import Client
    from runtime.log import Stored
    from schemas.ids import RunId


@dataclass(frozen=True, slots=True)
class RunRead:
    """A run that was read: its facts, each with its bytes as stored. file: where from; None: from the log or its archive."""

    run: RunId
    both: list[tuple[Stored, bytes]]
    file: Path | None = None

    @property
    def facts(self) -> list[Stored]:
        """What happened, in the log's order."""
        return [stored for stored, _ in self.both]

    @property
    def name(self) -> str:
        """What a person calls it to read it again."""
        return str(self.file) if self.file else self.run


def names_file(name: str) -> bool:
    """Whether a name is that of a file: no run's id has a slash or a dot in it."""
    return Path(name).is_file() or "/" in name or "." in name


def speak(home: Path | None) -> None:
    """Speak the language of the settings, where they can be read; a file needs none."""
    from infra.cli.options import settings_from
    from infra.cli.words import use_language
    from schemas.errors import MilepostError

    with suppress(MilepostError):
        use_language(settings_from(home).settings.language)


def read_file(name: str) -> RunRead:
    """A run from a file; no stack is needed. Raises BadExport."""
    from infra.exports.reading import load_export

    export = load_export(Path(name))
    return RunRead(export.run, export.both, Path(name))


async def read_run(world: World, name: str) -> RunRead:
    """A run from the log, the archive or a file. Raises UnknownRun, UnknownPrefix, BadExport, Unreachable."""
    from infra.cli.client import events_of

    return read_file(name) if names_file(name) else RunRead(*await events_of(world, name))


def read_runs(names: Sequence[str], home: Path | None) -> list[RunRead]:
    """Some runs; the stack is asked only if one of them is not a file."""
    if all(names_file(name) for name in names):
        speak(home)
        return [read_file(name) for name in names]

    from infra.cli.client import connected

    async def work(_: Client, world: World) -> list[RunRead]:
        return [await read_run(world, name) for name in names]

    return connected(work, home)
