"""A recorded run as it travels to whoever drives it again: its bytes as stored, and the key that opens them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from infra.exports.lines import opened
from infra.exports.reading import load_export
from runtime.log import Stored
from runtime.sealing import run_key, unseal
from schemas.envelope import Fact, checked_fact, decode_fact
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import RunId
from schemas.sealing import Sealed

if TYPE_CHECKING:
    from infra.wiring import World

_FIRST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run of the log, or a file of `runs export`.

    lines: its messages as stored, in order; empty for a file. datakey: what it is sealed under; key: what opens this run
    alone, None where nothing is sealed or the data key was destroyed.
    """

    run: RunId
    lines: tuple[bytes, ...] = ()
    file: Path | None = None
    tenant: str = ""
    datakey: str | None = None
    key: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What tells it from every other: its id, and for a file its bytes, which may be others at another time."""
        if self.file is None:
            return self.run
        with self.file.open("rb") as file:
            return f"{self.run} {hashlib.file_digest(file, 'sha256').hexdigest()}"

    def facts(self) -> tuple[Stored, ...]:
        """Its facts, opened, positions from 1; what cannot be read is left out of a log, and makes a file unreadable.

        Raises BadExport.
        """
        if self.file is not None:
            return load_export(self.file).facts
        return tuple(Stored(fact, place) for place, fact in enumerate(self._read(), start=1))

    def _read(self) -> Iterator[Fact]:
        for line in self.lines:
            with suppress(ProtocolError):  # as every reader of the log does
                fact = decode_fact(line)
                if self.key is not None and isinstance(fact.body, Sealed):
                    fact = checked_fact(unseal(fact, self.key))  # type: ignore[arg-type]  # its body is Sealed, as just seen
                yield fact


async def recorded_in(world: World, run: RunId) -> Recorded:
    """A run of the log or of its archive, with its key; one that is nowhere has no lines. Raises Unreachable, UnknownKey."""
    lines = [each.data for each in await world.log.read_raw(run)] or await _archived(world, run)
    tenant, datakey = _first(lines)
    if datakey is None:
        return Recorded(run, tuple(lines), tenant=tenant)
    secret = (await world.keyring.key(tenant, datakey)).secret
    return Recorded(run, tuple(lines), tenant=tenant, datakey=datakey, key=run_key(secret, run) if secret else None)


async def _archived(world: World, run: RunId) -> list[bytes]:
    from infra.cli.client import events_of
    from runtime.client import UnknownRun

    with suppress(UnknownRun):
        return [data for _, data in (await events_of(world, run))[1]]
    return []


def _first(lines: Sequence[bytes]) -> tuple[str, str | None]:
    """Tenant and data key, as the first message says that can be read."""
    for line in lines:
        with suppress(orjson.JSONDecodeError):
            said = orjson.loads(line)
            if isinstance(said, dict) and isinstance(said.get("tenant"), str):
                datakey = said.get("datakey")
                return said["tenant"], datakey if isinstance(datakey, str) else None
    return "", None


class NoRuns(MilepostError):
    """There is nothing to drive again."""


def in_files(places: Sequence[Path]) -> list[Recorded]:
    """The runs of export files and of folders of them, in order, each once. Raises NoRuns."""
    found: dict[str, Recorded] = {}
    for place in places:
        if not place.exists():
            raise NoRuns(f"{place} does not exist.", hint="name a file of `milepost runs export`, or a folder of them")
        files = sorted(each for each in place.iterdir() if each.is_file()) if place.is_dir() else [place]
        for file in files:
            if run := _run_of(file):
                found.setdefault(run, Recorded(RunId(run), file=file))
            elif not place.is_dir():
                raise NoRuns(f"{file} is no export of a run.", hint="write one with: milepost runs export RUN FILE")
    if not found:
        raise NoRuns(
            f"There is no run in {', '.join(map(str, places))}.", why="no file there begins as an export does",
            hint="write some with: milepost runs export RUN FILE",
        )  # fmt: skip
    return list(found.values())


def _run_of(file: Path) -> str | None:
    """The run that a file says it holds."""
    try:
        with opened(file) as lines:
            said = orjson.loads(lines.readline(_FIRST_BYTES))
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError):
        return None
    wanted = isinstance(said, dict) and said.get("format") == "milepost-run" and isinstance(said.get("run"), str)
    return str(said["run"]) if wanted else None
