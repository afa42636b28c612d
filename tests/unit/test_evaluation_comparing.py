from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.cli.words import say_in
from infra.evaluation import comparing, report
from infra.evaluation.comparing import NotComparable, compare
from infra.evaluation.result import How, outcomes, read
from infra.evaluation.running import drawn
from infra.evaluation.wiring import Questions, Wanted, examine
from schemas.messages import Generation, Prompt
from tests.support.examined import ME, Doors, Says, Told, door_of, items_of, lock, locks, said, speaker

HOW = How()


def say(key: str, /, **values: object) -> str:
    return say_in("en", key, **values)


async def result_of(out: Path, name: str, says: Says, *, count: int = 12, limit: int | None = None) -> Path:
    bench, who = Doors(count), ME.model_copy(update={"name": name, "hash": name})
    questions = Questions(bench, "all", drawn(items_of(bench), limit), count)
    folder, _ = await examine(questions, speaker(Told(says), who), HOW, Wanted(None), out=out)
    return folder


def right_up_to(last: int) -> Says:
    def says(prompt: Prompt) -> Generation:
        return locks(prompt) if int(door_of(prompt)) <= last else said(lock("<b>no door</b>"))

    return says


@contextmanager
def refused(what: str) -> Iterator[None]:
    with pytest.raises(NotComparable, match=what):
        yield


async def test_the_same_items_are_compared_in_pairs(tmp_path: Path) -> None:
    base = await result_of(tmp_path, "base", right_up_to(2))
    tuned = await result_of(tmp_path, "tuned", right_up_to(8))
    found = compare([base, tuned])
    right = next(each for each in found.figures if each.name == "right")
    assert [rate.value for rate in right.rates] == [0.25, 0.75]
    (gain,) = right.differences
    assert gain.value == pytest.approx(0.5) and gain.of == 12
    assert 0.2 < (gain.low or 0) < 0.5 < (gain.high or 0) <= 0.8
    assert comparing.verdicts(found) == [("tuned", 6, 0)]
    assert [each.id for each in found.changed] == [f"doors-{number}" for number in range(3, 9)]
    assert comparing.change(gain).startswith("+50.0 [+") and comparing.change(gain).endswith("*")
    none = next(each for each in found.figures if each.name == "action_em").differences[0]
    assert comparing.change(none) == "+0.0 [+0.0, +0.0]"


async def test_three_are_each_compared_with_the_first(tmp_path: Path) -> None:
    folders = [await result_of(tmp_path, name, right_up_to(last)) for name, last in (("base", 5), ("tuned", 8), ("worse", 2))]
    found = compare(folders)
    assert comparing.verdicts(found) == [("tuned", 3, 0), ("worse", 0, 3)]
    assert comparing.columns(found, say)[1:] == ["base", "tuned", "worse", "tuned − base", "worse − base"]
    right = dict((row[0], row[1:]) for row in comparing.rows(found, say))["right"]
    assert right[:3] == ["50.0%", "75.0%", "25.0%"] and right[3].startswith("+25.0 [") and right[4].startswith("−25.0 [")


async def test_results_of_other_items_are_compared_over_those_that_both_have_only_if_asked(tmp_path: Path) -> None:
    all_of = await result_of(tmp_path, "base", locks)
    some = await result_of(tmp_path, "tuned", locks, limit=5)
    with refused("5 are in all of them, 7 are not"):
        compare([all_of, some])
    found = compare([all_of, some], shared=True)
    assert (found.shared, found.left_out, found.changed) == (5, 7, ())
    with refused("nothing to compare"):
        compare([all_of])
    other = all_of.parent / "other"
    other.mkdir()
    (other / "items.jsonl").write_text((all_of / "items.jsonl").read_text().replace('"key":"', '"key":"x'))
    (other / "result.json").write_text((all_of / "result.json").read_text())
    with refused("no item in common"):
        compare([all_of, other], shared=True)
    (other / "result.json").write_text(read(all_of).model_copy(update={"benchmark": "bfcl"}).model_dump_json())
    with refused("different benchmarks"):
        compare([all_of, other], shared=True)


async def test_reports_show_what_was_said_and_load_nothing(tmp_path: Path) -> None:
    base = await result_of(tmp_path, "base", right_up_to(2))
    tuned = await result_of(tmp_path, "tuned", right_up_to(8))
    page = report.report(read(base), outcomes(base), say, "en")
    assert "Lock door 5." in page and "another door" in page and "doors-5" in page and "<svg" in page
    assert "&lt;b&gt;no door&lt;/b&gt;" in page and "<b>no door" not in page
    assert page.count("<details") == 9 and "http://" not in page.replace("http://www.w3.org", "")
    hostile = {"id": "<i>id", "reason": "<i>why", "group": "<i>group", "text": "<i>gold", "tools": ("<i>tool",)}
    worst = report.report(read(base), [each.model_copy(update=hostile) for each in outcomes(base)], say, "en")
    assert worst.count("&lt;i&gt;") >= 5 * 9 - 9 and "<i>" not in worst
    both = comparing.report(compare([base, tuned]), say, "en")
    assert "&lt;b&gt;no door&lt;/b&gt;" in both and "<b>no door" not in both
    assert both.count("<details") == 6 and "base" in both and "tuned − base" in both
    chinese = report.report(read(base), outcomes(base), lambda key, **values: say_in("zh", key, **values), "zh")
    assert 'lang="zh-CN"' in chinese and "正确" in chinese and "参数 F1" in chinese


async def test_names_are_told_apart(tmp_path: Path) -> None:
    first = await result_of(tmp_path, "base", right_up_to(2))
    second = await result_of(tmp_path, "base", right_up_to(2))
    one, other = compare([first, second]).names()
    assert one != other and one.startswith("base")
