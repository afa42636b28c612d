"""The vendor's real SDK against the demo cloud: every API, every fault, and kill -9."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from infra.demo_cloud.actions import ACTIONS
from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET, running
from tool_adapters.aliyun.client import EcsConfig
from tool_adapters.aliyun.ecs import ecs_tools
from tool_adapters.tool import CallContext, OutcomeUnknown, Tool, ToolRefused, ToolUnavailable

ROOT = Path(__file__).parents[2]
KEYS = {DEMO_ACCESS_KEY_ID: DEMO_ACCESS_KEY_SECRET}
CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=10, write_key="w" * 32)
WEB, API = "i-bp1f8k2m9x4q7web01", "i-bp1c3n6v8z2w5api01"
BEIJING, STOPPED, PAY_AS_YOU_GO = "i-2ze4k7m1p9q3x6web1", "i-bp1j2s8d6f3g9job01", "i-bp1c3n6v8z2w5api02"
RENEWAL: dict[str, object] = {"InstanceId": WEB, "Period": 3}
PURCHASE: dict[str, object] = {
    "InstanceType": "ecs.g7.large", "ImageId": "aliyun_3_x64_20G_alibase_20260101.vhd",
    "SecurityGroupId": "sg-bp1demodefault01", "VSwitchId": "vsw-demo-cn-hangzhou-h", "Amount": 2, "InstanceName": "new",
}  # fmt: skip


def config(port: int, secret: str = DEMO_ACCESS_KEY_SECRET, key: str = DEMO_ACCESS_KEY_ID) -> EcsConfig:
    return EcsConfig(endpoint=f"127.0.0.1:{port}", protocol="http", access_key_id=key, access_key_secret=secret)


@dataclass
class Cloud:
    """A demo cloud, the tools that reach it, and its back door."""

    port: int
    http: aiohttp.ClientSession

    def tool(self, action: str, **changed: str) -> Tool:
        return ecs_tools(config(self.port, **changed), actions=[action])[0]

    async def effects(self) -> list[tuple[str, str]]:
        async with self.http.get(f"http://127.0.0.1:{self.port}/-/effects") as response:
            return [(one["action"], one["resource"]) for one in (await response.json())["effects"]]

    async def fault(self, **fault: object) -> None:
        async with self.http.post(f"http://127.0.0.1:{self.port}/-/faults", json=fault) as response:
            assert response.status == 200, await response.text()


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    state = tmp_path / "cloud.sqlite"
    async with running("127.0.0.1", 0, state, KEYS, transition_s=0.05) as port, aiohttp.ClientSession() as http:
        yield Cloud(port, http)


CALLS: dict[str, dict[str, object]] = {
    "DescribeInstances": {"Status": "Running", "InstanceName": "web-*"},
    "DescribeInstanceStatus": {"InstanceId": [WEB]},
    "DescribeInstanceAttribute": {"InstanceId": WEB},
    "DescribeInstanceAutoRenewAttribute": {"InstanceId": WEB},
    "DescribeRenewalPrice": {"ResourceId": WEB, "Period": 3, "PriceUnit": "Month"},
    "DescribePrice": {"InstanceType": "ecs.g7.large", "PriceUnit": "Month", "Period": 1},
    "DescribeInvocations": {},
    "DescribeRegions": {},
    "DescribeZones": {"RegionId": "cn-beijing"},
    "DescribeInstanceTypes": {"InstanceTypes": ["ecs.g7.large"], "MinimumMemorySize": 4},
    "DescribeDisks": {"InstanceId": WEB},
    "DescribeSnapshots": {},
    "DescribeSecurityGroups": {},
    "RenewInstance": RENEWAL,
    "ModifyInstanceAutoRenewAttribute": {"InstanceId": WEB, "AutoRenew": True, "Duration": 3, "PeriodUnit": "Month"},
    "StartInstance": {"InstanceId": STOPPED},
    "StopInstance": {"InstanceId": WEB, "StoppedMode": "KeepCharging"},
    "RebootInstance": {"InstanceId": WEB, "ForceStop": False},
    "StartInstances": {"InstanceId": [STOPPED]},
    "StopInstances": {"InstanceId": [WEB, API]},
    "RebootInstances": {"InstanceId": [WEB, API]},
    "DeleteInstance": {"InstanceId": STOPPED},
    "RunCommand": {"InstanceId": [WEB, API], "Type": "RunShellScript", "CommandContent": "df -h"},
    "CreateSnapshot": {"DiskId": "d-bp1disk01system"},
    "ModifyInstanceAttribute": {"InstanceId": WEB, "InstanceName": "web-prod", "DeletionProtection": True},
    "TagResources": {"ResourceId": [WEB, API], "Tag": [{"Key": "env", "Value": "生产"}]},
    "UntagResources": {"ResourceId": [WEB], "TagKey": ["team"]},
    "ListTagResources": {"ResourceId": [WEB]},
    "DescribeImages": {"ImageName": "ubuntu*"},
    "DescribeVpcs": {},
    "DescribeVSwitches": {"ZoneId": "cn-hangzhou-h"},
    "DescribeInvocationResults": {},
    "DeleteInstances": {"InstanceId": [STOPPED]},
    "RunInstances": PURCHASE,
}
SAID = {
    "DescribeInstances": "web-2",
    "DescribeRenewalPrice": "TradePrice: 888.0",
    "DescribeDisks": "d-bp1disk01system",
    "DescribeZones": "cn-beijing-h",
    "RenewInstance": "OrderId: 21",
    "StopInstances": "(web-1) now: status Stopped.",
    "StartInstance": "(batch-1) now: status Running.",
    "RunInstances": "(new-002) now: status Running.",
    "RunCommand": f"{API}: Success, exit code 0: [demo cloud] df -h",
    "CreateSnapshot": "now: accomplished 100%.",
    "DescribeImages": "Ubuntu 24.04",
    "DescribeVSwitches": "vsw-demo-cn-hangzhou-h",
    "ListTagResources": "TagKey: team",
    "ModifyInstanceAutoRenewAttribute": "every 3 month",
}


def test_every_action_of_the_demo_cloud_is_called_here() -> None:
    assert set(CALLS) == set(ACTIONS)
    assert len(CALLS) >= 19


@pytest.mark.parametrize("action", CALLS)
async def test_each_api_end_to_end(cloud: Cloud, action: str) -> None:
    tool, arguments = cloud.tool(action), CALLS[action]
    if tool.card.effect != "read":
        plan = await tool.plan(arguments, CONTEXT)
        assert plan.preview.rows
        assert await cloud.effects() == []

    result = await tool.call(arguments, CONTEXT)

    assert SAID.get(action, "") in result.text
    assert {name for name, _ in await cloud.effects()} == (set() if tool.card.effect == "read" else {action})


async def test_a_purchase_is_priced_and_tells_its_instances_apart_from_others_by_its_key(cloud: Cloud) -> None:
    tool = cloud.tool("RunInstances")
    plan = await tool.plan(PURCHASE, CONTEXT)
    assert (plan.preview.price, plan.preview.currency) == ("1.234", "CNY")
    context = replace(CONTEXT, planned_state=plan.state)
    assert (await tool.reconcile(PURCHASE, context)).outcome == "not_happened"
    await cloud.fault(how="drop", when="after", action="RunInstances")

    with pytest.raises(OutcomeUnknown):
        await tool.call(PURCHASE, context)

    assert (await tool.reconcile(PURCHASE, context)).outcome == "happened"
    assert (await tool.reconcile(PURCHASE, replace(context, write_key="v" * 32))).outcome == "not_happened"
    assert "now: status Running." in (await tool.call(PURCHASE, context)).text
    assert len(await cloud.effects()) == 1
    assert await tool.plan(PURCHASE, CONTEXT) == plan, "buying once does not change what the next purchase depends on"


async def test_a_stop_is_followed_to_its_end_even_where_the_cloud_shows_it_late(cloud: Cloud) -> None:
    await cloud.fault(how="lag", seconds=600, times=3, action="DescribeInstances")

    result = await cloud.tool("StopInstance").call({"InstanceId": WEB}, CONTEXT)

    assert f"{WEB} (web-1) now: status Stopped." in result.text


async def test_what_does_not_end_in_time_is_told_as_going_on(tmp_path: Path) -> None:
    async with running("127.0.0.1", 0, tmp_path / "slow.sqlite", KEYS, transition_s=600) as port:
        tool = ecs_tools(config(port), actions=["StopInstance"])[0]
        result = await tool.call({"InstanceId": WEB}, replace(CONTEXT, timeout_s=1.5))

    assert "StopInstance succeeded." in result.text
    assert "Stopping, not finished after 1 s; ask again later how it is." in result.text


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"how": "skew", "seconds": 3600}, "InvalidTimeStamp.Expired"),
        ({"how": "error", "status": 403, "code": "InvalidSecurityToken.Expired"}, "InvalidSecurityToken.Expired"),
    ],
)
async def test_a_wrong_clock_and_a_token_that_ran_out_say_what_to_do(
    cloud: Cloud, fault: dict[str, object], code: str
) -> None:  # fmt: skip
    await cloud.fault(**fault)

    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("RenewInstance").call(RENEWAL, CONTEXT)

    assert caught.value.code == code and caught.value.hint
    assert await cloud.effects() == []


async def test_a_slow_cloud_answers_in_the_end(cloud: Cloud) -> None:
    await cloud.fault(how="slow", seconds=0.3)

    assert "cn-hangzhou" in (await cloud.tool("DescribeRegions").call({}, CONTEXT)).text


async def test_the_preview_shows_instance_expiry_and_price(cloud: Cloud) -> None:
    tool = cloud.tool("RenewInstance")
    plan = await tool.plan(RENEWAL, CONTEXT)
    rows = dict(plan.preview.rows)

    result = await tool.call(RENEWAL, CONTEXT)

    assert rows["instance"] == f"{WEB} (web-1)"
    assert (plan.preview.price, plan.preview.currency) == ("888.00", "CNY")
    assert rows["expires"].split(" -> ")[1] in result.text


async def test_a_year_is_quoted_as_a_year_and_an_odd_period_not_at_all(cloud: Cloud) -> None:
    tool = cloud.tool("RenewInstance")

    assert (await tool.plan(RENEWAL | {"Period": 12}, CONTEXT)).preview.price == "3019.20"
    assert (await tool.plan(RENEWAL | {"Period": 2, "PeriodUnit": "Week"}, CONTEXT)).preview.price is None


async def test_a_pay_as_you_go_instance_is_refused_when_it_is_planned(cloud: Cloud) -> None:
    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("RenewInstance").plan({"InstanceId": PAY_AS_YOU_GO, "Period": 1, "PeriodUnit": "Week"}, CONTEXT)

    assert caught.value.code == "ChargeTypeViolation"


async def test_a_dry_run_refuses_what_the_call_would(cloud: Cloud) -> None:
    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("StopInstance").plan({"InstanceId": STOPPED}, CONTEXT)

    assert caught.value.code == "IncorrectInstanceStatus"


async def test_an_instance_of_another_region_is_found(cloud: Cloud) -> None:
    plan = await cloud.tool("StartInstance").plan({"InstanceId": BEIJING}, CONTEXT)

    assert "bj-web-1" in plan.preview.summary


async def test_an_instance_that_does_not_exist_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("RenewInstance").plan({"InstanceId": "i-nobody", "Period": 1}, CONTEXT)

    assert caught.value.code == "InvalidInstanceId.NotFound"


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"secret": "wrong"}, "SignatureDoesNotMatch"), ({"key": "wrong"}, "InvalidAccessKeyId.NotFound")],
)
async def test_wrong_keys_are_refused(cloud: Cloud, changed: dict[str, str], code: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("RenewInstance", **changed).call(RENEWAL, CONTEXT)

    assert caught.value.code == code
    assert await cloud.effects() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"how": "drop", "when": "before"},
        {"how": "drop", "when": "after"},
        {"how": "hang", "when": "after"},
        {"how": "error", "when": "after", "status": 500, "code": "InternalError"},
    ],
)
async def test_a_lost_answer_leaves_a_write_in_doubt_and_the_same_key_settles_it(
    cloud: Cloud, fault: dict[str, object]
) -> None:
    tool = cloud.tool("RenewInstance")
    plan = await tool.plan(RENEWAL, CONTEXT)
    context = replace(CONTEXT, planned_state=plan.state)
    await cloud.fault(action="RenewInstance", **fault)

    with pytest.raises(OutcomeUnknown):
        await tool.call(RENEWAL, replace(context, timeout_s=0.5))

    happened = (await tool.reconcile(RENEWAL, context)).outcome
    assert happened == ("not_happened" if fault["when"] == "before" else "happened")
    await tool.call(RENEWAL, context)
    assert await cloud.effects() == [("RenewInstance", WEB)]


@pytest.mark.parametrize("fault", [{"code": "Throttling.User"}, {"status": 503, "code": "ServiceUnavailable"}])
async def test_a_busy_cloud_can_be_asked_again(cloud: Cloud, fault: dict[str, object]) -> None:
    await cloud.fault(how="error", **fault)

    with pytest.raises(ToolUnavailable):
        await cloud.tool("RenewInstance").call(RENEWAL, CONTEXT)

    assert await cloud.effects() == []


async def test_a_refusal_carries_the_providers_code(cloud: Cloud) -> None:
    await cloud.fault(how="error", code="LastOrderProcessing", action="RenewInstance")

    with pytest.raises(ToolRefused) as caught:
        await cloud.tool("RenewInstance").call(RENEWAL, CONTEXT)

    assert caught.value.code == "LastOrderProcessing"


async def test_a_read_that_hangs_is_given_up_and_can_be_asked_again(cloud: Cloud) -> None:
    await cloud.fault(how="hang")

    with pytest.raises(ToolUnavailable):
        await cloud.tool("DescribeRegions").call({}, replace(CONTEXT, timeout_s=0.2))

    assert "cn-hangzhou" in (await cloud.tool("DescribeRegions").call({}, CONTEXT)).text


async def test_a_cloud_that_is_not_there_means_nothing_happened() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        tool = ecs_tools(config(taken.getsockname()[1]), actions=["RenewInstance"])[0]

        with pytest.raises(ToolUnavailable):
            await tool.call(RENEWAL, CONTEXT)


async def test_a_proxy_in_the_environment_is_not_asked_for_loopback(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert "cn-hangzhou" in (await cloud.tool("DescribeRegions").call({}, CONTEXT)).text


async def test_without_keys_the_refusal_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_CREDENTIALS_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    tool = ecs_tools(EcsConfig(endpoint="127.0.0.1:9", protocol="http"), actions=["DescribeRegions"])[0]

    with pytest.raises(ToolRefused, match="credentials") as caught:
        await tool.call({}, CONTEXT)

    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize("fault", [{"how": "hang"}, {"how": "drop"}, {"how": "error"}])
async def test_looking_afterwards_never_hides_that_it_happened(cloud: Cloud, fault: dict[str, object]) -> None:
    await cloud.fault(action="DescribeInstances", **fault)

    async with asyncio.timeout(2):  # the caller's own limit, which would otherwise say that nobody knows
        result = await cloud.tool("RenewInstance").call(RENEWAL, replace(CONTEXT, timeout_s=2))

    assert "OrderId: 21" in result.text


async def test_many_renewals_at_once_with_one_key_have_one_effect(cloud: Cloud) -> None:
    tool = cloud.tool("RenewInstance")

    results = await asyncio.gather(*(tool.call(RENEWAL, CONTEXT) for _ in range(10)))

    assert len({result.text for result in results}) == 1
    assert await cloud.effects() == [("RenewInstance", WEB)]


@asynccontextmanager
async def process(state: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The demo cloud in a process of its own, answering; killed at the end."""
    command = (sys.executable, "-m", "infra.demo_cloud", "--port", str(port), "--state", str(state))
    made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{port}/-/effects"):
                        break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.02)
        yield made
    finally:
        if made.returncode is None:
            made.send_signal(signal.SIGKILL)
        await made.wait()


async def test_kill_nine_after_the_commit_loses_and_repeats_nothing(tmp_path: Path) -> None:
    state = tmp_path / "cloud.sqlite"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    async with aiohttp.ClientSession() as http:
        cloud = Cloud(port, http)
        tool = cloud.tool("RenewInstance")
        async with process(state, port) as running_process:
            await cloud.fault(how="hang", when="after", action="RenewInstance")
            lost = asyncio.create_task(tool.call(RENEWAL, CONTEXT))
            async with asyncio.timeout(10):
                while not await cloud.effects():
                    await asyncio.sleep(0.01)
            running_process.send_signal(signal.SIGKILL)
            with pytest.raises(OutcomeUnknown):
                await lost
        async with process(state, port):
            result = await tool.call(RENEWAL, CONTEXT)
            assert await cloud.effects() == [("RenewInstance", WEB)]
            assert "OrderId: 2100000000001" in result.text
