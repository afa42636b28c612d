"""A repository of a model hub, by its name: the files that make a model, fetched and checked against the hub's own sums."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.models.added import BESIDE, WHOLE, NotAdded
from infra.models.catalogue import Hub, ModelFile
from infra.models.fetch import HUB_PATIENCE_S, OnProgress, Progress, SourceFailed, pull_hub, silent
from schemas.errors import MilepostError

if TYPE_CHECKING:
    import httpx

REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w.-]+\.gguf)?$")
HUGGING_FACE, MODELSCOPE = "https://huggingface.co", "https://modelscope.cn"


@dataclass(frozen=True)
class Listing:
    """A hub's files of one repository, by name, and the URL under which each is served."""

    hub: str
    files: dict[str, ModelFile]
    url: Callable[[str], str]


class NoRepository(MilepostError):
    """No hub has a repository that makes a model."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} could not be fetched.", why=why, hint="check the name and the network, or name a local file")


def is_repository(text: str) -> bool:
    """Whether a text names a repository, OWNER/NAME, or one GGUF file in it, OWNER/NAME/FILE.gguf."""
    return REPOSITORY.match(text) is not None


@asynccontextmanager
async def repository(name: str, *, home: Path, on_progress: OnProgress = silent) -> AsyncIterator[Path]:
    """The files of a repository in a folder beside the models, or its one GGUF file.

    They are gone when the context ends well; else they wait for the next attempt. What was linked from there stays.
    Raises NoRepository, NotAdded.
    """
    owner, title, *rest = name.split("/")
    folder = home / ".hub" / owner / title
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    found = await _fetch(f"{owner}/{title}", rest[0] if rest else None, folder, on_progress)
    yield folder / found if found else folder
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _fetch(name: str, file: str | None, folder: Path, on_progress: OnProgress) -> str | None:
    """Fetch from the first hub that can; the name of the GGUF file if it is one."""
    reasons = []
    for listed in (_hugging_face, _modelscope):
        try:
            listing = await listed(name)
            wanted = _wanted(name, file, tuple(listing.files))
            for each in wanted:
                await _fetch_file(listing, listing.files[each], folder, on_progress)
        except SourceFailed as failure:
            reasons.append(failure.what)
        else:
            return wanted[0] if len(wanted) == 1 else None
    raise NoRepository(name, "; ".join(reasons))


def _wanted(name: str, file: str | None, there: Sequence[str]) -> tuple[str, ...]:
    """The files that make the model. Raises NotAdded where several models are there."""
    if file is not None:
        if file not in there:
            raise SourceFailed(f"it has no {file}")
        return (file,)
    if "config.json" in there and any(each.endswith(".safetensors") for each in there):
        return tuple(each for each in there if WHOLE.match(each) or BESIDE.match(each))
    ggufs = [each for each in there if each.endswith(".gguf")]
    if len(ggufs) == 1:
        return (ggufs[0],)
    if ggufs:
        raise NotAdded(
            f"{name} holds {len(ggufs)} GGUF files.", why=", ".join(ggufs)[:400], hint=f"name one: {name}/{ggufs[0]}"
        )
    raise SourceFailed("it has neither safetensors nor a GGUF file")


async def _fetch_file(listing: Listing, file: ModelFile, folder: Path, on_progress: OnProgress) -> None:
    from services.llm.build import sha256_of

    path = folder / file.name

    def tell(done: int) -> None:
        on_progress(Progress(file.name, done, file.size, listing.hub, ""))

    have = path.stat().st_size if path.exists() else 0
    if have > file.size:
        path.unlink()
    if have != file.size:
        await pull_hub(Hub(listing.hub, listing.url(file.name)), file, path, tell)
    if file.sha256 and (actual := await asyncio.to_thread(sha256_of, path)) != file.sha256:
        path.unlink()
        raise SourceFailed(f"{listing.hub}: {file.name} has SHA-256 {actual[:16]}..., it announced {file.sha256[:16]}...")


async def _hugging_face(name: str) -> Listing:
    """https://huggingface.co/docs/hub/api: large files are listed with their SHA-256."""
    entries = await _json("Hugging Face", f"{HUGGING_FACE}/api/models/{name}/tree/main")
    rows = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    files = [
        ModelFile(str(each["path"]), int(each.get("size", 0)), str((each.get("lfs") or {}).get("oid", "")), ())
        for each in rows if each.get("type") == "file"
    ]  # fmt: skip
    return Listing("Hugging Face", _flat(files), lambda file: f"{HUGGING_FACE}/{name}/resolve/main/{file}")


async def _modelscope(name: str) -> Listing:
    """The listing that ModelScope's own client reads."""
    answer = await _json("ModelScope", f"{MODELSCOPE}/api/v1/models/{name}/repo/files?Revision=master&Recursive=false")
    data = answer.get("Data") if isinstance(answer, dict) else None
    rows = data.get("Files") if isinstance(data, dict) else None
    files = [
        ModelFile(str(each["Path"]), int(each.get("Size", 0)), str(each.get("Sha256") or ""), ())
        for each in rows or [] if isinstance(each, dict) and each.get("Type") == "blob"
    ]  # fmt: skip
    return Listing("ModelScope", _flat(files), lambda file: f"{MODELSCOPE}/models/{name}/resolve/master/{file}")


def _flat(files: Sequence[ModelFile]) -> dict[str, ModelFile]:
    """By name, without what lies in folders or hides."""
    return {file.name: file for file in files if re.match(r"^[A-Za-z0-9][\w.-]*$", file.name)}


async def _json(hub: str, url: str) -> object:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=HUB_PATIENCE_S, follow_redirects=True) as client:
            return _answer(await client.get(url))
    except (httpx.HTTPError, ValueError) as error:
        raise SourceFailed(f"{hub}: {type(error).__name__} {error}".strip()) from error


def _answer(response: httpx.Response) -> object:
    response.raise_for_status()
    answer: object = response.json()
    return answer
