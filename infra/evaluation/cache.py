"""Replies that are kept: a line of JSON each, so that who is interrupted goes on, and nothing is asked twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson
from pydantic import ValidationError

from schemas.errors import MilepostError
from services.evaluation.item import Reply


class RepliesBusy(MilepostError):
    """Another process keeps replies of the same examination."""


class Replies:
    """The replies of one file, by the digest of what was asked of whom. Use as a context.

    fresh: forget what is there. A line that a killed run left unfinished is dropped, and so is one that cannot be read.
    Raises RepliesBusy, MilepostError.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path, self._fresh = path, fresh
        self._file: BinaryIO | None = None
        self._held: dict[str, Reply] = {}

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
        except OSError as error:
            raise MilepostError(
                f"{self._path} cannot be written.", why=error.strerror or str(error), hint="--out FOLDER that can be written"
            ) from error
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
        """Keep a reply; it is on disk when this returns."""
        if self._file is None:
            raise ValueError("replies are kept within the context alone")
        self._held[key] = reply
        self._file.write(orjson.dumps({"key": key, "reply": reply.model_dump(mode="json")}) + b"\n")
        self._file.flush()

    def _read(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                held = orjson.loads(line)
                self._held[str(held["key"])] = Reply.model_validate(held["reply"])
            except (ValueError, KeyError, TypeError, ValidationError):
                continue
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
