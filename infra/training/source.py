"""Where the conversations lie that are trained on: a data set's folder, or one file of JSON lines of somebody's own."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

import orjson

from infra.datasets.card import CARD, NoDataset, check_trainable
from infra.datasets.folder import parts_in
from schemas.errors import MilepostError
from services.datasets.conversion.files import FileUnreadable
from services.datasets.example import Row, Skipped
from services.datasets.formats.reading import READERS, form_of, row

DEV_NAMES = ("dev", "validation")
NOT_UTF8 = "wrongly encoded text"


class NothingToLearn(MilepostError):
    """No conversation of a data set can be learnt from."""


@dataclass(frozen=True)
class Lines:
    """A file of JSON lines. form: the format of each, of READERS."""

    path: Path
    form: str

    def read(self) -> list[tuple[int, bytes]]:
        """Those that are not blank, with their numbers from 0. Raises FileUnreadable."""
        return [(number, line) for number, line in enumerate(_bytes(self.path).split(b"\n")) if line.strip()]


@dataclass(frozen=True)
class Source:
    """What is trained on, and, if there is any, what is measured on."""

    train: Lines
    dev: Lines | None


def source(data: Path) -> Source:
    """The files of a data set's folder, each part in the form that tells the most, or a file as a whole.

    Raises NoDataset, ForEvaluation, NothingToLearn, FileUnreadable.
    """
    check_source(data)
    if data.is_file():
        return Source(_lines(data), None)
    there = parts_in(data)
    if "train" not in there:
        raise NothingToLearn(
            f"{data} has no conversations to train on.", why=f"it has the parts {', '.join(there)}, and none called train",
            hint=f"one file alone is trained on, too: milepost train {next(iter(there.values()))}",
        )  # fmt: skip
    dev = next((there[name] for name in DEV_NAMES if name in there), None)
    return Source(_lines(there["train"]), _lines(dev) if dev else None)


def check_source(data: Path) -> None:
    """A file counts as what the card beside it says. Raises NoDataset, ForEvaluation."""
    if data.is_file():
        if (data.parent / CARD).is_file() and data.name != CARD:
            check_trainable(data.parent, data.name)
        return
    try:
        check_trainable(data, "train")
    except NoDataset as error:
        own = next(iter(sorted(data.glob("*.jsonl"))), None)
        if own is None or (data / CARD).exists():
            raise
        raise NoDataset(str(error.what), why=error.why, hint=f"a file of your own: milepost train {own}") from error


def read_line(where: str, line: bytes, form: str = "milepost") -> Row:
    """A line in a format of READERS. where: what it is called if it has no name of its own."""
    try:
        said = orjson.loads(line)
    except ValueError:
        return Skipped(where, "not JSON" if _is_text(line) else NOT_UTF8)
    return row(said, where, form) if isinstance(said, dict) else Skipped(where, "not an object")


def _lines(path: Path) -> Lines:
    named = path.name.partition(".")[0]
    return Lines(path, named if named in READERS else _form(path))


def _form(path: Path) -> str:
    lines = _bytes(path).split(b"\n")
    for line in lines:
        try:
            said = orjson.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and (form := form_of(said)):
            return form
    if not all(map(_is_text, lines)):
        raise NothingToLearn(f"{path} cannot be read.", why=NOT_UTF8, hint=reencode(path))
    raise NothingToLearn(
        f"{path} has no conversations to train on.", why=f"none of its lines is JSON in a format of {', '.join(READERS)}",
        hint='a line is such as {"messages": [{"role": "user", "content": "..."}, ...], "tools": [...]}',
    )  # fmt: skip


def reencode(path: Path) -> str:
    """What to do with a file that is not UTF-8."""
    return f"write it as UTF-8; if it is Chinese: iconv -f GB18030 -t UTF-8 {path} > FILE.jsonl"


def _bytes(path: Path) -> bytes:
    try:
        held = path.read_bytes()
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    if held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NothingToLearn(
            f"{path} cannot be read.", why="it is UTF-16", hint=f"iconv -f UTF-16 -t UTF-8 {path} > FILE.jsonl"
        )
    return held.removeprefix(codecs.BOM_UTF8)


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
