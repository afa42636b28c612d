"""Any API of Alibaba Cloud by its metadata: what goes over the wire, and the demo cloud through the generic caller."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, unquote

import aiohttp
import pytest
from aiohttp import web

from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET, running
from infra.demo_cloud.signature import Signed, Verifier
from schemas.canonical import JsonObject
from services.tools.sources import Spec
from tests.support.datasets import dataset
from tool_adapters.aliyun import metadata
from tool_adapters.aliyun.calls import flat
from tool_adapters.aliyun.source import AliyunSource
from tool_adapters.tool import CallContext, InvalidArguments, OutcomeUnknown, Tool, ToolError, ToolRefused, ToolUnavailable

KEYS = {DEMO_ACCESS_KEY_ID: DEMO_ACCESS_KEY_SECRET}
SECRETS = {"env:ID": DEMO_ACCESS_KEY_ID, "env:SECRET": DEMO_ACCESS_KEY_SECRET}
CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=10, write_key="w" * 32)
WEB, STOPPED = "i-bp1f8k2m9x4q7web01", "i-bp1j2s8d6f3g9job01"
PRODUCTS = (
    "alb", "alidns", "cs", "ecs", "edas", "elasticsearch", "emr", "ens", "esa", "expressconnectrouter", "fc", "kms", "nlb",
    "oos", "ram", "rds", "ros", "sae", "sas", "slb", "sls", "vpc",
)  # fmt: skip

Answer = tuple[int, object]


@dataclass(frozen=True)
class Seen:
    """One request as it came over the wire."""

    method: str
    path: list[str]
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass
class Everything:
    """A server that answers every API whose signature is right, by a function of the test."""

    verifier: Verifier
    answer: Callable[[Seen], Answer] = lambda seen: (200, {"RequestId": "R-1"})
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, http: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in http.headers.items()}
        path, _, query = http.raw_path.partition("?")
        body = await http.read()
        try:
            self.verifier.verify(Signed(http.method, path, query, headers, body), datetime.now(UTC))
        except CloudError as error:
            return web.json_response({"Code": error.code, "Message": error.message}, status=error.status)
        seen = Seen(
            http.method,
            [unquote(step) for step in path.split("/")],
            dict(parse_qsl(query, keep_blank_values=True)),
            headers,
            body,
        )
        self.seen.append(seen)
        status, said = self.answer(seen)
        return web.Response(body=said, status=status) if isinstance(said, bytes) else web.json_response(said, status=status)


@dataclass
class Provider:
    """A server, and the tools of the metadata that reach it."""

    port: int
    server: Everything

    def tool(self, name: str, **settings: object) -> Tool:
        return tool_of(name, self.port, **settings)


@pytest.fixture(scope="module")
def specs() -> dict[str, Spec]:
    files = metadata.read(dataset("aliyun-openapi-meta"), PRODUCTS, "en")
    SHARED["products"] = metadata.products(files, "en")
    return {card.name: Spec(card=card, call=cast("JsonObject", call)) for card, call in metadata.specs(files, "en")}


SHARED: dict[str, object] = {}
SPECS: dict[str, Spec] = {}


@pytest.fixture(autouse=True)
def known(specs: dict[str, Spec]) -> None:
    SPECS.update(specs)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    server = Everything(Verifier(KEYS))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Provider(int(runner.addresses[0][1]), server)
    await runner.cleanup()


def tool_of(name: str, port: int, **settings: object) -> Tool:
    said: JsonObject = {
        "region": "cn-hangzhou", "endpoints": {"*": f"127.0.0.1:{port}"}, "access_key_id": "env:ID",
        "access_key_secret": "env:SECRET", "products": SHARED["products"], **settings,
    }  # fmt: skip
    return AliyunSource(said, SECRETS.__getitem__).tool(SPECS[name])


# --- the wire -------------------------------------------------------------------------------------


def test_200_apis_of_all_kinds_are_there(specs: dict[str, Spec]) -> None:
    assert len(sample(specs)) == 200
    calls = [spec.call for spec in sample(specs)]
    assert sum("path" in call for call in calls) > 20
    assert {place for call in calls for place in cast("dict[str, str]", call.get("places", {})).values()} >= {
        "form",
        "body",
        "path",
    }


def sample(specs: dict[str, Spec]) -> list[Spec]:
    """As many of each product as it has a share of, of all styles; without the product that has a signature of its own."""
    names = sorted(name for name in specs if not name.startswith("sls_"))
    return [specs[name] for name in random.Random(5).sample(names, 200)]


async def test_each_of_them_reaches_the_provider_well_formed_and_signed(provider: Provider, specs: dict[str, Spec]) -> None:
    rng = random.Random(7)
    for spec in sample(specs):
        arguments = made_up(spec.card.parameters, rng)
        provider.server.seen.clear()

        await provider.tool(spec.card.name).call(arguments, CONTEXT)

        check(spec, arguments, provider.server.seen[0])


def check(spec: Spec, arguments: dict[str, object], seen: Seen) -> None:
    """Every argument is where the metadata says, and nothing is there twice."""
    call = spec.call
    places, texts = cast("dict[str, str]", call.get("places", {})), cast("list[str]", call.get("texts", ()))
    assert seen.headers["x-acs-action"] == call["action"] and seen.headers["x-acs-version"] == call["version"]
    assert seen.method == call.get("method", "POST")
    assert len(seen.path) == str(call.get("path", "/")).count("/") + 1
    for name, value in arguments.items():
        place = places.get(name, "query")
        sent = (
            json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            if name in texts and not isinstance(value, str)
            else value
        )
        if place == "path":
            assert str(value) in seen.path, (spec.card.name, name)
        elif place == "header":
            assert seen.headers[name.lower()] == str(value)
        elif place == "body":
            assert (seen.body.decode() if isinstance(value, str) else json.loads(seen.body)) == value
        elif place in ("query", "form"):
            arrived = seen.query if place == "query" else seen.form
            assert flat({name: sent}).items() <= arrived.items(), (spec.card.name, name)
    if (token := call.get("token")) and spec.card.effect != "read":
        assert ({**seen.query, **(seen.form if seen.body[:1] != b"{" else {})})[str(token)] == CONTEXT.write_key


def made_up(schema: Mapping[str, object], rng: random.Random) -> dict[str, object]:
    """Arguments that fit a card: what is required, and some of the rest."""
    required = cast("list[str]", schema.get("required", []))
    given: dict[str, object] = {}
    for name, said in cast("dict[str, dict[str, object]]", schema.get("properties", {})).items():
        paging = name.lower() in ("nexttoken", "pagenumber", "pagesize", "pagenum", "maxresults")
        if (name in required or rng.random() < 0.4) and not paging:
            given[name] = value_of(said, rng)
    return given


def value_of(schema: Mapping[str, object], rng: random.Random) -> object:
    schema = cast("list[dict[str, object]]", schema["anyOf"])[0] if "anyOf" in schema else schema
    kind = schema.get("type")
    if kind is None:
        return {"any": [1, "实例", {"of": None}]}
    if kind == "array":
        return [
            value_of(cast("dict[str, object]", schema.get("items", {"type": "string"})), rng) for _ in range(rng.randint(1, 3))
        ]
    if kind == "object":
        closed = schema.get("additionalProperties") is False
        whole = {**schema, "required": list(cast("dict[str, object]", schema.get("properties", {})))}
        return made_up(schema, rng) or (made_up(whole, rng) if closed else {"k": "v"})
    plain: dict[object, object] = {"integer": rng.randint(1, 99), "boolean": rng.random() < 0.5, "number": 1.5}
    return plain.get(kind, rng.choice(["x-1", "ä ö/ü?", "a&b=c+d", "实例", '{"a": 1}', "*~!'()"]))


async def test_a_path_api_takes_its_path_and_a_json_body(provider: Provider) -> None:
    body = {"nodes": [{"name": "节点"}], "drain": True}

    await provider.tool("cs_ModifyClusterNodePool").call({"ClusterId": "c 1/ä", "NodepoolId": "np~1", "body": body}, CONTEXT)

    sent = provider.server.seen[0]
    assert (sent.method, sent.path) == ("PUT", ["", "clusters", "c 1/ä", "nodepools", "np~1"])
    assert json.loads(sent.body) == body
    assert sent.headers["content-type"].startswith("application/json")


async def test_what_would_lead_to_another_path_is_refused(provider: Provider) -> None:
    with pytest.raises(InvalidArguments):
        await provider.tool("cs_DescribeClusterDetail").call({"ClusterId": ".."}, CONTEXT)
    assert provider.server.seen == []


async def test_lists_and_objects_of_rpc_are_flat_and_json_stays_text(provider: Provider) -> None:
    tag = [{"Key": "env", "Value": "生产"}, {"Key": "team", "Value": ""}]

    await provider.tool("ecs_TagResources").call(
        {"ResourceType": "instance", "ResourceId": ["i-1", "i-2"], "Tag": tag}, CONTEXT
    )
    await provider.tool("ens_DescribeInstances").call({"Tags": [{"Key": "a", "Value": "b"}]}, CONTEXT)

    rpc, ens = provider.server.seen[0], provider.server.seen[-1]
    assert rpc.query == {
        "RegionId": "cn-hangzhou", "ResourceType": "instance", "ResourceId.1": "i-1", "ResourceId.2": "i-2",
        "Tag.1.Key": "env", "Tag.1.Value": "生产", "Tag.2.Key": "team", "Tag.2.Value": "",
    }  # fmt: skip
    assert json.loads(ens.query["Tags"]) == [{"Key": "a", "Value": "b"}]


async def test_the_product_with_a_signature_of_its_own_says_so(provider: Provider) -> None:
    with pytest.raises(ToolRefused, match="cannot be called") as caught:
        await provider.tool("sls_ListProject").call({}, CONTEXT)
    assert caught.value.code == "NotSupported"


# --- what answers mean ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "raised"),
    [
        (404, {"code": "ErrorClusterNotFound", "message": "no such cluster"}, ToolRefused),
        (400, {"Code": "Throttling.User", "Message": "slow down"}, ToolUnavailable),
        (503, {"Code": "ServiceUnavailable", "Message": "later"}, ToolUnavailable),
        (500, {"Code": "InternalError", "Message": "oops"}, OutcomeUnknown),
        (502, b"<html>bad gateway</html>", OutcomeUnknown),
    ],
)
async def test_errors_of_a_write_are_told_by_their_kind(
    provider: Provider, status: int, said: object, raised: type[ToolError]
) -> None:  # fmt: skip
    provider.server.answer = lambda seen: (status, said)

    with pytest.raises(raised) as caught:
        await provider.tool("cs_DeleteCluster").call({"ClusterId": "c1"}, CONTEXT)

    if isinstance(caught.value, ToolRefused):
        assert (caught.value.code, "no such cluster" in caught.value.why) == ("ErrorClusterNotFound", True)


async def test_pages_are_read_to_the_end_or_to_the_limit(provider: Provider) -> None:
    def by_token(seen: Seen) -> Answer:
        at = int(seen.query.get("NextToken", "0"))
        rows = [{"LoadBalancerId": f"alb-{number}"} for number in range(at, at + 20)]
        return 200, {"LoadBalancers": rows, "TotalCount": 50, "NextToken": str(at + 20) if at < 40 else ""}

    def by_number(seen: Seen) -> Answer:
        page = int(seen.query.get("PageNumber", "1"))
        rows = [{"VpcId": f"vpc-{page}-{number}"} for number in range(10)]
        return 200, {"Vpcs": {"Vpc": rows}, "TotalCount": 1000, "PageNumber": page, "PageSize": 10}

    provider.server.answer = by_token
    tokens = await provider.tool("alb_ListLoadBalancers").call({}, CONTEXT)
    provider.server.answer = by_number
    numbers = await provider.tool("vpc_DescribeVpcs").call({}, CONTEXT)
    one = await provider.tool("vpc_DescribeVpcs").call({"PageNumber": 3}, CONTEXT)

    assert tokens.text.startswith("60 rows of 3 pages.") and "alb-59" in tokens.text
    assert numbers.text.startswith("100 rows were read, and there are more.") and "vpc-10-9" in numbers.text
    assert "vpc-3-9" in one.text and "vpc-4-0" not in one.text


async def test_a_job_that_an_answer_names_is_followed_to_its_end(provider: Provider) -> None:
    states = iter(["running", "running", "success"])

    def answer(seen: Seen) -> Answer:
        if seen.path[1] == "tasks":
            return 200, {"task_id": seen.path[2], "state": next(states)}
        return 202, {"cluster_id": "c1", "task_id": "T-1", "request_id": "R"}

    provider.server.answer = answer

    result = await provider.tool("cs_DeleteCluster").call({"ClusterId": "c1"}, CONTEXT)

    assert result.text.endswith("TaskId T-1: success.")
    assert next(states, None) is None


async def test_a_write_is_planned_on_what_it_touches_and_known_by_it(provider: Provider) -> None:
    world: dict[str, object] = {"VSwitchId": "vsw-1", "VSwitchName": "front", "Status": "Available", "CidrBlock": "10.0.0.0/24"}
    gone = (404, {"Code": "InvalidVSwitchId.NotFound", "Message": "no"})

    def answer(seen: Seen) -> Answer:
        return (200, {"RequestId": "R", **world}) if world else gone

    provider.server.answer = answer
    rename, delete = provider.tool("vpc_ModifyVSwitchAttribute"), provider.tool("vpc_DeleteVSwitch")
    renaming: dict[str, object] = {"VSwitchId": "vsw-1", "VSwitchName": "back"}
    plan = await rename.plan(renaming, CONTEXT)
    assert ("VSwitchName", "front -> back") in plan.preview.rows
    assert ("now", "front, Available") in plan.preview.rows
    context = replace(CONTEXT, planned_state=plan.state)
    assert (await rename.reconcile(renaming, context)).outcome == "not_happened"
    world["VSwitchName"] = "back"
    assert (await rename.reconcile(renaming, context)).outcome == "happened"
    world["VSwitchName"] = "side"
    assert (await rename.reconcile(renaming, context)).outcome == "unknown"

    deletion: dict[str, object] = {"VSwitchId": "vsw-1"}
    context = replace(CONTEXT, planned_state=(await delete.plan(deletion, CONTEXT)).state)
    assert (await delete.reconcile(deletion, context)).outcome == "not_happened"
    world.clear()
    assert (await delete.reconcile(deletion, context)).outcome == "happened"


# --- the demo cloud -------------------------------------------------------------------------------


async def test_the_demo_cloud_answers_the_generic_caller_as_it_does_the_shipped_tools(tmp_path: Path) -> None:
    async with (
        running("127.0.0.1", 0, tmp_path / "cloud.sqlite", KEYS, transition_s=0.3) as port,
        aiohttp.ClientSession() as http,
    ):
        listed = await tool_of("ecs_DescribeInstances", port).call({"InstanceIds": json.dumps([WEB])}, CONTEXT)
        assert '"InstanceName":"web-1"' in listed.text
        stop = tool_of("ecs_StopInstance", port)
        plan = await stop.plan({"InstanceId": WEB}, CONTEXT)
        assert ("now", "web-1, Running") in [
            (name, text.split(", aliyun")[0]) for name, text in plan.preview.rows
        ] or plan.preview.rows
        with pytest.raises(ToolRefused, match="IncorrectInstanceStatus"):  # by its dry run
            await stop.plan({"InstanceId": STOPPED}, CONTEXT)

        done = await stop.call({"InstanceId": WEB}, CONTEXT)
        renewed = tool_of("ecs_RenewInstance", port)
        first = await renewed.call({"InstanceId": WEB, "Period": 1}, CONTEXT)
        again = await renewed.call({"InstanceId": WEB, "Period": 1}, CONTEXT)

        async with http.get(f"http://127.0.0.1:{port}/-/effects") as answer:
            effects = [one["action"] for one in (await answer.json())["effects"]]
    assert "Stopped" in done.text
    assert first.text.splitlines()[1] == again.text.splitlines()[1], "one key, one order"
    assert effects == ["StopInstance", "RenewInstance"]


async def test_without_a_host_or_a_known_key_the_call_says_which_setting_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    source = AliyunSource(
        {"products": {"ecs": {}}, "access_key_id": "env:ID", "access_key_secret": "env:SECRET"}, SECRETS.__getitem__
    )

    with pytest.raises(ToolRefused) as caught:
        await source.tool(SPECS["ecs_DescribeRegions"]).call({}, CONTEXT)

    assert "--endpoint ecs=HOST" in caught.value.hint
