"""Rules in files: the examples of the documentation, and what is said of mistakes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from infra.cli.policy_file import BadPolicyFile, read_policy
from schemas.policy import Outcome, Policy, Verdict
from services.policy.judging import AgentRules, Spent, judge
from services.policy.matching import Call

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
WORKDAY = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # Monday, 10:00 in Shanghai, 03:00 in Paris
EVENING = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # 20:00 in Shanghai, 13:00 in Paris


def example(name: str, folder: Path) -> Policy:
    """An example of the page, read as a person's file."""
    blocks = re.findall(r"```yaml\n# example: (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = folder / "policy.yaml"
    file.write_text(dict(blocks)[name])
    return read_policy(file)[0]


def call(tool: str = "RenewInstance", **fields: object) -> Call:
    values: dict[str, object] = {"effect": "write", "agent": "ops", "user": "ann", "priced": True, "currency": "CNY"}
    return Call(tool=tool, **(values | {"arguments": {"Period": 1, "PeriodUnit": "Month"}} | fields))  # type: ignore[arg-type]


def judged(policy: Policy, each: Call, now: datetime = WORKDAY, **spent: Spent) -> Verdict:
    return judge(policy, AgentRules(), each, (), (), {name.replace("_", "-"): each for name, each in spent.items()}, now)


DELETE = call("DeleteInstance", effect="destructive", arguments={"InstanceId": "i-web-1"})
DELETE_PROD = call("DeleteInstance", effect="destructive", arguments={"InstanceId": "i-prod-1"})


@pytest.mark.parametrize(
    ("each", "now", "outcome", "rule"),
    [
        (DELETE_PROD, WORKDAY, "deny", "production-stays"), (DELETE, WORKDAY, "ask", "two-people-delete"),
        (call(agent="trainee"), WORKDAY, "dry_run", "trainee"), (call(), EVENING, "ask", "after-hours"),
        (call(arguments={"Period": 12, "PeriodUnit": "Month"}), WORKDAY, "ask", "approval"),
        (call(ungrounded=("Period",)), EVENING, "ask", "after-hours"),
    ],
)  # fmt: skip
def test_the_example_of_operations(tmp_path: Path, each: Call, now: datetime, outcome: Outcome, rule: str) -> None:
    found = judged(example("operations", tmp_path), each, now)
    assert (found.outcome, found.rule) == (outcome, rule)


def test_the_limits_of_the_example(tmp_path: Path) -> None:
    policy = example("operations", tmp_path)
    price = call(price=Decimal(296))
    assert judged(policy, price).rule == "short-renewals"
    assert judged(policy, price, money_a_day=Spent(9, Decimal("4704"))).outcome == "allow"
    assert judged(policy, price, money_a_day=Spent(9, Decimal("4704.01"))).rule == "money-a-day"
    assert judged(policy, price, calm=Spent(20)).outcome == "deny"
    delete = judged(policy, DELETE)
    assert (delete.four_eyes, delete.approvers, delete.expires_s) == (True, ("lead-*",), 1800)


def test_the_careful_example(tmp_path: Path) -> None:
    policy = example("careful", tmp_path)
    assert judged(policy, call(), WORKDAY).rule == "night"
    assert judged(policy, call(), EVENING).rule == "everything"
    assert judged(policy, call(ungrounded=("Period",)), EVENING).outcome == "deny"


def refused(folder: Path, text: str) -> BadPolicyFile:
    file = folder / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadPolicyFile) as error:
        read_policy(file)
    assert error.value.hint and "bad.yaml" in error.value.what
    return error.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n- name: a\n  then: never\n", "line 3, rules[0].then"),
        (
            "rules:\n- name: a\n  when:\n    effcts: [write]\n  then: ask\n",
            "line 4, rules[0].when.effcts: there is no such field; did",
        ),
        ("rules:\n- name: a\n  then: ask\n- name: b\n", "line 4, rules[1].then: Field required"),
        (
            "rules:\n- {name: a, then: ask, when: {hours: {zone: Mars}}}\n",
            "line 2, rules[0].when.hours.zone: there is no time zone",
        ),
        ("rules: [\n", "line 2, column 1"),
        ("rules:\n\t- name: a\n", "line 2, column 1"),
        ("rules: []\nlimits: []\nrules: []\n", "the second time in line 3"),
        ("just words", "does not begin with fields"),
        ("rules: {name: a}\n", "line 1, rules"),
        ("a: &a [*a]\n", "*a in line 1"),
        ("rules: !!python/object/apply:os.system [id]\n", ""),
        ("rules:\n- name: a\n  when: {tools: RenewInstance}\n  then: ask", "line 3, rules[0].when.tools: it is a list"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text).why


def test_a_file_that_is_empty_or_not_there(tmp_path: Path) -> None:
    assert "empty" in refused(tmp_path, "# nothing\n").what
    with pytest.raises(BadPolicyFile, match="cannot be read"):
        read_policy(tmp_path / "nowhere.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadPolicyFile, match="cannot be read"):
        read_policy(tmp_path / "bytes.yaml")


def test_times_and_arguments_are_read_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    when = "{hours: {from: 22:00, to: 06:30}, arguments: {Period: 12, Force: true, Name: no, Empty: null}}"
    file.write_text(f"rules: [{{name: on, then: ask, when: {when}}}]\n")
    (rule,) = read_policy(file)[0].rules
    assert rule.name == "on" and rule.when.hours is not None
    assert (rule.when.hours.from_, rule.when.hours.to) == ("22:00", "06:30")
    assert rule.when.arguments == {"Period": "12", "Force": "true", "Name": "no", "Empty": "null"}


def test_json_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"rules": [{"name": "a", "then": "ask"}], "ungrounded": "deny"}')
    assert read_policy(file)[0].ungrounded == "deny"
