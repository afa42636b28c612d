"""Files that are named by path or address: one that is elsewhere is fetched into a temporary file first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import MilepostError

LARGEST = 256 * 1024 * 1024
CONNECT_S, READ_S = 5.0, 60.0


class SourceUnreadable(MilepostError):
    """What was named is not there, or cannot be fetched."""


@contextmanager
def at_hand(source: str) -> Iterator[Path]:
    """The file or folder of that name; gone afterwards if it was fetched. Raises SourceUnreadable."""
    if not source.startswith(("http://", "https://")):
        place = Path(source).expanduser()
        if not place.exists():
            raise SourceUnreadable(f"There is no {source}.", why="no file or folder has that name", hint="check the path")
        yield place
        return
    with tempfile.NamedTemporaryFile(prefix="milepost-", suffix=Path(source).suffix) as file:
        _fetch(source, Path(file.name))
        yield Path(file.name)


def _fetch(address: str, place: Path) -> None:
    import httpx

    size = 0
    try:
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        with httpx.stream("GET", address, follow_redirects=True, timeout=timeout) as answer, place.open("wb") as out:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                size += len(piece)
                if size > LARGEST:
                    raise SourceUnreadable(f"{address} is larger than {LARGEST // 2**20} MiB.", hint="fetch it by hand")
                out.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnreadable(
            f"{address} cannot be fetched.", why=str(error) or type(error).__name__,
            hint="fetch it by hand, and give the file's path",
        ) from error  # fmt: skip
