"""What may happen without a person: pure rules over the agent, the tool and the plan."""

from __future__ import annotations

from schemas.agent import AgentSpec
from schemas.canonical import canonical, digest
from schemas.events import CallPlanned
from schemas.ids import RunId
from schemas.tools import ToolCall, ToolCard


def changes_the_world(card: ToolCard) -> bool:
    """Whether a call goes plan -> approval -> commit instead of straight ahead."""
    return card.effect != "read"


def needs_approval(agent: AgentSpec, card: ToolCard) -> bool:
    """Whether a person must allow this write first."""
    if agent.approval == "never":
        return False
    return card.effect == "destructive" or agent.approval == "writes"


def approval_hash(run: RunId, call: ToolCall, planned: CallPlanned) -> str:
    """What an approval is bound to: run, tool, arguments, resource state and what the person was shown."""
    shown = canonical(planned.preview.model_dump(mode="json"))
    return digest("approval", run, call.name, canonical(call.arguments), planned.state, shown)
