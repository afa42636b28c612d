"""A data set's folder read back: which parts it has, and their rows."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from infra.datasets.card import CARD, NoDataset
from schemas.errors import MilepostError
from services.datasets.example import Example, Row, Skipped
from services.datasets.formats.reading import read

_FORMS = ("milepost", "openai", "msagent")


class NoPart(MilepostError):
    """A data set has no such part, or no such conversation."""


def parts_in(folder: Path) -> dict[str, Path]:
    """The file of each part, in the form that tells the most; a single file is a part of its own. Raises NoDataset."""
    if folder.is_file():
        return {_part_of(folder): folder}
    found: dict[str, Path] = {}
    for form in _FORMS:
        for path in sorted(folder.glob(f"{form}.*.jsonl")):
            found.setdefault(_part_of(path), path)
    if not found:
        why = f"no {CARD} and no file such as milepost.train.jsonl is in it" if folder.is_dir() else "it does not exist"
        raise NoDataset(f"{folder} holds no data set.", why=why, hint="milepost dataset build writes one")
    return found


def _part_of(path: Path) -> str:
    name = path.name.removesuffix(".jsonl")
    return name.partition(".")[2] if name.partition(".")[0] in _FORMS and "." in name else name


def part_file(folder: Path, part: str) -> Path:
    """The file of one part. Raises NoPart and NoDataset."""
    there = parts_in(folder)
    if part not in there:
        close = get_close_matches(part, there, n=1)
        hint = f"did you mean {close[0]}?" if close else f"milepost dataset stats {folder}"
        raise NoPart(f"{folder} has no part {part!r}.", why=f"it has {', '.join(there)}", hint=hint)
    return there[part]


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a part's file, in the form that its name tells, else in the one that it looks like."""
    form = path.name.partition(".")[0]
    yield from read(path, form if form in _FORMS else "")


def one(path: Path, which: str) -> Example:
    """The conversation of this id, or of this number, counted from 1. Raises NoPart."""
    examples = (row for row in rows_of(path) if not isinstance(row, Skipped))
    if which.isdecimal():
        found = next(islice(examples, int(which) - 1, None), None) if int(which) else None
    else:
        found = next((each for each in examples if each.id == which), None)
    if found is None:
        raise NoPart(f"{path} has no conversation {which}.", why=_near(path, which), hint="name an id, or a number from 1 on")
    return found


def _near(path: Path, which: str) -> str:
    ids = [row.id for row in rows_of(path) if not isinstance(row, Skipped)]
    close = get_close_matches(which, ids, n=1, cutoff=0.5)
    return f"it has {len(ids)}; did you mean {close[0]}?" if close and not which.isdecimal() else f"it has {len(ids)}"
