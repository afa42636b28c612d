"""Retention: a tenant's archived segments are removed once they are older than is to be kept."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from infra.archive.layout import (
    EXPIRED,
    INDEX,
    MANIFEST,
    Counts,
    Done,
    Part,
    folder,
    put,
    segments_of,
)
from infra.archive.store import Store
from schemas.errors import ProtocolError
from schemas.ids import segment_of

_KEEP = re.compile(r"([1-9][0-9]{0,3})([my])")


@dataclass(frozen=True, slots=True)
class Expiring:
    """A tenant's part of a segment that is older than is to be kept. in_log: it stays, since the log still has it."""

    segment: str
    part: Part
    in_log: bool

    @property
    def counts(self) -> Counts:
        """How much evidence goes."""
        return self.part.counts


def months(keep: str) -> int:
    """How many months `24m` or `2y` are. Raises ProtocolError."""
    found = _KEEP.fullmatch(keep)
    if found is None:
        raise ProtocolError(f"{keep!r} is no time to keep.", why="it is a number of months or years", hint="--keep 24m")
    return int(found[1]) * (12 if found[2] == "y" else 1)


def is_older(segment: str, keep: int, now: datetime) -> bool:
    """Whether so many whole months have passed since the end of a segment's month."""
    year, month = int(segment[:4]), int(segment[4:])
    ends = year * 12 + month + keep
    today = segment_of(now)
    return ends < int(today[:4]) * 12 + int(today[4:])


def expiring(store: Store, tenant: str, keep: int, now: datetime, in_log: Collection[str]) -> list[Expiring]:
    """What is older than is to be kept, oldest first. in_log: the segments whose streams exist."""
    return [
        Expiring(archived.segment, part, archived.segment in in_log)
        for archived in segments_of(store)
        for part in archived.tenants
        if part.tenant == tenant
        and is_older(archived.segment, keep, now)
        and store.read(folder(tenant, archived.segment) + MANIFEST, 0, 1) is not None
    ]


def expire(store: Store, which: Expiring, by: str, at: datetime) -> None:
    """Remove a tenant's part of a segment; that it was there, and who removed it, stays told."""
    prefix = folder(which.part.tenant, which.segment)
    put(store, prefix + EXPIRED, Done(at=at, by=by, manifest=which.part.sha256, counts=which.counts))
    for name in (MANIFEST, INDEX):
        store.delete(prefix + name)
    for each in list(store.list(prefix)):
        if each.name != prefix + EXPIRED:
            store.delete(each.name)
