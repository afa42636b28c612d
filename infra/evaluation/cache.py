"""Replies that are kept: a line of JSON each, so that who is interrupted goes on, and nothing is asked twice."""

from __future__ import annotations

import errno
import fcntl
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from pydantic import ValidationError

from schemas.errors import MilepostError
from services.evaluation.item import Reply


class RepliesBusy(MilepostError):
    """Another process keeps replies of the same examination."""


def _unwritable(path: Path, error: OSError) -> MilepostError:
    return MilepostError(
        f"{path} cannot be written.", why=error.strerror or str(error), hint="--out FOLDER that can be written"
    )


class Replies:
    """The replies of one file, by the digest of what was asked of whom. Use as a context.

    fresh: forget what is there. A line that a killed run left unfinished is dropped, and so is one that cannot be read.
    Raises RepliesBusy, MilepostError.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path, self._fresh = path, fresh
        self._file: FileIO | None = None
        self._held: dict[str, Reply] = {}

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self._path, "a+")  # no buffer: what could not be written is not tried again at the end
        except OSError as error:
            raise _unwritable(self._path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise RepliesBusy(
                "Another process asks the same of the same.", why=f"it keeps {self._path}", hint="wait for it, or stop it"
            ) from error
        if self._fresh:
            self._file.truncate(0)
        self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, key: str) -> Reply | None:
        """What was said to this before."""
        return self._held.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """Keep a reply; whoever kills this process after that does not lose it. Raises MilepostError, as on a full disk."""
        if self._file is None:
            raise ValueError("replies are kept within the context alone")
        self._held[key] = reply
        line = orjson.dumps({"key": key, "reply": reply.model_dump(mode="json")}) + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _read(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        held_there = self._file.readall()
        whole = held_there.rfind(b"\n") + 1
        for line in held_there[:whole].split(b"\n"):
            try:
                held = orjson.loads(line)
                self._held[str(held["key"])] = Reply.model_validate(held["reply"])
            except (ValueError, KeyError, TypeError, ValidationError):
                continue
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
