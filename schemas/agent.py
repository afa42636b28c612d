"""The agent: a versioned spec that a run pins when it begins."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from schemas.ids import Token
from schemas.messages import Manner, Sampling
from schemas.tools import Grown, Value

WhenBusy: TypeAlias = Literal["queue", "interrupt", "refuse"]
Priority: TypeAlias = Literal["interactive", "batch"]


class Budget(Value):
    """What one run may spend. steps: model turns; calls: tool calls; deadline_s: wall time without approvals' waits."""

    steps: int = Field(default=8, ge=1, le=1000)
    calls: int = Field(default=16, ge=0, le=1000)
    deadline_s: float = Field(default=600.0, gt=0, le=7 * 86400)
    approval_s: float = Field(default=3600.0, gt=0, le=30 * 86400)
    history_tokens: int = Field(default=800, ge=0, le=32_000)


class AgentSpec(Grown):
    """Who answers: instructions, model, tools, knowledge, policy and budget.

    tools: names that are always offered. tool_k: how many more are picked by retrieval (0: none).
    forbidden: names that are never offered. knowledge_k: passages to retrieve (0: none).
    approval: which effects a person must approve first.
    model: its name, or "default"; fallback: models to ask when it cannot answer, in order. model_host: the lane of
    the llm service that has them. priority: who goes first when the model is busy. prompt: the prompt generator's name.
    manner: how the model is to speak.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"fallback", "priority", "manner"})

    name: Token = "assistant"
    version: str = "1"
    instructions: str = Field(default="", max_length=50_000)
    model: str = "default"
    model_host: Token = "main"
    tools: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    tool_k: int = Field(default=3, ge=0, le=32)
    collections: tuple[Token, ...] = ("default",)
    knowledge_k: int = Field(default=2, ge=0, le=32)
    approval: Literal["writes", "destructive", "never"] = "writes"
    when_busy: WhenBusy = "queue"
    sampling: Sampling = Sampling()
    budget: Budget = Budget()
    prompt: Literal["messages"] = "messages"
    fallback: tuple[str, ...] = Field(default=(), max_length=8)
    priority: Priority = "interactive"
    manner: Manner = Manner()
