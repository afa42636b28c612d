"""What a fact says that its run used: passages and documents, tools, models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.envelope import Fact
from schemas.events import (
    CallPlanned,
    Generated,
    KnowledgeRetrieved,
    Passage,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
)
from services.recorder.ports import How, Kind, Use


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing as a fact names it. hash: which of its versions; name: another name that people know it by."""

    kind: Kind
    id: str
    how: How
    hash: str = ""
    name: str = ""
    detail: str = ""


def uses_of(fact: Fact) -> list[Use]:
    """One row a thing and way of use; none for facts that use nothing."""
    return [
        Use(run=fact.run, tenant=fact.tenant, time=fact.time, kind=each.kind, id=each.id, how=each.how, hash=each.hash,
            name=each.name, detail=each.detail)
        for each in dict.fromkeys(_things(fact))
    ]  # fmt: skip


def _things(fact: Fact) -> Iterator[Thing]:
    match fact.body:
        case KnowledgeRetrieved(passages=passages):
            for passage in passages:
                yield from _of_passage(passage)
        case ToolsSelected(tools=tools):
            for card in (each.card for each in tools):
                yield Thing(kind="tool", id=card.name, how="offered", hash=card.hash(), detail=f"version {card.version}")
        case CallPlanned(command=command):
            yield Thing(kind="tool", id=command.call.name, how="planned", hash=command.card_hash)
        case ToolReturned(command=command):
            yield Thing(kind="tool", id=command.call.name, how="called", hash=command.card_hash)
        case ToolFailed(command=command):
            yield Thing(kind="tool", id=command.call.name, how="failed", hash=command.card_hash)
        case ToolInDoubt(command=command):
            yield Thing(kind="tool", id=command.call.name, how="in doubt", hash=command.card_hash)
        case Generated(generation=said) if said.model:
            yield Thing(kind="model", id=said.model, how="asked", hash=said.model_hash, detail=said.provider)


def _of_passage(passage: Passage) -> Iterator[Thing]:
    name, version = passage.source or passage.title, f"version {passage.version}"
    place = f"characters {passage.start}-{passage.end}, {version}"
    yield Thing(kind="chunk", id=passage.hash, how="retrieved", hash=passage.hash, name=name, detail=place)
    yield Thing(kind="document", id=passage.document, how="retrieved", name=name, detail=version)
