"""Which found tools are offered: a pure function of what was found and of how the hosts do."""

from __future__ import annotations

import pytest

from schemas.events import ScoredCard
from schemas.tools import Effect, ToolCard
from services.retrieval.offering import EFFECTS, FAILING, QUEUE, offering
from services.retrieval.tool_index import Host
from tests.support.builders import NOW


def found(name: str, score: float, *, lane: str = "here", effect: Effect = "read") -> ScoredCard:
    card = ToolCard(name=name, description="does it", parameters={"type": "object"}, lane=lane, effect=effect)
    return ScoredCard(card=card, score=score, why={"dense": score})


def hosts(**told: tuple[int, float]) -> dict[str, Host]:
    return {lane: Host(lane=lane, seen=NOW, queue=queue, failing=failing) for lane, (queue, failing) in told.items()}


def names(tools: list[ScoredCard]) -> list[str]:
    return [each.card.name for each in tools]


WELL = hosts(here=(0, 0.0))


def test_the_best_k_are_offered_best_first() -> None:
    tools = [found("a", 0.9), found("b", 0.8), found("c", 0.7)]
    assert names(offering(tools, WELL, 2)) == ["a", "b"]


def test_tools_of_a_host_that_does_not_answer_are_not_offered() -> None:
    tools = [found("away", 0.9, lane="gone"), found("here", 0.1)]
    assert names(offering(tools, WELL, 3)) == ["here"]


def test_a_tool_that_nobody_answers_for_is_not_offered_though_its_host_lives() -> None:
    bus = Host(lane="bus", seen=NOW, answers=frozenset({"weather"}))
    tools = [found("dead", 0.9, lane="bus"), found("weather", 0.1, lane="bus")]
    assert names(offering(tools, {"bus": bus}, 3)) == ["weather"]


def test_forbidden_tools_are_not_offered_even_if_the_search_found_them() -> None:
    tools = [found("never", 0.9), found("may", 0.1)]
    assert names(offering(tools, WELL, 3, forbidden=["never"])) == ["may"]


def test_of_nearly_equal_scores_the_tool_that_changes_less_comes_first() -> None:
    last = found("last", 0.0)
    tools = [found("destroys", 0.506, effect="destructive"), found("writes", 0.504, effect="write"), found("reads", 0.5), last]
    assert names(offering(tools, WELL, 4)) == ["reads", "writes", "destroys", "last"]


def test_a_write_that_fits_clearly_better_stays_first() -> None:
    tools = [found("renew", 0.9, effect="write"), found("price", 0.86), found("last", 0.8)]
    assert names(offering(tools, WELL, 2)) == ["renew", "price"]


@pytest.mark.parametrize("slow", [hosts(here=(0, 0.0), bad=(0, 1.0)), hosts(here=(0, 0.0), bad=(QUEUE, 0.0))])
@pytest.mark.parametrize("floor", [0.0, 0.8, -3.0])
def test_a_failing_and_a_busy_host_lose_half_of_their_lead(slow: dict[str, Host], floor: float) -> None:
    ranked = offering(
        [found("bad", floor + 0.8, lane="bad"), found("good", floor + 0.41), found("last", floor)], slow, 3
    )  # fmt: skip
    assert names(ranked) == ["good", "bad", "last"]
    assert ranked[1].score == pytest.approx(floor + 0.8 * FAILING)


def test_why_holds_every_part_of_the_score() -> None:
    tools = [found("a", 0.6, lane="busy", effect="write"), found("last", 0.1)]
    one = offering(tools, WELL | hosts(busy=(QUEUE, 0.5)), 1)[0]
    assert one.why == {
        "dense": 0.6, "found": 0.6, "least": 0.1, "effect": EFFECTS["write"], "health": 0.75, "queue": 0.5
    }  # fmt: skip
    assert one.score == pytest.approx(0.1 + 0.5 * EFFECTS["write"] * 0.75 * 0.5)


def test_equal_tools_stay_in_the_order_in_which_they_were_found() -> None:
    assert names(offering([found("b", 0.5), found("a", 0.5)], WELL, 2)) == ["b", "a"]


def test_nothing_that_was_found_offers_nothing() -> None:
    assert offering([], WELL, 3) == []
