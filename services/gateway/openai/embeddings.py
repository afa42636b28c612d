"""/v1/embeddings: the vectors by which knowledge and tools are found here."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter
from pydantic import Field, StringConstraints, ValidationError
from starlette.responses import Response

from schemas.errors import ProtocolError
from schemas.tools import Value
from services.gateway.door import Asker, Here
from services.gateway.gateway import Gateway
from services.gateway.openai.asked import Name, Strict, refuse
from services.gateway.openai.spoken import Unfit

router = APIRouter()

MOST = 512
"""Texts of a request."""
AT_ONCE = 32
ANSWER_S = 60.0

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class EmbeddingsRequest(Strict):
    """Texts to turn into vectors. milepost_kind: whether they are searched, or search ("query")."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST)]
    model: Name
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    milepost_kind: Literal["passage", "query"] = "passage"
    user: object = None


class Embedded(Value):
    """What retrieval answers."""

    embedder: str
    vectors: tuple[tuple[float, ...], ...] = Field(min_length=1)


@router.post("/v1/embeddings", response_model=None)
async def embeddings(asked: EmbeddingsRequest, gateway: Here, who: Asker) -> Response:
    """A vector for each text. model: any of GET /v1/models; there is one embedder, whose name the answer tells.

    Tokens are not counted: usage tells 0. Raises Unfit, Unreachable.
    """
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    vectors: list[tuple[float, ...]] = []
    name = ""
    for first in range(0, len(texts), AT_ONCE):
        found = await _embed(gateway, texts[first : first + AT_ONCE], asked.milepost_kind)
        name, vectors = found.embedder, [*vectors, *found.vectors]
    if asked.dimensions not in (None, len(vectors[0])):
        refuse("dimensions", f"the embedder {name} has {len(vectors[0])}", "leave it out")
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, asked.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    answer = {"object": "list", "model": name, "data": data, "usage": {"prompt_tokens": 0, "total_tokens": 0}}
    return Response(orjson.dumps(answer), media_type="application/json")


async def _embed(gateway: Gateway, texts: list[str], kind: str) -> Embedded:
    answer = await gateway.ask("retrieval", "embed", {"texts": texts, "kind": kind}, ANSWER_S)
    try:
        found = Embedded.model_validate(answer)
    except ValidationError as error:
        raise ProtocolError("Retrieval answered with something else than vectors.", hint="milepost doctor") from error
    if len(found.vectors) != len(texts):
        raise Unfit(f"Retrieval answered {len(texts)} texts with {len(found.vectors)} vectors.", hint="milepost doctor")
    return found


def _written(vector: tuple[float, ...], form: str) -> list[float] | str:
    """As numbers, or as the bytes of little-endian single floats in base64."""
    return list(vector) if form == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
