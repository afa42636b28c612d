"""The agent: a versioned spec that a run pins when it begins."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from schemas.ids import Token
from schemas.messages import Manner, Message, Sampling
from schemas.policy import Rule
from schemas.tools import Grown, Value

WhenBusy: TypeAlias = Literal["queue", "interrupt", "refuse"]
FactsWhen: TypeAlias = Literal["near", "always"]
Priority: TypeAlias = Literal["interactive", "batch"]


class Budget(Grown):
    """What one run may spend. steps: model turns; calls: tool calls; deadline_s: wall time without approvals' waits.

    writes: calls that change the world; tokens: read and written by the model; money: by currency (ISO 4217), the prices
    of what was planned. None, or a currency that is not named: without a limit.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"writes", "tokens", "money"})

    steps: int = Field(default=8, ge=1, le=1000)
    calls: int = Field(default=16, ge=0, le=1000)
    deadline_s: float = Field(default=600.0, gt=0, le=7 * 86400)
    approval_s: float = Field(default=3600.0, gt=0, le=30 * 86400)
    history_tokens: int = Field(default=800, ge=0, le=32_000)
    writes: int | None = Field(default=None, ge=0, le=1000)
    tokens: int | None = Field(default=None, ge=1)
    money: dict[str, float] = Field(default_factory=dict, max_length=16)


class Recall(Value):
    """What is remembered for a request, beside the turns just before it.

    similar: earlier turns of the conversation that are near the request in meaning, though long ago. facts: what is known
    about the user, at most; facts_when: those that share words with the request, or any if it is about the user; or always.
    summary: whether the turns that no longer fit are told in short.
    """

    similar: int = Field(default=0, ge=0, le=32)
    facts: int = Field(default=8, ge=0, le=100)
    facts_when: FactsWhen = "near"
    summary: bool = True


class Shares(Value):
    """How many tokens of the prompt each part may take, as the model counts them; what does not fit is cut, item by item.

    First each part is cut into its share, counted as if it were all that is said; then, if the prompt is too long for the
    model's context, part after part. A model elsewhere counts for itself, and nothing is cut for it. Cut are, in this
    order: the oldest turns of the history, turns recalled as similar, the least fitting passages, the last examples, the
    least fitting of the tools found for the request, the summary, the facts. Instructions, the tools that are always
    offered, the request and what this run did are never cut. How much history is recalled at all: Budget.history_tokens.
    """

    examples: int = Field(default=600, ge=0, le=32_000)
    tools: int = Field(default=1_500, ge=0, le=32_000)
    passages: int = Field(default=1_000, ge=0, le=32_000)
    summary: int = Field(default=300, ge=0, le=32_000)
    facts: int = Field(default=200, ge=0, le=32_000)
    similar: int = Field(default=400, ge=0, le=32_000)


class AgentSpec(Grown):
    """Who answers: instructions, model, tools, knowledge, policy and budget.

    tools: names that are always offered. tool_k: how many more are picked by retrieval (0: none).
    forbidden: names that are never offered. knowledge_k: passages to retrieve (0: none).
    knowledge_host: the lane of the service that answers with passages; a retriever of one's own has a lane of its own.
    filters: what a document's metadata must say to be found.
    recall: what is remembered. approval: which effects a person must approve first.
    model: its name, or "default"; fallback: models to ask when it cannot answer, in order. model_host: the lane of
    the llm service that has them. priority: who goes first when the model is busy. manner: how the model is to speak.
    prompt: the prompt generator's name. examples: exchanges that show the model how it is done, users' and assistants'
    messages in turn. shares: how much of the prompt each part may take. found_tools: where the tools found for a request
    stand: in the system message, from which small models call best, or before the request, so that prompts of one
    conversation share their beginnings further. policy: rules for its writes, after the tenant's and before `approval`.
    """

    LATER: ClassVar[frozenset[str]] = frozenset(
        {"fallback", "priority", "manner", "knowledge_host", "filters", "recall", "examples", "shares", "found_tools", "policy"}
    )

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
    prompt: Literal["messages", "ms", "mrkl"] = "messages"
    fallback: tuple[str, ...] = Field(default=(), max_length=8)
    priority: Priority = "interactive"
    manner: Manner = Manner()
    knowledge_host: Token = "main"
    filters: dict[str, str] = Field(default_factory=dict, max_length=16)
    recall: Recall = Recall()
    examples: tuple[Message, ...] = Field(default=(), max_length=32)
    shares: Shares = Shares()
    found_tools: Literal["system", "request"] = "system"
    policy: tuple[Rule, ...] = Field(default=(), max_length=100)
