"""The retrieval service: picks tools and passages for runs, and answers who asks for them."""

from __future__ import annotations

from runtime.service import Service
from schemas.commands import RetrieveKnowledge, SelectTools
from services.retrieval.embedder import Embedder
from services.retrieval.embedding import Embedding
from services.retrieval.ingestion import Ingestion
from services.retrieval.knowledge import Knowledge
from services.retrieval.selection import Selection


def retrieval_service(
    selection: Selection, knowledge: Knowledge, embedder: Embedder, ingestion: Ingestion | None = None
) -> Service:
    """The service with its commands and questions."""
    service = Service(
        "retrieval", f"finds tools and knowledge with {embedder.name}",
        stats=lambda: {"embedder": embedder.name, **selection.stats()},
    )  # fmt: skip
    service.on(SelectTools)(selection.select)
    service.on(RetrieveKnowledge)(knowledge.retrieve)
    answers = {
        **selection.answers,
        **knowledge.answers,
        **(ingestion.answers if ingestion else {}),
        **Embedding(embedder).answers,
    }
    for verb, reply in answers.items():
        service.answer(verb)(reply)
    service.hears.update(selection.hears)
    return service
