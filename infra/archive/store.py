"""Where the archive lies: objects by name. A folder and S3-compatible storage implement it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.errors import Unreachable
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.settings import Archive

CHUNK = 1024 * 1024
S3 = "s3://"


class ArchiveError(Unreachable):
    """The archive cannot be reached, or does not take what it is given."""


class NotArchived(MilepostError):
    """The log or the archive does not have the segment."""


class NoArchive(MilepostError):
    """Nobody has said where the archive is."""

    def __init__(self) -> None:
        super().__init__(
            "No archive is set.", why="there is no archive.to, and no --to was given",
            hint="set MILEPOST_ARCHIVE_TO to a folder or s3://BUCKET/PREFIX; see docs/archive.md",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Object:
    """What lies under a name. bytes: how many."""

    name: str
    bytes: int


class Store(Protocol):
    """Objects by name, such as acme/202601/index.jsonl; each is there whole or not at all. All calls may raise ArchiveError."""

    place: str
    """What a person calls it."""

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes durably, in place of what was there."""
        ...

    def put_file(self, name: str, file: Path) -> None:
        """Keep the content of a file, which may be moved."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty folder of this machine for files that are to be kept soon; gone afterwards."""
        ...

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        """The bytes, or some of them; None if there is no such object."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes in pieces; none if there is no such object."""
        ...

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Every object whose name begins so, in the order of names."""
        ...

    def top(self) -> Iterator[str]:
        """The names that have no folder."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing to do if it is not there."""
        ...


def open_store(settings: Archive, to: str | None = None) -> Store:
    """The archive of the settings, or the one that is named. Raises NoArchive, ArchiveError."""
    place = to or settings.to
    if place is None:
        raise NoArchive
    if place.startswith(S3):
        from infra.archive.s3 import S3Store

        return S3Store.of(place, settings)
    from infra.archive.folder import FolderStore

    return FolderStore(Path(place).expanduser().resolve())
