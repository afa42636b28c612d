"""AWS cards: what is shipped agrees with botocore's models, and what is imported is told by its names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

import pytest

from schemas.tools import ToolCard
from tool_adapters.aws import cards
from tool_adapters.aws.apis import APIS, Api, card_of
from tool_adapters.aws.cards import UnknownService, effect_of, service_model, shortened
from tool_adapters.aws.writes import WRITE_KINDS
from tool_adapters.tool import checked_card

ARGUMENTS: dict[str, dict[str, object]] = {
    "RunInstances": {"ImageId": "ami-1", "InstanceType": "t3.micro", "Count": 2, "Name": "web"},
    "ModifyInstanceAttribute": {"InstanceId": "i-1", "DisableApiTermination": True},
    "SendCommand": {"InstanceIds": ["i-1"], "Command": "df -h"},
}


@pytest.mark.parametrize("one", APIS, ids=lambda one: one.name)
def test_our_table_says_nothing_that_botocore_does_not(one: Api) -> None:
    operation = service_model(one.service).operation_model(one.operation)
    members = operation.input_shape.members

    assert set(one.parameters) - one.ours <= set(members)
    assert set(one.fixed) <= set(members)
    assert set(one.required) <= set(one.parameters)
    assert one.dry_run == ("DryRun" in members and one.effect != "read")
    if one.effect != "read":
        sent = WRITE_KINDS[one.operation].wire(ARGUMENTS.get(one.operation, {}), "w" * 32)
        assert set(sent) <= set(members)
        assert (one.idempotency == "key") == ("ClientToken" in sent)
    assert not one.items or one.items in operation.output_shape.members


@pytest.mark.parametrize("one", APIS, ids=lambda one: one.name)
def test_cards_are_short_and_speak_both_languages(one: Api) -> None:
    card = card_of(one)

    assert len(json.dumps(card.parameters)) < 1000
    assert any(text.isascii() for text in card.examples) and any(not text.isascii() for text in card.examples)
    assert (one.effect != "read") == (one.operation in WRITE_KINDS)


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        ("DescribeInstances", "read"), ("ListBuckets", "read"), ("HeadObject", "read"), ("BatchGetItem", "read"),
        ("PutObject", "write"), ("RunInstances", "write"), ("GetSecretValue", "write"), ("GetSessionToken", "write"),
        ("TerminateInstances", "destructive"), ("BatchDeleteImage", "destructive"), ("SendCommand", "destructive"),
        ("InvokeFunction", "destructive"), ("Frobnicate", "write"),
    ],
)  # fmt: skip
def test_what_an_operation_may_change_is_told_by_its_verb(operation: str, effect: str) -> None:
    assert effect_of(operation) == effect


@pytest.fixture(scope="module")
def imported() -> dict[str, tuple[ToolCard, Mapping[str, object]]]:
    leave_out = frozenset({"dynamodb_ListTables"})
    found = {card.name: (card, call) for card, call in cards.specs(["dynamodb", "sqs", "kinesis"], leave_out)}
    assert "dynamodb_ListTables" not in found
    return found


def test_the_cards_of_real_services_are_sound(imported: dict[str, tuple[ToolCard, Mapping[str, object]]]) -> None:
    assert len(imported) > 100
    for card, _ in imported.values():
        checked_card(card)
        assert len(card.description) <= 600


def test_a_card_says_what_is_needed_and_what_may_be_chosen(imported: dict[str, tuple[ToolCard, Mapping[str, object]]]) -> None:
    card, call = imported["dynamodb_DeleteTable"]
    assert (card.effect, card.idempotency, card.dry_run, card.lane) == ("destructive", "query", "look", "aws-api")
    assert card.parameters["required"] == ["TableName"]
    assert cast("dict[str, dict[str, object]]", call["look"])["call"]["action"] == "DescribeTable"
    billing = cast("dict[str, dict[str, object]]", imported["dynamodb_CreateTable"][0].parameters["properties"])["BillingMode"]
    assert billing["enum"] == ["PROVISIONED", "PAY_PER_REQUEST"]
    writes, call = imported["dynamodb_TransactWriteItems"]
    assert writes.idempotency == "key" and call["token"] == "ClientRequestToken"
    assert "ClientRequestToken" not in cast("dict[str, object]", writes.parameters["properties"])


def test_an_unknown_service_is_named_with_its_likeness() -> None:
    with pytest.raises(UnknownService, match="dynamo") as caught:
        service_model("dynamo")
    assert "dynamodb" in caught.value.hint


def test_documentation_is_plain_text() -> None:
    assert shortened("<p>Stops <a href='x'>it</a>.</p><note><p>Much.</p></note>", 100) == "Stops it."
