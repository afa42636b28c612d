"""Checkpoints of the chains of receipts as files, one a tenant, to which lines are added and nothing else.

They lie apart from the database, on another disk if a setting says so: who shortens the chain there has to reach them, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson
from pydantic import ValidationError

from infra.settings import Settings
from runtime.receipts import SignedCheckpoint
from schemas.errors import MilepostError
from schemas.ids import checked_token

FOLDER = "receipts"


class BadCheckpoint(MilepostError):
    """A file holds no checkpoint of a chain of receipts."""


def checkpoint_folder(settings: Settings) -> Path:
    """Where checkpoints are kept beside the database."""
    return settings.receipts.checkpoints or settings.home / FOLDER


class CheckpointFiles:
    """services.recorder.receipt_ports.CheckpointShelf in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, signed: SignedCheckpoint) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        line = orjson.dumps(signed.model_dump(mode="json")) + b"\n"
        handle = os.open(self.path(signed.checkpoint.tenant), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
            os.write(handle, line if whole else b"\n" + line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def last(self, tenant: str) -> SignedCheckpoint | None:
        return max(self.all(tenant), key=lambda each: (each.checkpoint.number, each.checkpoint.at), default=None)

    def all(self, tenant: str) -> list[SignedCheckpoint]:
        """Those of a tenant that can be read, in the order in which they were made."""
        try:
            return read_checkpoints(self.path(tenant))
        except FileNotFoundError:
            return []

    def path(self, tenant: str) -> Path:
        """Where a tenant's stand."""
        return self._folder / f"checkpoints-{checked_token(tenant, 'tenant')}.jsonl"


def read_checkpoints(path: Path) -> list[SignedCheckpoint]:
    """The checkpoints in a file, one a line; a line that a crash cut off is passed over. Raises OSError."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(SignedCheckpoint.model_validate_json(line))
        except ValidationError:
            continue
    return found


def load_checkpoints(path: Path) -> list[SignedCheckpoint]:
    """As above, for a file that a person names. Raises BadCheckpoint also if there is none in it."""
    try:
        found = read_checkpoints(path)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read.", why=error.strerror or str(error)) from error
    if not found:
        raise BadCheckpoint(f"{path} holds no checkpoint.", hint="milepost receipts checkpoint --out FILE")
    return found
