"""Services that do nothing: a scripted model that calls a read tool TURNS times and then answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from runtime.clock import Clock
from runtime.service import Context, Service
from runtime.timer import timer_service
from schemas.commands import CallTool, Generate, RecallMemory, RetrieveKnowledge, SelectTools, StoreTurn
from schemas.events import (
    AnyEvent,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    ScoredCard,
    ToolReturned,
    ToolsSelected,
    TurnStored,
)
from schemas.messages import Generation
from schemas.tools import ToolCall, ToolCard, ToolResult

_CARD = ToolCard(name="Noop", description="Does nothing.", parameters={"type": "object"})


def services(turns: int, clock: Clock) -> list[Service]:
    """All that a run needs beside its conductor."""
    return [_memory(), _retrieval(), _llm(turns), _tools(), timer_service(clock)]


def _memory() -> Service:
    service = Service("memory", "remembers nothing", at_once=64)

    @service.on(RecallMemory)
    async def recall(command: RecallMemory, context: Context) -> AnyEvent:
        return MemoryRecalled(command=command)

    @service.on(StoreTurn)
    async def store(command: StoreTurn, context: Context) -> AnyEvent:
        return TurnStored(command=command)

    return service


def _retrieval() -> Service:
    service = Service("retrieval", "finds the one tool", at_once=64)

    @service.on(SelectTools)
    async def select(command: SelectTools, context: Context) -> AnyEvent:
        return ToolsSelected(command=command, tools=(ScoredCard(card=_CARD, score=1.0),), catalog="noop", searched=1)

    @service.on(RetrieveKnowledge)
    async def retrieve(command: RetrieveKnowledge, context: Context) -> AnyEvent:
        return KnowledgeRetrieved(command=command, passages=())

    return service


def _llm(turns: int) -> Service:
    service = Service("llm", "follows a script", at_once=64)

    @service.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        said = cast("dict[str, Sequence[dict[str, object]]]", context.material["prompt"])["messages"]
        turn = sum(message["role"] == "tool" for message in said)
        if turn == turns:
            return Generated(command=command, generation=Generation(text="Done."))
        call = ToolCall(id=f"call{turn}", name=_CARD.name, arguments={"turn": turn})
        return Generated(command=command, generation=Generation(text="", calls=(call,), finish="calls"))

    return service


def _tools() -> Service:
    service = Service("tools", "does nothing", lane=_CARD.lane, at_once=64)

    @service.on(CallTool)
    async def call(command: CallTool, context: Context) -> AnyEvent:
        return ToolReturned(command=command, result=ToolResult(text="ok"))

    return service
