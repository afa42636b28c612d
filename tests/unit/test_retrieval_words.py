"""Texts to words."""

from __future__ import annotations

import time

import pytest

from schemas.tools import ToolCard
from services.retrieval.words import card_fields, card_text, identifiers, name_parts, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Renew my instances", ["renew", "my", "instance"]),
        ("RenewInstance", ["renewinstance", "renew", "instance"]),
        ("renew_instance", ["renewinstance", "renew", "instance"]),
        ("HTTPGet", ["httpget", "http", "get"]),
        ("companies and status and process", ["company", "and", "statu", "and", "process"]),
        ("ＥＣＳ　①", ["ecs", "1"]),
        ("续费实例", ["续费", "实例"]),
        ("把ECS续费", ["把", "ecs", "续费"]),
        ("", []),
        ("' & | ! <-> :* \\ -- ;", []),
        ("--- ...", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_name_is_found_by_all_its_spellings() -> None:
    card = words("RenewInstance")
    for spelling in ("renew instance", "renew_instance", "renewInstance", "renewinstance", "renew-instances"):
        assert set(words(spelling)) & set(card), spelling


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("please renew i-bp1abc now", ["i-bp1abc"]),
        ("call RenewInstance, or renew_instance.", ["renewinstance", "renew_instance"]),
        ("please renew my instance", []),
        ("renewinstnce", ["renewinstnce"]),
        ("续费 i-bp1abc", ["i-bp1abc"]),
        ("abc", []),
        ("X1 " * 3, []),
    ],
)
def test_identifiers(text: str, expected: list[str]) -> None:
    assert identifiers(text) == expected


def test_a_hostile_text_takes_no_longer_than_its_length() -> None:
    started = time.perf_counter()
    for text in ("a" * 200_000, "a-" * 100_000, "A" * 200_000, "字" * 50_000, "-" * 200_000, "aA1_" * 50_000):
        words(text)
        identifiers(text)
    assert time.perf_counter() - started < 10


def test_a_card_is_read_by_weight() -> None:
    schema = {"type": "object", "properties": {"InstanceId": {}, "periodUnit": {}}}
    card = ToolCard(
        name="RenewInstance", title="续费", description="Renews.", parameters=schema, examples=("e",), tags=("ecs",)
    )
    assert card_fields(card) == ("续费\nRenew Instance", "Renews.\ne\necs", "Instance Id period Unit")
    assert card_text(card) == "续费\nRenew Instance\nRenews.\ne\necs\nInstance Id period Unit"


def test_a_card_without_parameters_is_its_name_and_description() -> None:
    assert card_text(ToolCard(name="now", description="Tells the time.", parameters={})) == "now\nTells the time."


def test_name_parts_keep_what_is_no_word() -> None:
    assert name_parts("get_天气2") == ["get", "天气2"]
