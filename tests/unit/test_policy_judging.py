"""What the rules come to for one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.policy import Grant, Limit, Outcome, Policy, Revocation, Rule, Verdict, When
from services.policy.judging import STRICTNESS, AgentRules, Approval, Spent, counters, judge, stricter
from services.policy.matching import Call

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # a Monday, 10:00 in Hangzhou
RENEW = Call(
    tool="RenewInstance", effect="write", lane="builtin", arguments={"InstanceId": "i-1", "Period": 3}, agent="ops",
    user="ann", conversation="talk", runs=("run1",),
)  # fmt: skip
DELETE = Call(tool="DeleteInstance", effect="destructive", lane="builtin", agent="ops", user="ann", runs=("run1",))


def call(of: Call = RENEW, **fields: Any) -> Call:
    values = {name: getattr(of, name) for name in of.__slots__}
    return Call(**(values | fields))


def rule(name: str, then: Outcome, **fields: object) -> Rule:
    when = fields.pop("when", {})
    return Rule.model_validate({"name": name, "then": then, "when": when, **fields})


def verdict(
    of: Call = RENEW, *rules: Rule, approval: Approval = "writes", agent: Sequence[Rule] = (), limits: Sequence[Limit] = (),
    ungrounded: str = "ask", grants: Sequence[Grant] = (), bans: Sequence[Revocation] = (),
    spent: Mapping[str, Spent] | None = None, now: datetime = NOW,
) -> Verdict:  # fmt: skip
    policy = Policy.model_validate({"rules": rules, "limits": limits, "ungrounded": ungrounded})
    return judge(policy, AgentRules(approval, tuple(agent)), of, grants, bans, spent or {}, now)


# --- rules ---


@pytest.mark.parametrize(
    ("approval", "write", "destructive"),
    [("writes", "ask", "ask"), ("destructive", "allow", "ask"), ("never", "allow", "allow")],
)
def test_without_rules_the_agents_approval_decides(approval: Approval, write: Outcome, destructive: Outcome) -> None:
    assert verdict(RENEW, approval=approval).outcome == write
    assert verdict(DELETE, approval=approval).outcome == destructive
    assert verdict(RENEW, approval=approval).rule == "approval"


def test_the_first_rule_that_fits_decides() -> None:
    rules = (rule("others", "deny", when={"users": ["bob"]}), rule("first", "allow"), rule("second", "deny"))
    assert verdict(RENEW, *rules).rule == "first"
    assert verdict(call(user="bob"), *rules).outcome == "deny"


@pytest.mark.parametrize("tenants", get_args(Outcome))
@pytest.mark.parametrize("agents", get_args(Outcome))
def test_an_agents_rule_is_never_laxer_than_a_tenants(tenants: Outcome, agents: Outcome) -> None:
    found = verdict(RENEW, rule("t", tenants), agent=[rule("a", agents)], approval="never")
    assert STRICTNESS[found.outcome] == max(STRICTNESS[tenants], STRICTNESS[agents])


@pytest.mark.parametrize("servers", [["i-dev-1", "i-prod-2"], '["i-dev-1", "i-prod-2"]'])
def test_one_allowed_server_among_others_lets_nothing_through(servers: object) -> None:
    both = call(arguments={"InstanceIds": servers})
    assert verdict(both, rule("dev", "allow", when={"arguments": {"InstanceIds": "i-dev*"}})).outcome == "ask"
    assert verdict(both, rule("prod", "deny", when={"arguments": {"InstanceIds": "i-prod*"}})).outcome == "deny"
    assert verdict(both, rule("any", "allow", when={"arguments": {"InstanceIds": "i-*"}})).outcome == "allow"


def test_an_agents_rule_goes_before_its_approval_where_no_rule_of_the_tenant_fits() -> None:
    lax = [rule("mine", "allow", when={"tools": ["Renew*"]})]
    assert verdict(RENEW, rule("t", "deny", when={"tools": ["Stop*"]}), agent=lax).rule == "mine"
    assert verdict(DELETE, agent=lax).outcome == "ask"


def test_conditions_of_both_rules_hold_where_both_ask() -> None:
    found = verdict(
        RENEW, rule("t", "ask", approvers=["lead-*"], expires_s=600), agent=[rule("a", "ask", four_eyes=True, expires_s=60)]
    )
    assert (found.rule, found.approvers, found.four_eyes, found.expires_s) == ("t", ("lead-*",), True, 60)


def test_an_agent_whose_rules_cannot_be_read_changes_nothing() -> None:
    found = judge(Policy(), AgentRules("never", unreadable="rules.0: no"), RENEW, (), (), {}, NOW)
    assert found.outcome == "deny" and "rules.0" in found.why


# --- arguments from nowhere ---


NOWHERE = call(ungrounded=("Period", "InstanceId"))


def test_an_argument_that_nobody_named_is_asked_about() -> None:
    found = verdict(NOWHERE, rule("t", "allow"))
    assert (found.outcome, found.rule) == ("ask", "ungrounded")
    assert found.why == "Period, InstanceId: nobody named this"


def test_an_argument_that_nobody_named_is_refused_where_the_tenant_says_so() -> None:
    assert verdict(NOWHERE, rule("t", "allow"), ungrounded="deny").outcome == "deny"


def test_where_an_agent_asks_nobody_it_is_refused() -> None:
    found = verdict(NOWHERE, approval="never")
    assert found.outcome == "deny" and found.why.startswith("Period, InstanceId: nobody named this")
    assert verdict(NOWHERE, rule("t", "ask"), approval="never").outcome == "ask", "a rule of the tenant knows whom to ask"


def test_a_rule_that_speaks_of_such_arguments_decides() -> None:
    lax = rule("lax", "allow", when={"ungrounded": True})
    assert verdict(NOWHERE, lax, ungrounded="deny").outcome == "allow"
    assert verdict(NOWHERE, agent=[lax]).outcome == "allow"
    assert verdict(NOWHERE, agent=[lax], ungrounded="deny").outcome == "deny", "an agent does not overrule its tenant"
    assert verdict(NOWHERE, rule("t", "allow"), agent=[lax]).outcome == "ask"


def test_who_must_approve_a_rule_must_also_approve_what_came_from_nowhere() -> None:
    found = verdict(NOWHERE, rule("t", "allow", approvers=["lead-*"], four_eyes=True))
    assert (found.outcome, found.approvers, found.four_eyes) == ("ask", ("lead-*",), True)


# --- grants ---


def grant(scope: str = "always", of: Call = RENEW, **fields: Any) -> Grant:
    values: dict[str, object] = {
        "id": "g1", "tenant": "acme", "tool": of.tool, "agent": "ops", "scope": scope, "by": "bob", "run": "run0",
        "arguments": dict(of.arguments) if scope == "always" else {}, "since": NOW,
        "conversation": of.conversation if scope == "conversation" else "",
    }  # fmt: skip
    return Grant.model_validate(values | fields)


@pytest.mark.parametrize("scope", ["conversation", "always"])
def test_a_grant_makes_a_question_leave(scope: str) -> None:
    found = verdict(RENEW, grants=[grant(scope)])
    assert (found.outcome, found.grant, found.rule) == ("allow", "g1", "grant")
    assert "bob" in found.why


@pytest.mark.parametrize(
    "other",
    [
        {"tool": "StopInstance"}, {"agent": "other"}, {"agent": ""}, {"conversation": "other"}, {"conversation": ""},
        {"effect": "destructive"}, {"ungrounded": ("Period",)},
    ],
)  # fmt: skip
def test_a_conversations_grant_covers_only_what_could_be_foreseen(other: dict[str, Any]) -> None:
    assert verdict(call(**other), grants=[grant("conversation")]).outcome == "ask"


def test_a_grant_for_arguments_covers_these_alone_in_any_order() -> None:
    one = grant("always")
    assert verdict(call(arguments={"Period": 3, "InstanceId": "i-1"}, conversation="x"), grants=[one]).outcome == "allow"
    assert verdict(call(arguments={"Period": 4, "InstanceId": "i-1"}), grants=[one]).outcome == "ask"
    assert verdict(NOWHERE, grants=[one]).outcome == "ask", "this time nobody wants them: a model has made them up"
    assert verdict(DELETE, grants=[grant("always", DELETE)]).outcome == "allow"


@pytest.mark.parametrize("ended", [{"revoked": NOW}, {"expires": NOW}])
def test_a_grant_that_has_ended_covers_nothing(ended: dict[str, Any]) -> None:
    assert verdict(RENEW, grants=[grant(**ended)]).outcome == "ask"


@pytest.mark.parametrize(
    "strict",
    [rule("t", "ask", four_eyes=True), rule("t", "deny"), rule("t", "dry_run"), rule("t", "ask", approvers=["lead-*"])],
)
def test_a_grant_changes_nothing_but_a_question_that_its_giver_may_answer(strict: Rule) -> None:
    assert verdict(RENEW, strict, grants=[grant()]).outcome == strict.then
    assert verdict(RENEW, strict, grants=[grant(by="lead-1")]).outcome == ("allow" if strict.approvers else strict.then)


# --- rights taken back ---


@pytest.mark.parametrize(
    "named",
    [{}, {"run": "run1"}, {"run": "run0"}, {"tool": "RenewInstance"}, {"agent": "ops"}, {"user": "ann", "agent": "ops"}],
)
def test_what_is_taken_back_is_refused_whatever_else_holds(named: dict[str, Any]) -> None:
    ban = Revocation(id="b", tenant="acme", since=NOW, by="eve", reason="runs wild", **named)
    child = call(runs=("run1", "run0"))
    found = verdict(child, rule("t", "allow"), grants=[grant()], bans=[ban])
    assert (found.outcome, found.rule) == ("deny", "revoked") and "eve: runs wild" in found.why
    assert verdict(child, rule("t", "allow"), bans=[ban.model_copy(update={"until": NOW})]).outcome == "allow"


def test_another_call_is_not_taken_back() -> None:
    ban = Revocation(id="b", tenant="acme", since=NOW, user="ann", agent="other")
    assert verdict(RENEW, rule("t", "allow"), bans=[ban]).outcome == "allow"


# --- limits ---


def limit(**fields: object) -> Limit:
    return Limit.model_validate({"name": "daily", "window_s": 86400, **fields})


def test_the_last_write_of_a_limit_goes_and_the_next_does_not() -> None:
    five = [limit(writes=5)]
    assert verdict(RENEW, approval="never", limits=five, spent={"daily": Spent(4)}).outcome == "allow"
    found = verdict(RENEW, approval="never", limits=five, spent={"daily": Spent(5)})
    assert (found.outcome, found.rule) == ("deny", "daily") and "5 of 5" in found.why


def test_beyond_a_limit_a_person_may_be_asked_and_no_grant_answers_for_them() -> None:
    found = verdict(RENEW, limits=[limit(writes=0, beyond="ask")], grants=[grant()])
    assert (found.outcome, found.rule, found.grant) == ("ask", "daily", None)


def priced(price: str | None, currency: str | None = "CNY") -> Call:
    return call(priced=True, price=Decimal(price) if price else None, currency=currency)


MONEY = [limit(money=100.1, currency="CNY")]


def test_money_needs_the_price_first() -> None:
    found = verdict(RENEW, approval="never", limits=MONEY)
    assert found.price_needed and found.outcome == "ask"
    assert not verdict(RENEW, rule("t", "deny"), limits=MONEY).price_needed


@pytest.mark.parametrize(
    ("spent", "price", "outcome"), [("90", "10.1", "allow"), ("90", "10.11", "deny"), ("0", "200", "deny")]
)
def test_money_is_counted_to_the_cent(spent: str, price: str, outcome: Outcome) -> None:
    found = verdict(priced(price), approval="never", limits=MONEY, spent={"daily": Spent(1, Decimal(spent))})
    assert found.outcome == outcome and not found.price_needed


def test_what_cannot_be_counted_is_not_let_through() -> None:
    assert verdict(priced(None), rule("t", "allow"), limits=MONEY).outcome == "ask"
    assert verdict(priced(None), approval="never", limits=MONEY).outcome == "deny"
    assert verdict(priced("1", "USD"), rule("t", "allow"), limits=MONEY).outcome == "deny"
    assert verdict(priced("0"), rule("t", "allow"), limits=MONEY).outcome == "allow"


def test_a_limit_counts_whose_calls_it_says() -> None:
    policy = Policy(
        limits=(
            limit(name="a", writes=1), limit(name="b", writes=1, per="agent"), limit(name="c", writes=1, per="user"),
            limit(name="d", writes=1, per="tool", window_s=60), limit(name="e", writes=1, when={"tools": ["Stop*"]}),
        )
    )  # fmt: skip
    found = [(each.limit, each.bucket) for each in counters(policy, RENEW, NOW)]
    assert found == [("a", ""), ("b", "ops"), ("c", "ann"), ("d", "RenewInstance")]
    assert counters(policy, RENEW, NOW)[3].since == NOW - timedelta(seconds=60)


def test_many_limits_are_all_kept() -> None:
    both = [limit(name="ask", writes=0, beyond="ask"), limit(name="deny", writes=0), limit(name="more", writes=9)]
    assert verdict(RENEW, approval="never", limits=both).rule == "deny"


# --- whatever is said ---

NAMES = st.sampled_from(["RenewInstance", "DeleteInstance", "ops", "ann", "bob", "*", "Renew*"])
WHENS = st.builds(
    When, tools=st.lists(NAMES, max_size=2).map(tuple), users=st.lists(NAMES, max_size=1).map(tuple),
    effects=st.lists(st.sampled_from(["write", "destructive"]), max_size=1).map(tuple),
    ungrounded=st.sampled_from([None, True, False]),
)  # fmt: skip
RULES = st.builds(
    Rule, name=st.sampled_from(["a", "b", "c"]), when=WHENS, then=st.sampled_from(get_args(Outcome)), four_eyes=st.booleans()
)
LIMITS = st.builds(
    Limit, name=st.sampled_from(["x", "y"]), when=WHENS, window_s=st.just(60.0), writes=st.integers(0, 3),
    beyond=st.sampled_from(["ask", "deny"]),
)  # fmt: skip
CALLS = st.builds(
    call, st.sampled_from([RENEW, DELETE]), user=st.sampled_from(["ann", "bob"]),
    ungrounded=st.sampled_from([(), ("Period",)]),
)  # fmt: skip
SOME_LIMITS = st.lists(LIMITS, max_size=2, unique_by=lambda each: each.name).map(tuple)
POLICIES = st.builds(
    Policy, rules=st.lists(RULES, max_size=4).map(tuple), limits=SOME_LIMITS,
    ungrounded=st.sampled_from(["ask", "deny"]),
)  # fmt: skip
AGENTS = st.builds(AgentRules, st.sampled_from(get_args(Approval)), st.lists(RULES, max_size=3).map(tuple))
SPENT = st.dictionaries(st.sampled_from(["x", "y"]), st.builds(Spent, st.integers(0, 4)))
GRANTS = st.sampled_from([(), (grant(),), (grant("conversation"),), (grant("always", DELETE),)])


@settings(max_examples=200, deadline=None)
@given(POLICIES, AGENTS, CALLS, GRANTS, SPENT)
def test_nothing_weakens_a_refusal(
    policy: Policy, agent: AgentRules, of: Call, grants: tuple[Grant, ...], spent: dict[str, Spent]
) -> None:
    """What holds, however rules, grants and limits are put together."""
    found = judge(policy, agent, of, grants, (), spent, NOW)
    bare = judge(policy, agent, of, (), (), {}, NOW)
    tenants = judge(policy.model_copy(update={"limits": ()}), AgentRules("never"), of, (), (), {}, NOW)

    if bare.outcome in ("deny", "dry_run"):
        assert found.outcome in ("deny", "dry_run"), "no grant, and nothing spent, makes it laxer"
    if bare.outcome == "deny":
        assert found.outcome == "deny"
    if found.outcome == "allow" and bare.outcome != "allow":
        assert found.grant, "only a person's standing approval lets a question through"
        assert not of.ungrounded, "and never for what nobody named"
    if tenants.rule in {rule.name for rule in policy.rules}:
        assert STRICTNESS[found.outcome] >= STRICTNESS[tenants.outcome] or found.grant
    ban = Revocation(id="b", tenant="acme", since=NOW)
    assert judge(policy, agent, of, grants, (ban,), spent, NOW).outcome == "deny"
    more = {name: Spent(each.writes + 1, each.money) for name, each in spent.items()}
    assert STRICTNESS[judge(policy, agent, of, grants, (), more, NOW).outcome] >= STRICTNESS[found.outcome]


@given(*[st.builds(Verdict, outcome=st.sampled_from(get_args(Outcome)), four_eyes=st.booleans())] * 2)
def test_the_stricter_of_two_has_the_conditions_of_both(first: Verdict, second: Verdict) -> None:
    found = stricter(first, second)
    assert STRICTNESS[found.outcome] == max(STRICTNESS[first.outcome], STRICTNESS[second.outcome])
    assert found.four_eyes == (first.four_eyes or second.four_eyes)
