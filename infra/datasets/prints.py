"""The fingerprints of evaluation parts, kept beside models so that a set is read for them once."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from infra.datasets.building import Tally
from schemas.errors import MilepostError
from services.datasets.mixing.contamination import SPLIT_BY_TOOL, Fingerprint, fingerprint
from services.datasets.sets import NAMES, DataSet, data_set

_SAID_IN = re.compile(r"^(sgd/.+)-x\d$")  # SGD-X: the same dialogues, with schemas in other words
_FORM = "1"  # another number whenever a fingerprint is made otherwise
Progress = Callable[[str], None]


def evaluation_parts(data: Path) -> Iterator[tuple[DataSet, str]]:
    """Every evaluation part whose set is in the folder."""
    for name in NAMES:
        if (data / name).is_dir():
            known = data_set(name)
            yield from ((known, part) for part, use in known.parts.items() if use == "evaluation")


def named_parts(data: Path, names: Sequence[str]) -> list[tuple[DataSet, str]]:
    """Those of these names, "set/part" or "set". Raises MilepostError for one that is none, or is not there."""
    there = [(known, part) for known, part in evaluation_parts(data)]
    found = []
    for name in names:
        fitting = [each for each in there if name in (each[0].name, f"{each[0].name}/{each[1]}")]
        if not fitting:
            known = ", ".join(f"{each.name}/{part}" for each, part in there) or "none"
            raise MilepostError(f"There is no evaluation part {name!r}.", why=f"there are {known}", hint="milepost dataset ls")
        found += fitting
    return list(dict.fromkeys(found)) if found else []


@dataclass
class Prints:
    """The fingerprints of evaluation parts; missing: why a part has none, by its name."""

    found: list[Fingerprint] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def prints_of(
    parts: Sequence[tuple[DataSet, str]], data: Path, cache: Path | None, progress: Progress = lambda name: None
) -> Prints:
    """Their fingerprints. cache: a folder that keeps them until the set's files change.

    A part whose conversations are another's, such as sgd/dev-x3, has that one's, and none of its own.
    """
    prints = Prints()
    made: set[str] = set()
    for known, part in parts:
        name = f"{known.name}/{part}"
        if _SAID_IN.sub(r"\1", name) in made:
            continue
        progress(name)
        kept = cache / f"{known.name}.{part}.{_state(data / known.name)}.npz" if cache else None
        read = _read(kept, name) if kept else None
        if read is None:
            try:
                examples = Tally().examples(known.read(data / known.name, part))
                read = fingerprint(name, examples, by_tool=known.name in SPLIT_BY_TOOL)
            except MilepostError as error:
                prints.missing[name] = error.why or error.what
                continue
            if kept is not None:
                _write(kept, read)
        made.add(name)
        prints.found.append(read)
    return prints


def _state(folder: Path) -> str:
    """What a set's files are: names, sizes, and when they were written; and which Milepost reads them."""
    summed = sha256(f"{_FORM} {_version()}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            told = path.stat()
            summed.update(f"{path.relative_to(folder)} {told.st_size} {told.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return summed.hexdigest()[:24]


def _version() -> str:
    """The release, and when the readers of this checkout were last changed."""
    readers = Path(__file__).parents[2] / "services" / "datasets"
    changed = max((path.stat().st_mtime_ns for path in readers.rglob("*.py")), default=0)
    try:
        return f"{version('milepost')} {changed}"
    except PackageNotFoundError:
        return str(changed)


def _read(path: Path, name: str) -> Fingerprint | None:
    try:
        with np.load(path, allow_pickle=False) as held:
            return Fingerprint(name, int(held["rows"]), held["queries"], held["runs"], held["tools"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, made: Fingerprint) -> None:
    """A cache that cannot be written is none: it is made anew the next time."""
    scratch = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for older in path.parent.glob(f"{path.name.rsplit('.', 2)[0]}.*.npz"):
            older.unlink()
        with scratch.open("wb") as file:
            np.savez(file, rows=np.int64(made.rows), queries=made.queries, runs=made.runs, tools=made.tools)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
