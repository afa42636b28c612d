"""Which documents are meant by the paths, folders and addresses that a person names."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import MilepostError
from services.retrieval.loaders.formats import SUFFIXES, VERSION

UPLOADED = "upload:"
"""What the source of a document begins with that came over the door, before its name."""


class NoDocuments(MilepostError):
    """Nothing that was named can be read as a document."""


@dataclass(frozen=True, slots=True)
class Original:
    """A document where it is. source: what it is known by: its path (bytes of it that are no UTF-8 as \\xNN), its
    address, or UPLOADED with its name; path: None for an address.

    readable: whether its name is that of a format which is read; named: whether a person named it, not only its folder.
    """

    source: str
    path: Path | None
    readable: bool = True
    named: bool = True

    @property
    def name(self) -> str:
        return self.source.removeprefix(UPLOADED).rstrip("/").rsplit("/", 1)[-1] or self.source


def find_originals(named: Sequence[str], glob: str | None = None) -> list[Original]:
    """The documents, each once, in order. glob: of the files of folders, those whose path in it, or whose name, matches.

    Hidden files and folders are passed over. Raises NoDocuments for a path that is not there.
    """
    found: dict[str, Original] = {}
    for each in named:
        for original in _originals(each, glob):
            found.setdefault(original.source, original)
    return list(found.values())


def fingerprint(path: Path) -> str:
    """What tells whether a document is still the same: its bytes, and how they are read."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()} read:{VERSION}"


def is_address(text: str) -> bool:
    """Whether it is a web address, not a path."""
    return text.lower().startswith(("http://", "https://"))


def _originals(named: str, glob: str | None) -> Iterator[Original]:
    if is_address(named):
        yield Original(named, None)
        return
    path = Path(named).expanduser().resolve()
    if path.is_dir():
        yield from _inside(path, glob)
    elif path.is_file():
        yield Original(_spelled(path), path)
    elif path.exists():
        raise NoDocuments(f"{path} is neither a file nor a folder.", hint="name a file or a folder")
    else:
        raise NoDocuments(f"There is no {path}.", hint="name a file, a folder or a web address")


def _inside(folder: Path, glob: str | None) -> Iterator[Original]:
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or not path.is_file():
                continue
            if glob is None or _matches(path.relative_to(folder), glob):
                yield Original(_spelled(path), path, path.suffix.lower() in SUFFIXES, named=False)


def _spelled(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _matches(path: Path, glob: str) -> bool:
    """As a shell: `**` is any number of folders; a pattern without a slash is about the name alone."""
    return _fits(path.parts, tuple(glob.split("/"))) if "/" in glob else fnmatch.fnmatchcase(path.name, glob)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[first:], pattern[1:]) for first in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
