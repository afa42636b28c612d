"""The public sets as they are published: how many rows are read, what is skipped, and what may never be trained on."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from services.datasets.cards import own_name
from services.datasets.example import Example, Row, Skipped
from services.datasets.formats import FORMATS
from services.datasets.reading import row
from services.datasets.sets import data_set
from services.datasets.sets.hammerbench import held_back
from tests.support.datasets import dataset

CUT, OUTSIDE, MISSING = "an argument is cut short", "an argument that is not in the schema", "a required argument is missing"
NOT_OFFERED, REPEATS = "a call to a tool that is not offered", "repeats another row"
COUNTS: dict[tuple[str, str], tuple[int, dict[str, int]]] = {
    ("hammerbench", "train"): (6630, {OUTSIDE: 12, "all its tools are held back": 5}),
    ("hammerbench", "train-offered"): (1753, {"the tool that it wants is described nowhere": 71}),
    ("hammerbench", "held-back"): (4451, {}),
    ("seal-tools", "train"): (700, {}),
    ("seal-tools", "test-in-domain"): (699, {OUTSIDE: 1}),
    ("glaive-demo", "train"): (451, {REPEATS: 145, MISSING: 2, "a result that nothing was called for": 2}),
    ("toolrl", "train"): (372, {CUT: 25, NOT_OFFERED: 2, OUTSIDE: 1}),
    ("toolrl", "api-bank-1"): (386, {OUTSIDE: 8, "roles out of order: user after tool": 5}),
    ("rotbench", "first-turn-heavy"): (208, {OUTSIDE: 2}),
    ("rotbench", "third-turn-clean"): (66, {OUTSIDE: 2, MISSING: 2}),
}


@cache
def rows(name: str, part: str) -> list[Row]:
    return [*data_set(name).read(dataset(name), part)]


@pytest.mark.parametrize(("name", "part"), COUNTS)
def test_the_rows_of_a_part_are_read_or_skipped_with_a_reason(name: str, part: str) -> None:
    found = rows(name, part)
    examples = [each for each in found if isinstance(each, Example)]
    count, skipped = COUNTS[name, part]
    assert len(examples) == count
    assert Counter(each.why for each in found if isinstance(each, Skipped)) == skipped
    assert len({each.id for each in examples}) == count
    assert {each.source for each in examples} == {name}
    for example in examples[:: max(1, count // 50)]:
        assert row(FORMATS["milepost"](example), "x", "milepost") == example


def test_no_tool_that_is_held_back_is_in_what_is_learnt() -> None:
    for part in ("train", "train-offered"):
        learnt = [each for each in rows("hammerbench", part) if isinstance(each, Example)]
        assert not [card.title for each in learnt for card in each.tools if held_back(own_name(card))]
        assert {each.language for each in learnt} == {"en", "zh"}
    for part in ("held-back", "held-back-offered"):
        examined = [each for each in rows("hammerbench", part) if isinstance(each, Example)]
        titles = {card.name: own_name(card) for each in examined for card in each.tools}
        assert all(held_back(titles[name]) for each in examined for name in each.calls)
