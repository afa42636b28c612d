"""boto3 against moto's server: the EC2 life cycle as it is shipped, and operations by their models alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import cast

import pytest
from aiohttp import web
from moto.server import ThreadedMotoServer

from schemas.canonical import JsonObject
from schemas.tools import Part, PartKind
from services.tools.sources import Spec
from tool_adapters.aws import cards
from tool_adapters.aws.apis import APIS
from tool_adapters.aws.client import AwsConfig
from tool_adapters.aws.ec2 import ec2_tools
from tool_adapters.aws.source import AwsSource
from tool_adapters.tool import CallContext, InvalidArguments, OutcomeUnknown, Tool, ToolError, ToolRefused, ToolUnavailable

IMAGE = "ami-12c6146b"  # one that moto has
CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=60, write_key="w" * 32)  # moto imports slowly


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@cache  # one client: making one takes a second
def tools_of(config: AwsConfig) -> dict[str, Tool]:
    return {each.card.name: each for each in ec2_tools("us-east-1", lambda: config)}


def tool(endpoint: str, name: str, key: str | None = "an-id") -> Tool:
    return tools_of(AwsConfig("us-east-1", endpoint, key, "a-secret" if key else None))[name]


async def launched(endpoint: str, name: str = "web") -> str:
    arguments: dict[str, object] = {"ImageId": IMAGE, "InstanceType": "t3.micro", "Name": name}
    result = await tool(endpoint, "ec2_RunInstances").call(arguments, CONTEXT)
    answer = cast("dict[str, list[dict[str, str]]]", result.parts[0].json_value)
    return answer["Instances"][0]["InstanceId"]


# --- the shipped tools ----------------------------------------------------------------------------


async def test_an_instance_lives_and_each_step_is_planned_done_and_recognised(moto: str) -> None:
    instance = await launched(moto, "api")
    one: dict[str, object] = {"InstanceIds": [instance]}
    for name, state in (("Stop", "stopped"), ("Start", "running"), ("Reboot", "running"), ("Terminate", "terminated")):
        step = tool(moto, f"ec2_{name}Instances")
        plan = await step.plan(one, CONTEXT)
        assert plan.preview.rows[0] == (f"{instance} (api)", f"{'stopped' if name == 'Start' else 'running'} -> {state}")
        context = replace(CONTEXT, planned_state=plan.state)
        before = (await step.reconcile(one, context)).outcome

        done = await step.call(one, context)

        assert done.text.splitlines() == [f"{name}Instances succeeded.", f"{instance} (api) now: {state}."]
        after = (await step.reconcile(one, context)).outcome
        assert (before, after) == (("unknown", "unknown") if name == "Reboot" else ("not_happened", "happened"))
    with pytest.raises(ToolRefused, match="There is no instance"):
        await tool(moto, "ec2_StopInstances").plan(one, CONTEXT)


async def test_a_purchase_is_known_by_its_key_and_its_price_is_no_condition(moto: str) -> None:
    run = tool(moto, "ec2_RunInstances")
    arguments: dict[str, object] = {"ImageId": IMAGE, "InstanceType": "t3.micro", "Count": 2}
    plan = await run.plan(arguments, CONTEXT)
    context = replace(CONTEXT, planned_state=plan.state, write_key="p" * 32)
    assert (await run.reconcile(arguments, context)).outcome == "not_happened"

    done = await run.call(arguments, context)

    assert (await run.reconcile(arguments, context)).outcome == "happened"
    assert done.text.count("now: running.") == 2
    assert plan.preview.summary == "Launch 2 t3.micro instances"


async def test_tags_and_attributes_are_shown_before_and_seen_afterwards(moto: str) -> None:
    instance = await launched(moto)
    steps: list[tuple[str, dict[str, object], str]] = [
        ("ec2_CreateTags", {"Resources": [instance], "Tags": [{"Key": "env", "Value": "生产"}]}, "env: (none) -> 生产"),
        ("ec2_DeleteTags", {"Resources": [instance], "Tags": [{"Key": "env"}]}, "env: 生产 -> (none)"),
        ("ec2_ModifyInstanceAttribute", {"InstanceId": instance, "DisableApiTermination": True}, "False -> True"),
    ]
    for name, arguments, row in steps:
        step = tool(moto, name)
        plan = await step.plan(arguments, CONTEXT)
        assert plan.preview.rows[0][1] == row
        context = replace(CONTEXT, planned_state=plan.state)
        assert (await step.reconcile(arguments, context)).outcome == "not_happened"
        await step.call(arguments, context)
        assert (await step.reconcile(arguments, context)).outcome == "happened"


async def test_a_snapshot_of_its_disk_is_followed(moto: str) -> None:
    instance = await launched(moto)
    listed = await tool(moto, "ec2_DescribeVolumes").call(
        {"Filters": [{"Name": "attachment.instance-id", "Values": [instance]}]}, CONTEXT
    )
    volume = listed.text.split("VolumeId: ")[1].split(",")[0]

    snapshot = tool(moto, "ec2_CreateSnapshot")
    plan = await snapshot.plan({"VolumeId": volume, "Description": "before"}, CONTEXT)
    done = await snapshot.call({"VolumeId": volume, "Description": "before"}, CONTEXT)

    assert plan.preview.rows[0][1].startswith(volume)
    assert "now: completed." in done.text


async def test_a_command_runs_on_running_instances_only(moto: str) -> None:
    instance = await launched(moto)
    send = tool(moto, "ssm_SendCommand")
    arguments: dict[str, object] = {"InstanceIds": [instance], "Command": "df -h"}

    plan = await send.plan(arguments, CONTEXT)
    done = await send.call(arguments, CONTEXT)
    await tool(moto, "ec2_StopInstances").call({"InstanceIds": [instance]}, CONTEXT)

    assert ("command", "df -h") in plan.preview.rows
    assert f"{instance}: Success, exit code 0: " in done.text
    command = done.text.split("\nCommand ")[1].split(".")[0]
    told = await tool(moto, "ssm_GetCommandInvocation").call({"CommandId": command, "InstanceId": instance}, CONTEXT)
    assert "Status: Success" in told.text
    with pytest.raises(ToolRefused, match="not running"):
        await send.plan(arguments, CONTEXT)


READS: dict[str, dict[str, object]] = {
    "ec2_DescribeInstances": {"Filters": [{"Name": "instance-state-name", "Values": ["running"]}]},
    "ec2_DescribeInstanceTypes": {"InstanceTypes": ["t3.large"]},
    "ec2_DescribeImages": {"ImageIds": [IMAGE]},
}
SAID = {
    "ec2_DescribeInstances": "State: running", "ec2_DescribeInstanceTypes": "MemoryInfo: 8192", "ec2_DescribeImages": IMAGE,
    "ec2_DescribeRegions": "us-east-1", "ec2_DescribeSubnets": "subnet-", "ec2_DescribeSecurityGroups": "default",
}  # fmt: skip


@pytest.mark.parametrize("name", [api.name for api in APIS if api.effect == "read" and api.service == "ec2"])
async def test_each_read_tells_its_rows(moto: str, name: str) -> None:
    await launched(moto)

    result = await tool(moto, name).call(READS.get(name, {}), CONTEXT)

    assert (" found." in result.text or " shown: " in result.text) and SAID.get(name, "") in result.text


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (503, "RequestLimitExceeded", ToolUnavailable), (400, "Throttling", ToolUnavailable),
        (500, "InternalError", OutcomeUnknown), (403, "UnauthorizedOperation", ToolRefused),
        (400, "ExpiredToken", ToolRefused), (None, "cut", OutcomeUnknown),
    ],
)  # fmt: skip
async def test_what_aws_says_is_told_by_its_kind_and_asked_once(status: int | None, code: str, raised: type[ToolError]) -> None:
    asked: list[str] = []

    async def handle(http: web.Request) -> web.Response:
        asked.append((await http.post())["Action"])  # type: ignore[arg-type]
        if status is None:
            assert http.transport is not None
            http.transport.abort()
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"
        return web.Response(body=body, status=status or 200, content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"

    with pytest.raises(raised) as caught:
        await tool(endpoint, "ec2_StartInstances").call({"InstanceIds": ["i-1"]}, CONTEXT)

    await runner.cleanup()
    assert asked == ["StartInstances"]
    if isinstance(caught.value, ToolRefused):
        assert caught.value.code == code and caught.value.hint


async def test_an_aws_that_is_not_there_means_nothing_happened() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ToolUnavailable):
            endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
            await tool(endpoint, "ec2_StartInstances").call({"InstanceIds": ["i-1"]}, CONTEXT)


async def test_without_keys_the_refusal_says_what_to_set(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(ToolRefused, match="credentials") as caught:
        await tool(moto, "ec2_DescribeRegions", key=None).call({}, CONTEXT)

    assert "MILEPOST_AWS_ACCESS_KEY_ID" in caught.value.hint


# --- any operation --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def specs() -> dict[str, Spec]:
    listed = cards.specs(["dynamodb", "s3", "sqs", "iam"])
    return {card.name: Spec(card=card, call=cast("JsonObject", call)) for card, call in listed}


def imported(endpoint: str, spec: Spec) -> Tool:
    return source(endpoint).tool(spec)


@cache
def source(endpoint: str) -> AwsSource:
    secrets = {"env:ID": "an-id", "env:SECRET": "a-secret"}
    said: JsonObject = {"endpoint": endpoint, "access_key_id": "env:ID", "access_key_secret": "env:SECRET"}
    return AwsSource(said, secrets.__getitem__)


async def test_a_table_is_made_looked_at_and_deleted_by_its_model_alone(moto: str, specs: dict[str, Spec]) -> None:
    create, delete, describe = (imported(moto, specs[f"dynamodb_{name}Table"]) for name in ("Create", "Delete", "Describe"))
    made = await create.call(
        {
            "TableName": "notes", "BillingMode": "PAY_PER_REQUEST", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        },
        CONTEXT,
    )  # fmt: skip
    assert made.text.startswith("CreateTable succeeded.")
    assert '"TableStatus":"ACTIVE"' in (await describe.call({"TableName": "notes"}, CONTEXT)).text
    plan = await delete.plan({"TableName": "notes"}, CONTEXT)
    context = replace(CONTEXT, planned_state=plan.state)
    assert ("now", "notes, ACTIVE") in plan.preview.rows
    assert (await delete.reconcile({"TableName": "notes"}, context)).outcome == "not_happened"

    await delete.call({"TableName": "notes"}, context)

    assert (await delete.reconcile({"TableName": "notes"}, context)).outcome == "happened"


async def test_bodies_go_up_as_text_and_come_down_into_the_payload_store(moto: str, specs: dict[str, Spec]) -> None:
    kept: list[bytes] = []

    async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        kept.append(data)
        return Part(kind=kind, media_type=media_type, ref=f"payload:{hashlib.sha256(data).hexdigest()}", size=len(data))

    put, get = imported(moto, specs["s3_PutObject"]), imported(moto, specs["s3_GetObject"])
    await imported(moto, specs["s3_CreateBucket"]).call({"Bucket": "bucket-one"}, CONTEXT)
    await put.call({"Bucket": "bucket-one", "Key": "a", "Body": "hello 世界", "ContentType": "text/plain"}, CONTEXT)
    await put.call({"Bucket": "bucket-one", "Key": "b", "Body": "base64:AAECAw=="}, CONTEXT)

    text = await get.call({"Bucket": "bucket-one", "Key": "a"}, replace(CONTEXT, keep=keep))
    data = await get.call({"Bucket": "bucket-one", "Key": "b"}, replace(CONTEXT, keep=keep))

    assert kept == ["hello 世界".encode(), b"\x00\x01\x02\x03"]
    assert "hello 世界" in text.text and text.parts[0].media_type == "text/plain"
    assert data.parts[0].size == 4


async def test_lists_are_read_on(moto: str, specs: dict[str, Spec]) -> None:
    create = imported(moto, specs["sqs_CreateQueue"])
    await asyncio.gather(*(create.call({"QueueName": f"q-{number:02d}"}, CONTEXT) for number in range(12)))

    every = await imported(moto, specs["sqs_ListQueues"]).call({}, CONTEXT)
    some = await imported(moto, specs["sqs_ListQueues"]).call({"MaxResults": 5}, CONTEXT)

    assert len(json.loads(every.text)["QueueUrls"]) == 12
    assert len(json.loads(some.text.splitlines()[-1])["QueueUrls"]) == 5


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(moto: str, specs: dict[str, Spec]) -> None:
    with pytest.raises(InvalidArguments):
        await imported(moto, specs["iam_CreateUser"]).call({"UserName": ""}, CONTEXT)
    with pytest.raises(ToolRefused) as caught:
        await imported(moto, specs["iam_GetUser"]).call({"UserName": "nobody"}, CONTEXT)
    assert caught.value.code == "NoSuchEntity"
