"""How the imports of clouds are told where to go and with which key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.cli.import_aliyun import key_of, pairs
from infra.cli.import_aws import read_again
from infra.tool_kinds import Surroundings, open_source
from schemas.errors import MilepostError
from services.tools.sources import Source, SourceKind
from tool_adapters.aws.apis import APIS
from tool_adapters.tool import CallContext, ToolRefused

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_key_is_given_by_reference_or_not_at_all() -> None:
    assert key_of("") == {}
    assert key_of("env:ID, file:/run/secret") == {"access_key_id": "env:ID", "access_key_secret": "file:/run/secret"}
    assert key_of("env:A,env:B,env:C")["security_token"] == "env:C"
    for wrong in ("LTAI123,secret", "env:ID", "env:A,secret"):
        with pytest.raises(MilepostError, match="by reference"):
            key_of(wrong)


def test_endpoints_are_pairs() -> None:
    assert pairs(["ECS=127.0.0.1:8000", "*=10.0.0.1"], "") == {"ecs": "127.0.0.1:8000", "*": "10.0.0.1"}
    with pytest.raises(MilepostError, match="no name and value"):
        pairs(["ecs"], "--endpoint ecs=HOST")


def source(kind: SourceKind, **settings: object) -> Source:
    return Source.model_validate({"tenant": "acme", "lane": f"{kind}-x", "kind": kind, "settings": settings, "since": NOW})


def test_what_is_shipped_is_not_imported_again() -> None:
    _, specs, groups = read_again(source("aws", services=["ec2"]))

    assert len(specs) > 700 and set(groups) == {"ec2"}
    assert not {spec.card.name for spec in specs} & {api.name for api in APIS}


async def test_an_imported_operation_says_which_key_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = source(
        "aws", services=["sqs"], endpoint="http://127.0.0.1:9", access_key_id="env:NOWHERE", access_key_secret="env:X"
    )
    _, specs, _ = read_again(made)
    around = Surroundings(tmp_path, None)  # type: ignore[arg-type]  # nothing here is asked over the bus
    tool = open_source(made, around).tool(next(spec for spec in specs if spec.card.name == "sqs_ListQueues"))

    with pytest.raises(ToolRefused, match="variable NOWHERE is not set"):
        await tool.call({}, CallContext(tenant="acme", run="r", user="u"))
