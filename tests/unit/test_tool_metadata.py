"""Alibaba Cloud's OpenAPI metadata as tool cards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from schemas.tools import ToolCard
from tests.support.datasets import dataset
from tool_adapters.aliyun import metadata
from tool_adapters.aliyun.metadata import Language, NoMetadata, UnknownProduct, effect_of, shortened
from tool_adapters.tool import checked_card

PARAMETERS = [
    {"name": "Period", "description": "Months.\x00 See [the page](~~1~~).", "position": "Query", "type": "Integer"},
    {"name": "InstanceId", "description": "The **instance**.", "position": "Query", "type": "String", "required": True},
    {"name": "ClientToken", "description": "", "position": "Query", "type": "String", "required": False},
    {
        "name": "Tag", "description": "", "position": "Query", "type": "RepeatList",
        "sub_parameters": [{"name": "Key", "type": "String", "required": True}, {"name": "Value", "type": "String"}],
    },
]  # fmt: skip
API = json.dumps({"name": "RenewInstance", "method": "GET|POST", "parameters": PARAMETERS})


def files(title: str, summary: str, name: str) -> dict[str, str]:
    said = {"title": title, "summary": summary, "deprecated": False}
    return {
        "products.json": json.dumps({"products": [{"code": "Ecs", "name": name}]}),
        "ecs/version.json": json.dumps({"version": "2014-05-26", "style": "rpc", "apis": {"RenewInstance": said}}),
        "ecs/RenewInstance.json": API,
    }


EN = files("RenewInstance", "Renews an instance.", "Elastic Compute Service")
ZH = files("续费实例", "续费一台包年包月实例。", "云服务器 ECS")


@pytest.fixture(params=["folders", "archives", "whole"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same metadata as a checkout, as one archive a language, and as an archive of the whole."""
    if request.param == "whole":
        whole = tmp_path / "aliyun-openapi-meta.tar.gz"
        with tarfile.open(whole, "w:gz") as archive:
            for folder, told in (("en-US", EN), ("zh-CN", ZH)):
                add(archive, f"aliyun-openapi-meta-2563691/{folder}", told)
        return whole
    for folder, told in (("en-US", EN), ("zh-CN", ZH)):
        if request.param == "archives":
            with tarfile.open(tmp_path / f"{folder}.tar.xz", "w:xz") as archive:
                add(archive, folder, told)
            continue
        for name, text in told.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    return tmp_path


def add(archive: tarfile.TarFile, folder: str, told: dict[str, str]) -> None:
    for name, text in told.items():
        raw = text.encode()
        about = tarfile.TarInfo(f"{folder}/{name}")
        about.size = len(raw)
        archive.addfile(about, io.BytesIO(raw))


def only(place: Path, language: Language = "both") -> ToolCard:
    (card,) = metadata.cards(metadata.read(place, ["ecs"], language), language)
    return checked_card(card)


def test_a_card_tells_an_api_in_both_languages(place: Path) -> None:
    card = only(place)
    assert (card.name, card.title, card.lane) == ("ecs_RenewInstance", "续费实例", "aliyun-openapi")
    assert card.description == "Elastic Compute Service: Renews an instance.\n云服务器 ECS: 续费一台包年包月实例。"
    assert (card.effect, card.idempotency) == ("write", "key")


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "Elastic Compute Service: Renews an instance."), ("zh", "云服务器 ECS: 续费一台包年包月实例。")],
)
def test_or_in_one_of_them(place: Path, language: Language, said: str) -> None:
    assert only(place, language).description == said


def test_parameters_become_a_schema_with_the_needed_ones_first(place: Path) -> None:
    assert only(place).parameters == {
        "type": "object",
        "properties": {
            "InstanceId": {"type": "string", "description": "The instance."},
            "Period": {"type": "integer", "description": "Months. See the page."},
            "Tag": {
                "type": "array",
                "items": {
                    "type": "object", "required": ["Key"], "additionalProperties": False,
                    "properties": {"Key": {"type": "string"}, "Value": {"type": "string"}},
                },
            },
        },
        "required": ["InstanceId"],
        "additionalProperties": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("api", "methods", "effect"),
    [
        ("DescribeInstances", "GET|POST", "read"), ("ListJobs", "GET", "read"), ("BatchGetUsers", "POST", "read"),
        ("CheckStatus", "POST", "read"), ("createInstance", "POST", "write"), ("RenewInstance", "GET|POST", "write"),
        ("Frobnicate", "GET|POST", "write"), ("Frobnicate", "GET", "read"), ("OnsTopicDelete", "DELETE", "destructive"),
        ("DeleteInstance", "GET|POST", "destructive"), ("BatchDeleteUsers", "POST", "destructive"),
        ("RunCommand", "GET|POST", "destructive"), ("GetawayCar", "POST", "write"), ("GetSecretValue", "GET|POST", "write"),
    ],
)  # fmt: skip
def test_what_an_api_may_change_is_told_by_its_verb_and_methods_and_else_it_writes(api: str, methods: str, effect: str) -> None:
    assert effect_of(api, methods) == effect


def test_texts_are_cut_at_the_end_of_a_sentence() -> None:
    assert shortened("One. Two is longer than that.", 12) == "One."
    assert shortened("没有。第二句话很长很长", 6) == "没有。"
    assert shortened("word " * 10, 12) == "word word"


def test_what_is_no_metadata_and_an_unknown_product_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownProduct, match="eks") as caught:
        metadata.read(place, ["eks"])
    assert "ecs" in caught.value.hint
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar.gz").write_text("no archive")
    for wrong in (tmp_path / "empty", tmp_path / "text.tar.gz"):
        with pytest.raises(NoMetadata):
            metadata.read(wrong)


def test_the_cards_of_real_products_are_sound() -> None:
    place = dataset("aliyun-openapi-meta")
    found = list(metadata.cards(metadata.read(place, ["ecs", "cs", "expressconnectrouter"])))
    by_name = {checked_card(card).name: card for card in found}
    assert len(found) == len(by_name) > 400
    assert by_name["ecs_RenewInstance"].effect == "write"
    assert by_name["ecs_DescribeInstances"].effect == "read"
    assert by_name["ecs_DeleteInstance"].effect == "destructive"
    assert "云服务器" in by_name["ecs_RenewInstance"].description


LOOKS = {
    "ecs_StopInstance": "DescribeInstanceAttribute", "ecs_StopInstances": "DescribeInstances",
    "ecs_DeleteInstances": "DescribeInstances", "ecs_ModifyDiskAttribute": "DescribeDisks",
    "ecs_DeleteSecurityGroup": "DescribeSecurityGroupAttribute", "ecs_DeleteSnapshot": "DescribeSnapshots",
    "vpc_DeleteVpc": "DescribeVpcAttribute", "vpc_DeleteVSwitch": "DescribeVSwitchAttributes",
    "vpc_ReleaseEipAddress": "DescribeEipAddresses", "vpc_DeleteNatGateway": "DescribeNatGateways",
    "slb_DeleteLoadBalancer": "DescribeLoadBalancerAttribute", "alb_DeleteLoadBalancer": "GetLoadBalancerAttribute",
    "alb_DeleteListener": "GetListenerAttribute", "alb_DeleteServerGroup": "ListServerGroups",
    "rds_DeleteDBInstance": "DescribeDBInstanceAttribute", "rds_DeleteAccount": "DescribeAccounts",
    "rds_ModifyBackupPolicy": "DescribeBackupPolicy", "alidns_DeleteDomainRecord": "DescribeDomainRecordInfo",
    "alidns_UpdateDomainRecord": "DescribeDomainRecordInfo", "alidns_DeleteDomain": "DescribeDomainInfo",
    "ram_DeleteUser": "GetUser", "ram_DeletePolicy": "GetPolicy", "ram_UpdateRole": "GetRole",
    "cs_DeleteCluster": "DescribeClusterDetail", "cs_ModifyClusterNodePool": "DescribeClusterNodePoolDetail",
}  # fmt: skip


def test_well_known_writes_are_looked_at_by_the_api_that_shows_them() -> None:
    place = dataset("aliyun-openapi-meta")
    files = metadata.read(place, sorted({name.partition("_")[0] for name in LOOKS}), "en")
    calls = {card.name: (card, call) for card, call in metadata.specs(files, "en")}
    found = {name: calls[name][1].get("look") for name in LOOKS}

    assert {name: look and look["call"]["action"] for name, look in found.items()} == LOOKS  # type: ignore[index,call-overload]
    writes = [(card, call) for card, call in calls.values() if card.effect != "read"]
    assert all("look" not in call for card, call in calls.values() if card.effect == "read")
    assert sum("look" in call for _, call in writes) > 0.7 * len(writes)
    assert calls["ecs_RunInstances"][1]["price"]["call"]["action"] == "DescribePrice"  # type: ignore[index,call-overload]
    assert (calls["ecs_DeleteInstance"][0].idempotency, calls["ecs_DeleteInstance"][0].dry_run) == ("query", "provider")
    assert (calls["ecs_StopInstance"][0].idempotency, calls["ram_CreateUser"][0].dry_run) == ("none", "look")


def test_products_tell_where_they_are_and_how_their_jobs_are_asked_after() -> None:
    files = metadata.read(dataset("aliyun-openapi-meta"), ["ecs", "ram", "cs", "bssopenapi"], "en")
    found = metadata.products(files, "en")

    assert found["ecs"]["endpoint"] == "ecs.{}.aliyuncs.com"  # type: ignore[index,call-overload]
    assert found["ram"]["endpoint"] == "ram.aliyuncs.com"  # type: ignore[index,call-overload]
    assert found["bssopenapi"]["other"]["ap-southeast-1"] != "business.aliyuncs.com"  # type: ignore[index,call-overload]
    assert found["cs"]["jobs"]["TaskId"]["call"]["action"] == "DescribeTaskInfo"  # type: ignore[index,call-overload]


def test_a_parameter_without_a_name_is_left_out() -> None:
    files = {
        "en-US/ecs/version.json": b'{"apis": {"RunIt": {"title": "Runs it"}}}',
        "en-US/ecs/RunIt.json": b'{"parameters": [{"required": true}, {"name": "Zone", "type": "String"}]}',
    }
    (card,) = metadata.cards(files)
    assert checked_card(card).parameters["properties"] == {"Zone": {"type": "string"}}


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "en-US.tar.xz", "w:xz") as archive:
        add(archive, "en-US", {"ecs/version.json": "0" * 200_000})
    assert len(metadata.read(tmp_path)) == 1
    monkeypatch.setattr(metadata, "UNPACKED_LIMIT", 100_000)
    with pytest.raises(NoMetadata, match="unpacks to more"):
        metadata.read(tmp_path)
