"""Runs wherever they are kept: in the log, in the archive, in a file that was imported. The port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from runtime.log import Stored
from schemas.ids import RunId
from schemas.receipts import Receipt
from schemas.tools import Value


class Found(Value):
    """One thing that a verification found, as a sentence in English and in Chinese.

    kind: as runtime.proving names it; wrong: something was changed, rather than not proved. event: its number, if it is about
    one; message: where it stands in the log or in the file, from 1.
    """

    kind: str
    wrong: bool
    event: int | None = None
    message: int | None = None
    receipt: int | None = None
    en: str
    zh: str


class TrustedKey(Value):
    """A public key of the recorder (Ed25519, base64 of 32 bytes), as `milepost verify --key ID=BASE64` takes it."""

    key: str
    public: str


class Verification(Value):
    """What became of verifying a run. content: whether every answer was held against what was decided, rather than bytes alone.

    keys: those that were trusted. absent: payloads that are not at hand.
    """

    run: str
    verdict: Literal["proved", "unproved", "tampered"]
    events: int
    content: bool
    receipts: tuple[Receipt, ...]
    findings: tuple[Found, ...]
    keys: tuple[TrustedKey, ...]
    absent: tuple[str, ...] = ()


class History(Protocol):
    """Reads whole runs of one tenant; another tenant's run is one that is not there."""

    async def find(self, tenant: str, name: str) -> RunId:
        """The run of an id or of the beginning of one. Raises UnknownRun."""
        ...

    async def both(self, tenant: str, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        """Every fact, each with its bytes as stored; after: from the one behind that position. Raises UnknownRun, Erased."""
        ...

    async def readable(self, tenant: str, datakey: str) -> bool:
        """Whether what was sealed under this key may still be shown: its user was not forgotten."""
        ...

    async def verify(self, tenant: str, run: RunId) -> Verification:
        """Hold a run against its receipts, with the keys that this door trusts. Raises UnknownRun, Unreachable."""
        ...

    def export(self, tenant: str, run: RunId) -> AsyncIterator[bytes]:
        """The run as an export file, piece by piece. Raises UnknownRun, Erased."""
        ...
