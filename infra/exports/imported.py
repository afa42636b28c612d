"""Runs from elsewhere: files that were imported lie in the data directory, one a run, and never enter the log.

A conductor acts on what is in the log; what was imported can be read and nothing more.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from infra.exports.format import BadExport, CannotWrite
from infra.exports.reading import Export, load_export, read_export
from infra.exports.writing import whole_file
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import RunId, checked_run

FOLDER = "imported"
_SUFFIX = ".jsonl"


class OtherBytes(MilepostError):
    """The same run was imported before, from a file that says something else."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A run that lies beside the log. fresh: it was not there before."""

    export: Export
    path: Path
    fresh: bool


def imported_path(home: Path, run: RunId) -> Path:
    """Where a run lies once it is imported. home: the data directory."""
    return home / FOLDER / f"{checked_run(run)}{_SUFFIX}"


def imported_runs(home: Path) -> list[RunId]:
    """The runs that were imported into a data directory, in their order."""
    found = []
    for path in sorted((home / FOLDER).glob(f"*{_SUFFIX}")):
        try:
            found.append(checked_run(path.name.removesuffix(_SUFFIX)))
        except ProtocolError:
            continue
    return found


def open_imported(home: Path, run: RunId) -> Export | None:
    """An imported run; None if there is none. Raises BadExport if its file was changed since."""
    path = imported_path(home, run)
    if not path.is_file():
        return None
    export = load_export(path)
    if export.run != run:
        raise BadExport(path, f"it holds the run {export.run}", hint=f"remove it, and import the run again: rm {path}")
    return export


def copy_imported(source: Path, file: Path, *, replace: bool = False) -> None:
    """Write an imported run to a file again, byte for byte. Raises BadExport, CannotWrite."""
    with whole_file(file, replace=replace) as out:
        _copy(source, out)


def import_run(home: Path, path: Path) -> Imported:
    """Check a file and keep a copy of it. Again the same bytes change nothing. Raises BadExport, OtherBytes, CannotWrite."""
    folder = home / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".importing-", dir=folder)
    except OSError as error:
        raise CannotWrite(f"{folder} cannot be written.", why=error.strerror or str(error), hint="milepost config") from error
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w+b") as copy:
            _copy(path, copy)
            copy.seek(0)
            export = read_export(copy, path)
        return Imported(export, *_kept(scratch, imported_path(home, export.run)))
    finally:
        scratch.unlink(missing_ok=True)


def _copy(path: Path, copy: BinaryIO) -> None:
    try:
        with path.open("rb") as source:
            shutil.copyfileobj(source, copy)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadExport(path, why, hint="name a file that `milepost runs export` wrote") from error


def _kept(scratch: Path, place: Path) -> tuple[Path, bool]:
    """The file in its place, unless the same is there already."""
    try:
        os.link(scratch, place)
    except FileExistsError:
        if filecmp.cmp(scratch, place, shallow=False):
            return place, False
        raise OtherBytes(
            f"The run {place.name.removesuffix(_SUFFIX)} was imported before, from a file with other bytes.",
            why="what is there is not written over: two files of one run are two claims about it",
            hint=f"compare them: milepost verify {place}; to take the new one, remove the old one first: rm {place}",
        ) from None
    return place, True
