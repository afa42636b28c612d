"""Messages and cards are written canonically without their dumps, and a card that was read before is not read again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.canonical import canonical
from schemas.events import ScoredCard
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
CALLS = st.builds(ToolCall, id=st.just("c1"), name=TEXT, arguments=OBJECTS)
CARDS = st.builds(
    ToolCard,
    name=st.just("renew"),
    description=TEXT.filter(bool),
    parameters=OBJECTS,
    timeout_s=st.floats(0.1, 3600),
    owner=TEXT,
)
MESSAGES = st.builds(
    Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=TEXT, name=st.none() | TEXT,
    calls=st.lists(CALLS, max_size=2).map(tuple), tools=st.lists(CARDS, max_size=2).map(tuple),
    origin=st.sampled_from(["user", "model", "tool"]), part=st.sampled_from([None, "tools", "history"]),
)  # fmt: skip


@settings(max_examples=300)
@given(MESSAGES)
def test_a_message_is_written_as_its_dump(message: Message) -> None:
    assert message.written() == canonical(message.model_dump(mode="json"))


def test_all_fields_of_a_message_are_written() -> None:
    assert set(Message.model_fields) == {"role", "content", "calls", "name", "origin", "tools", "part"}, "write it, too"


def said(default: object = 1, **fields: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": {"n": {"type": "number", "default": default}}}
    return {"card": {"name": "renew", "description": "Renews.", "parameters": parameters, **fields}, "score": 1.0}


def test_a_card_that_was_read_before_is_the_same_one() -> None:
    first, again = ScoredCard.model_validate(said()).card, ScoredCard.model_validate(said()).card
    assert first is again
    assert first == ToolCard.model_validate(said()["card"])
    assert ScoredCard(card=first, score=1.0).card is first


def test_cards_that_differ_in_the_kind_of_a_number_alone_are_two() -> None:
    defaults = [
        ScoredCard.model_validate(said(value)).card.parameters["properties"]["n"]["default"]  # type: ignore[index]
        for value in (1, 1.0, True)
    ]
    assert list(map(type, defaults)) == [int, float, bool]


@pytest.mark.parametrize("wrong", [said(math.nan), said(effect="perhaps"), said(name=1), {"card": None, "score": 1.0}])
def test_what_is_no_card_is_refused_with_its_place(wrong: dict[str, object]) -> None:
    ScoredCard.model_validate(said(None))
    with pytest.raises(ValidationError) as refused:
        ScoredCard.model_validate(wrong)
    assert refused.value.errors()[0]["loc"][0] == "card"


def test_a_copy_of_a_card_has_a_hash_of_its_own() -> None:
    card = ScoredCard.model_validate(said()).card
    before = card.hash(), card.written
    copy = card.model_copy(update={"version": "2"})
    assert copy.hash() != before[0]
    assert copy.written == canonical(copy.model_dump(mode="json"))
    assert (card.hash(), card.written) == before
