"""Words by which turns are found again, and which turns are near."""

from __future__ import annotations

import pytest

from services.memory.similar import COMMON, Place, by_words, nearest, rarity
from services.memory.words import MOST, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What was my order number again?", ["order", "number", "again"]),
        ("Servers, SERVER and the server's", ["server"]),
        ("renew i-bp1f8k2m9x4q7web02 for 3 months", ["renew", "i-bp1f8k2m9x4q7web02", "3", "month"]),
        ("帮我续费ECS实例", ["续费", "ecs", "实例"]),
        ("我的订单号是多少", ["订单", "单号", "多少"]),
        ("ＡＢＣ１２３", ["abc123"]),
        ("café Ünder", ["café", "ünder"]),
        ("مرحبا بكم", ["مرحبا", "بكم"]),
        ("你 的 了", []),
        ("😀 !?", []),
        ("", []),
    ],
)
def test_words_are_those_that_tell_something(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_a_huge_text_has_a_bounded_number_of_short_words() -> None:
    assert len(words(" ".join(f"word{number}" for number in range(100_000)))) == MOST
    assert [len(word) for word in words("x" * 1_000_000)] == [64]


def test_a_rare_word_weighs_more_and_a_common_one_nothing() -> None:
    assert rarity(1) > rarity(10) > rarity(COMMON) > 0 == rarity(COMMON + 1)


def place(ended: int) -> Place:
    return Place("talk", ended)


def test_a_turn_with_all_rare_words_of_a_request_has_the_whole_share() -> None:
    shares = by_words(["zx-7741", "tea"], {"zx-7741": [place(1)], "tea": [place(1), place(2), place(3)]})
    assert shares[place(1)] == pytest.approx(1.0)
    assert 0 < shares[place(2)] == shares[place(3)] < 0.5


def test_words_that_nobody_said_lower_the_share() -> None:
    assert by_words(["tea", "unheard"], {"tea": [place(1)]})[place(1)] < 0.6
    assert by_words(["tea"], {"tea": [place(number) for number in range(COMMON + 1)]}) == {}
    assert by_words([], {}) == {}


def test_meaning_alone_words_alone_and_both_lead_to_a_turn() -> None:
    near = {place(1): 0.9, place(2): 0.8, place(3): 0.7}
    shares = {place(2): 0.3, place(4): 0.9, place(5): 0.4}
    assert [each.ended for each, _ in nearest(near, shares, 0.75, 9)] == [2, 4, 1]
    assert [each.ended for each, _ in nearest({}, shares, 1.0, 9)] == [4]
    assert [each.ended for each, _ in nearest(near, {}, 0.75, 1)] == [1]
    assert nearest(near, {}, 0.95, 9) == []
