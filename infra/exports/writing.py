"""Writing an export: whole or not at all, every byte of it under the checksum of its last line."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from infra.exports.event_schemas import schemas_of, types_of
from infra.exports.format import FORMAT, SUM, VERSION, CannotWrite
from infra.exports.payloads import PayloadSpool
from infra.exports.reading import as_raw
from runtime.log import Raw, Stored
from runtime.sealing import Keyring, run_key
from schemas.events import RunRequested
from schemas.ids import RunId


@dataclass(frozen=True, slots=True)
class Exported:
    """What goes into a file. events: a line each, as stored. sealed: whether some are; key: what opens them.

    payloads: what results refer to; None leaves it out. schemas: whether those of the events are told.
    """

    run: RunId
    events: Sequence[bytes]
    sealed: bool = False
    key: bytes | None = field(default=None, repr=False)
    payloads: PayloadSpool | None = None
    schemas: bool = True


async def exported(
    run: RunId, facts: Sequence[tuple[Stored, bytes]], keyring: Keyring, *, messages: Sequence[Raw] = (),
    payloads: PayloadSpool | None = None,
) -> Exported:  # fmt: skip
    """A run as it is stored, with the key that opens it unless that was destroyed. Raises Unreachable, UnknownKey.

    messages: all that the log holds of the run, also what nobody can read: a receipt counts that, too.
    """
    events = _lines(facts, messages)
    header = next((stored.fact.header for stored, _ in facts if stored.fact.header.datakey), None)
    if header is None or header.datakey is None:
        return Exported(run, events, payloads=payloads)
    secret = (await keyring.key(header.tenant, header.datakey)).secret
    return Exported(run, events, sealed=True, key=None if secret is None else run_key(secret, run), payloads=payloads)


def _lines(facts: Sequence[tuple[Stored, bytes]], messages: Sequence[Raw]) -> list[bytes]:
    """Every message on a line of its own: as it is if it is an event of this run on one line, else in base64."""
    tenant = next((stored.fact.tenant for stored, _ in facts if stored.fact.kind == RunRequested.__name__), "")
    known = {stored.position for stored, _ in facts if stored.fact.tenant == tenant}
    return [
        each.data if each.position in known and b"\n" not in each.data else wrapped(each.subject, each.data)
        for each in messages or [as_raw(stored.fact, data, stored.position) for stored, data in facts]
    ]


def wrapped(subject: str, data: bytes) -> bytes:
    """A message that cannot be a line itself."""
    return orjson.dumps({"message": base64.b64encode(data).decode(), "subject": subject})


def write_export(out: BinaryIO, what: Exported, created: datetime) -> None:
    """Write a run's events as they are stored, what they refer to, their schemas, and the checksum of all that."""
    summed = _Summed(out)
    header: dict[str, object] = {
        "format": FORMAT, "version": VERSION, "run": what.run, "created": created, "events": len(what.events),
        "payloads": what.payloads.count if what.payloads else 0,
    }  # fmt: skip
    if what.key is not None:
        header["key"] = base64.b64encode(what.key).decode()
    summed.write(orjson.dumps(header) + b"\n")
    for event in what.events:
        summed.write(event + b"\n")
    if what.payloads:
        shutil.copyfileobj(what.payloads.lines(), summed)
    schemas = schemas_of(types_of(what.events)) if what.schemas else {}
    summed.write(orjson.dumps({"schemas": schemas}) + b"\n")
    out.write(SUM % summed.sha.hexdigest().encode())


class _Summed:
    """A file that is hashed as it is written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.sha = out, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self._out.write(data)


def save_export(path: Path, what: Exported, created: datetime, *, replace: bool = False) -> None:
    """Write a run to a file, whole or not at all. Raises CannotWrite, also for a file that is there unless `replace`."""
    with whole_file(path, replace=replace) as out:
        write_export(out, what, created)


def check_place(path: Path, *, replace: bool = False) -> None:
    """Whether a file may be written there, before anything is read for it. Raises CannotWrite."""
    if path.exists() and not replace:
        raise CannotWrite(f"{path} exists already.", hint="name another file, or add --force")
    if not path.parent.is_dir():
        raise CannotWrite(f"{path} cannot be written.", why=f"there is no folder {path.parent}", hint="name another file")


@contextmanager
def whole_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A new file that only its owner reads, in its place at the end of the block or nowhere. Raises CannotWrite."""
    check_place(path, replace=replace)
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written.", why=error.strerror or str(error), hint="name another file") from error
