"""What is measured of replies: by hand, on small made-up cases."""

from __future__ import annotations

import pytest

from schemas.tools import ToolCall, ToolCard
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, matched, same_text, same_value, wanted_call, wrong_turn
from services.evaluation.metrics.fitting import invalid
from services.evaluation.metrics.intervals import Measured, difference, rate_of, rates_of
from services.evaluation.metrics.replies import measured
from services.evaluation.metrics.retrieval import all_at, ndcg_at, recall_at, reciprocal_rank


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


def wanted(*calls: ToolCall) -> tuple[Wanted, ...]:
    return tuple(map(wanted_call, calls))


# --- calls -----------------------------------------------------------------------------------------


def test_argument_f1_is_the_papers() -> None:
    # |A| = 3, |A*| = 3: `city` is a full match, `day` a half one, `unit` is given too many, `hour` is missing.
    match = matched(wanted(call("weather", city="Bonn", day=1, hour=9)), [call("weather", city="Bonn", day=2, unit="C")])
    assert (match.full, match.half, match.wanted, match.given) == (1, 1, 3, 3)
    precision = recall = 1.5 / 3
    assert match.f1 == pytest.approx(2 * precision * recall / (precision + recall)) == 0.5
    assert match.tools
    assert not match.exact


def test_arguments_of_another_tool_match_nothing() -> None:
    match = matched(wanted(call("weather", city="Bonn")), [call("news", city="Bonn")])
    assert (match.full, match.half, match.wanted, match.given, match.tools) == (0, 0, 1, 1, False)


def test_a_needless_call_costs_precision_and_the_action() -> None:
    match = matched(wanted(call("weather", city="Bonn")), [call("weather", city="Bonn"), call("news", topic="x")])
    assert (match.full, match.given, match.tools) == (1, 2, False)
    assert match.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("calls", "f1"), [([call("now")], 1.0), ([], 0.0), ([call("then")], 0.0), ([call("now", zone="x")], 0.0)]
)
def test_without_any_argument_wanted_the_tool_alone_decides(calls: list[ToolCall], f1: float) -> None:
    assert matched(wanted(call("now")), calls).f1 == f1


def test_calls_of_one_tool_are_paired_so_that_most_matches() -> None:
    gold = wanted(call("go", to="a", by="car"), call("go", to="b", by="bus"))
    match = matched(gold, [call("go", to="b", by="bus"), call("go", to="a", by="foot")])
    assert (match.full, match.half, match.exact) == (3, 1, False)
    assert matched(gold, [call("go", to="b", by="bus"), call("go", to="a", by="car")]).exact
    assert not matched(gold, [call("go", to="a", by="car")] * 2).exact
    once = matched([gold[0]] * 2, [call("go", to="a", by="car"), call("go", to="x", by="y")])
    assert (once.full, once.half) == (2, 2)  # no call stands for two


def test_what_may_be_left_out_counts_only_if_it_is_there() -> None:
    gold = (Wanted("go", {"to": lambda said: said == "a", "by": lambda said: said == "car"}, frozenset({"by"})),)
    assert matched(gold, [call("go", to="a")]).exact
    assert matched(gold, [call("go", to="a", by="car")]).exact
    assert matched(gold, [call("go", to="a", by="foot")]).half == 1
    assert not matched(gold, [call("go", by="car")]).exact


def test_others_may_be_given_where_only_some_arguments_matter() -> None:
    gold = (Wanted("go", {"to": lambda said: said == "a"}, others=True),)
    assert matched(gold, [call("go", to="a", by="car")]).exact
    assert not matched(gold, [call("go", by="car")]).exact


@pytest.mark.parametrize(
    ("said", "gold", "value", "text"),
    [
        (3, 3.0, True, True), (3, "3", False, True), ("3.0", 3, False, True), (True, 1, False, False), ("a", "a", True, True),
        ("a ", "a", False, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True, True), ([1, 2], [2, 1], False, False),
        (float("nan"), float("nan"), False, False), ("nan", "nan", True, True), ("1_0", 10, False, False),
        (None, "", False, False),
    ],
)  # fmt: skip
def test_when_two_values_are_one(said: object, gold: object, value: bool, text: bool) -> None:
    assert same_value(said, gold) is value
    assert same_text(said, gold) is text


def test_why_a_turn_is_wrong() -> None:
    gold = wanted(call("go", to="a"))
    assert wrong_turn(gold, [call("go", to="a")], "") == ""
    assert wrong_turn(gold, [call("go", to="b")], "") == "0 of 1 arguments, 1 given"
    assert wrong_turn(gold, [call("stop")], "") == "called stop"
    assert wrong_turn(gold, [], "Going.") == "called nothing"
    assert wrong_turn((), [], "Hello.") == ""
    assert wrong_turn((), [], " ") == "said nothing"
    assert wrong_turn((), [call("go")], "Hello.") == "called go"


CARD = ToolCard(
    name="go", description="Go.",
    parameters={"type": "object", "properties": {"to": {"type": "string"}, "by": {"enum": ["car"]}}, "required": ["to"]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([call("go", to="a", by="car")], ""),
        ([call("go", to="a"), call("stop")], "there is no stop"),
        ([call("go")], 'go: "to" is a required property'),
        ([call("go", to=1)], 'go: to: 1 is not of type "string"'),
        ([call("go", to="a", by="foot")], 'go: by: "foot" is not one of "car"'),
        ([], ""),
    ],
)
def test_a_call_is_invalid_or_it_is_not(calls: list[ToolCall], why: str) -> None:
    assert invalid(calls, [CARD]) == why


def test_a_schema_that_is_none_or_that_asks_for_another_place_refuses_nothing() -> None:
    for parameters in ({"type": "no type"}, {"$ref": "http://127.0.0.1:9/x"}):
        assert invalid([call("go", to=1)], [CARD.model_copy(update={"parameters": parameters})]) == ""


# --- one reply -------------------------------------------------------------------------------------


def item(*calls: ToolCall, text: str = "") -> Item:
    return Item("i", "any", "g", "en", (), (CARD,), calls, text)


def figures(of: Item, reply: Reply) -> dict[str, float]:
    found = measured(of, reply, wanted(*of.calls))
    return {name: each.hits / each.of for name, each in found.items() if each.of}


def test_a_call_that_is_wanted_is_measured_once_whatever_is_wrong_with_it() -> None:
    """The original's scorer appends a second 0 to action_em if an exception follows the right name."""
    deep: object = "x"
    for _ in range(200):
        deep = [deep]
    bad: tuple[dict[str, object], ...] = ({}, {"to": float("inf")}, {"to": deep}, {"to": 2**70})
    for arguments in bad:
        reply = Reply(item="i", calls=(ToolCall.model_construct(id="c", name="go", arguments=arguments),))
        found = measured(item(call("go", to="a")), reply, wanted(call("go", to="a")))
        assert found["action_em"] == (1, 1)
        assert found["exact_call"] == (0, 1)


def test_where_no_tool_is_right_a_call_costs_recall_and_an_answer_where_one_is_wanted_costs_precision() -> None:
    chat, act = item(text="hello there"), item(call("go", to="a"))
    assert figures(chat, Reply(item="i", text="hello there")) == {
        "unanswered": 0, "no_tool_precision": 1, "no_tool_recall": 1, "rouge_l": 1,
    }  # fmt: skip
    assert figures(chat, Reply(item="i", text="hello there", calls=(call("go", to="a"),))) == {
        "unanswered": 0, "no_tool_recall": 0, "rouge_l": 0, "invalid_calls": 0,
    }  # fmt: skip
    assert figures(act, Reply(item="i", text="no"))["no_tool_precision"] == 0
    assert "no_tool_recall" not in figures(act, Reply(item="i", text="no"))


def test_calls_beyond_those_wanted_are_counted_by_themselves() -> None:
    act = item(call("go", to="a"))
    assert figures(act, Reply(item="i", calls=(call("go", to="a"),)))["spurious_calls"] == 0
    assert figures(act, Reply(item="i", calls=(call("go", to="a"), call("go", to="b"))))["spurious_calls"] == 1


def test_a_reply_that_cannot_be_read_is_no_answer_and_an_invalid_call() -> None:
    found = figures(item(text="hello"), Reply(item="i", text="hello", malformed="half a call"))
    assert found == {"unanswered": 0, "invalid_calls": 1, "no_tool_recall": 0, "rouge_l": 0}
    missing = figures(item(call("go", to="a")), Reply(item="i", trouble="timed out"))
    assert (missing["unanswered"], missing["action_em"], missing["argument_f1"]) == (1, 0, 0)
    assert "invalid_calls" not in missing  # 0 of 0


def test_whoever_finds_its_own_tools_is_held_to_those() -> None:
    reply = Reply(item="i", calls=(call("go", to="a"),), offered=("stop", "turn"))
    found = figures(item(call("go", to="a"), call("stop")), reply)
    assert (found["tools_found"], found["invalid_calls"]) == (0.5, 1)
    own = Reply(item="i", calls=(call("turn", any=1),), offered=("stop", "turn"))
    assert figures(item(call("go", to="a")), own)["invalid_calls"] == 0


def test_chinese_references_are_compared_by_words() -> None:
    assert figures(item(text="请问您要去哪个城市"), Reply(item="i", text="您要去哪个城市"))["rouge_l"] > 0.7


def test_where_some_call_is_wanted_but_none_is_told_nothing_is_compared_but_words_are_one_too_many() -> None:
    common = {"unanswered": (0, 1), "invalid_calls": (0, 0)}
    assert measured(item(), Reply(item="i", text="no"), None) == {**common, "no_tool_precision": (0, 1)}
    called = measured(item(), Reply(item="i", calls=(call("go", to="a"),)), None)
    assert called["no_tool_precision"] == (0, 0) and "no_tool_recall" not in called


# --- many of them ----------------------------------------------------------------------------------


def test_a_rate_has_wilsons_interval() -> None:
    rate = rate_of([Measured(1)] * 9 + [Measured(0)])
    assert (rate.value, rate.of) == (0.9, 10)
    assert (round(rate.low or 0, 3), round(rate.high or 0, 3)) == (0.596, 0.982)


def test_micro_f1_sums_first_and_its_interval_is_the_same_each_time() -> None:
    items = [Measured(2, 2), Measured(0, 6), Measured(3, 4), Measured(0, 0)] * 20
    rate = rate_of(items)
    assert (rate.value, rate.of) == (5 / 12, 60)
    assert rate == rate_of(items)
    assert rate.low is not None
    assert rate.high is not None
    assert 0.28 < rate.low < 5 / 12 < rate.high < 0.55


def test_figures_come_in_their_order_and_only_from_items_that_have_them() -> None:
    rates = rates_of([{"b": Measured(1)}, {"a": Measured(1), "c": Measured(0)}], ["c", "missing"])
    assert list(rates) == ["c", "b", "a"]
    assert rates["b"].of == 1
    assert rate_of([]).value is None


def test_two_models_are_compared_on_the_items_of_both() -> None:
    first = {f"i{number}": Measured(float(number % 2)) for number in range(100)}
    second = {**{id: Measured(1.0) for id in first}, "other": Measured(0.0)}
    better = difference(first, second)
    assert (better.value, better.of) == (0.5, 100)
    assert better.low is not None
    assert better.p is not None
    assert 0.35 < better.low < 0.5
    assert better.p < 0.01
    same = difference(first, first)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert difference(first, {}).value is None


def test_precision_is_compared_over_all_items_though_each_model_is_silent_on_others() -> None:
    first = {"a": Measured(1), "b": Measured(1), "c": Measured(0, 0)}
    second = {"a": Measured(1), "b": Measured(0, 0), "c": Measured(0)}
    found = difference(first, second)
    assert (found.value, found.of) == (-0.5, 3)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    import random

    dice, held = random.Random(1), 0
    for _ in range(60):
        items = [Measured(float(sum(dice.random() < 0.3 for _ in range(4))), 4) for _ in range(80)]
        rate = rate_of(items)
        held += (rate.low or 0) <= 0.3 <= (rate.high or 1)
    assert held >= 52


# --- retrieval -------------------------------------------------------------------------------------


def test_retrieval_measures_by_hand() -> None:
    ranked = ["x", "a", "y", "b"]
    assert recall_at(2, {"a", "b"}, ranked) == 0.5
    assert recall_at(4, {"a", "b"}, ranked) == 1
    assert (all_at(3, {"a", "b"}, ranked), all_at(4, {"a", "b"}, ranked)) == (0, 1)
    assert reciprocal_rank({"a", "b"}, ranked) == 0.5
    assert reciprocal_rank({"z"}, ranked) == 0
    assert ndcg_at(4, {"a", "b"}, ranked) == pytest.approx((0.6309 + 0.4307) / (1 + 0.6309), abs=1e-4)
    assert ndcg_at(1, {"a"}, ["a", "a"]) == ndcg_at(3, {"a"}, ["a", "a"]) == 1
    assert recall_at(3, set(), ranked) == ndcg_at(3, set(), ranked) == all_at(3, set(), ranked) == 1
