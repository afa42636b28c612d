"""A call that a program has decided on, as a run: with plan, policy, approval, ledger and log like any other."""

from __future__ import annotations

from schemas.agent import AgentSpec, Budget, Recall
from schemas.tools import ToolCard
from services.llm.caller import NAME as CALLER


def caller(card: ToolCard, name: str, host: str = CALLER) -> AgentSpec:
    """The agent that makes one call of this tool. host: the lane that has services.llm.caller's model."""
    return AgentSpec(
        name=name, model=CALLER, model_host=host, tools=(card.name,), tool_k=0, knowledge_k=0, collections=(),
        recall=Recall(similar=0, facts=0, summary=False),
        budget=Budget(steps=2, calls=1, deadline_s=card.timeout_s * 10 + 60, history_tokens=0),
    )  # fmt: skip
