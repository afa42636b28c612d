"""Texts to words."""

from __future__ import annotations

import time

import pytest

from schemas.tools import ToolCard
from services.retrieval.rank import K1
from services.retrieval.words import asked_words, card_fields, card_text, card_weights, identifiers, name_parts, words


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


SCHEMA = {"type": "object", "properties": {"InstanceId": {"description": "which server"}, "periodUnit": {}}}
CARD = ToolCard(
    name="RenewInstance",
    title="续费",
    description="Pays  on.\nFor long.",
    parameters=SCHEMA,
    examples=("an example",),
    tags=("ecs",),
)


def test_a_card_has_fields() -> None:
    assert card_fields(CARD) == (
        "续费\nRenewInstance",
        "Pays  on.\nFor long.\nan example\necs",
        "InstanceId periodUnit",
        "which server",
    )


def test_a_card_is_embedded_without_its_parameters_and_its_name_comes_last() -> None:
    assert card_text(CARD) == "续费\nPays on. For long. an example\nRenew Instance"


def test_a_title_that_is_the_name_again_is_not_said_twice() -> None:
    card = ToolCard(name="renew_instance", title="Renew Instance", description="Pays on.", parameters={})
    assert card_text(card) == "Pays on.\nrenew Instance".replace("Instance", "instance")


def test_a_word_weighs_by_where_it_stands() -> None:
    weights = card_weights(CARD)
    assert weights["renew"] > weights["unit"] > weights["which"] > 0
    assert weights["instance"] > weights["renew"]  # it stands in a parameter as well


def test_a_word_weighs_less_in_a_longer_card_and_never_more_than_its_bound() -> None:
    short = ToolCard(name="a", description="renew", parameters={})
    long = ToolCard(name="a", description="renew " + "other " * 200, parameters={})
    often = ToolCard(name="a", description="renew " * 600, parameters={})
    assert card_weights(short)["renew"] > card_weights(long)["renew"]
    assert card_weights(often)["renew"] < K1 + 1


def test_a_card_with_a_strange_schema_is_still_read() -> None:
    card = ToolCard(name="now", description="Tells the time.", parameters={"properties": {"a": 1, "b": {"description": 2}}})
    assert card_fields(card).parameters == "a b"
    assert card_fields(card).told == ""
    assert card_fields(ToolCard(name="now", description="x", parameters={"properties": []})).parameters == ""


def test_stop_words_are_not_asked_for_unless_there_is_nothing_else() -> None:
    assert asked_words("Could you please renew my instance?") == ["renew", "instance"]
    assert asked_words("我想续费") == ["续费", "续", "费"]
    assert asked_words("What can you do?") == ["what", "can", "you", "do"]
    assert asked_words("?!") == []


def test_chinese_is_found_by_its_characters_as_well() -> None:
    card = ToolCard(name="a", description="修改实例的续费方式", parameters={})
    assert {"续", "费"} <= set(card_weights(card)) & set(asked_words("续个费"))


def test_of_a_long_request_only_so_many_words_are_asked_for() -> None:
    assert len(asked_words(" ".join(f"word{number}x" for number in range(500)))) == 64


def test_name_parts_keep_what_is_no_word() -> None:
    assert name_parts("get_天气2") == ["get", "天气2"]
