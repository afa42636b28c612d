"""Files of public sets, read with bounds; what is wrong with a file as a whole is told at once, by its name."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import orjson

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from services.datasets.example import Skipped

LARGEST_FILE = 1 << 30  # bytes of a file that is read as one
LONGEST_LINE = 16 << 20  # bytes


class FileUnreadable(MilepostError):
    """A file of a set is not what it should be. path: which."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read.", why=why, hint="get the set's files again, unchanged")
        self.path = path


def json_rows(path: Path) -> list[object]:
    """The rows of a JSON file that is one list. Raises FileUnreadable."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileUnreadable(path, f"it is larger than {LARGEST_FILE:,} bytes")
        rows = orjson.loads(path.read_bytes())
    except OSError as failure:
        raise FileUnreadable(path, failure.strerror or str(failure)) from failure
    except ValueError as failure:
        raise FileUnreadable(path, f"it is not JSON: {failure}") from failure
    if not isinstance(rows, list):
        raise FileUnreadable(path, "it is not a list of rows")
    return rows


def csv_rows(path: Path) -> Iterator[JsonObject]:
    """The rows of a CSV file, by the names in its first. Raises FileUnreadable."""
    csv.field_size_limit(LONGEST_LINE)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                yield {name: value for name, value in row.items() if name and value is not None}
    except (OSError, csv.Error) as failure:
        raise FileUnreadable(path, f"it is no CSV: {failure}") from failure


def json_lines(path: Path) -> Iterator[tuple[str, JsonObject | Skipped]]:
    """The objects of a file of JSON lines, as `parsed_lines` gives them. Raises FileUnreadable."""
    try:
        with path.open("rb") as file:
            yield from parsed_lines(path.name, file)
    except OSError as failure:
        raise FileUnreadable(path, failure.strerror or str(failure)) from failure


def parsed_lines(name: str, file: IO[bytes]) -> Iterator[tuple[str, JsonObject | Skipped]]:
    """The objects of JSON lines, each with "NAME:LINE"; a line that is none is skipped, empty ones are nothing."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{name}:{number}"
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield where, Skipped(where, f"longer than {LONGEST_LINE:,} bytes")
        elif line.strip():
            yield where, _object(where, line)


def _object(where: str, line: bytes) -> JsonObject | Skipped:
    try:
        found = orjson.loads(line)
    except ValueError:
        try:
            line.decode()
        except UnicodeDecodeError:
            return Skipped(where, "wrongly encoded text")
        return Skipped(where, "not JSON")
    return cast("JsonObject", found) if isinstance(found, dict) else Skipped(where, "not an object")
