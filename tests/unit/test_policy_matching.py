"""Which calls a rule is about."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from schemas.policy import Hours, When
from services.policy.matching import Call, fits, within

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
CALL = Call(
    tool="aliyun_ecs_StopInstance", effect="write", lane="aliyun-ecs", agent="ops", user="ann",
    arguments={
        "InstanceId": "i-prod-7", "Force": True, "Period": 12, "Ratio": 0.5, "Nothing": None, "Ids": ["i-dev-1", "i-prod-2"],
        "InstanceIds": '["i-dev-1", "i-prod-2"]', "Tag.1.Key": "env", "Disk": {"Size": 40, "Tags": ["a", "b"]},
        "Disks": [{"Size": 40}, {"Size": 4000}], "Empty": [], "Text": "i-dev-1, i-prod-2", "Spaced": " i-prod-7\n",
        "Body": '{"Server": {"Id": "i-prod-7"}, "Tags": [{"Key": "env"}]}', "Greeting": "Hello, i-prod",
    },
)  # fmt: skip


def hours(**said: object) -> Hours:
    return Hours.model_validate(said)


@pytest.mark.parametrize(
    ("when", "fitting"),
    [
        ({}, True), ({"tools": ["aliyun*"]}, True), ({"tools": ["ALIYUN*"]}, False), ({"tools": ["x", "*Stop*"]}, True),
        ({"lanes": ["aliyun-?cs"]}, True), ({"agents": ["op"]}, False), ({"users": ["bob", "a??"]}, True),
        ({"effects": ["destructive"]}, False), ({"effects": ["write"], "users": ["bob"]}, False), ({"ungrounded": True}, False),
        ({"ungrounded": False}, True),
    ],
)  # fmt: skip
def test_every_condition_must_fit(when: dict[str, object], fitting: bool) -> None:
    assert fits(When.model_validate(when), CALL, NOW) is fitting


@pytest.mark.parametrize(
    ("arguments", "fitting"),
    [
        ({"InstanceId": "i-prod*"}, True), ({"InstanceId": "prod"}, False), ({"Missing": "*"}, False),
        ({"Force": "true"}, True),
        ({"Period": "12"}, True), ({"Period": "1"}, False), ({"Ratio": "0.5"}, True), ({"Nothing": "null"}, True),
        ({"Tag.1.Key": "env"}, True), ({"Disk.Size": "4?"}, True), ({"Disk.Tags": "b"}, True), ({"Disks.Size": "4000"}, True),
        ({"Body.Server.Id": "i-prod*"}, True), ({"Body.Tags.Key": "env"}, True), ({"Body.Tags.Key": "other"}, False),
        ({"Spaced": "i-prod*"}, True), ({"Spaced": "i-prod-7"}, True), ({"Greeting": "Hello, i-*"}, True),
        ({"InstanceId": "i-*", "Period": "13"}, False), ({"Empty": "*"}, False), ({"Disk.Nothing": "*"}, False),
    ],
)  # fmt: skip
def test_arguments_are_compared_as_text(arguments: dict[str, str], fitting: bool) -> None:
    assert fits(When(arguments=arguments), CALL, NOW) is fitting


@pytest.mark.parametrize("name", ["Ids", "InstanceIds", "Disks.Size", "Text"])
def test_one_value_of_many_is_enough_to_refuse_and_not_enough_to_allow(name: str) -> None:
    when = When(arguments={name: "4000" if name == "Disks.Size" else "i-prod*"})
    assert fits(when, CALL, NOW) and not fits(when, CALL, NOW, whole=True)
    assert fits(When(arguments={name: "*"}), CALL, NOW, whole=True)
    assert name == "Disks.Size" or not fits(When(arguments={name: "i-dev*"}), CALL, NOW, whole=True)


def test_an_argument_is_not_hidden_by_another_of_the_same_path() -> None:
    both = Call(tool="t", effect="write", arguments={"Disk.Size": 1, "Disk": {"Size": 9}})
    assert fits(When(arguments={"Disk.Size": "9"}), both, NOW) and fits(When(arguments={"Disk.Size": "1"}), both, NOW)


def test_a_pattern_is_quick_on_a_long_text() -> None:
    long = Call(tool="t", effect="write", arguments={"Text": "a" * 200_000})
    began = time.monotonic()
    assert not fits(When(arguments={"Text": "*a" * 90 + "b"}), long, NOW)
    assert time.monotonic() - began < 5


# --- hours ---


def at(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


OFFICE = hours(zone="Asia/Shanghai", days=["mon", "tue", "wed", "thu", "fri"], **{"from": "09:00", "to": "18:00"})
NIGHT = hours(zone="Europe/Paris", days=["fri"], **{"from": "22:00", "to": "06:00"})


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-23T08:59:59", False), ("2026-11-23T09:00", True), ("2026-11-23T17:59:59", True), ("2026-11-23T18:00", False),
        ("2026-11-22T12:00", False),
    ],
)  # fmt: skip
def test_office_hours_are_those_of_their_zone(moment: str, inside: bool) -> None:
    assert within(OFFICE, at("Asia/Shanghai", moment)) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-11-27T21:59", False), ("2026-11-27T22:00", True), ("2026-11-28T05:59", True), ("2026-11-28T06:00", False),
        ("2026-11-28T23:00", False), ("2026-11-27T05:00", False),
    ],
)  # fmt: skip
def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(moment: str, inside: bool) -> None:
    assert within(NIGHT, at("Europe/Paris", moment)) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        # 2026-03-29: clocks in Paris go from 02:00 to 03:00, at 01:00 UTC; the hour from 02:00 on does not come
        ("2026-03-29T00:59:59+00:00", False), ("2026-03-29T01:00:00+00:00", True), ("2026-03-29T01:59:59+00:00", True),
        ("2026-03-29T02:00:00+00:00", False),
        # 2026-10-25: they go from 03:00 back to 02:00, at 01:00 UTC; the hour comes twice
        ("2026-10-24T23:59:59+00:00", False), ("2026-10-25T00:00:00+00:00", True), ("2026-10-25T01:30:00+00:00", True),
        ("2026-10-25T02:59:59+00:00", False),
    ],
)  # fmt: skip
def test_when_the_clocks_are_changed_hours_are_those_on_the_wall(moment: str, inside: bool) -> None:
    spring = moment.startswith("2026-03")
    wall = hours(zone="Europe/Paris", **({"from": "02:30", "to": "04:00"} if spring else {"from": "02:00", "to": "03:00"}))
    assert within(wall, datetime.fromisoformat(moment)) is inside


def test_a_whole_day_has_no_ends() -> None:
    sunday = hours(zone="Asia/Shanghai", days=["sun"])
    assert within(sunday, at("Asia/Shanghai", "2026-11-22T00:00")) and within(sunday, at("Asia/Shanghai", "2026-11-22T23:59"))
    assert not within(sunday, at("Asia/Shanghai", "2026-11-23T00:00"))
    until_midnight = hours(days=["sun"], **{"from": "20:00", "to": "00:00"})
    assert within(until_midnight, datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    assert not within(until_midnight, datetime(2026, 11, 23, 0, 0, tzinfo=UTC))


def test_outside_hours_is_their_opposite() -> None:
    when = When(outside_hours=OFFICE)
    assert not fits(when, CALL, at("Asia/Shanghai", "2026-11-23T10:00")) and fits(
        when, CALL, at("Asia/Shanghai", "2026-11-23T20:00")
    )
