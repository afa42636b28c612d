"""The demo cloud's rules: what each action does to the world, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.demo_cloud.actions import ACTIONS, act
from infra.demo_cloud.catalogue import later
from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.faults import Fault, Faults
from infra.demo_cloud.request import Request
from infra.demo_cloud.seed import SEEDS, fill
from infra.demo_cloud.world import World
from tool_adapters.aliyun.apis import APIS
from tool_adapters.aliyun.calendar import renewed_until

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
WEB = "i-bp1f8k2m9x4q7web01"
PAY_AS_YOU_GO = "i-bp1c3n6v8z2w5api02"
STOPPED = "i-bp1j2s8d6f3g9job01"
LOCKED = "i-bp1e6w4q8a2n5old01"
PROTECTED = "i-bp1h5t9r4y7u1dbm01"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world.sqlite")
    fill(made, NOW)
    yield made
    made.close()


def do(world: World, action: str, *, after: float = 0, **params: str) -> dict[str, object]:
    """Ask the cloud for an action, `after` seconds from the beginning. `InstanceId_1` stands for InstanceId.1."""
    flat = {name.replace("_", "."): value for name, value in params.items()}
    return act(world, Request(action, flat, "R-1", NOW + timedelta(seconds=after)))


def instance(world: World, name: str, after: float = 0) -> dict[str, object]:
    answer = do(world, "DescribeInstances", after=after, RegionId="cn-hangzhou", InstanceIds=f'["{name}"]')
    found = answer["Instances"]["Instance"]  # type: ignore[index]
    return dict(found[0])


def code_of(world: World, action: str, **params: str) -> str:
    """The code with which the cloud refuses."""
    before = world.effects()
    flat = {name.replace("_", "."): value for name, value in params.items()}
    with pytest.raises(CloudError) as caught:
        act(world, Request(action, flat, "R-2", NOW))
    assert world.effects() == before
    return caught.value.code


def test_it_answers_every_api_that_is_a_tool() -> None:
    assert set(ACTIONS) == {one.action for one in APIS}


def test_a_renewal_moves_the_expiry_and_is_journalled(world: World) -> None:
    old = str(instance(world, WEB)["ExpiredTime"])

    answer = do(world, "RenewInstance", InstanceId=WEB, Period="3", PeriodUnit="Month", ClientToken="t1")

    assert instance(world, WEB)["ExpiredTime"] == renewed_until(old, 3, "Month")
    (effect,) = world.effects()
    assert (effect["action"], effect["resource"], effect["order_id"], effect["token"]) == (
        "RenewInstance",
        WEB,
        answer["OrderId"],
        "t1",
    )


def test_the_same_token_has_one_effect_and_one_answer(world: World) -> None:
    first = do(world, "RenewInstance", InstanceId=WEB, Period="3", ClientToken="t1")
    again = do(world, "RenewInstance", InstanceId=WEB, Period="3", ClientToken="t1", after=3600)

    assert again == first
    assert len(world.effects()) == 1


def test_the_same_token_with_other_parameters_is_refused(world: World) -> None:
    do(world, "RenewInstance", InstanceId=WEB, Period="3", ClientToken="t1")

    assert code_of(world, "RenewInstance", InstanceId=WEB, Period="4", ClientToken="t1") == "IdempotentParameterMismatch"


def test_without_a_token_each_renewal_counts(world: World) -> None:
    orders = {do(world, "RenewInstance", InstanceId=WEB, Period="1")["OrderId"] for _ in range(2)}

    assert len(orders) == len(world.effects()) == 2


def test_a_token_of_a_refused_request_is_not_used_up(world: World) -> None:
    assert code_of(world, "RenewInstance", InstanceId=WEB, Period="10", ClientToken="t1") == "InvalidPeriod"

    do(world, "RenewInstance", InstanceId=WEB, Period="9", ClientToken="t1")


def test_everything_survives_closing_the_file(tmp_path: Path) -> None:
    first = World(tmp_path / "w.sqlite")
    fill(first, NOW)
    answer = do(first, "RenewInstance", InstanceId=WEB, Period="1", ClientToken="t1")
    expires = instance(first, WEB)["ExpiredTime"]
    first.close()

    second = World(tmp_path / "w.sqlite")
    fill(second, NOW + timedelta(days=90))
    try:
        assert do(second, "RenewInstance", InstanceId=WEB, Period="1", ClientToken="t1") == answer
        assert instance(second, WEB)["ExpiredTime"] == expires
        assert len(second.effects()) == 1
    finally:
        second.close()


@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("RenewInstance", {"InstanceId": PAY_AS_YOU_GO, "Period": "1"}, "ChargeTypeViolation"),
        ("RenewInstance", {"InstanceId": LOCKED, "Period": "1"}, "InstanceLockedForSecurity"),
        ("RenewInstance", {"InstanceId": "i-none", "Period": "1"}, "InvalidInstanceId.NotFound"),
        ("RenewInstance", {"InstanceId": WEB, "Period": "10"}, "InvalidPeriod"),
        ("RenewInstance", {"InstanceId": WEB, "Period": "1", "PeriodUnit": "Day"}, "InvalidPeriodUnit.ValueNotSupported"),
        ("RenewInstance", {"InstanceId": WEB, "Period": "60"}, "InvalidPeriod.ExceededMaximumExpirationDate"),
        ("RenewInstance", {"InstanceId": WEB, "Period": "x"}, "InvalidParameter.Period"),
        ("RenewInstance", {"InstanceId": WEB, "Period": "1", "ClientToken": "x" * 65}, "InvalidClientToken.Malformed"),
        ("RenewInstance", {"Period": "1"}, "MissingParameter.InstanceId"),
        ("StartInstance", {"InstanceId": WEB}, "IncorrectInstanceStatus"),
        ("StopInstance", {"InstanceId": STOPPED}, "IncorrectInstanceStatus"),
        ("StopInstance", {"InstanceId": WEB, "DryRun": "true"}, "DryRunOperation"),
        ("StopInstance", {"InstanceId": STOPPED, "DryRun": "true"}, "IncorrectInstanceStatus"),
        ("StopInstances", {"RegionId": "cn-hangzhou", "InstanceId_1": WEB, "InstanceId_2": STOPPED}, "IncorrectInstanceStatus"),
        ("StopInstances", {"RegionId": "cn-hangzhou", "InstanceId_1": WEB, "DryRun": "true"}, "DryRunOperation"),
        ("DeleteInstance", {"InstanceId": PROTECTED}, "InvalidOperation.DeletionProtection"),
        ("DeleteInstance", {"InstanceId": WEB}, "ChargeTypeViolation"),
        ("DeleteInstance", {"InstanceId": PAY_AS_YOU_GO}, "IncorrectInstanceStatus"),
        ("DeleteInstance", {"InstanceId": STOPPED, "DryRun": "true"}, "DryRunOperation"),
        ("DescribeInstances", {"RegionId": "cn-hangzhou", "InstanceIds": "i-1"}, "InvalidParameter.InstanceIds"),
        ("DescribeInstances", {}, "MissingParameter.RegionId"),
        ("DescribeRenewalPrice", {"RegionId": "cn-hangzhou", "ResourceId": WEB, "Period": "10"}, "InvalidPeriod"),
        ("RunCommand", {"RegionId": "cn-hangzhou", "Type": "RunShellScript", "CommandContent": "ls", "InstanceId_1": STOPPED}, "InvalidInstance.NotRunning"),  # noqa: E501
        ("CreateSnapshot", {"DiskId": "d-none"}, "InvalidDiskId.NotFound"),
        ("DescribeZones", {"RegionId": "mars-1"}, "InvalidRegionId.NotFound"),
        ("MakeCoffee", {}, "InvalidAction.NotFound"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(world: World, action: str, params: dict[str, str], code: str) -> None:
    before = world.all("instance")

    assert code_of(world, action, **params) == code
    assert world.all("instance") == before


def test_stopping_and_starting_take_their_time(world: World) -> None:
    do(world, "StopInstance", InstanceId=WEB)

    assert instance(world, WEB, after=1)["Status"] == "Stopping"
    assert instance(world, WEB, after=2)["Status"] == "Stopped"

    do(world, "StartInstance", InstanceId=WEB, after=60)

    assert instance(world, WEB, after=61)["Status"] == "Starting"
    assert instance(world, WEB, after=62)["Status"] == "Running"
    assert instance(world, WEB, after=62)["StartTime"] == "2026-11-21T12:01Z"


def test_success_first_does_what_it_can(world: World) -> None:
    answer = do(
        world, "StopInstances", RegionId="cn-hangzhou", InstanceId_1=WEB, InstanceId_2=STOPPED, BatchOptimization="SuccessFirst"
    )
    rows = answer["InstanceResponses"]["InstanceResponse"]  # type: ignore[index]

    assert [(row["InstanceId"], row["Code"]) for row in rows] == [(WEB, "200"), (STOPPED, "IncorrectInstanceStatus")]
    assert [effect["resource"] for effect in world.effects()] == [WEB]


def test_pages_follow_the_next_token(world: World) -> None:
    seen: list[str] = []
    token = "0"
    while token:
        answer = do(world, "DescribeInstances", RegionId="cn-hangzhou", MaxResults="3", NextToken=token)
        seen += [one["InstanceId"] for one in answer["Instances"]["Instance"]]  # type: ignore[index]
        token = str(answer["NextToken"])

    assert seen == [seed.instance for seed in SEEDS if seed.zone.startswith("cn-hangzhou")]
    assert answer["TotalCount"] == len(seen)


def test_a_year_is_cheaper_and_the_price_is_for_the_period(world: World) -> None:
    def price(period: str, unit: str) -> float:
        answer = do(world, "DescribeRenewalPrice", RegionId="cn-hangzhou", ResourceId=WEB, Period=period, PriceUnit=unit)
        return float(answer["PriceInfo"]["Price"]["TradePrice"])  # type: ignore[index]

    assert price("3", "Month") == 888.0
    assert price("1", "Year") == pytest.approx(12 * 296 * 0.85)


def test_the_two_calendars_agree() -> None:
    for day in range(400):
        moment = datetime(2027, 12, 1, 16, 0, tzinfo=UTC) + timedelta(days=day)
        for period in (1, 3, 12):
            assert later(moment, period, "Month").astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ") == renewed_until(
                moment.strftime("%Y-%m-%dT%H:%MZ"), period, "Month"
            )


def test_faults_are_used_up_by_the_requests_they_are_for() -> None:
    faults = Faults()
    faults.add(Fault(how="error", action="StopInstance", times=2))
    faults.add(Fault(how="drop", when="after"))

    assert faults.take("StartInstance", "before") is None
    assert [faults.take("StopInstance", "before") is not None for _ in range(3)] == [True, True, False]
    assert faults.take("StartInstance", "after") is not None
    assert faults.coming() == []


PURCHASE = {
    "RegionId": "cn-hangzhou", "InstanceType": "ecs.c7.large", "ImageId": "aliyun_3_x64_20G_alibase_20260101.vhd",
    "SecurityGroupId": "sg-bp1demodefault01", "VSwitchId": "vsw-demo-cn-hangzhou-k",
}  # fmt: skip


def test_new_instances_come_into_being_step_by_step_and_once_for_a_token(world: World) -> None:
    made = do(world, "RunInstances", **PURCHASE, Amount="2", InstanceName="api", ClientToken="t1")
    again = do(world, "RunInstances", after=1, **PURCHASE, Amount="2", InstanceName="api", ClientToken="t1")

    first, second = made["InstanceIdSets"]["InstanceIdSet"]  # type: ignore[index]
    assert again == made and first != second
    states = [instance(world, first, after=after)["Status"] for after in (0, 0.9, 1.1, 2.1)]
    assert states == ["Pending", "Pending", "Starting", "Running"]
    assert instance(world, second)["InstanceName"] == "api-002"
    assert instance(world, second)["ZoneId"] == "cn-hangzhou-k"
    assert [effect["resource"] for effect in world.effects()] == [f"{first},{second}"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ImageId": "nothing"}, "InvalidImageId.NotFound"),
        ({"InstanceType": "ecs.none"}, "InvalidInstanceType.ValueNotSupported"),
        ({"VSwitchId": "vsw-demo-cn-beijing-h"}, "InvalidVSwitchId.NotFound"), ({"Amount": "101"}, "InvalidAmount"),
        ({"SecurityGroupId": "sg-2zedemodefault01"}, "InvalidSecurityGroupId.NotFound"),
        ({"DryRun": "true"}, "DryRunOperation"),
        ({"InstanceChargeType": "PrePaid", "Period": "13"}, "InvalidPeriod"),
    ],
)  # fmt: skip
def test_a_purchase_that_cannot_be_is_refused(world: World, changed: dict[str, str], code: str) -> None:
    assert code_of(world, "RunInstances", **{**PURCHASE, **changed}) == code


def test_the_world_can_be_seen_as_it_was(world: World) -> None:
    do(world, "StopInstance", InstanceId=WEB)
    later = NOW + timedelta(seconds=5)
    asked = Request("DescribeInstances", {"RegionId": "cn-hangzhou", "InstanceIds": f'["{WEB}"]'}, "R-3", later)

    def status(lag_s: float) -> str:
        return str(act(world, asked, lag_s=lag_s)["Instances"]["Instance"][0]["Status"])  # type: ignore[index]

    assert (status(0), status(4), status(5)) == ("Stopped", "Stopping", "Stopping")
    do(world, "DeleteInstance", InstanceId=STOPPED, after=6)
    gone = Request("DescribeInstances", {"RegionId": "cn-hangzhou", "InstanceIds": f'["{STOPPED}"]'}, "R-4", later)
    assert act(world, gone)["TotalCount"] == 0
    assert act(world, gone, lag_s=2)["TotalCount"] == 1


def test_all_instances_are_deleted_or_none(world: World) -> None:
    assert code_of(world, "DeleteInstances", RegionId="cn-hangzhou", InstanceId_1=STOPPED, InstanceId_2=PROTECTED) == (
        "InvalidOperation.DeletionProtection"
    )


def test_tags_come_and_go(world: World) -> None:
    about = {"RegionId": "cn-hangzhou", "ResourceType": "instance", "ResourceId_1": WEB}
    do(world, "TagResources", **about, Tag_1_Key="env", Tag_1_Value="prod")
    do(world, "UntagResources", **about, TagKey_1="team")

    rows = do(world, "ListTagResources", **about)["TagResources"]["TagResource"]  # type: ignore[index]

    assert [(row["TagKey"], row["TagValue"]) for row in rows] == [("env", "prod")]
