"""Two runs beside each other: what is the same, what differs and in what, whatever the runs are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from infra.exports.reading import load_export
from runtime import aligning
from runtime.aligning import aligned, words_changed, words_of
from runtime.contents import steps_of
from runtime.diff import Diff, diff, pairs_of
from runtime.differing import changes
from schemas.commands import CallTool, Generate, RecallMemory, RequestApproval, SelectTools
from schemas.events import (
    AnswerCopied,
    ApprovalGranted,
    ApprovalRefused,
    Fork,
    Generated,
    MemoryRecalled,
    ScoredCard,
    ToolsSelected,
)
from schemas.messages import Generation, Usage
from schemas.sealing import Sealed
from tests.support.builders import CARDS, CLOCK, NOW, RENEW, RunUnderTest, call, ready, spec
from tests.support.drawn_run import play
from tests.support.two_runs import asked, renewed

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.jsonl"))


def between(a: RunUnderTest, b: RunUnderTest) -> Diff:
    return diff((a.id, a.log), (b.id, b.log))


# --- alignment ------------------------------------------------------------------------------------


def longest(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of a longest common subsequence, from its definition."""
    row = [0] * (len(b) + 1)
    for one in a:
        before = 0
        for index, other in enumerate(b, start=1):
            before, row[index] = row[index], before + 1 if one == other else max(row[index], row[index - 1])
    return row[-1]


@pytest.mark.parametrize("seed", range(40))
def test_alignment_is_a_longest_common_subsequence(seed: int) -> None:
    draw = random.Random(seed)
    a, b = ([draw.choice("abcd") for _ in range(draw.randrange(30))] for _ in range(2))
    stretches = aligned(a, b)
    for each in stretches:
        assert not each.same or a[each.a.start : each.a.stop] == b[each.b.start : each.b.stop]
    assert [index for each in stretches for index in each.a] == list(range(len(a)))
    assert [index for each in stretches for index in each.b] == list(range(len(b)))
    assert sum(len(each.a) for each in stretches if each.same) == longest(a, b)
    assert [(each.same, each.b, each.a) for each in stretches] == [(each.same, each.a, each.b) for each in aligned(b, a)]


def test_what_is_too_long_for_one_table_is_aligned_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "PIECE", 5)
    a, b = [str(index) for index in range(23)], [str(index) for index in range(23) if index != 20]
    stretches = aligned(a, b)
    assert [index for each in stretches for index in each.a] == list(range(23))
    assert [index for each in stretches for index in each.b] == list(range(22))
    assert sum(len(each.a) for each in stretches if each.same) == 22


def test_each_step_is_told_once_and_in_order() -> None:
    for seed in range(12):
        a, b = (steps_of(run.id, run.log).steps for run in (play(2 * seed), play(2 * seed + 1)))
        pairs = list(pairs_of(a, b))
        for side, steps in (("a", a), ("b", b)):
            told = [getattr(pair, side) for pair in pairs if getattr(pair, side)]
            assert sorted(step.number for step in told) == [step.number for step in steps]
            in_line = [getattr(pair, side).number for pair in pairs if pair.how != "moved" and getattr(pair, side)]
            assert in_line == sorted(in_line)
        for pair in pairs:
            assert pair.how not in ("same", "moved") or (pair.a and pair.b and pair.a.key == pair.b.key)
            assert pair.how != "changed" or (pair.a and pair.b and pair.a.asked == pair.b.asked and pair.changes())


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_run_is_the_same_as_itself(path: Path) -> None:
    run = load_export(path)
    found = diff((run.run, run.facts), (run.run, run.facts))
    assert found.same and {pair.how for pair in found.pairs} == {"same"}
    assert {each.how for each in found.effects} <= {"same"} and found.a.totals == found.b.totals


def test_the_other_way_round_is_the_mirror_image() -> None:
    for seed in range(12):
        a, b = play(seed), play(seed + 100)
        assert between(a, a).same
        there, back = between(a, b), between(b, a)
        assert [there.count(how) for how in ("same", "moved", "changed", "removed", "added")] == [
            back.count(how) for how in ("same", "moved", "changed", "added", "removed")
        ]
        assert sorted(each.how for each in there.effects) == sorted(
            {"only a": "only b", "only b": "only a"}.get(each.how, each.how) for each in back.effects
        )


def test_ids_moments_and_references_are_no_content() -> None:
    other = RunUnderTest(spec(instructions="Be short.", knowledge_k=0), key="another")
    other.later(3600)
    other.begin()
    other.gather(CLOCK)
    other.say(call("clock", id="another-id", zone="north"))
    other.later(5)
    other.returns(other.one(CallTool), "noon")
    other.say(text="It is noon.")
    other.end()
    assert other.id != asked().id and between(asked(), other).same


def test_a_replaced_step_is_one_change() -> None:
    found = between(asked(), asked("It is late.", zone="south"))
    first = found.first
    assert first and first.a and first.b and (first.a.kind, first.a.number, first.b.number) == ("Generated", 4, 4)
    assert [each.path for each in first.changes()] == ["/generation/calls/0/arguments/zone"]
    assert found.count("removed") == found.count("added") == 0
    assert found.count("changed") == 4  # the call, its result's command, the answer, the run's answer


def test_another_answer_to_the_same_question_is_one_change() -> None:
    runs = [ready(spec(approval="writes"), RENEW) for _ in range(2)]
    for run in runs:
        run.say(call("renew", months=3))
        run.plans()
    command = runs[0].one(RequestApproval)
    runs[0].answer(ApprovalGranted(command=command, by="bob", approval_hash=command.approval_hash))
    runs[1].answer(ApprovalRefused(command=command, by="bob", reason="too dear"))
    first = between(*runs).first
    assert first and first.how == "changed" and first.b and first.b.kind == "ApprovalRefused"
    assert [(each.path, each.how) for each in first.changes()] == [("/kind", "changed"), ("/reason", "added")]


def test_what_the_model_was_told_is_compared_too() -> None:
    found = between(asked(), asked(instructions="Be long and kind."))
    turn = next(pair for pair in found.pairs if pair.a and pair.a.kind == "Generated")
    assert turn.how == "changed" and all(each.path.startswith("/prompt/") for each in turn.changes())
    assert any("Be short." in str(each.old) and "Be long" in str(each.new) for each in turn.changes())
    assert found.count("changed") == 2, "what follows from the first prompt is not told again"


def test_answers_in_another_order_are_moved_and_no_difference() -> None:
    runs: list[RunUnderTest] = []
    for first in (SelectTools, RecallMemory):
        run = RunUnderTest(spec(knowledge_k=0))
        run.begin()
        if first is RecallMemory:
            run.answer(MemoryRecalled(command=run.one(RecallMemory)))
            run.gather_tools(CLOCK)
        else:
            run.gather_tools(CLOCK)
            run.answer(MemoryRecalled(command=run.one(RecallMemory)))
        run.say(text="Hello.")
        runs.append(run)
    found = between(*runs)
    assert found.same and found.count("moved") == 1 and found.count("same") == 3


def test_a_copied_answer_is_the_answer_and_a_fork_says_where_it_left() -> None:
    first = asked()
    fork = RunUnderTest(spec(instructions="Be short.", knowledge_k=0), key="fork")
    at = Fork(run=first.id, at=3, event=first.log[2].fact.id, root="r", copied=2, began=NOW, changed=("agent",))
    fork.request = fork.request.model_copy(update={"fork": at})
    fork.begin()
    for body in (
        ToolsSelected(command=fork.one(SelectTools), tools=(ScoredCard(card=CLOCK, score=1.0),), catalog="all", searched=1),
        MemoryRecalled(command=fork.one(RecallMemory)),
    ):
        slot = fork.id_of(body.command)
        fork.tell(AnswerCopied(answer=body, run=first.id, event="e" * 32, at=NOW), slot, role="recorder")
    found = between(first, fork)
    assert [pair.how for pair in found.pairs[:3]] == ["same", "same", "same"]
    assert found.left and (found.left.fork, found.left.at.at, found.left.at.changed) == ("b", 3, ("agent",))
    back = between(fork, first)
    assert back.left and back.left.fork == "a"


def test_a_run_that_was_erased_is_compared_by_its_kinds() -> None:
    run = load_export(next(path for path in GOLDEN if path.stem == "decider-3"))
    gone = [replace(each, fact=replace(each.fact, body=Sealed(nonce="n", ciphertext="c"))) for each in run.facts]
    found = diff((run.run, run.facts), (run.run, gone))
    assert found.b.erased and found.b.outcome == "erased" and len(found.pairs) >= len(gone)
    assert diff((run.run, gone), (run.run, gone)).same


# --- effects and totals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "how", "state"),
    [
        (lambda: renewed(3), "same", "done"),
        (lambda: renewed(3, "renewed until June"), "result", "done"),
        (lambda: renewed(4), "arguments", "done"),
        (lambda: renewed(3, doubt=True), "result", "in doubt"),
        (asked, "only a", None),
    ],
)
def test_what_was_written_is_compared(other: Callable[[], RunUnderTest], how: str, state: str | None) -> None:
    (effect,) = between(renewed(3), other()).effects
    assert (effect.how, effect.b.state if effect.b else None) == (how, state)
    assert effect.a and (effect.a.tool, effect.a.arguments, effect.a.state) == ("renew", {"months": 3}, "done")


def test_totals_are_those_of_the_log() -> None:
    run = renewed(3)
    said = Generation(text="Done.", usage=Usage(prompt_tokens=30, cached_tokens=20, completion_tokens=4), total_ms=250)
    run.answer(Generated(command=run.one(Generate), generation=said))
    run.later(2)
    run.end()
    totals = between(run, asked()).a.totals
    assert (totals.turns, totals.tokens_in, totals.tokens_cached, totals.tokens_out, totals.model_ms) == (2, 30, 20, 4, 250.0)
    assert (totals.writes, totals.money, totals.wall_s, totals.calls) == (1, {"CNY": "20"}, 2.0, 1)


# --- values and words -----------------------------------------------------------------------------


def at(value: object, path: str) -> object:
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]  # type: ignore[index]
    return value


def drawn(draw: random.Random, depth: int = 3) -> object:
    kind = draw.randrange(3 if depth else 1)
    if kind == 1:
        return {draw.choice(["a", "b/c", "d~e", "名"]): drawn(draw, depth - 1) for _ in range(draw.randrange(4))}
    if kind == 2:
        return [drawn(draw, depth - 1) for _ in range(draw.randrange(4))]
    return draw.choice([None, True, False, 0, 1, 1.0, "", "x", "云"])


@pytest.mark.parametrize("seed", range(60))
def test_every_difference_is_where_it_says(seed: int) -> None:
    draw = random.Random(seed)
    old, new = drawn(draw), drawn(draw)
    found = list(changes(old, new))
    assert not list(changes(old, old)) and (bool(found) or repr(old) == repr(new) or old == new)
    for each in found:
        if each.how != "added":
            assert at(old, each.path) == each.old
        if each.how == "added":
            assert at(new, each.path) == each.new


def test_values_of_another_type_differ_and_json_in_texts_is_looked_into() -> None:
    assert [each.path for each in changes({"a/b": 1, "c~": [1]}, {"a/b": True, "c~": [1.0]})] == ["/a~1b", "/c~0/0"]
    old, new = '{"orders": [{"id": 1}], "ok": true}', '{"orders": [{"id": 2}], "ok": true}'
    assert [(each.path, each.old, each.new) for each in changes({"text": old}, {"text": new})] == [("/text#/orders/0/id", 1, 2)]
    assert [each.path for each in changes({"text": '{"a": 1}'}, {"text": '{"a":1}'})] == ["/text"], "spaces alone differ"
    assert [each.path for each in changes({"text": "{not"}, {"text": "{json"})] == ["/text"]


def test_words_are_words_in_chinese_too() -> None:
    assert words_changed("Renewed for 3 months.", "Renewed for 2 months.") == [
        ("=", "Renewed for "), ("-", "3"), ("+", "2"), ("=", " "), ("=", "months."),
    ]  # fmt: skip
    chinese = words_changed("已将服务器续费三个月。", "已将数据库续费三个月。")
    assert ("-", "服务器") in chinese and ("+", "数据库") in chinese and ("=", "续费三个月。") in chinese
    assert ("-", "i-bp1f8k-01") in words_changed("i-bp1f8k-01 is up", "i-bp1f8k-02 is up")


@pytest.mark.parametrize("seed", range(30))
def test_words_give_back_both_texts(seed: int) -> None:
    draw = random.Random(seed)
    old, new = ("".join(draw.choice("ab 续费云，。\n-.1") for _ in range(draw.randrange(60))) for _ in range(2))
    words = words_changed(old, new)
    assert "".join(text for how, text in words if how != "+") == old
    assert "".join(text for how, text in words if how != "-") == new
    assert "".join(words_of(old)) == old


def test_cards_stand_in_prompts_by_name() -> None:
    run = ready(None, *CARDS)
    run.say(text="Hello.")
    (turn,) = [step for step in steps_of(run.id, run.log).steps if step.kind == "Generated"]
    assert turn.prompt is not None
    offered = {**turn.prompt["tools"], **{k: v for m in turn.prompt["messages"] for k, v in m.get("tools", {}).items()}}  # type: ignore[dict-item,attr-defined]
    assert set(offered) == {card.name for card in CARDS}
