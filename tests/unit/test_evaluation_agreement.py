"""What agreement means, counted by hand."""

from __future__ import annotations

import pytest

from schemas.policy import Outcome
from services.evaluation.agreement import Agreement, Risk, agreement, aligned
from services.evaluation.course import Action, Course, Ending, Fate, Spending
from services.evaluation.similarity import common, rouge_l, words
from services.evaluation.totals import totals_of, wilson


def read(tool: str, step: int = 1, /, **arguments: object) -> Action:
    return Action(step=step, event=step, tool=tool, arguments=arguments, effect="read", fate="done")


def write(tool: str, step: int = 1, /, verdict: Outcome = "ask", fate: Fate = "done", **arguments: object) -> Action:
    return Action(step=step, event=step, tool=tool, arguments=arguments, effect="write", verdict=verdict, fate=fate)


def course(*actions: Action, answer: str | None = "done", ending: Ending = "completed", steps: int = 9) -> Course:
    return Course(steps=steps, actions=actions, ending=ending, answer=answer, spending=Spending(tokens=10))


def test_actions_and_arguments_are_counted_as_the_paper_does() -> None:
    then = course(read("find", city="Lyon", page=1), write("renew", 2, id="i-1", months=3), read("time", 3))
    now = course(read("find", city="Lyon", page=2), write("renew", 2, id="i-1", months=3, auto=True), read("map", 3, x=1))
    found = agreement(then, now)
    # find: city full, page half; renew: id and months full, auto alone; time and map: no pair of one tool
    counts = found.matches
    assert (counts.actions, counts.tools, counts.calls) == (3, 2, 0)
    assert (counts.full, counts.half, counts.recorded, counts.driven) == (3, 1, 4, 6)
    totals = totals_of([found])
    recall, precision = (3 + 0.5) / 4, (3 + 0.5) / 6
    assert totals.arguments == pytest.approx(2 * recall * precision / (recall + precision))
    assert totals.actions.value == pytest.approx(2 / 3)
    assert found.tools == {"find": (1, 0), "map": (1, 0), "renew": (1, 0), "time": (1, 0)}
    assert found.risk == "other_write"


def test_the_alignment_has_the_fewest_edits_and_then_the_most_equal_arguments() -> None:
    then = [read("a"), read("b", x=1), read("b", x=2), read("c")]
    now = [read("b", x=2), read("c"), read("d")]
    pairs = [(each and each.tool, other and other.tool) for each, other in aligned(then, now)]
    assert pairs == [("a", None), ("b", None), ("b", "b"), ("c", "c"), (None, "d")]
    assert aligned(then, now)[2] == (then[2], now[0])


@pytest.mark.parametrize(
    ("then", "now", "risk"),
    [
        (course(read("a")), course(read("a")), "same"),
        (course(read("a")), course(read("a"), answer="well done"), "answer"),
        (course(read("a")), course(read("a"), ending="failed", answer=None), "outcome"),
        (course(read("a")), course(), "lost_read"),
        (course(read("a", x=1)), course(read("a", x=True)), "new_read"),  # 1 is not true, whatever Python says
        (course(read("a")), course(read("b")), "new_read"),
        (course(write("w", x=1)), course(write("w", x=1.0)), "same"),
        (course(write("w", x=1)), course(write("w", verdict="deny", fate="denied", x=1)), "verdict"),
        (course(write("w", x=1)), course(write("w", fate="refused", x=1)), "verdict"),
        (course(write("w", x=1)), course(write("w", verdict="allow", x=1)), "verdict"),
        (course(write("w", x=1)), course(), "lost_write"),
        (course(write("w", x=1)), course(write("w", x=2)), "other_write"),
        (course(), course(write("w")), "new_write"),
        (course(write("v")), course(write("w")), "new_write"),
        (course(write("w", verdict="deny", fate="denied")), course(write("w", verdict="allow")), "new_write"),
        (course(write("w", fate="refused")), course(write("w", verdict="allow")), "new_write"),
    ],
)  # fmt: skip
def test_the_riskiest_difference_names_the_run(then: Course, now: Course, risk: Risk) -> None:
    found = agreement(then, now)
    assert (found.risk, found.changed) == (risk, risk not in ("same", "answer"))


def test_what_lies_behind_the_end_of_the_log_is_not_compared() -> None:
    then = course(read("a"), write("w", 2), read("b", 3))
    now = course(read("a"), write("w", 2, verdict="deny", fate="denied"), answer=None, ending="open", steps=2)
    found = agreement(then, now, stopped=["Generate"])
    assert (found.risk, found.stopped, found.unreached, found.matches.actions) == ("verdict", ("Generate",), 1, 2)
    assert found.similarity is None
    silent = agreement(course(read("a")), course(answer=None, ending="open", steps=0), stopped=["Generate"])
    assert (silent.risk, silent.changed, silent.matches.actions) == ("unknown", True, 0)


def test_other_decisions_without_a_swap_are_a_change() -> None:
    found = agreement(course(read("a")), course(read("a")), decided_otherwise=True)
    assert (found.risk, found.changed) == ("decisions", True)


def test_answers_are_compared_by_their_longest_common_subsequence() -> None:
    assert words("Renewed i-1, 续费三个月。") == ("renewed", "i", "1", "续费", "三个", "月")
    assert rouge_l("the cat sat", "the cat ran far") == pytest.approx(2 * 2 / 7)
    assert rouge_l("续费三个月", "续费两个月") == pytest.approx(2 * 2 / 6)
    assert (rouge_l("", ""), rouge_l("a", ""), rouge_l("!", "?")) == (1.0, 0.0, 0.0)
    assert common(tuple("abcbdab"), tuple("bdcaba")) == 4  # the textbook's example


def test_a_rate_has_the_interval_of_wilson() -> None:
    rate = wilson(8, 10)
    assert (rate.value, rate.of) == (0.8, 10)
    assert rate.low == pytest.approx(0.4902, abs=1e-4)
    assert rate.high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 0).value is None


def test_totals_leave_time_and_tokens_of_stopped_runs_out() -> None:
    whole = agreement(course(read("a")), course(read("a")))
    stopped = agreement(course(read("a")), course(answer=None, ending="open", steps=0), stopped=["Generate"])
    totals = totals_of([whole, stopped])
    assert (totals.runs, totals.changed, totals.stopped, totals.unreached) == (2, 1, 1, 1)
    assert (totals.recorded.tokens, totals.driven.tokens) == (10, 10)
    assert totals.risks == {"unknown": 1, "same": 1}
    assert totals_of([]).agreement.value is None


def test_an_agreement_survives_json() -> None:
    found = agreement(course(write("w", x=1)), course(write("w", x=2)))
    assert Agreement.model_validate_json(found.model_dump_json()) == found
