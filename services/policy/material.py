"""What the conductor says beside a call, read with suspicion: what is missing is taken for the strictest."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from pydantic import TypeAdapter, ValidationError

from schemas.commands import JudgeCall
from schemas.policy import Rule
from services.policy.judging import AgentRules
from services.policy.matching import Call
from services.policy.validity import rule_faults

_RULES = TypeAdapter(tuple[Rule, ...])


def call_of(command: JudgeCall, material: Mapping[str, object], run: str) -> Call:
    """The facts of a call, from the command and from what the conductor says beside it."""
    parent = material.get("parent")
    above = (str(parent.get("run") or ""), str(parent.get("root") or "")) if isinstance(parent, Mapping) else ()
    return Call(
        tool=command.call.name, effect=command.effect, lane=command.tool_lane, arguments=command.call.arguments,
        ungrounded=command.ungrounded, agent=name_of(material.get("agent")), user=str(material.get("user") or ""),
        conversation=str(material.get("conversation") or ""), runs=tuple(dict.fromkeys((run, *filter(None, above)))),
        priced=command.price is not None, price=price_of(command.price), currency=command.currency or None,
    )  # fmt: skip


def agent_rules(said: object) -> AgentRules:
    """What the conductor says of the agent; the strictest where it says nothing, or nothing that can be read."""
    if not isinstance(said, Mapping):
        return AgentRules()
    approval = said.get("approval")
    try:
        rules = _RULES.validate_python(said.get("policy") or ())
    except ValidationError as error:
        return AgentRules(unreadable=f"the agent's rules cannot be read: {str(error)[:200]}")
    wrong = next(rule_faults(rules), None)
    return AgentRules(
        approval=approval if approval in ("writes", "destructive", "never") else "writes", rules=rules,
        unreadable=f"the agent's rules cannot be read: {wrong}" if wrong else "",
    )  # fmt: skip


def price_of(text: str | None) -> Decimal | None:
    """A price as a plan tells it; None for what is no amount of money."""
    try:
        price = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None


def name_of(agent: object) -> str:
    return str(agent.get("name") or "") if isinstance(agent, Mapping) else ""
