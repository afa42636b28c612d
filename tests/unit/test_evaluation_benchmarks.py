"""The benchmarks' own rules on made-up items, and that no reply whatever breaks one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cli.words import say_in
from infra.evaluation.report import COUNTS, figure_name
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example
from services.datasets.sets import SetMissing
from services.evaluation import bfcl
from services.evaluation.benchmark import Benchmark
from services.evaluation.benchmarks import benchmark
from services.evaluation.benchmarks.hammerbench import Turn, rouge, wrong_arguments
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.replies import FIGURES
from services.evaluation.turns import items_of

CARD = ToolCard(
    name="play", description="Play a song.",
    parameters={
        "type": "object", "properties": {"song": {"type": "string"}, "times": {"type": "integer"}}, "required": ["song"],
    },
)  # fmt: skip
OTHER = CARD.model_copy(update={"name": "stop"})


def call(name: str = "play", **arguments: object) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


def example(*calls: ToolCall, text: str = "Done.", group: str = "g", id: str = "e") -> Example:
    gold = Message(role="assistant", content="" if calls else text, calls=calls)
    return Example(id, (), "", (CARD, OTHER), (Message(role="user", content="Play it."), gold), "own", group, "en")


def item(name: str, *calls: ToolCall, source: object = None, text: str = "Done.") -> Item:
    (made,) = items_of(example(*calls, text=text), name, last=True, source=source)
    return made


def said(*calls: ToolCall, text: str = "") -> Reply:
    return Reply(item="e", calls=calls, text=text)


def values(of: Benchmark, one: Item, reply: Reply) -> dict[str, float]:
    return {name: round(each.hits / each.of, 3) for name, each in of.measured(one, reply).items() if each.of}


# --- HammerBench -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "wanted", "language", "why"),
    [
        ({"city": "Bonn"}, {"city": "Bonn"}, "en", ""),
        ({"city": "Bonn", "day": ""}, {"city": "Bonn"}, "en", ""),
        ({"city": "Bonn", "day": "1"}, {"city": "Bonn"}, "en", "day is not wanted"),
        ({}, {"city": "Bonn"}, "en", "city is missing"),
        ({"n": 3}, {"n": "3"}, "en", ""),
        ({"q": "the red old car"}, {"q": "The old red car."}, "en", ""),  # 3 of 4 words in order
        ({"q": "a red car"}, {"q": "the old red car"}, "en", "q is 'a red car'"),
        ({"q": "明天上午九点"}, {"q": "明天上午九点。"}, "zh", ""),
        ({"q": "明天九点"}, {"q": "明天上午九点"}, "zh", ""),  # 4 of 4 and 6 characters: 0.8
        ({"q": "九点"}, {"q": "明天上午九点"}, "zh", "q is '九点'"),
        ({}, {}, "en", ""),
    ],
)
def test_hammerbench_takes_arguments_that_are_near_enough(
    given_: Mapping[str, object], wanted: Mapping[str, object], language: str, why: str
) -> None:
    assert wrong_arguments(given_, wanted, language) == why


def test_rouge_of_an_argument_is_by_words_or_by_characters() -> None:
    assert rouge("a b c", "a c", "en") == pytest.approx(0.8)
    assert rouge("北京", "北海", "zh") == pytest.approx(0.5)
    assert rouge("one two. three", "one two. four", "en") == pytest.approx(2 / 3)  # the words of both sentences, once each
    assert rouge("two one. three", "one two. three", "en") == pytest.approx(2 / 3)
    assert rouge("?!", "?!", "en") == 1
    assert rouge("a b", "c d", "en") == 0
    assert rouge("", "x", "en") == 0


def test_hammerbench_tells_how_far_conversations_go() -> None:
    hammer = benchmark("hammerbench")
    turns = [
        (item("hammerbench", text="Which?", source=Turn("a", 1, 3, "question")), said(text="Which song?")),
        (item("hammerbench", text="When?", source=Turn("a", 2, 3, "question")), said(call(song="x"))),
        (item("hammerbench", call(song="x"), source=Turn("a", 3, 3, "call")), said(call(song="x", times=2))),
        (item("hammerbench", call(song="x"), source=Turn("b", 1, 1, "call")), said(call(song="x"))),
        (item("hammerbench", text="No.", source=Turn("c", 1, 2, "refusal")), said(text="Sorry.")),
    ]
    figures = hammer.figures(turns)
    own = ("progress", "success", "calls", "refusals")
    assert {name: (figures[name].value, figures[name].of) for name in own} == {
        "progress": (pytest.approx(2 / 3), 2), "success": (0.5, 2), "calls": (0.5, 2), "refusals": (1, 1),
    }  # fmt: skip
    assert (figures["redundant_parameters"].value, figures["missing_parameters"].value) == (0.5, 0)
    assert (figures["turn_1"].of, figures["turn_2"].value, figures["name_accuracy"].value) == (3, 0, 1)


# --- Seal-Tools ------------------------------------------------------------------------------------


def test_seal_tools_matches_each_gold_call_once_and_tells_the_originals_way_beside() -> None:
    seal = benchmark("seal-tools")
    gold = item("seal-tools", call(song="a", times=1), call(song="b", times=2))
    right = values(seal, gold, said(call(song="b", times="2"), call(song="a", times=1.0)))
    assert (right["right"], right["triple_f1"], right["api_f1"], right["amount"]) == (1, 1, 1, 1)
    assert right["triple_f1_first_match"] == 0.25  # song=b and times=2 are held against the first gold call, and 1.0 is not 1
    twice = values(seal, gold, said(call(song="a", times=1), call(song="a", times=1), call(song="a", times=1)))
    assert (twice["api_precision"], twice["api_recall"]) == (0.667, 1)
    assert (twice["triple_precision"], twice["triple_recall"]) == (0.333, 0.5)
    assert twice["api_f1_first_match"] == 1.2  # an F1 over 1: each of three calls counts as the first gold one
    assert values(seal, gold, Reply(item="e", malformed="x"))["amount"] == 0


def test_seal_tools_tells_items_of_unseen_tools_apart(tmp_path: Path) -> None:
    folder = tmp_path / "Seal-Tools_Dataset"
    folder.mkdir()
    tools = [{"api_name": f"tool{n}", "api_description": "Do.", "parameters": {"a": {"type": "str"}}} for n in range(8)]
    (folder / "tool.jsonl").write_text("\n".join(map(json.dumps, tools)))

    def rows(name: str, *called: str) -> None:
        lines = [
            {"id": f"{name}-{tool}", "query": "Do it.", "calling": [{"api": tool, "parameters": {"a": "x"}}]} for tool in called
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))

    rows("dev", "tool1")
    rows("test_out_domain", "tool1", "tool2", "tool3")
    rows("test_in_domain", "tool3")
    seal = benchmark("seal-tools")
    items = [each for each in seal.items(tmp_path, "test-out-domain") if isinstance(each, Item)]
    assert [each.group for each in items] == ["one", "one-unseen", "one"]
    assert seal.figures([(each, said(*each.calls)) for each in items])["right_unseen"].of == 1


# --- others ----------------------------------------------------------------------------------------


def test_toolalpaca_takes_what_only_a_result_tells_for_any_value() -> None:
    alpaca = benchmark("toolalpaca")
    gold = item("toolalpaca", call(song="${song from search}", times=2), call("stop", song="Loud"))
    assert alpaca.judge(gold, said(call("stop", song=" loud"), call(song="any", times="2"))) == ""
    assert alpaca.judge(gold, said(call(song="any", times=2))) == "called play"
    assert values(alpaca, gold, said(call(song="any", times=2)))["first_function"] == 1
    assert alpaca.judge(gold, said(call("stop", song="soft"), call(song="any", times=2))) == "2 of 3 arguments, 3 given"


def test_metatool_tells_the_decision_from_the_tool() -> None:
    meta = benchmark("metatool")
    needed, idle = item("metatool", call()), item("metatool")
    assert values(meta, needed, said(call(song="x")))["right"] == 1
    other = values(meta, needed, said(call("stop")))
    assert (other["right"], other["decision"], other["tool_recall"]) == (0, 1, 0)
    assert values(meta, idle, said(text="I can do that."))["decision"] == 1
    assert values(meta, idle, said(call()))["decision"] == 0


async def test_restbench_goes_on_until_nothing_is_called_and_looks_for_the_gold_path() -> None:
    rest = benchmark("restbench")
    gold = item("restbench", call(), call("stop"))
    heard: list[int] = []

    async def speak(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
        heard.append(len(messages))
        made = [(call(song="a"), call()), (call("stop"),), ()][len(heard) - 1]
        return Reply(item="e", calls=made, text="" if made else "Done.", completion_tokens=5)

    reply = await rest.answer(gold, speak)
    assert heard == [2, 5, 7]
    assert [each.name for each in reply.calls] == ["play", "play", "stop"]
    assert (reply.steps, reply.completion_tokens, reply.text) == (3, 15, "Done.")
    assert rest.judge(gold, reply) == ""
    assert rest.judge(gold, said(call("stop"), call())) == "called stop, play"
    assert values(rest, gold, said(call("stop"), call()))["path_recall"] == 0.5


async def test_restbench_stops_whoever_calls_without_end_and_keeps_what_was_called_before_trouble() -> None:
    rest = benchmark("restbench")
    gold = item("restbench", call())

    async def calling(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
        return said(call())

    async def broken(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
        return said(call()) if len(messages) == 2 else Reply(item="e", malformed="half a call")

    assert len((await rest.answer(gold, calling)).calls) == 8
    assert rest.judge(gold, await rest.answer(gold, broken)) == ""


def test_nestful_compares_references_by_place(tmp_path: Path) -> None:
    for kind, rows in (
        ("data", [{"input": "Play it.", "output": [
            {"name": "find", "arguments": {"title": "x"}, "label": "song_a"},
            {"name": "play", "arguments": {"id": "$song_a.id$", "times": 2}, "label": "b"},
            {"name": "var_result", "arguments": {"done": "$b$"}}]}]),
        ("spec", [
            {"name": "find", "description": "Find.", "query_parameters": {"title": {"type": "string", "required": True}}},
            {"name": "play", "description": "Play.", "query_parameters": {
                "id": {"type": "integer", "required": True, "description": "Which."}, "times": {"type": "integer"}}}]),
    ):  # fmt: skip
        path = tmp_path / "data" / "executable" / f"executable-{kind}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    nest = benchmark("nestful")
    (one,) = (each for each in nest.items(tmp_path, "executable") if isinstance(each, Item))
    find, play = call("find", title="x"), call("play", id="$var1.id$", times="2")
    assert one.parallel
    assert "$varN.field$" in one.messages[0].content
    assert nest.judge(one, said(find, play)) == ""
    assert "invalid_calls" in values(nest, one, said(find, call("play", id="$var1.id$", times=2)))
    assert values(nest, one, said(find, call("play", id="$var1.id$", times=2)))["invalid_calls"] == 0
    assert values(nest, one, said(find, call("play", id="somewhere", times=2)))["invalid_calls"] == 1
    assert nest.judge(one, said(play, find)) == "1 of 2 calls, 2 made"
    assert values(nest, one, said(find, call("play", id="$var2.id$", times=2)))["partial_match"] == 0.5


def test_a_data_set_of_ones_own_is_a_benchmark(tmp_path: Path) -> None:
    line = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Play a."},
                     {"role": "assistant", "content": None, "tool_calls": [
                         {"id": "1", "type": "function", "function": {"name": "play", "arguments": '{"song": "a"}'}}]},
                     {"role": "tool", "tool_call_id": "1", "content": "playing"},
                     {"role": "assistant", "content": "It plays."}],
        "tools": [{"type": "function", "function": CARD.model_dump(include={"name", "description", "parameters"})}],
    }  # fmt: skip
    (tmp_path / "openai.test.jsonl").write_text(json.dumps(line) + "\n")
    own = benchmark("msagent")
    first, second = own.items(tmp_path, "test")
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    assert own.judge(first, said(call(song="a"))) == ""
    assert own.judge(first, said(call(song="b"))) == "0 of 1 arguments, 1 given"
    assert values(own, second, said(text="It plays."))["rouge_l"] == 1
    with pytest.raises(SetMissing, match="validation"):
        list(own.items(tmp_path, "validation"))


def test_the_dialogues_are_in_the_package(tmp_path: Path) -> None:
    own = benchmark("dialogues")
    parts = {part: [each.id for each in own.items(tmp_path, part) if isinstance(each, Item)] for part in own.parts}
    assert sorted(parts["test"] + parts["dev"]) == sorted(parts["all"])
    assert len(parts["test"]) == len(parts["dev"]) > 0


def test_bfcl_leaves_out_what_is_built_on_sgd(tmp_path: Path) -> None:
    def rows(name: str) -> tuple[str, str]:
        function = {
            "name": name,
            "description": "x",
            "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        }
        return json.dumps({"id": name, "question": [[{"role": "user", "content": "?"}]], "function": [function]}), json.dumps(
            {"id": name, "ground_truth": [{name: {"a": [1]}}]}
        )

    (tmp_path / "possible_answer").mkdir()
    asked, gold = zip(*map(rows, ("Hotels_2_BookHouse", "math.add")), strict=True)
    (tmp_path / "BFCL_v4_live_simple.json").write_text("\n".join(asked))
    (tmp_path / "possible_answer" / "BFCL_v4_live_simple.json").write_text("\n".join(gold))
    live = benchmark("bfcl")
    items = [each for each in live.items(tmp_path, "live_simple") if isinstance(each, Item)]
    figures = live.figures([(each, said(*each.calls)) for each in items])
    assert (figures["right"].of, figures["right_without_sgd"].of, figures["right"].value) == (2, 1, 1)
    assert items[1].calls[0].name == "math_add"


# --- any reply -------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from(["play", "stop", "zoo_feed", "", "a.b", "x" * 300])
ARGUMENTS = st.dictionaries(st.sampled_from(["song", "times", "animal", "kilos", ""]), JSON, max_size=4)


def _nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = {"song": [value]}
    return value


def _call(name: str, arguments: Mapping[str, object]) -> ToolCall:
    return ToolCall.model_construct(id="c", name=name, arguments=dict(arguments))


CALLS = st.lists(st.builds(_call, NAMES, ARGUMENTS), max_size=6) | st.sampled_from(
    [[_call("play", {"song": "x"})] * 500, [_call("play", {"song": _nested(3_000)})], [_call("play", {"song": "x" * 20_000})]]
)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    return Reply.model_construct(
        item="e", calls=tuple(draw(CALLS)), text=draw(st.text(max_size=50) | st.just("\ud800") | st.just("好" * 30_000)),
        malformed=draw(st.sampled_from(["", "", "half a call"])), trouble=draw(st.sampled_from(["", "", "timed out"])),
    )  # fmt: skip


def _asked(of: str) -> Sequence[Item]:
    gold = call(song="x", times=1)
    if of == "bfcl":
        function: Mapping[str, object] = {
            "name": "play", "description": "Play.",
            "parameters": {"type": "dict", "required": ["song"], "properties": {
                "song": {"type": "string"}, "times": {"type": "array", "items": {"type": "dict"}}, "animal": {"type": "dict"},
                "kilos": {"type": "tuple", "items": {"type": "float"}}}},
        }  # fmt: skip
        answer: bfcl.Gold = {
            "play": {"song": ["x"], "times": [[{"a": [1]}], ""], "animal": [{"b": ["y", ""]}], "kilos": [[1.0], ""]}
        }
        golds_of: Mapping[str, tuple[bfcl.Gold, ...]] = {
            "simple_python": (answer,), "irrelevance": (), "live_relevance": (), "live_parallel": (answer,) * 2,
        }  # fmt: skip
        made = [
            bfcl.Item("e", category, (), (bfcl.card_of(function),), {"play": "play"}, (function,), golds)
            for category, golds in golds_of.items()
        ]
        return [Item("e", "bfcl", one.category, "en", (), (CARD,), source=one) for one in made]
    turns = [Turn("t", 1, 2, "question"), Turn("t", 2, 2, "call")]
    source: Sequence[object] = turns if of == "hammerbench" else [None, None]
    return [item(of, text="什么歌?", source=source[0]), item(of, gold, source=source[1])]


NAMED = ("bfcl", "hammerbench", "seal-tools", "msagent", "toolalpaca", "metatool", "restbench", "nestful")


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=20, deadline=None)
@given(reply=replies())
def test_no_reply_whatever_breaks_a_benchmark(name: str, reply: Reply) -> None:
    judging = benchmark(name)
    asked = _asked(name)
    for one in asked:
        why = judging.judge(one, reply)
        assert why or reply.readable
        measured = judging.measured(one, reply)
        assert measured["right"] == (float(not why), 1)
        assert all(each.of >= 0 and each.hits >= 0 for each in measured.values())
    assert judging.figures([(one, reply) for one in asked])["right"].of == len(asked)


def test_every_figure_has_words_in_both_languages() -> None:
    said = Reply(item="e", calls=(call(song="x", times=1),), offered=("play",))
    found = {figure for name in NAMED for one in _asked(name) for figure in benchmark(name).measured(one, said)}
    found |= {"right_without_sgd", "right_unseen", "progress", "success", *FIGURES, *COUNTS}
    assert len(found) > 35
    chinese, own_names = partial(say_in, "zh"), {"action_em", "rouge_l"}
    assert not [name for name in found - own_names if figure_name(name, chinese).isascii()]
    assert figure_name("turn_5+", chinese) == "第 5+ 轮" and figure_name("turn_5+", partial(say_in, "en")) == "turn 5+"
    assert figure_name("tool_selection_heavy", chinese) == "工具选对（噪声：重）"
    assert figure_name("api_f1", partial(say_in, "en")) == "APIs: F1" and figure_name("of_no_words", chinese) == "of no words"


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    "bad",
    [
        Reply(item="e", malformed="half a call"), Reply(item="e", trouble="timed out"),
        Reply.model_construct(item="e", calls=(_call("play", {"song": float("nan")}),), text="", malformed="", trouble=""),
        Reply.model_construct(item="e", calls=(_call("play", {"song": _nested(3_000)}),), text="", malformed="", trouble=""),
        Reply(item="e", calls=tuple(call(song="x", times=1) for _ in range(300))),
    ],
    ids=["malformed", "timed out", "not a number", "nested", "hundreds"],
)  # fmt: skip
def test_a_bad_reply_is_wrong_everywhere(name: str, bad: Reply) -> None:
    judging = benchmark(name)
    for one in _asked(name):
        if one.group != "live_relevance" or not bad.calls or len(bad.calls) == 1:
            assert judging.judge(one, bad)
