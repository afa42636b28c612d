"""A folder that a data set is written into: a file for each format and part, and the card when all are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from io import BufferedWriter
from pathlib import Path
from types import TracebackType

import orjson

from infra.datasets.card import CARD, unwritable, write_card
from schemas.errors import MilepostError
from services.datasets.example import Example
from services.datasets.formats.writing import FORMATS


class DatasetExists(MilepostError):
    """The folder holds a data set already."""


class Writing:
    """The files of one data set while they are written; `with` takes them away again if it is left by an error.

    Only what was killed leaves a folder without a card. Raises DatasetExists, and MilepostError where nothing can be written or
    the disk is full.
    """

    def __init__(self, folder: Path, formats: Iterable[str]) -> None:
        if (folder / CARD).exists():
            raise DatasetExists(f"{folder} holds a data set already.", why=CARD, hint="name another folder, or remove this one")
        self.folder, self._formats = folder, tuple(formats)
        self._files: dict[tuple[str, str], BufferedWriter] = {}
        self.examples: Counter[str] = Counter()
        self._folders = [each for each in (folder, *folder.parents) if not each.exists()]  # to be made, the innermost first
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._take_away()

    def begin(self, part: str) -> None:
        """Make the files of a part, though nothing may come to stand in them."""
        try:
            for form in self._formats:
                if (form, part) not in self._files:
                    self._files[form, part] = (self.folder / f"{form}.{part}.jsonl").open("wb")
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def add(self, part: str, example: Example) -> None:
        """Write one conversation into a part."""
        if (self._formats[0], part) not in self._files:
            self.begin(part)
        try:
            for form in self._formats:
                self._files[form, part].write(orjson.dumps(FORMATS[form](example)) + b"\n")
        except OSError as error:
            self._give_up()
            raise unwritable(self.folder, error) from error
        self.examples[part] += 1

    def close(self, card: Mapping[str, object]) -> dict[str, str]:
        """End the files and write the card, with their sums in it; those sums."""
        sums = self.sums()
        write_card(self.folder, {**card, "files": sums})
        return sums

    def sums(self) -> dict[str, str]:
        """End the files: the SHA-256 of each by its name."""
        try:
            for file in self._files.values():
                file.close()
        except OSError as error:
            self._give_up()
            raise unwritable(self.folder, error) from error
        names = sorted(f"{form}.{part}.jsonl" for form, part in self._files)
        return {name: file_sum(self.folder / name) for name in names}

    def _give_up(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # what cannot be flushed has been told of already
                file.close()

    def _take_away(self) -> None:
        """Remove the files, and the folders that were made for them; what else lies in these keeps them."""
        self._give_up()
        with suppress(OSError):
            for form, part in self._files:
                (self.folder / f"{form}.{part}.jsonl").unlink(missing_ok=True)
            for folder in self._folders:
                folder.rmdir()


def file_sum(path: Path) -> str:
    """The SHA-256 of a file, read piece by piece."""
    summed = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            summed.update(piece)
    return summed.hexdigest()
