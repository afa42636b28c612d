"""Documents that come in sections: each is cut, embedded and laid aside; when all are there the document is put in at once.

No worker remembers anything between two questions: any of them can go on where another stopped, and so can the sender.
"""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Protocol

import orjson
from pydantic import Field

from runtime.bus import Reply
from runtime.clock import Clock
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.ids import Token
from schemas.tools import Value
from services.retrieval.chunks import SECTION, Chunk, Section, chunks_of
from services.retrieval.embedder import Embedder
from services.retrieval.knowledge_index import KnowledgeIndex, Metadata, NewDocument, Vector
from services.retrieval.questions import read

SECTIONS_LIMIT = 10_000
KEPT = timedelta(days=1)
"""How long sections wait for the rest of their document."""

Upload = Annotated[str, Field(min_length=1, max_length=128)]


class FindUpload(Value):
    """Which sections of an upload are there? upload: the sender's name for this text of this document."""

    tenant: Token = "default"
    upload: Upload


class AddSection(Value):
    """A section of a document on its way in. number: counted from 0."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)
    upload: Upload
    number: int = Field(ge=0, lt=SECTIONS_LIMIT)
    section: Section


class SectionAdded(Value):
    """What became of a section: its chunks, and how many of them, of how many tokens, had to be embedded."""

    chunks: int
    embedded: int
    tokens: int


class FinishDocument(Value):
    """All sections are there: put the document in. digest: over its original bytes, and how they were read."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)
    upload: Upload
    sections: int = Field(ge=1, le=SECTIONS_LIMIT)
    title: str = Field(default="", max_length=300)
    metadata: Metadata = Field(default_factory=dict, max_length=32)
    digest: str = Field(default="", max_length=128)


class SectionsMissing(MilepostError):
    """A document was finished of which not all sections are there."""


class Uploads(Protocol):
    """Where sections wait until their document is complete."""

    async def numbers(self, tenant: str, upload: str) -> set[int]:
        """Which sections are there."""
        ...

    async def put(self, tenant: str, upload: str, number: int, data: bytes, now: datetime) -> None:
        """Lay a section aside; the same number again replaces it."""
        ...

    async def get(self, tenant: str, upload: str, number: int) -> bytes | None:
        """A section, or None."""
        ...

    async def drop(self, tenant: str, upload: str, before: datetime) -> None:
        """Forget an upload, and all of the tenant's that nothing was added to since `before`."""
        ...


class Ingestion:
    """The questions by which a document comes in."""

    def __init__(self, index: KnowledgeIndex, uploads: Uploads, embedder: Embedder, clock: Clock) -> None:
        self.index, self.uploads, self.embedder, self.clock = index, uploads, embedder, clock
        self.answers: dict[str, Reply] = {
            "find_upload": self.find_upload, "add_section": self.add_section, "finish_document": self.finish_document,
        }  # fmt: skip

    async def find_upload(self, raw: bytes) -> bytes:
        """FindUpload -> the numbers of the sections that are there."""
        asked = read(FindUpload, raw)
        return orjson.dumps(sorted(await self.uploads.numbers(asked.tenant, self._key(asked.upload))))

    async def add_section(self, raw: bytes) -> bytes:
        """AddSection -> SectionAdded. Only chunks that the document did not have before are embedded."""
        asked = read(AddSection, raw)
        if len(asked.section.text) > SECTION:
            raise MilepostError("The section is too long.", why=f"{len(asked.section.text)} characters, the limit is {SECTION}")
        count = await self.embedder.counter()
        chunks = await asyncio.to_thread(chunks_of, asked.section, count)
        new = await self.index.missing(asked.tenant, asked.collection, asked.source, chunks)
        fresh = {each.hash: each.to_embed() for each in chunks if each.hash in new}
        vectors = dict(zip(fresh, await self.embedder.embed(list(fresh.values()), "passage"), strict=True))
        await self.uploads.put(asked.tenant, self._key(asked.upload), asked.number, _packed(chunks, vectors), self.clock.now())
        added = SectionAdded(chunks=len(chunks), embedded=len(fresh), tokens=sum(map(count, fresh.values())))
        return added.model_dump_json().encode()

    async def finish_document(self, raw: bytes) -> bytes:
        """FinishDocument -> Added. Raises SectionsMissing."""
        asked = read(FinishDocument, raw)
        chunks: list[Chunk] = []
        vectors: dict[str, Vector] = {}
        for number in range(asked.sections):
            data = await self.uploads.get(asked.tenant, self._key(asked.upload), number)
            if data is None:
                raise SectionsMissing(f"Section {number} of {asked.source} is not there.", hint="add the document again")
            some, of_them = await asyncio.to_thread(_unpacked, data)
            chunks += some
            vectors |= of_them
        document = NewDocument(
            collection=asked.collection, source=asked.source, title=asked.title or asked.source.rsplit("/", 1)[-1],
            chunks=tuple(chunks), metadata=asked.metadata, digest=asked.digest,
        )  # fmt: skip
        now = self.clock.now()
        added = await self.index.add(asked.tenant, document, vectors, now)
        await self.uploads.drop(asked.tenant, self._key(asked.upload), now - KEPT)
        return added.model_dump_json().encode()

    def _key(self, upload: str) -> str:
        """Vectors of another embedder are none of this one's."""
        return digest("upload", self.embedder.name, upload)


def _packed(chunks: list[Chunk], vectors: Mapping[str, Vector]) -> bytes:
    """Chunks and vectors as bytes: 1.5 KiB a vector, which in a list of Python's floats has twelve."""
    packed = {key: base64.b64encode(array("f", vector).tobytes()).decode() for key, vector in vectors.items()}
    return orjson.dumps({"chunks": [each.model_dump(mode="json") for each in chunks], "vectors": packed})


def _unpacked(data: bytes) -> tuple[list[Chunk], dict[str, Vector]]:
    said = orjson.loads(data)
    chunks = [Chunk.model_validate(each) for each in said["chunks"]]
    return chunks, {key: array("f", base64.b64decode(packed)) for key, packed in said["vectors"].items()}
