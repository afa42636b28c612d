"""What may happen without a person: pure rules over the agent, the tool, the plan and who approves."""

from __future__ import annotations

from fnmatch import fnmatchcase

from schemas.agent import AgentSpec
from schemas.canonical import canonical, digest
from schemas.commands import RequestApproval
from schemas.events import CallPlanned
from schemas.ids import RunId
from schemas.policy import Verdict
from schemas.tools import ToolCall, ToolCard

AGENT_APPROVAL = "approval"  # the name that a verdict has where no rule fits, and the agent's own setting decides


def changes_the_world(card: ToolCard) -> bool:
    """Whether a call goes plan -> verdict -> approval -> commit instead of straight ahead."""
    return card.effect != "read"


def needs_approval(agent: AgentSpec, card: ToolCard) -> bool:
    """Whether the agent's own setting wants a person to allow this write first."""
    if agent.approval == "never":
        return False
    return card.effect == "destructive" or agent.approval == "writes"


def nobody_to_ask(agent: AgentSpec, verdict: Verdict) -> bool:
    """Whether a write is allowed by the setting of an agent that asks nobody, and by no rule."""
    return agent.approval == "never" and verdict.rule == AGENT_APPROVAL


def may_approve(asked: RequestApproval, by: str) -> bool:
    """Whether a person may give this approval: one of its approvers, and not who must not."""
    if asked.not_by is not None and by == asked.not_by:
        return False
    return not asked.approvers or any(fnmatchcase(by, pattern) for pattern in asked.approvers)


def may_stand(asked: RequestApproval) -> bool:
    """Whether an approval may reach further than this call: it is no repeat, and a person or a result named its arguments."""
    return not asked.ungrounded and asked.before is None


def approval_hash(run: RunId, call: ToolCall, planned: CallPlanned) -> str:
    """What an approval is bound to: run, tool, arguments, resource state and what the person was shown."""
    shown = canonical(planned.preview.model_dump(mode="json"))
    return digest("approval", run, call.name, canonical(call.arguments), planned.state, shown)
