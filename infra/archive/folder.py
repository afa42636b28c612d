"""The archive in a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.archive.store import CHUNK, ArchiveError, Object

_SCRATCH = ".partial-"
_LEFT_S = 86_400.0


class FolderStore:
    """infra.archive.store.Store; a file has its name only when its bytes are on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = str(root)

    def put(self, name: str, data: bytes) -> None:
        with _told(self.place):
            target = self._made(name)
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(data)
            _settle(part, target)

    def put_file(self, name: str, file: Path) -> None:
        with _told(self.place):
            _settle(file, self._made(name))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with _told(self.place):
            self._root.mkdir(parents=True, exist_ok=True)
            for left in self._root.glob(f"{_SCRATCH}*"):  # by a process that was killed
                if time.time() - left.stat().st_mtime > _LEFT_S:
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        with _told(self.place):
            try:
                with (self._root / name).open("rb") as file:
                    file.seek(offset)
                    return file.read(-1 if length is None else length)
            except FileNotFoundError:
                return None

    def chunks(self, name: str) -> Iterator[bytes]:
        with _told(self.place):
            try:
                file = (self._root / name).open("rb")
            except FileNotFoundError:
                return
        with file:
            while chunk := file.read(CHUNK):
                yield chunk

    def list(self, prefix: str = "") -> Iterator[Object]:
        folder = self._root / prefix.rpartition("/")[0]
        with _told(self.place):
            found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        for path in found:
            name = path.relative_to(self._root).as_posix()
            if name.startswith(prefix):
                yield Object(name, path.stat().st_size)

    def top(self) -> Iterator[str]:
        with _told(self.place):
            there = sorted(self._root.iterdir()) if self._root.is_dir() else []
        yield from (path.name for path in there if path.is_file() and not path.name.startswith("."))

    def delete(self, name: str) -> None:
        with _told(self.place):
            path = self._root / name
            if not path.exists():
                return
            path.unlink()
            for folder in path.parents:
                if folder == self._root or any(folder.iterdir()):
                    break
                folder.rmdir()

    def _made(self, name: str) -> Path:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _settle(file: Path, target: Path) -> None:
    """Give a file its name, after its bytes, and before the entry in its folder, are on disk."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
    os.replace(file, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ArchiveError(
            f"The archive in {place} cannot be used.", why=f"{where}{error.strerror or error}", hint="df; ls -ld " + place
        ) from error
