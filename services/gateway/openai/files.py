"""/v1/files: documents for knowledge, as OpenAI's clients upload files."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from pydantic import Field

from schemas.canonical import digest
from schemas.ids import Token
from schemas.tools import Value
from services.gateway.answers import NotThere
from services.gateway.door import Asker, Builder, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.openai.spoken import Unfit

router = APIRouter()

REMOVE_S = 120.0
HELD = 4
"""Uploads whose bytes are in memory together."""
_room = asyncio.Semaphore(HELD)
_PAGE = 500

Id = Annotated[str, Path(min_length=1, max_length=128)]


class FileObject(Value):
    """A document. bytes: as it came in, where that is known, else 0. collection, chunks: what became of it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int = 0
    created_at: int
    filename: str
    purpose: Literal["assistants", "user_data"] = "assistants"
    status: Literal["processed"] = "processed"
    collection: str
    chunks: int


class Files(Value):
    """A page of them, in the order of their ids."""

    object: Literal["list"] = "list"
    data: tuple[FileObject, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Value):
    """It is forgotten."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class _Document(Value):
    """A document as retrieval tells it."""

    id: str
    collection: str
    source: str
    title: str
    chunks: int
    added: datetime
    metadata: dict[str, str] = Field(default_factory=dict)

    def file(self, size: int = 0) -> FileObject:
        name = self.source.rsplit("/", 1)[-1].removeprefix("upload:")
        return FileObject(
            id=self.id, bytes=size, created_at=int(self.added.timestamp()), filename=name, collection=self.collection,
            chunks=self.chunks,
        )  # fmt: skip


@router.post("/v1/files")
async def upload(
    gateway: Here, who: Asker, file: Annotated[UploadFile, File()],
    purpose: Annotated[Literal["assistants", "user_data"], Form()], collection: Annotated[Token, Form()] = "default",
) -> FileObject:  # fmt: skip
    """Put a document into knowledge; answered when it can be found. The same name again replaces it.

    collection: where agents look for it. Raises Unfit, Unreachable.
    """
    async with _room:
        content = await file.read()
        last = None
        async for progress in gateway.library.add(who.tenant, collection, file.filename or "", content):
            last = progress
    if last is None or last.state not in ("added", "unchanged"):
        why = last.why if last else ""
        raise Unfit(f"{file.filename} was not taken in.", why=why, hint=last.hint if last else "")
    id = digest(
        "document", who.tenant, collection, last.source
    )  # as retrieval names it (services/retrieval/knowledge_index.py)
    found = await _by_id(gateway, who.tenant, id)
    return found.file(len(content)).model_copy(update={"purpose": purpose})


@router.get("/v1/files")
async def files(
    gateway: Here, who: Reader, limit: Annotated[int, Query(ge=1, le=10_000)] = _PAGE,
    after: Annotated[str, Query(max_length=128)] = "", collection: Annotated[Token | None, Query()] = None,
    purpose: Annotated[str, Query(max_length=64)] = "assistants", order: Annotated[str, Query(max_length=8)] = "asc",
) -> Files:  # fmt: skip
    """A page of documents, of all collections or of one; by id, whatever order is asked for."""
    if purpose not in ("assistants", "user_data"):
        return Files(data=(), first_id=None, last_id=None, has_more=False)
    asked = {"tenant": who.tenant, "collection": collection, "after": after, "limit": min(limit, _PAGE)}
    found = [_Document.model_validate(each) for each in await gateway.ask_list("retrieval", "list_documents", asked)]
    data = tuple(each.file() for each in found)
    more = bool(data) and bool(
        await gateway.ask_list("retrieval", "list_documents", {**asked, "after": data[-1].id, "limit": 1})
    )
    return Files(data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=more)


@router.get("/v1/files/{id}")
async def file(gateway: Here, who: Reader, id: Id) -> FileObject:
    """One document. Raises NotThere."""
    return (await _by_id(gateway, who.tenant, id)).file()


@router.delete("/v1/files/{id}")
async def remove(gateway: Here, who: Builder, id: Id) -> Deleted:
    """Forget a document; nothing of its text stays. Raises NotThere."""
    found = await _by_id(gateway, who.tenant, id)
    asked = {"tenant": who.tenant, "collection": found.collection, "source": found.source}
    if not await gateway.ask("retrieval", "remove_document", asked, REMOVE_S):
        raise _not_there(id)
    return Deleted(id=id)


async def _by_id(gateway: Gateway, tenant: str, id: str) -> _Document:
    said = await gateway.ask("retrieval", "pieces", {"tenant": tenant, "document": id, "after": -1, "limit": 1})
    document = said.get("document") if isinstance(said, dict) else None
    if document is None:
        raise _not_there(id)
    return _Document.model_validate(document)


def _not_there(id: str) -> NotThere:
    return NotThere(f"There is no file {id}.", hint="GET /v1/files lists them")
