"""Cohorts on disk: what was to be driven, and a line for each result, so that whoever is interrupted goes on from there.

`cohorts/ID/` of the data directory has cohort.json and results.jsonl. A line counts once it is whole; of two about one run,
the first. One process at a time works on a cohort.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import BinaryIO

import orjson
from pydantic import ValidationError

from infra.cohort.driving import Result
from infra.cohort.swap import Swap
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.tools import Value

FOLDER = "cohorts"
_ABOUT = "cohort.json"
_RESULTS = "results.jsonl"


class CohortBusy(MilepostError):
    """Another process works on the cohort."""


class UnknownCohort(MilepostError):
    """There is no such cohort here."""


class About(Value):
    """What a cohort is. query: which runs were asked for; swap: what of them is exchanged, as it was asked for."""

    id: str
    query: str
    swap: tuple[str, ...]
    runs: tuple[str, ...]
    created: datetime


def cohort_id(runs: Sequence[str], swap: Swap) -> str:
    """The same for the same runs, the same swap and the same code that decides and compares."""
    return digest("cohort", code(), swap.hash(), *sorted(runs))[:16]


@cache
def code() -> str:
    """Digest over the code that a result depends on."""
    root = Path(__file__).parents[2]
    folders = ("schemas", "runtime", "services/evaluation", "services/policy", "infra/cohort")
    files = sorted(each for folder in folders for each in (root / folder).glob("*.py"))
    return digest("code", *(digest(each.name, each.read_bytes()) for each in files))


class Cohort:
    """One cohort's folder, open for results. Use as a context; raises CohortBusy, MilepostError if it cannot be written."""

    def __init__(self, folder: Path, about: About) -> None:
        self.about, self._folder = about, folder
        self._file: BinaryIO | None = None
        self.results: dict[str, Result] = {}

    def __enter__(self) -> Cohort:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / _RESULTS).open("a+b")
        except OSError as error:
            why = error.strerror or str(error)
            raise MilepostError(f"{self._folder} cannot be written.", why=why, hint="--home names another place") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise CohortBusy(
                f"Another process works on the cohort {self.about.id}.",
                hint="wait for it, or end it; then the same command again",
            ) from error
        if not (self._folder / _ABOUT).exists():
            scratch = self._folder / f".{_ABOUT}"
            scratch.write_bytes(orjson.dumps(self.about.model_dump(mode="json")))
            scratch.replace(self._folder / _ABOUT)
        whole = 0
        for result, end in _lines(self._folder / _RESULTS):
            self.results.setdefault(result.run, result)
            whole = end
        file.seek(file.truncate(whole))  # what a killed process left of a line
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file and not self._file.tell():  # no result is kept: what could not even begin is no cohort
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._file:
            self._file.close()

    @property
    def left(self) -> list[str]:
        """The runs without a result, in order; those that had trouble are tried again."""
        return [run for run in self.about.runs if run not in self.results]

    def add(self, results: Sequence[Result]) -> None:
        """Keep results; a run that has one keeps it. Those with trouble are kept for this time only. Raises MilepostError."""
        new = [each for each in results if each.run not in self.results]
        self.results |= {each.run: each for each in new}
        if self._file and (lines := [each.line() + b"\n" for each in new if not each.trouble]):
            try:
                self._file.write(b"".join(lines))
                self._file.flush()
            except OSError as error:
                hint = "make room, then the same command again"
                raise MilepostError("A result cannot be kept.", why=error.strerror or str(error), hint=hint) from error


def _lines(path: Path) -> Iterator[tuple[Result, int]]:
    """Whole results, each with where its line ends."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                yield Result.model_validate(orjson.loads(line)), end
            except (orjson.JSONDecodeError, ValidationError):
                return  # of another version, or not ours: driven anew


def open_cohort(home: Path, about: About, *, fresh: bool = False) -> Cohort:
    """The cohort's folder under a data directory. fresh: without what it had. Raises CohortBusy where that is in use."""
    folder = home / FOLDER / about.id
    if fresh and folder.exists():
        with Cohort(folder, about):
            shutil.rmtree(folder)
    return Cohort(folder, about)


def cohorts(home: Path) -> list[tuple[About, int]]:
    """The cohorts of a data directory, newest first, each with how many results it has."""
    found: list[tuple[About, int]] = []
    for path in sorted((home / FOLDER).glob(f"*/{_ABOUT}")):
        try:
            about = About.model_validate(orjson.loads(path.read_bytes()))
        except (OSError, ValueError):
            continue  # of another version, or not ours
        results = path.parent / _RESULTS
        found.append((about, len({result.run for result, _ in _lines(results)}) if results.exists() else 0))
    return sorted(found, key=lambda each: each[0].created, reverse=True)


def read_cohort(home: Path, name: str) -> tuple[About, list[Result]]:
    """A cohort by its id or the beginning of it, with its results. Raises UnknownCohort."""
    fits = [about for about, _ in cohorts(home) if about.id.startswith(name)]
    if len(fits) != 1 or not name:
        why = f"{len(fits)} begin with it" if fits else f"there are {len(cohorts(home))} in {home / FOLDER}"
        raise UnknownCohort(f"There is no cohort {name}.", why=why, hint="milepost cohort ls")
    results: dict[str, Result] = {}
    for result, _ in _lines(home / FOLDER / fits[0].id / _RESULTS):
        results.setdefault(result.run, result)
    return fits[0], list(results.values())
