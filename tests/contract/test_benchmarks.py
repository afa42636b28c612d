"""The benchmarks on their real data: how many items each part has, and that the gold replies are right, but for faulty gold."""

from __future__ import annotations

import pytest

from services.evaluation.benchmarks import benchmark
from services.evaluation.item import Item, Reply
from tests.support.datasets import dataset

FAULTY = {
    "parallel_multiple": 2,  # gold has an argument that its function does not
    "live_simple": 2, "live_multiple": 4,  # gold leaves out what its function requires
    "live_relevance": 16,  # any call is right, and none is told
    "simple_java": 3,  # gold has values that the checker's own reading of Java cannot give
}  # fmt: skip
ITEMS = {
    ("bfcl", "simple_python"): 400, ("bfcl", "multiple"): 200, ("bfcl", "parallel"): 200, ("bfcl", "parallel_multiple"): 200,
    ("bfcl", "irrelevance"): 240, ("bfcl", "live_simple"): 258, ("bfcl", "live_multiple"): 1_053, ("bfcl", "live_parallel"): 16,
    ("bfcl", "live_parallel_multiple"): 24, ("bfcl", "live_irrelevance"): 884, ("bfcl", "live_relevance"): 16,
    ("bfcl", "simple_java"): 100, ("bfcl", "simple_javascript"): 50, ("seal-tools", "test-in-domain"): 699,
    ("toolalpaca", "all"): 202, ("metatool", "need"): 1_040, ("metatool", "two-tool"): 497, ("restbench", "tmdb"): 100,
    ("restbench", "spotify"): 56, ("nestful", "executable"): 64, ("nestful", "sgd"): 35, ("nestful", "glaive"): 144,
    ("hammerbench", "held-back"): 4_451,
}  # fmt: skip


@pytest.mark.parametrize(("name", "part"), ITEMS)
def test_the_gold_replies_are_right(name: str, part: str) -> None:
    judging = benchmark(name)
    items = [each for each in judging.items(dataset(judging.data), part) if isinstance(each, Item)]
    assert len(items) == len({each.id for each in items}) == ITEMS[name, part]
    wrong = [
        why for each in items if (why := judging.judge(each, Reply(item=each.id, calls=each.calls, text=each.text or "No.")))
    ]
    assert len(wrong) == FAULTY.get(part, 0), wrong[:5]


def test_an_answer_is_wrong_wherever_a_call_is_wanted_and_a_call_wherever_none_is() -> None:
    for name, part in (("bfcl", "irrelevance"), ("metatool", "need"), ("seal-tools", "test-in-domain")):
        judging = benchmark(name)
        for each in judging.items(dataset(judging.data), part):
            if not isinstance(each, Item):
                continue
            calling = Reply.model_validate(
                {"item": "x", "calls": [{"id": "c", "name": each.cards[0].name, "arguments": {"no": 1}}]}
            )
            reply = Reply(item="x", text="No.") if each.calls else calling
            assert judging.judge(each, reply)


def test_sgd_is_told_apart_in_bfcl_live() -> None:
    live = benchmark("bfcl")
    items = [each for each in live.items(dataset("bfcl"), "live_multiple") if isinstance(each, Item)]
    counted = sum("right_without_sgd" in live.also(each, Reply(item=each.id)) for each in items)
    assert len(items) - counted == 653
