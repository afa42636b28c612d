"""The agent: a versioned spec that a run pins when it begins."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from schemas.ids import Token
from schemas.messages import Sampling
from schemas.tools import Value

WhenBusy: TypeAlias = Literal["queue", "interrupt", "refuse"]


class Budget(Value):
    """What one run may spend. steps: model turns; calls: tool calls; deadline_s: wall time without approvals' waits."""

    steps: int = Field(default=8, ge=1, le=1000)
    calls: int = Field(default=16, ge=0, le=1000)
    deadline_s: float = Field(default=600.0, gt=0, le=7 * 86400)
    approval_s: float = Field(default=3600.0, gt=0, le=30 * 86400)
    history_tokens: int = Field(default=800, ge=0, le=32_000)


class AgentSpec(Value):
    """Who answers: instructions, model, tools, knowledge, policy and budget.

    tools: names that are always offered. tool_k: how many more are picked by retrieval (0: none).
    forbidden: names that are never offered. knowledge_k: passages to retrieve (0: none).
    approval: which effects a person must approve first.
    model_host: the lane of the llm service that has the model. prompt and parser: names of the prompt generator
    and of the wire format of calls.
    """

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
    parser: Literal["hermes"] = "hermes"
