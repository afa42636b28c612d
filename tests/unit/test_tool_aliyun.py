"""ECS cards, plans and outcomes, without a cloud."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from schemas.errors import MilepostError
from tool_adapters.aliyun.answers import result_of_answer
from tool_adapters.aliyun.apis import APIS, READS, WRITES, Api
from tool_adapters.aliyun.calendar import renewed_until
from tool_adapters.aliyun.cards import card_of
from tool_adapters.aliyun.client import EcsConfig, translated
from tool_adapters.aliyun.ecs import KINDS, EcsTool
from tool_adapters.aliyun.look import State
from tool_adapters.aliyun.sdk import first_sentence, parameters_of
from tool_adapters.aliyun.writes import WRITE_KINDS
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidTool,
    Outcome,
    OutcomeUnknown,
    ToolRefused,
    ToolUnavailable,
)

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", write_key="k" * 32)


def api(action: str) -> Api:
    return next(one for one in APIS if one.action == action)


def properties(action: str) -> Mapping[str, Mapping[str, object]]:
    found = card_of(api(action)).parameters["properties"]
    assert isinstance(found, dict)
    return found


def test_types_names_and_texts_come_from_the_sdk() -> None:
    assert properties("RenewInstance") == {
        "InstanceId": {"type": "string", "description": "The ID of the instance that you want to renew."},
        "Period": {"type": "integer", "description": "The renewal period for the subscription instance."},
        "PeriodUnit": {"type": "string", "description": "The unit of the renewal period.", "enum": ["Week", "Month"]},
    }
    assert properties("StopInstances")["InstanceId"]["type"] == "array"
    assert properties("StopInstance")["ForceStop"]["type"] == "boolean"
    assert properties("TagResources")["Tag"]["items"] == {
        "type": "object",
        "properties": {
            "Key": {"type": "string", "description": "The tag key."},
            "Value": {"type": "string", "description": "The tag value."},
        },
        "additionalProperties": False,
    }


def test_arrays_that_travel_as_json_text_are_arrays_to_the_model() -> None:
    assert properties("DescribeInstances")["InstanceIds"]["type"] == "array"
    assert parameters_of("DescribeInstances")["InstanceIds"].json_text
    assert not parameters_of("StopInstances")["InstanceId"].json_text


def test_what_the_tool_fills_is_not_asked_of_the_model() -> None:
    assert parameters_of("StopInstances")["RegionId"].required
    assert card_of(api("StopInstances")).parameters["required"] == ["InstanceId"]
    assert "ClientToken" not in properties("RenewInstance")
    assert "DryRun" not in properties("StopInstance")


@pytest.mark.parametrize("one", APIS, ids=lambda one: one.action)
def test_our_table_says_nothing_that_the_sdk_does_not(one: Api) -> None:
    known = parameters_of(one.action)

    for name, values in one.choices.items():
        assert all(value in known[name].doc for value in values), name
    assert set(one.required) <= set(one.parameters)
    assert (one.idempotency == "key") == ("ClientToken" in known)


@pytest.mark.parametrize("one", APIS, ids=lambda one: one.action)
def test_cards_are_short_and_speak_both_languages(one: Api) -> None:
    card = card_of(one)

    assert len(json.dumps(card.parameters)) < (1400 if one.action == "RunInstances" else 800)
    assert len(card.description) <= 110
    assert any(text.isascii() for text in card.examples)
    assert any(not text.isascii() for text in card.examples)
    assert card.lane == "aliyun"


def test_there_are_at_least_33_and_every_write_can_be_planned() -> None:
    assert len({one.action for one in APIS}) >= 33
    assert {one.action for one in WRITES} == set(KINDS)
    assert all(one.effect == "read" for one in READS)
    assert all(one.effect != "read" for one in WRITES)


def test_an_api_or_parameter_that_the_sdk_lacks_is_refused() -> None:
    with pytest.raises(InvalidTool, match="MakeCoffee"):
        parameters_of("MakeCoffee")
    with pytest.raises(InvalidTool, match="Sugar"):
        card_of(Api("RenewInstance", "Renew.", ("Sugar",), ("x",)))


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("The [region](https://x) of **it**. You can ask.", "The region of it."),
        ("The unit. Valid values:\n\n- Week.\n- Month.", "The unit."),
        ("> Not public.\nThe ID.\n\nThis parameter is required.", "The ID."),
        ("", ""),
    ],
)
def test_first_sentences(doc: str, text: str) -> None:
    assert first_sentence(doc) == text


@pytest.mark.parametrize(
    ("expires", "period", "unit", "end"),
    [
        ("2026-12-01T16:00Z", 3, "Month", "2027-03-01T16:00Z"),
        ("2026-12-01T16:00Z", 12, "Month", "2027-12-01T16:00Z"),
        ("2026-11-30T16:00Z", 3, "Month", "2027-02-28T16:00Z"),  # 1 December in China -> 1 March
        ("2027-01-30T16:00Z", 1, "Month", "2027-02-27T16:00Z"),  # 31 January in China -> 28 February
        ("2026-12-01T16:00Z", 2, "Week", "2026-12-15T16:00Z"),
    ],
)
def test_new_expiry(expires: str, period: int, unit: str, end: str) -> None:
    assert renewed_until(expires, period, unit) == end


def on(**changed: object) -> State:
    """The state of one instance."""
    return {"instances": [{"InstanceId": "i-1", "InstanceName": "web"} | changed]}


OLD = {"Status": "Running", "StartTime": "2026-01-01T00:00Z"}


@pytest.mark.parametrize(
    ("action", "arguments", "planned", "now", "outcome"),
    [
        ("RenewInstance", {"Period": 1}, on(ExpiredTime="2026-12-01T16:00Z"), on(ExpiredTime="2026-12-01T16:00Z"), "not_happened"),  # noqa: E501
        ("RenewInstance", {"Period": 1}, on(ExpiredTime="2026-12-01T16:00Z"), on(ExpiredTime="2027-01-01T16:00Z"), "happened"),
        ("RenewInstance", {"Period": 1}, on(ExpiredTime="2026-12-01T16:00Z"), on(ExpiredTime="2027-06-01T16:00Z"), "unknown"),
        ("RenewInstance", {"Period": 1}, on(ExpiredTime="2026-12-01T16:00Z"), {"instances": []}, "unknown"),
        ("StopInstance", {}, on(**OLD), on(**OLD), "not_happened"),
        ("StopInstance", {}, on(**OLD), on(**OLD | {"Status": "Stopping"}), "happened"),
        ("StopInstance", {}, on(**OLD), on(**OLD | {"StartTime": "2026-02-01T00:00Z"}), "unknown"),
        ("StartInstance", {}, on(Status="Stopped"), on(Status="Running"), "happened"),
        ("RebootInstance", {}, on(**OLD), on(**OLD), "unknown"),
        ("RebootInstance", {}, on(**OLD), on(**OLD | {"StartTime": "2026-02-01T00:00Z"}), "happened"),
        ("DeleteInstance", {}, on(Status="Stopped"), {"instances": []}, "happened"),
        ("DeleteInstance", {}, on(Status="Stopped"), on(Status="Stopped"), "not_happened"),
        ("ModifyInstanceAttribute", {"InstanceName": "x"}, on(), on(InstanceName="x"), "happened"),
        ("ModifyInstanceAttribute", {"InstanceName": "x"}, on(), on(), "not_happened"),
        ("ModifyInstanceAttribute", {"InstanceName": "x"}, on(), on(InstanceName="y"), "unknown"),
        ("TagResources", {"Tag": [{"Key": "a", "Value": "b"}]}, on(Tags={}), on(Tags={"a": "b", "c": "d"}), "happened"),
        ("TagResources", {"Tag": [{"Key": "a", "Value": "b"}]}, on(Tags={}), on(Tags={}), "not_happened"),
        ("ModifyInstanceAutoRenewAttribute", {"AutoRenew": True}, on(AutoRenew="off"), on(AutoRenew="every 1 month"), "happened"),  # noqa: E501
        ("RunCommand", {"CommandContent": "ls"}, on(last={}), on(last={"InvokeId": "t", "CommandContent": "bHM="}), "happened"),
        ("RunCommand", {"CommandContent": "ls"}, on(last={}), on(last={"InvokeId": "t", "CommandContent": "cm0="}), "unknown"),
        ("RunCommand", {"CommandContent": "ls"}, on(last={}), on(last={}), "not_happened"),
        ("CreateSnapshot", {"SnapshotName": "n"}, {"last": {}}, {"last": {"SnapshotName": "n"}}, "happened"),
        ("CreateSnapshot", {}, {"last": {}}, {"last": {"SnapshotName": "n"}}, "unknown"),
    ],
)  # fmt: skip
def test_whether_a_write_happened(
    action: str, arguments: dict[str, object], planned: State, now: State, outcome: Outcome
) -> None:
    assert WRITE_KINDS[action].outcome(arguments, planned, now) == outcome


def sdk_error(code: str, status: int) -> Exception:
    from alibabacloud_tea_openapi.exceptions import ClientException

    error: Exception = ClientException(status_code=status, code=code, message="m", data={"Message": "no"}, request_id="R")
    return error


@pytest.mark.parametrize(
    ("code", "status", "writing", "expected"),
    [
        ("Throttling.User", 400, True, ToolUnavailable),
        ("ServiceUnavailable", 503, True, ToolUnavailable),
        ("IdempotentProcessing", 400, True, ToolUnavailable),
        ("IncorrectInstanceStatus", 403, True, ToolRefused),
        ("InternalError", 500, True, OutcomeUnknown),
        ("InternalError", 500, False, ToolUnavailable),
    ],
)
def test_what_the_providers_errors_mean(code: str, status: int, writing: bool, expected: type[Exception]) -> None:
    error = translated("StopInstance", sdk_error(code, status), writing=writing)

    assert type(error) is expected
    assert code in str(error)


def test_an_error_that_nobody_knows_leaves_a_write_in_doubt() -> None:
    assert type(translated("StopInstance", ValueError("?"), writing=True)) is OutcomeUnknown
    assert type(translated("DescribeInstances", ValueError("?"), writing=False)) is ToolUnavailable


def test_plain_http_is_for_this_machine_and_secrets_are_not_shown() -> None:
    with pytest.raises(MilepostError, match="plain http"):
        EcsConfig(endpoint="ecs.example.com", protocol="http")
    with pytest.raises(MilepostError, match="plain http"):
        EcsConfig(protocol="http")
    with pytest.raises(MilepostError, match="secret"):
        EcsConfig(access_key_id="a")
    assert EcsConfig(endpoint="[::1]:80", protocol="http").is_loopback
    assert "hidden" not in repr(EcsConfig(access_key_id="a", access_key_secret="hidden", security_token="hidden"))


def test_the_model_reads_rows_and_programs_everything() -> None:
    answer = {
        "RequestId": "R",
        "TotalCount": 3,
        "NextToken": "1",
        "Instances": {
            "Instance": [{"InstanceId": "i-1", "Status": "Running", "PublicIpAddress": {"IpAddress": ["1.2.3.4"]}, "Sn": 1}]
        },
    }

    result = result_of_answer(api("DescribeInstances"), answer)

    assert result.text == "1 of 3 shown.\nInstanceId: i-1, Status: Running, PublicIpAddress: 1.2.3.4\nMore with NextToken=1"
    assert result.parts[0].json_value == {name: value for name, value in answer.items() if name != "RequestId"}


class Scripted:
    """ECS that answers from a table and keeps what it was asked."""

    region = "cn-hangzhou"

    def __init__(self, **answers: dict[str, object]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, object], bool]] = []

    async def ask(
        self, action: str, arguments: Mapping[str, object], *, timeout_s: float, writing: bool = False
    ) -> dict[str, object]:
        self.asked.append((action, dict(arguments), writing))
        return self.answers.get(action, {})


async def test_the_write_key_and_the_region_go_along() -> None:
    ecs = Scripted(RenewInstance={"OrderId": "7", "RequestId": "R"})
    await EcsTool(api("RenewInstance"), ecs).call({"InstanceId": "i-1", "Period": 3}, CONTEXT)
    await EcsTool(api("DescribeInstances"), ecs).call({"InstanceIds": ["i-1"]}, CONTEXT)

    assert ecs.asked[0] == ("RenewInstance", {"InstanceId": "i-1", "Period": 3, "ClientToken": "k" * 32}, True)
    assert ecs.asked[-1] == ("DescribeInstances", {"InstanceIds": '["i-1"]', "RegionId": "cn-hangzhou"}, False)


async def test_wrong_arguments_are_never_sent() -> None:
    ecs = Scripted()

    with pytest.raises(InvalidArguments):
        await EcsTool(api("RenewInstance"), ecs).call({"InstanceId": "i-1", "Period": "three"}, CONTEXT)

    assert ecs.asked == []


async def test_a_provider_that_ignores_dry_runs_is_noticed() -> None:
    found: dict[str, object] = {"Instances": {"Instance": [{"InstanceId": "i-1", "Status": "Running"}]}}

    with pytest.raises(ToolRefused, match="dry run"):
        await EcsTool(api("StopInstance"), Scripted(DescribeInstances=found)).plan({"InstanceId": "i-1"}, CONTEXT)


async def test_without_the_planned_state_nobody_can_know() -> None:
    assert (await EcsTool(api("StopInstance"), Scripted()).reconcile({"InstanceId": "i-1"}, CONTEXT)).outcome == "unknown"
