"""What memory asks of others, over the bus: vectors of the retrieval service, summaries as runs of their own."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from pydantic import Field, ValidationError

from runtime.bus import Bus
from runtime.client import Client
from runtime.clock import Clock
from runtime.log import Log
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Value
from services.memory.budget import EMBEDDED_CHARACTERS, cut
from services.memory.ports import Embed, Kind
from services.memory.similar import Meaning
from services.memory.summaries import Ask, Request

log = structlog.get_logger("services.memory")

QUERY_S, PASSAGES_S = 1.0, 60.0
_ANSWER_BYTES = 1024 * 1024


class _Embedded(Value):
    """What retrieval answers to `embed`."""

    embedder: str
    fits: float
    vectors: tuple[tuple[float, ...], ...] = Field(min_length=1)


def embedding(bus: Bus) -> Embed:
    """Vectors from whoever answers `embed` as retrieval; a person waits for a query's, nobody for those of passages."""

    async def embed(texts: Sequence[str], kind: Kind) -> list[Meaning]:
        asked = canonical({"texts": list(texts), "kind": kind})
        timeout_s = QUERY_S if kind == "query" else PASSAGES_S
        raw = await bus.ask(subjects.question("retrieval", "embed"), asked, timeout_s)
        try:
            said = _Embedded.model_validate(read_json(raw, limit=_ANSWER_BYTES))
        except ValidationError as error:
            raise ProtocolError("Retrieval answered with something else than vectors.", why=str(error)[:300]) from error
        if len(said.vectors) != len(texts):
            raise ProtocolError(f"Retrieval answered {len(texts)} texts with {len(said.vectors)} vectors.")
        return [Meaning(embedder=said.embedder, fits=said.fits, vector=vector) for vector in said.vectors]

    return embed


async def meaning_of(text: str, embed: Embed | None) -> Meaning | None:
    """The text's vector; None for an empty text, and while nobody makes vectors: turns are then found by words."""
    if embed is None or not text.strip():
        return None
    try:
        return (await embed([cut(text, EMBEDDED_CHARACTERS)], "query"))[0]
    except MilepostError as error:
        log.warning("recalls by words alone", error=error.what, why=error.why)
        return None


def asking(journal: Log, bus: Bus, clock: Clock) -> Ask:
    """Begins summarising runs as the user whose conversation it is, so that who forgets the user forgets them too."""

    async def ask(tenant: str, request: Request) -> None:
        client = Client(journal, bus, clock, tenant=tenant, user=request.user)
        await client.ask(request.task, agent=request.agent, conversation=request.conversation, key=request.key)

    return ask
