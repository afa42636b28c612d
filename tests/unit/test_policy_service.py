"""The policy service: what it reads of a call, what it counts, what it keeps, and what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runtime.errors import Permanent
from runtime.memory_broker import MemoryBroker
from runtime.service import Context, Service
from schemas import subjects
from schemas.canonical import digest
from schemas.commands import AnyCommand, JudgeCall, KeepGrant, RequestApproval
from schemas.envelope import Order
from schemas.errors import MilepostError, ProtocolError
from schemas.events import AnyEvent, ApprovalRefused, CallJudged, GrantKept
from schemas.ids import RunId
from schemas.policy import Policy, Revocation, Verdict
from services.policy.material import agent_rules, price_of
from services.policy.memory_store import MemoryPolicyStore
from services.policy.questions import Questions
from services.policy.service import policy_service
from services.policy.validity import BadPolicy
from tests.support.builders import NOW, TENANT, call, fact_of, order_for, run_of

AGENT = {"name": "ops", "approval": "writes", "policy": []}
MATERIAL: dict[str, object] = {"user": "ann", "conversation": "talk", "agent": AGENT}


class Stage:
    """A policy service in one process, with a clock of the test's."""

    def __init__(self) -> None:
        self.moment = NOW
        self.broker, self.store = MemoryBroker(), MemoryPolicyStore()
        self.questions = Questions(self.store, self, self._tell)
        self.service: Service = policy_service(self.store, self, journal=self.broker, questions=self.questions)
        self.told: list[tuple[str, bytes]] = []

    def now(self) -> datetime:
        return self.moment

    async def _tell(self, subject: str, data: bytes) -> None:
        self.told.append((subject, data))

    async def _append(self, run: RunId, slot: str, event: AnyEvent) -> bool:
        raise AssertionError("policy says nothing in other runs")

    async def do(
        self, command: AnyCommand, material: Mapping[str, object] | None = None, *, id: str = "c1", run: RunId | None = None
    ) -> AnyEvent:
        order: Order = order_for(command, run=run, id=digest(id))
        order.material.update(MATERIAL if material is None else material)
        context = Context(order, 1, self._append, self._tell)
        return await self.service.handlers[type(command)](command, context)

    async def judge(
        self, command: JudgeCall | None = None, material: Mapping[str, object] | None = None, **where: Any
    ) -> Verdict:
        event = await self.do(command or JUDGE, material, **where)
        assert isinstance(event, CallJudged)
        return event.verdict

    async def ask(self, verb: str, **question: object) -> Any:
        raw = json.dumps({"tenant": TENANT, **question}).encode()
        return json.loads(await self.service.answers[verb](raw))

    async def set(self, *rules: object, limits: tuple[object, ...] = (), **more: object) -> None:
        await self.ask("set_policy", policy={"rules": rules, "limits": limits, **more}, by="ann")


JUDGE = JudgeCall(call=call("renew", "c1", months=1), effect="write", tool_lane="cloud")
DENY = {"name": "no", "then": "deny"}
ALLOW = {"name": "yes", "then": "allow"}
TWO = {"name": "two", "window_s": 3600, "writes": 2}


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- what the conductor says of a call ---


async def test_a_call_of_which_nothing_is_said_is_asked_about(stage: Stage) -> None:
    assert (await stage.judge(material={})).outcome == "ask"
    assert (await stage.judge(material={"agent": {"name": "ops", "approval": "of course"}})).outcome == "ask"


@pytest.mark.parametrize(
    "policy", [[{"name": "x"}], "allow", [{"name": "x", "then": "allow", "when": {"hours": {"zone": "Mars/Olympus"}}}]]
)
async def test_rules_of_an_agent_that_cannot_be_read_refuse(stage: Stage, policy: object) -> None:
    found = await stage.judge(material={**MATERIAL, "agent": {"name": "ops", "approval": "never", "policy": policy}})
    assert found.outcome == "deny" and "cannot be read" in found.why


async def test_an_agents_own_rules_count(stage: Stage) -> None:
    agent = {**AGENT, "policy": [{"name": "mine", "then": "dry_run", "when": {"tools": ["ren*"]}}]}
    assert (await stage.judge(material={**MATERIAL, "agent": agent})).rule == "mine"
    assert agent_rules(agent).rules[0].name == "mine"


async def test_a_revoked_run_takes_the_runs_below_it_along(stage: Stage) -> None:
    root = run_of("root")
    await stage.ask("revoke", run=root, by="eve")
    parent = {"run": run_of("middle"), "root": root, "command": "c", "depth": 2}
    assert (await stage.judge(material={**MATERIAL, "parent": parent})).outcome == "deny"
    assert (await stage.judge()).outcome == "ask"


async def test_a_read_is_not_judged(stage: Stage) -> None:
    with pytest.raises(Permanent, match="not judged"):
        await stage.judge(JUDGE.model_copy(update={"effect": "read"}))


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("12.50", Decimal("12.5")),
        (" 0 ", Decimal(0)),
        ("", None),
        ("3,600.00", None),
        ("-1", None),
        ("NaN", None),
        (None, None),
    ],
)
def test_a_price_is_a_number_or_it_is_not_known(text: str | None, price: Decimal | None) -> None:
    assert price_of(text) == price


# --- rules ---


async def test_the_verdict_names_the_rules_it_came_from(stage: Stage) -> None:
    await stage.set(DENY)
    first = await stage.judge()
    await stage.set(ALLOW)
    second = await stage.judge()
    assert (first.outcome, second.outcome) == ("deny", "allow") and first.policy != second.policy
    assert second.policy == Policy.model_validate({"rules": [ALLOW]}).hash()


async def test_rules_are_refused_with_all_that_is_wrong(stage: Stage) -> None:
    bad = {"name": "x", "then": "allow", "when": {"tols": ["x"]}}
    with pytest.raises(BadPolicy) as error:
        await stage.set(bad, {"name": "x", "then": "perhaps"})
    assert "rules[0].when.tols" in error.value.why and "did you mean tools?" in error.value.why
    assert "rules[1].then" in error.value.why
    assert (await stage.ask("get_policy"))["version"] == 0


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"rules": [DENY, DENY]}, "rules[1].name: no is named twice"),
        ({"limits": [{"name": "x", "window_s": 1}]}, "limits[0]: a limit says how many writes"),
        ({"limits": [{"name": "x", "window_s": 1, "money": 1}]}, "limits[0].currency"),
        ({"rules": [{"name": "x", "then": "deny", "four_eyes": True}]}, "asks nobody"),
        ({"rules": [{"name": "x", "then": "ask", "when": {"hours": {"zone": "Asia/Beijing"}}}]}, "no time zone 'Asia/Beijing'"),
        ({"rules": [{"name": "x", "then": "ask", "when": {"hours": {"zone": "../etc/passwd"}}}]}, "no time zone"),
        ({"rules": [{"name": "x", "then": "ask", "when": {"hours": {"days": []}}}]}, "never come"),
        ({"rules": [{"name": "x", "then": "ask", "when": {"hours": {"from": "9:00"}}}]}, "a time is written 09:00"),
    ],
)  # fmt: skip
async def test_rules_that_make_no_sense_are_refused(stage: Stage, policy: object, said: str) -> None:
    with pytest.raises(BadPolicy) as error:
        await stage.ask("set_policy", policy=policy, by="ann")
    assert said in error.value.why


async def test_setting_rules_says_what_changes_and_what_is_never_reached(stage: Stage) -> None:
    await stage.set(DENY, {"name": "b", "then": "ask"}, limits=(TWO,))
    rules = [{"name": "b", "then": "ask"}, {**DENY, "then": "dry_run"}, ALLOW]
    dry = await stage.ask("set_policy", policy={"rules": rules, "ungrounded": "deny"}, by="bob", dry=True)
    put = await stage.ask("set_policy", policy={"rules": rules, "ungrounded": "deny"}, by="bob", note="quieter")
    assert isinstance(dry, dict) and isinstance(put, dict) and dry["changes"] == put["changes"]
    assert dry["changes"] == [
        '~ rule no: then "deny" -> "dry_run"', "+ rule yes: then allow", "~ order of rules: b, no", "- limit two",
        "~ ungrounded: ask -> deny",
    ]  # fmt: skip
    assert (dry["version"], put["version"]) == (1, 2) and "never reached are no, yes" in put["warnings"][0]
    history = await stage.ask("history")
    assert [(each["by"], each["detail"]) for each in history] == [("bob", "quieter"), ("ann", "")]


@pytest.mark.parametrize("verb", ["set_policy", "check", "revoke", "lift", "revoke_grant", "forget", "grants"])
async def test_a_question_without_sense_is_refused(stage: Stage, verb: str) -> None:
    with pytest.raises(ProtocolError):
        await stage.service.answers[verb](b'{"tenant": "no tenant!"}')
    with pytest.raises(ProtocolError):
        await stage.service.answers[verb](b"[1]")


# --- grants ---


def keep(scope: str, approval: str = "a1") -> KeepGrant:
    return KeepGrant(call=JUDGE.call, scope=scope, approval=approval, by="bob")


async def test_a_grant_is_kept_once_however_often_it_is_told(stage: Stage) -> None:
    first = await stage.do(keep("always"))
    again = await stage.do(keep("always"), id="c2")
    assert isinstance(first, GrantKept) and isinstance(again, GrantKept) and first.grant == again.grant
    grants = await stage.ask("grants")
    assert isinstance(grants, list) and [each["arguments"] for each in grants] == [{"months": 1}]


async def test_a_grant_turns_a_question_into_leave_until_it_is_revoked(stage: Stage) -> None:
    kept = await stage.do(keep("conversation"))
    assert isinstance(kept, GrantKept)
    other = {**MATERIAL, "conversation": "another"}
    assert (await stage.judge()).grant == kept.grant
    assert (await stage.judge(material=other)).outcome == "ask"
    await stage.ask("revoke_grant", id=kept.grant, by="ann")
    assert (await stage.judge()).outcome == "ask"
    with pytest.raises(MilepostError, match="no standing approval"):
        await stage.ask("revoke_grant", id="nothing", by="ann")


async def test_a_grant_of_an_agent_without_a_name_covers_nothing(stage: Stage) -> None:
    await stage.do(keep("always"), {})
    assert (await stage.judge(material={})).outcome == "ask"


# --- rights taken back ---


async def test_what_is_taken_back_is_kept_and_told_to_every_host(stage: Stage) -> None:
    told = await stage.ask("revoke", agent="ops", by="eve", reason="runs wild", for_s=60)
    assert (await stage.judge()).outcome == "deny"
    assert [subject for subject, _ in stage.told] == [subjects.revoke(TENANT)]
    assert Revocation.model_validate_json(stage.told[0][1]) == Revocation.model_validate(told)
    assert len(await stage.ask("revocations")) == 1
    stage.moment += timedelta(seconds=60)
    assert (await stage.judge()).outcome == "ask" and await stage.ask("revocations") == []


async def test_what_is_lifted_holds_no_more_and_hosts_hear_of_it(stage: Stage) -> None:
    told = await stage.ask("revoke", by="eve")
    stage.moment += timedelta(seconds=1)
    await stage.ask("lift", id=told["id"], by="ann")
    lifted = Revocation.model_validate_json(stage.told[-1][1])
    assert (await stage.judge()).outcome == "ask"
    assert lifted.id == told["id"] and lifted.until == stage.moment
    with pytest.raises(MilepostError, match="Nothing was taken back"):
        await stage.ask("lift", id="nothing", by="ann")


# --- limits ---


def nth(number: int) -> dict[str, Any]:
    return {"id": f"judge{number}", "run": run_of(f"run{number}")}


async def test_of_fifty_calls_at_once_the_limit_lets_five_through(stage: Stage) -> None:
    await stage.set(ALLOW, limits=({**TWO, "writes": 5},))
    found = await asyncio.gather(*(stage.judge(**nth(number)) for number in range(50)))
    assert [each.outcome for each in found].count("allow") == 5
    assert {each.rule for each in found if each.outcome == "deny"} == {"two"}


async def test_a_call_that_comes_again_is_counted_once(stage: Stage) -> None:
    await stage.set(ALLOW, limits=(TWO,))
    for _ in range(5):
        assert (await stage.judge(**nth(1))).outcome == "allow"
    assert (await stage.judge(**nth(2))).outcome == "allow"
    assert (await stage.judge(**nth(3))).outcome == "deny"
    stage.moment += timedelta(hours=1)
    assert (await stage.judge(**nth(3))).outcome == "allow"


async def test_a_refused_call_gives_its_place_back(stage: Stage) -> None:
    await stage.set({"name": "ask", "then": "ask"}, limits=({**TWO, "writes": 1},))
    first = run_of("run1")
    event = await stage.do(JUDGE, id="judge1", run=first)
    assert (await stage.judge(**nth(2))).outcome == "deny"
    ask = RequestApproval(call=JUDGE.call, plan="p", approval_hash="h", expires=NOW)
    await stage.broker.append(fact_of(event, first, digest("judge1")))
    await stage.broker.append(fact_of(ApprovalRefused(command=ask, by="bob"), first, "ask"))
    assert (await stage.judge(**nth(2))).outcome == "ask"
    assert (await stage.judge(**nth(3))).outcome == "deny", "the place is taken again"


async def test_money_is_counted_once_the_price_is_known(stage: Stage) -> None:
    await stage.set(ALLOW, limits=({"name": "money", "window_s": 3600, "money": 100, "currency": "CNY"},))
    priced = JUDGE.model_copy(update={"price": "60.00", "currency": "CNY"})
    assert (await stage.judge(**nth(1))).price_needed
    assert (await stage.ask("spent"))[0]["writes"] == 0
    assert (await stage.judge(priced, **nth(1))).outcome == "allow"
    assert (await stage.judge(priced, **nth(2))).outcome == "deny"
    used = await stage.ask("spent")
    assert isinstance(used, list) and (used[0]["money"], used[0]["of_money"], used[0]["bucket"]) == ("60", 100, "")


async def test_what_is_used_is_shown_for_each_whose_calls_are_counted(stage: Stage) -> None:
    await stage.set(ALLOW, limits=(TWO,))
    assert [(each["bucket"], each["writes"]) for each in await stage.ask("spent")] == [("", 0)]
    await stage.judge(**nth(1))
    assert [(each["bucket"], each["writes"]) for each in await stage.ask("spent")] == [("", 1)]
    await stage.set(ALLOW, limits=({**TWO, "per": "agent"},))
    assert await stage.ask("spent") == []
    await stage.judge(**nth(2))
    assert [(each["bucket"], each["writes"]) for each in await stage.ask("spent")] == [("ops", 1)]


# --- trying out ---


async def test_a_check_says_what_would_become_of_a_call_and_counts_nothing(stage: Stage) -> None:
    await stage.set(ALLOW, limits=(TWO,))
    await stage.judge(**nth(1))
    asked = {"tool": "renew", "effect": "write", "agent": "ops", "user": "ann"}
    for _ in range(3):
        told = await stage.ask("check", **asked)
        assert isinstance(told, dict) and told["verdict"]["outcome"] == "allow"
    assert [(each["limit"], each["writes"], each["of_writes"]) for each in told["limits"]] == [("two", 1, 2)]


async def test_a_check_of_other_rules_at_another_time(stage: Stage) -> None:
    night = {"name": "night", "then": "deny", "when": {"outside_hours": {"from": "08:00", "to": "20:00"}}}
    asked = {"tool": "renew", "effect": "write", "policy": {"rules": [night, ALLOW]}}
    found = [await stage.ask("check", **asked, at=at) for at in ("2026-11-23T12:00:00Z", "2026-11-23T23:00:00Z")]
    assert [each["verdict"]["rule"] for each in found] == ["yes", "night"]
    read = await stage.ask("check", tool="look", effect="read")
    assert isinstance(read, dict) and read["verdict"]["outcome"] == "allow"
    with pytest.raises(BadPolicy):
        await stage.ask("check", **{**asked, "policy": {"rule": []}})
