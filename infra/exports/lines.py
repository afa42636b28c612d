"""The lines of an export one by one: none is read further than it may be long, and all are hashed as they go by."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import BinaryIO, cast

from infra.exports.format import BadExport


class Lines:
    """Lines with their ends. number: of the last one; offset: how many bytes were read."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._sha = path, file, hashlib.sha256()
        self.number, self.offset = 0, 0

    def next(self, limit: int) -> bytes:
        """The next line; nothing at the end of the file. Raises BadExport for one of more than `limit` bytes."""
        line = self.begin(limit + 1)
        if len(line) > limit:
            raise self.bad(f"it is longer than {limit} bytes")
        return line

    def begin(self, limit: int) -> bytes:
        """The beginning of the next line, or all of it."""
        self.number += 1
        return self.more(limit)

    def more(self, limit: int) -> bytes:
        """More of the same line."""
        read = self._file.readline(limit)
        self._sha.update(read)
        self.offset += len(read)
        return read

    def sum(self) -> str:
        """SHA-256 over all that was read, hex."""
        return self._sha.hexdigest()

    def bad(self, why: str, hint: str = "") -> BadExport:
        """What is wrong with this line."""
        return BadExport(self._path, why, line=self.number, hint=hint)


def opened(path: Path) -> BinaryIO:
    """An export's file, unpacked as it is read if its name ends in .gz. Raises OSError."""
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
