"""What the rules come to for one call: a pure function of the rules, the call, what was granted, what was spent, and the time.

Whatever is stricter wins: a revocation before all, then the tenant's first rule that fits beside the agent's, then what is
said of arguments from nowhere, then the limits. A standing approval turns the question of a rule into leave, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

from runtime.policy import AGENT_APPROVAL
from schemas.policy import Grant, Limit, Outcome, Policy, Revocation, Rule, Verdict
from schemas.tools import call_key
from services.policy.matching import Call, fits, named

Approval: TypeAlias = Literal["writes", "destructive", "never"]

STRICTNESS: dict[Outcome, int] = {"allow": 0, "ask": 1, "dry_run": 2, "deny": 3}
REVOKED = "revoked"
UNREADABLE = "unreadable-agent"
UNGROUNDED = "ungrounded"
APPROVAL = AGENT_APPROVAL
GRANT = "grant"


@dataclass(frozen=True, slots=True)
class AgentRules:
    """What an agent says of its own writes; the strictest where nothing is known. unreadable: why its rules cannot be read."""

    approval: Approval = "writes"
    rules: tuple[Rule, ...] = ()
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was let through in the window of a limit: how many writes, and their prices together."""

    writes: int = 0
    money: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Counter:
    """Whose calls a limit counts together, and from when on."""

    limit: str
    bucket: str
    since: datetime


def judge(
    policy: Policy, agent: AgentRules, call: Call, grants: Sequence[Grant], revocations: Sequence[Revocation],
    spent: Mapping[str, Spent], now: datetime,
) -> Verdict:  # fmt: skip
    """What becomes of a write. spent: by the names of the limits that `counters` gives, this call not among it.

    With a limit of money and no price yet, the verdict says price_needed, and is at least `ask`.
    """
    for each in revocations:
        if revoked(each, call, now):
            return Verdict(outcome="deny", rule=REVOKED, why=_revoked(each))
    if agent.unreadable:
        return Verdict(outcome="deny", rule=UNREADABLE, why=agent.unreadable)
    verdict = _granted(_grounded(policy, agent, call, now), call, grants, now)
    if verdict.outcome in ("allow", "ask"):
        for limit in _limits(policy, call, now):
            verdict = _limited(verdict, limit, call, agent, spent.get(limit.name, Spent()))
    return verdict if verdict.outcome == "ask" else verdict.model_copy(update={"price_needed": False})


def counters(policy: Policy, call: Call, now: datetime) -> tuple[Counter, ...]:
    """What must be counted before the call is judged; empty where no limit is about it."""
    whose = {"tenant": "", "agent": call.agent, "user": call.user, "tool": call.tool}
    return tuple(
        Counter(limit.name, whose[limit.per], now - timedelta(seconds=limit.window_s)) for limit in _limits(policy, call, now)
    )


def revoked(revocation: Revocation, call: Call, now: datetime) -> bool:
    """Whether the right to this call is taken back: everything that the revocation names must be the call's."""
    return (
        (revocation.until is None or now < revocation.until)
        and revocation.run in (None, *call.runs)
        and revocation.tool in (None, call.tool)
        and revocation.agent in (None, call.agent)
        and revocation.user in (None, call.user)
    )


def stricter(first: Verdict, second: Verdict) -> Verdict:
    """The stricter of two; the first where they are equal, with the second's reason and conditions beside its own."""
    low, high = sorted((first, second), key=lambda each: STRICTNESS[each.outcome])
    main, other = (first, second) if low.outcome == high.outcome else (high, low)
    why = "; ".join(dict.fromkeys(filter(None, (main.why, other.why)))) if main.outcome == other.outcome else main.why
    waits = [each.expires_s for each in (first, second) if each.expires_s is not None]
    return main.model_copy(
        update={
            "why": why, "approvers": main.approvers or other.approvers, "four_eyes": first.four_eyes or second.four_eyes,
            "expires_s": min(waits, default=None), "price_needed": first.price_needed or second.price_needed,
        }
    )  # fmt: skip


# --- rules ----------------------------------------------------------------------------------------


def _first(rules: Iterable[Rule], call: Call, now: datetime) -> Rule | None:
    return next((rule for rule in rules if fits(rule.when, call, now, whole=rule.then == "allow")), None)


def _grounded(policy: Policy, agent: AgentRules, call: Call, now: datetime) -> Verdict:
    """What the rules say, and what is made of arguments from nowhere if the rule that decides says nothing of them."""
    tenants, own = _first(policy.rules, call, now), _first(agent.rules, call, now)
    if tenants:
        ruled = stricter(_ruled(tenants), _ruled(own)) if own else _ruled(tenants)
    else:
        ruled = _ruled(own) if own else _approval(agent.approval, call)
    decided = tenants or own
    spoken = decided is not None and decided.when.ungrounded is True and (decided is tenants or policy.ungrounded == "ask")
    if not call.ungrounded or spoken:
        return ruled
    nobody = policy.ungrounded == "ask" and agent.approval == "never" and ruled.outcome == "allow"
    outcome: Outcome = "deny" if nobody else policy.ungrounded
    names = ", ".join(call.ungrounded)
    why = f"{names}: nobody named this" + (", and this agent asks nobody" if nobody else "")
    return stricter(ruled, Verdict(outcome=outcome, rule=UNGROUNDED, why=why))


def _ruled(rule: Rule) -> Verdict:
    why = rule.why or f"rule {rule.name}"
    return Verdict(
        outcome=rule.then, rule=rule.name, why=why, approvers=rule.approvers, four_eyes=rule.four_eyes, expires_s=rule.expires_s
    )


def _approval(approval: Approval, call: Call) -> Verdict:
    if approval == "never" or (approval == "destructive" and call.effect != "destructive"):
        return Verdict(outcome="allow", rule=APPROVAL, why=f"the agent's approval is {approval}, and no rule says more")
    what = "destroys" if call.effect == "destructive" else "changes"
    return Verdict(outcome="ask", rule=APPROVAL, why=f"{call.tool} {what} something, and no rule lets it through")


# --- grants ---------------------------------------------------------------------------------------


def _granted(verdict: Verdict, call: Call, grants: Sequence[Grant], now: datetime) -> Verdict:
    if verdict.outcome != "ask" or verdict.four_eyes or call.ungrounded:
        return verdict
    for grant in grants:
        if _covers(grant, call, now) and named(verdict.approvers, grant.by):
            how = "for this conversation" if grant.scope == "conversation" else "for these arguments"
            why = f"{grant.by} approved it {how}"
            return verdict.model_copy(update={"outcome": "allow", "rule": GRANT, "why": why, "grant": grant.id})
    return verdict


def _covers(grant: Grant, call: Call, now: datetime) -> bool:
    """A conversation's grant is good for what the person could foresee: nothing destructive."""
    if grant.revoked or (grant.expires and grant.expires <= now):
        return False
    if not call.agent or (grant.agent, grant.tool) != (call.agent, call.tool):
        return False
    if grant.scope == "always":
        return call_key(grant.tool, grant.arguments) == call_key(call.tool, dict(call.arguments))
    known = bool(call.conversation) and grant.conversation == call.conversation
    return known and call.effect != "destructive"


# --- limits ---------------------------------------------------------------------------------------


def _limits(policy: Policy, call: Call, now: datetime) -> Iterable[Limit]:
    return (limit for limit in policy.limits if fits(limit.when, call, now))


def _limited(verdict: Verdict, limit: Limit, call: Call, agent: AgentRules, spent: Spent) -> Verdict:
    if limit.writes is not None and spent.writes + 1 > limit.writes:
        why = f"limit {limit.name}: {spent.writes} of {limit.writes} writes are used"
        verdict = stricter(verdict, Verdict(outcome=limit.beyond, rule=limit.name, why=why))
    if limit.money is None:
        return verdict
    if not call.priced:
        why = f"limit {limit.name} counts money, and the price is not known yet"
        return stricter(verdict, Verdict(outcome="ask", rule=limit.name, why=why, price_needed=True))
    if call.price is None:
        outcome: Outcome = "deny" if agent.approval == "never" else "ask"
        why = f"limit {limit.name} counts money, and the price is not known"
        return stricter(verdict, Verdict(outcome=outcome, rule=limit.name, why=why))
    if call.currency != limit.currency:
        why = f"limit {limit.name} counts {limit.currency}, and the price is in {call.currency or 'no currency'}"
        return stricter(verdict, Verdict(outcome=limit.beyond, rule=limit.name, why=why))
    if spent.money + call.price > Decimal(str(limit.money)):
        why = f"limit {limit.name}: {spent.money:f} of {limit.money:g} {limit.currency} are used, this costs {call.price:f}"
        return stricter(verdict, Verdict(outcome=limit.beyond, rule=limit.name, why=why))
    return verdict


def _revoked(revocation: Revocation) -> str:
    by = f" by {revocation.by}" if revocation.by else ""
    return f"the right to this call was taken back{by}" + (f": {revocation.reason}" if revocation.reason else "")
