"""A data set repository of a model hub, by its name: its data files in a folder, resumed, checked and bounded.

No library of a hub is needed: both list and serve files over HTTPS. Written from the hubs' documentation and tested against a
server that answers as they do; the real hubs could not be reached when it was written.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import orjson

from infra.models.catalogue import Hub, ModelFile
from infra.models.fetch import HUB_PATIENCE_S, OnProgress, Progress, SourceFailed, pull_hub, silent
from schemas.errors import MilepostError

REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
LARGEST = 20 << 30  # bytes of all files together
PAGES = 50  # of a listing, at most
PROVENANCE = "provenance.json"
_KINDS = {".jsonl", ".json", ".csv"}
_BESIDE = re.compile(r"^(readme|licen[cs]e)(\.(md|txt))?$", re.IGNORECASE)


@dataclass(frozen=True)
class HuggingFace:
    """https://huggingface.co/docs/hub/api."""

    base: str = "https://huggingface.co"
    name: str = "Hugging Face"

    async def files(self, repository: str) -> list[ModelFile]:
        """All files of a repository; large ones with their SHA-256. Raises SourceFailed."""
        listed = await _json(self.name, f"{self.base}/api/datasets/{repository}/tree/main?recursive=true")
        return [
            ModelFile(str(each.get("path")), _size(each.get("size")), _text(each.get("lfs"), "oid"), ())
            for each in _objects(listed) if each.get("type") == "file"
        ]  # fmt: skip

    def url(self, repository: str, path: str) -> str:
        """Where a file is served."""
        return f"{self.base}/datasets/{repository}/resolve/main/{quote(path)}"


@dataclass(frozen=True)
class ModelScope:
    """The addresses that ModelScope's own client reads. page: files of one listing."""

    base: str = "https://www.modelscope.cn"
    name: str = "ModelScope"
    page: int = 200

    async def files(self, repository: str) -> list[ModelFile]:
        """All files of a repository, page by page. Raises SourceFailed."""
        found: list[ModelFile] = []
        for page in range(1, PAGES + 1):
            asked = f"Revision=master&Recursive=true&PageNumber={page}&PageSize={self.page}"
            answer = await _json(self.name, f"{self.base}/api/v1/datasets/{repository}/repo/tree?{asked}")
            data = answer.get("Data") if isinstance(answer, dict) else None
            listed = _objects(data.get("Files") if isinstance(data, dict) else None)
            new = [
                ModelFile(str(each.get("Path")), _size(each.get("Size")), _text(each, "Sha256"), ())
                for each in listed if each.get("Type") == "blob" and each.get("Path") not in {file.name for file in found}
            ]  # fmt: skip
            found += new
            if len(listed) < self.page or not new:
                break
        return found

    def url(self, repository: str, path: str) -> str:
        """Where a file is served."""
        return f"{self.base}/api/v1/datasets/{repository}/repo?Revision=master&FilePath={quote(path)}"


@dataclass(frozen=True)
class Fetched:
    """What was fetched. hub: from where; files: the SHA-256 of each by its path in the folder."""

    hub: str
    files: Mapping[str, str]


class NotFetched(MilepostError):
    """No hub gave the data set."""


async def fetch(
    repository: str,
    folder: Path,
    *,
    hubs: Sequence[HuggingFace | ModelScope] = (ModelScope(), HuggingFace()),
    largest: int = LARGEST,
    on_progress: OnProgress = silent,
) -> Fetched:
    """The data files of OWNER/NAME in a folder, from the first hub that has them, with `provenance.json` beside them.

    A file that is whole already is not fetched again, a part of one goes on where it ended. Raises NotFetched: a name that is
    none, no hub that gave it, files over the bound or over what the disk has room for, a file of another sum than announced.
    """
    if not REPOSITORY.match(repository):
        raise NotFetched(f"{repository!r} names no repository.", why="a name is OWNER/NAME", hint="such as iic/MSAgent-Bench")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    reasons = []
    for hub in hubs:
        try:
            wanted = [file for file in await hub.files(repository) if _is_wanted(file.name)]
            if not wanted:
                raise SourceFailed(f"{hub.name}: it has no data files ({', '.join(sorted(_KINDS))})")
            _check_room(repository, wanted, folder, largest)
            sums = {file.name: await _fetch_file(hub, repository, file, folder, on_progress) for file in wanted}
        except SourceFailed as failure:
            reasons.append(failure.what)
            continue
        provenance = {"repository": repository, "hub": hub.name, "files": sums}
        await asyncio.to_thread((folder / PROVENANCE).write_bytes, orjson.dumps(provenance, option=orjson.OPT_INDENT_2))
        return Fetched(hub.name, sums)
    raise NotFetched(f"{repository} could not be fetched.", why="; ".join(reasons), hint="check the name and the network")


def _is_wanted(name: str) -> bool:
    """Whether it is data or says what they are, and its path stays in the folder on any system."""
    path = PurePosixPath(name)
    safe = all(re.fullmatch(r"[A-Za-z0-9_][\w.+ -]*", part) for part in path.parts) and not path.is_absolute()
    return safe and name != PROVENANCE and (path.suffix.lower() in _KINDS or bool(_BESIDE.match(path.name)))


def _check_room(repository: str, files: Sequence[ModelFile], folder: Path, largest: int) -> None:
    size, free = sum(file.size for file in files), shutil.disk_usage(folder).free
    if size > largest:
        why = f"its files have {size:,} bytes, allowed are {largest:,}"
        raise NotFetched(f"{repository} is too large.", why=why, hint="allow more, or fetch the files you need by hand")
    if size > free:
        why = f"its files have {size:,} bytes, {free:,} are free at {folder}"
        raise NotFetched(f"{repository} does not fit on the disk.", why=why, hint="free some, or name another folder")


async def _fetch_file(
    hub: HuggingFace | ModelScope, repository: str, file: ModelFile, folder: Path, on_progress: OnProgress
) -> str:
    """Fetch one file and give its SHA-256. Raises SourceFailed."""
    path = folder / file.name
    part = path.with_name(f"{path.name}.part")
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)

    def tell(done: int) -> None:
        if done > file.size:
            raise SourceFailed(f"{hub.name}: {file.name} has more than the {file.size:,} bytes that it announced")
        on_progress(Progress(file.name, done, file.size, hub.name, ""))

    if path.exists() and path.stat().st_size == file.size:
        actual = await asyncio.to_thread(_sum, path)
        if actual == (file.sha256 or actual):
            return actual
    if part.exists() and part.stat().st_size >= file.size:
        await asyncio.to_thread(part.unlink)
    await pull_hub(Hub(hub.name, hub.url(repository, file.name)), file, part, tell)
    actual = await asyncio.to_thread(_sum, part)
    if actual != (file.sha256 or actual):
        await asyncio.to_thread(part.unlink)
        raise SourceFailed(f"{hub.name}: {file.name} has SHA-256 {actual[:16]}..., it announced {file.sha256[:16]}...")
    await asyncio.to_thread(part.replace, path)
    return actual


def _sum(path: Path) -> str:
    from hashlib import file_digest

    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _size(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _text(value: object, key: str) -> str:
    said = value.get(key) if isinstance(value, Mapping) else None
    return said if isinstance(said, str) else ""


def _objects(listed: object) -> list[dict[str, object]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


async def _json(hub: str, url: str) -> object:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=HUB_PATIENCE_S, follow_redirects=True) as client:
            response = await client.get(url)
        response.raise_for_status()
        answer: object = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SourceFailed(f"{hub}: {type(error).__name__} {error}".strip()) from error
    return answer
