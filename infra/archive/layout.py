"""What the objects of the archive are called, and what those say that describe others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from infra.archive.store import NotArchived, Store
from schemas.canonical import canonical
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import checked_token
from schemas.receipts import HASH, NO_HASH
from schemas.tools import Value

INDEX, PAYLOADS, STRAYS, MANIFEST = "index.jsonl", "payloads.jsonl", "strays.jsonl.gz", "manifest.json"
VERIFIED, EXPIRED = "verified.json", "expired.json"
NOBODY = "_nobody"
"""In whose folder messages lie whose subject names no tenant."""

_SEGMENT = re.compile(r"[0-9]{4}(0[1-9]|1[0-2])")
_RUNS_FILE = r"^(runs-[0-9]{4,9}\.jsonl\.gz)?$"
"""A file of runs in its own folder, and nothing that leads out of it; empty until the run has its place."""

V = TypeVar("V", bound=Value)


class BadArchive(MilepostError):
    """An object of the archive cannot be read, or says what cannot be."""


class Entry(Value):
    """One run. file, offset, length: its gzip member; bytes: of that, unpacked; sha256: of the member as it lies there.

    position: of its request in the stream, by which entries are ordered. ended: whether it has. in_doubt: writes of which
    nobody has said what became of them. receipt: hash of its last receipt, if it was sealed. payloads: names of those that
    it refers to.
    """

    run: str
    file: str = Field(pattern=_RUNS_FILE)
    offset: int = Field(ge=0)
    length: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern=HASH)
    events: int = Field(ge=1)
    position: int = Field(ge=1)
    ended: bool
    in_doubt: int = Field(default=0, ge=0)
    receipt: str = NO_HASH
    payloads: tuple[str, ...] = ()


class KeptPayload(Value):
    """One payload. sha256, bytes: as it was stored, sealed if it has a datakey. missing: it was not there to be archived."""

    name: str = Field(pattern=HASH)
    datakey: str | None = None
    bytes: int = 0
    sha256: str = NO_HASH
    missing: bool = False


class Stray(Value):
    """A message that belongs to no run that can be read. data: base64."""

    subject: str
    position: int
    data: str


class File(Value):
    """An object, and what it holds."""

    name: str
    bytes: int
    sha256: str = Field(pattern=HASH)


class Counts(Value):
    """How much there is. events: messages of runs; bytes: of gzip members and payloads."""

    runs: int = 0
    open: int = 0
    in_doubt: int = 0
    sealed: int = 0
    events: int = 0
    strays: int = 0
    payloads: int = 0
    missing_payloads: int = 0
    bytes: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.model_fields})


class Manifest(Value):
    """What the archive holds of one tenant in one segment; it is written last."""

    format: Literal["milepost-archive"] = "milepost-archive"
    version: Literal[1] = 1
    tenant: str
    segment: str
    stream: str
    created: datetime
    last: int
    counts: Counts
    files: tuple[File, ...]
    at: datetime
    by: str


class Part(Value):
    """A tenant of a segment, and the digest of its manifest."""

    tenant: str
    counts: Counts
    sha256: str = Field(pattern=HASH)


class Segment(Value):
    """A whole segment. created, last, messages: of its stream: when it was made, its last sequence, and how many there are."""

    format: Literal["milepost-archive"] = "milepost-archive"
    version: Literal[1] = 1
    segment: str
    stream: str
    created: datetime
    last: int
    messages: int
    tenants: tuple[Part, ...]
    at: datetime
    by: str

    @property
    def counts(self) -> Counts:
        """Of all tenants."""
        total = Counts()
        for each in self.tenants:
            total = total.plus(each.counts)
        return total


class Done(Value):
    """Something was done to a segment or to a tenant's part of it: verified, dropped or expired."""

    at: datetime
    by: str
    manifest: str = Field(pattern=HASH)
    counts: Counts = Counts()
    log: bool = False
    """Whether it was held against its stream, too."""


# --- names ----------------------------------------------------------------------------------------


def checked_segment(segment: str) -> str:
    """The segment, if it is a month such as 202601; ProtocolError if not."""
    if not _SEGMENT.fullmatch(segment):
        raise ProtocolError(f"{segment!r} is no segment.", why="a segment is a month: YYYYMM", hint="milepost archive ls")
    return segment


def is_segment(text: str) -> bool:
    """Whether it is a month such as 202601."""
    return _SEGMENT.fullmatch(text) is not None


def segment_name(segment: str) -> str:
    """Where a whole segment is described; no tenant is called so, since a token has no dot."""
    return f"{checked_segment(segment)}.json"


def segment_mark(segment: str, mark: Literal["verified", "dropped"]) -> str:
    """Where it is told that a segment was verified or dropped."""
    return f"{checked_segment(segment)}.{mark}.json"


def folder(tenant: str, segment: str) -> str:
    """What the names of a tenant's objects begin with."""
    return f"{checked_token(tenant, 'tenant')}/{checked_segment(segment)}/"


def runs_name(number: int) -> str:
    """The number-th file of runs of a folder."""
    return f"runs-{number:04}.jsonl.gz"


def progress_name(number: int) -> str:
    """What is known of that file until there is a manifest."""
    return f"runs-{number:04}.progress.jsonl"


def payload_name(name: str) -> str:
    """One payload of a folder."""
    return f"payloads/{name}"


# --- reading and writing them ---------------------------------------------------------------------


def line(value: Value) -> bytes:
    """A value as one line."""
    return canonical(value.model_dump(mode="json")) + b"\n"


def put(store: Store, name: str, value: Value) -> bytes:
    """Keep a value; gives its bytes."""
    data = line(value)
    store.put(name, data)
    return data


def get(store: Store, name: str, kind: type[V]) -> V | None:
    """A value that was kept; None if there is none. Raises BadArchive."""
    data = store.read(name)
    return None if data is None else parsed(data, kind, name)


def parsed(data: bytes, kind: type[V], name: str) -> V:
    """A value from its bytes. Raises BadArchive."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"])
        raise BadArchive(
            f"{name} cannot be read.", why=f"{where}: {first['msg']}".removeprefix(": "), hint="milepost archive verify SEGMENT"
        ) from error


def lines(store: Store, name: str) -> Iterator[bytes]:
    """The lines of an object, with their ends."""
    rest = b""
    for chunk in store.chunks(name):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (each + b"\n" for each in whole)
    if rest:
        yield rest


def manifest_of(store: Store, tenant: str, segment: str) -> Manifest | None:
    """What the archive holds of a tenant in a segment. Raises BadArchive."""
    return get(store, folder(tenant, segment) + MANIFEST, Manifest)


def segments_of(store: Store) -> list[Segment]:
    """Every segment that was archived whole, oldest first. Raises BadArchive."""
    names = sorted(name for name in store.top() if _is_segment(name))
    return [found for name in names if (found := get(store, name, Segment)) is not None]


def _is_segment(name: str) -> bool:
    stem, _, end = name.partition(".")
    return end == "json" and _SEGMENT.fullmatch(stem) is not None


def needed(store: Store, segment: str) -> Segment:
    """The archived segment. Raises NotArchived if there is none."""
    found = get(store, segment_name(segment), Segment)
    if found is None:
        raise NotArchived(
            f"Segment {segment} is not archived in {store.place}.", hint=f"milepost archive write {segment}"
        )  # fmt: skip
    return found
