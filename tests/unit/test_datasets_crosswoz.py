"""CrossWOZ: searches of the answering side become calls, with what the database has."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from services.datasets.conversion.files import FileUnreadable
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.crosswoz import TRAINING_SIZE, Database, span
from tests.support.conversations import examples, rows, said, skipped

NONE: dict[str, object] = {domain: {"selectedResults": []} for domain in ("景点", "餐馆", "酒店", "地铁", "出租")}
PARK = {
    "领域": "景点",
    "名称": "柳园",
    "门票": 20,
    "评分": 4.6,
    "周边景点": [],
    "周边餐馆": ["面馆甲", "面馆乙", "面馆丙", "面馆丁"],
}
LAKE = {"领域": "景点", "名称": "镜湖", "门票": 0, "评分": 4.2, "周边景点": ["柳园"], "周边餐馆": [], "电话": None}
TOWER = {"领域": "景点", "名称": "钟塔", "门票": 60, "评分": 4.9, "周边景点": [], "周边餐馆": []}
NOODLES = {"领域": "餐馆", "名称": "面馆丁", "推荐菜": ["牛肉面", "凉皮"], "人均消费": 30, "评分": 4.0}


def state(**searches: dict[str, object]) -> dict[str, object]:
    return {**NONE, **{domain: {"selectedResults": [], **search} for domain, search in searches.items()}}


def user(text: str) -> dict[str, object]:
    return {"role": "usr", "content": text, "dialog_act": []}


def system(text: str, first: dict[str, object], last: dict[str, object] | None = None, *named: str) -> dict[str, object]:
    acts = [["Inform", "景点", "名称", name] for name in named]
    return {"role": "sys", "content": text, "dialog_act": acts, "sys_state_init": first, "sys_state": last or first}


def put(folder: Path, dialogues: object, part: str = "val") -> None:
    data = folder / "data" / "crosswoz"
    (data / "database").mkdir(parents=True, exist_ok=True)
    metro = [["柳园", {"名称": "柳园", "地铁": "柳园站A口"}], ["镜湖", {"名称": "镜湖", "地铁": None}]]
    tables = {
        "attraction": [[each["名称"], each] for each in (PARK, LAKE, TOWER)], "restaurant": [["面馆丁", NOODLES]],
        "hotel": [], "metro": metro,
    }  # fmt: skip
    for name, table in tables.items():
        (data / "database" / f"{name}_db.json").write_text(json.dumps(table))
    with zipfile.ZipFile(data / f"{part}.json.zip", "w") as archive:
        archive.writestr(f"{part}.json", json.dumps(dialogues))


def talk(*turns: dict[str, object]) -> dict[str, object]:
    return {"messages": [*turns], "type": "单领域"}


@pytest.mark.parametrize(
    ("wish", "least", "most"),
    [("免费", 0, 0), ("20-50元", 20, 50), ("4.5分以上", 4.5, float("inf")), ("100元以下", float("-inf"), 100), ("5分", 5, 5),
     ("<3", float("-inf"), 3), (">3", 3, float("inf")), ("都行", float("-inf"), float("inf"))],
)  # fmt: skip
def test_a_wish_for_a_number_is_a_range(wish: str, least: float, most: float) -> None:
    assert span(wish) == (least, most)


@pytest.mark.parametrize(
    ("domain", "query", "names"),
    [("景点", {"门票": "20元以上"}, ["柳园", "钟塔"]), ("景点", {"门票": "免费", "评分": "4分以上"}, ["镜湖"]),
     ("景点", {"周边餐馆": "面馆丁"}, ["柳园"]), ("景点", {"周边餐馆": "面馆"}, []), ("景点", {"名称": "镜"}, ["镜湖"]),
     ("餐馆", {"推荐菜": "牛肉 凉皮"}, ["面馆丁"]), ("餐馆", {"推荐菜": "牛肉 馒头"}, []), ("景点", {"评分": "5分"}, [])],
)  # fmt: skip
def test_a_query_finds_what_fits_all_of_it(domain: str, query: dict[str, str], names: list[str], tmp_path: Path) -> None:
    put(tmp_path, {})
    database = Database(tmp_path / "data" / "crosswoz" / "database")
    assert [entry["名称"] for entry in database.find(domain, query)] == names


def test_a_search_is_made_once_and_answered_from_the_database(tmp_path: Path) -> None:
    asked = state(景点={"门票": "20元以上", "selectedResults": ["钟塔"]})
    put(tmp_path, {"7": talk(
        user("20元以上的景点？"), system("钟塔。", asked), user("电话呢？"), system("没有。", asked, None, "面馆丁"),
    )})  # fmt: skip
    (example,) = examples(rows("crosswoz", tmp_path, "val"))
    assert said(example) == [
        "user: 20元以上的景点？", 'assistant: search_attractions({"ticket": "20元以上"})',
        'search_attractions: {"总数":2,"结果":[{"名称":"钟塔","门票":60,"评分":4.9,"周边景点":[],"周边餐馆":[]},'
        '{"名称":"柳园","门票":20,"评分":4.6,"周边景点":[],"周边餐馆":["面馆丁","面馆甲","面馆乙"]}]}',
        "assistant: 钟塔。",
    ]  # fmt: skip
    assert (example.id, example.language, example.group) == ("val-7", "zh", "单领域")


def test_what_is_wanted_stands_among_the_few_of_a_list_that_are_shown(tmp_path: Path) -> None:
    put(tmp_path, {"7": talk(user("附近有面馆丁的景点？"), system("柳园。", state(景点={"周边餐馆": "面馆丁"})))})
    told = said(examples(rows("crosswoz", tmp_path, "val"))[0])
    assert '"周边餐馆":["面馆丁","面馆甲","面馆乙"]' in told[2]


def test_a_search_that_was_relaxed_is_a_second_call(tmp_path: Path) -> None:
    strict, relaxed = state(景点={"门票": "免费", "评分": "4.5分以上"}), state(景点={"门票": "免费"})
    put(tmp_path, {"7": talk(user("免费的？"), system("镜湖。", strict, relaxed))})
    (example,) = examples(rows("crosswoz", tmp_path, "val"))
    told = said(example)
    assert told[1:4:2] == [
        'assistant: search_attractions({"ticket": "免费", "rating": "4.5分以上"})',
        'assistant: search_attractions({"ticket": "免费"})',
    ]
    assert '"总数":0' in told[2]
    assert "镜湖" in told[4]
    assert "电话" not in told[4], "what the database does not know is left out"


def test_metro_and_taxi_want_both_places(tmp_path: Path) -> None:
    half = state(地铁={"出发地": "柳园"})
    metro = state(地铁={"出发地": "柳园", "目的地": "镜湖"})
    taxi = state(出租={"出发地": "柳园", "目的地": "镜湖"})
    put(tmp_path, {"7": talk(
        user("从柳园出发"), system("去哪里？", half), user("镜湖"), system("柳园站A口。", metro),
        user("打车吧"), system("车型#CX，车牌#CP。", taxi),
    )})  # fmt: skip
    told = said(examples(rows("crosswoz", tmp_path, "val"))[0])
    assert told[3:5] == [
        'assistant: find_metro_stations({"from": "柳园", "to": "镜湖"})',
        'find_metro_stations: {"出发地附近地铁站":"柳园站A口","目的地附近地铁站":null}',
    ]
    car = json.loads(told[8].removeprefix("call_taxi: "))
    assert told[9] == f"assistant: 车型{car['车型']}，车牌{car['车牌']}。"
    assert "#" not in told[8]


def test_a_training_dialogue_ends_after_a_search_that_fits(tmp_path: Path) -> None:
    first, second = state(景点={"门票": "免费"}), state(景点={"评分": "4分以上"})
    whole = talk(
        user("免费的？"), system("镜湖。", first), user("好" * TRAINING_SIZE), system("还有柳园。", second), user("谢谢"),
        system("再见", second),
    )  # fmt: skip
    put(tmp_path, {"7": whole}, "val")
    put(tmp_path, {"7": whole}, "test")
    (cut,), (all_,) = (examples(rows("crosswoz", tmp_path, part)) for part in ("val", "test"))
    assert (cut.messages[-1].content, all_.messages[-1].content) == ("镜湖。", "再见")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match=r"val\.json\.zip"):
        rows("crosswoz", tmp_path, "val")
    asked = state(景点={"门票": "免费"})
    put(tmp_path, {"1": talk(user("你好"), system("你好", state())), "2": 5, "3": talk(user("免费？"), system("镜湖", asked))})
    found = rows("crosswoz", tmp_path, "val")
    assert skipped(found) == [("val-1", "nothing is searched in it"), ("val-2", "the dialogue is no object")]
    assert len(examples(found)) == 1
    (tmp_path / "data" / "crosswoz" / "val.json.zip").write_bytes(b"no zip")
    with pytest.raises(FileUnreadable, match=r"val\.json\.zip"):
        rows("crosswoz", tmp_path, "val")


def test_val_is_for_training_and_test_is_not() -> None:
    assert data_set("crosswoz").parts == {"val": "training", "test": "evaluation"}
