"""The payloads of an export: fetched one by one into a spool, so that no more than one is ever in memory."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import orjson

from infra.exports.format import CannotWrite
from infra.exports.references import Reference
from runtime.payloads import Payloads, UnknownPayload
from runtime.sealing import Erased, Tampered

SPOOLED_IN_MEMORY = 1024 * 1024
_PIECE = 3 * 256 * 1024


class PayloadSpool:
    """Lines of payloads as they go into an export. missing: why some have no bytes, by reference."""

    def __init__(self, spool: IO[bytes]) -> None:
        self.count, self.bytes = 0, 0
        self.missing: dict[str, str] = {}
        self._spool = spool

    def add(self, reference: Reference, data: bytes) -> None:
        """A line with the bytes. Raises CannotWrite."""
        head = {
            "payload": reference.ref, "media_type": reference.media_type, "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        try:
            self._spool.write(orjson.dumps(head)[:-1] + b',"data":"')
            for start in range(0, len(data), _PIECE):
                self._spool.write(base64.b64encode(data[start : start + _PIECE]))
            self._spool.write(b'"}\n')
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotWrite("The payloads cannot be written.", why=why, hint="make room, or --no-payloads") from error
        self.count, self.bytes = self.count + 1, self.bytes + len(data)

    def leave_out(self, reference: Reference, why: str) -> None:
        """A line that says why the bytes are not there."""
        self._spool.write(orjson.dumps({"payload": reference.ref, "missing": why}) + b"\n")
        self.count += 1
        self.missing[reference.ref] = why

    def lines(self) -> IO[bytes]:
        """The lines from the first one on."""
        self._spool.seek(0)
        return self._spool


@contextmanager
def payload_spool(folder: Path) -> Iterator[PayloadSpool]:
    """A spool in a folder, gone with the block: what is sealed in the store is in the clear there, as in the export."""
    with tempfile.SpooledTemporaryFile(SPOOLED_IN_MEMORY, dir=str(folder)) as spool:
        yield PayloadSpool(cast("IO[bytes]", spool))


async def fetch(spool: PayloadSpool, wanted: Iterable[Reference], payloads: Payloads, tenant: str) -> None:
    """Put every payload into the spool, or why it cannot be had. Raises Unreachable."""
    for reference in wanted:
        try:
            data = await payloads.get(reference.ref, tenant=tenant)
        except (UnknownPayload, Erased, Tampered) as error:
            spool.leave_out(reference, f"{error.what} {error.why}".strip()[:1000])
            continue
        if reference.sha256 not in (None, hashlib.sha256(data).hexdigest()):
            spool.leave_out(reference, "the store holds other bytes than the run's event names")
        else:
            spool.add(reference, data)
