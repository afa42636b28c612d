"""CrossWOZ (arXiv 2002.11893): people plan a day in Beijing in Chinese, and the one who answers searches a database.

A search of the answering side is a call: what `sys_state_init` asks of a domain for the first time, and, where it was relaxed,
what `sys_state` asks. The results are those of the same search in the set's own database, at most a few rows with a few
neighbours; those that the dialogue speaks of stand first. A taxi's model and plate are placeholders in the set; they are drawn.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import orjson

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable, json_rows
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/thu-coai/CrossWOZ"
DATA = Path("data") / "crosswoz"
FILES = {"val": "val.json.zip", "test": "test.json.zip"}
FEWEST, MOST, LISTED = 2, 4, 3  # rows of a result; items of a list in a row
TRAINING_SIZE = 2_500  # characters of messages in training: some 2,000 tokens with the tools
_NEAR = {"near_attraction": "周边景点", "near_restaurant": "周边餐馆", "near_hotel": "周边酒店"}
_PLACES = {"from": "出发地", "to": "目的地"}
_RATING = "评分，如：4.5分以上、5分"


@dataclass(frozen=True)
class _Tool:
    """What searches a domain. slots: the set's own name of each argument; told: what the model is told of it."""

    name: str
    description: str
    slots: Mapping[str, str]
    told: Mapping[str, str]

    @property
    def card(self) -> ToolCard:
        described = {name: {"type": "string", "description": self.told.get(name, slot)} for name, slot in self.slots.items()}
        required = [*_PLACES] if self.slots == _PLACES else []
        parameters = {"type": "object", "properties": described, "required": required}
        made = card({"name": self.name, "description": self.description, "parameters": parameters})
        return made.model_copy(update={"effect": "write" if self.name == "call_taxi" else "read"})

    def arguments(self, query: Mapping[str, str]) -> dict[str, str]:
        return {name: query[slot] for name, slot in self.slots.items() if slot in query}


TOOLS = {
    "景点": _Tool(
        "search_attractions", "按条件查找北京的景点。",
        {"name": "名称", "ticket": "门票", "visit_time": "游玩时间", "rating": "评分", **_NEAR},
        {
            "name": "景点名称", "ticket": "门票价格，如：免费、20-50元、100元以下",
            "visit_time": "游玩时间，如：1小时 - 2小时", "rating": _RATING,
        },
    ),
    "餐馆": _Tool(
        "search_restaurants", "按条件查找北京的餐馆。",
        {"name": "名称", "dishes": "推荐菜", "cost": "人均消费", "rating": "评分", **_NEAR},
        {
            "name": "餐馆名称", "dishes": "推荐菜，多个用空格分开",
            "cost": "人均消费，如：50-100元、1000元以上", "rating": _RATING,
        },
    ),
    "酒店": _Tool(
        "search_hotels", "按条件查找北京的酒店。",
        {"name": "名称", "type": "酒店类型", "facilities": "酒店设施", "price": "价格", "rating": "评分", **_NEAR},
        {
            "name": "酒店名称", "type": "酒店类型：经济型、舒适型、高档型或豪华型", "facilities": "酒店设施，多个用空格分开",
            "price": "每晚价格，如：400-500元、1000元以上", "rating": _RATING,
        },
    ),
    "地铁": _Tool("find_metro_stations", "查找出发地和目的地附近的地铁站。", _PLACES, {}),
    "出租": _Tool("call_taxi", "呼叫从出发地到目的地的出租车。", _PLACES, {}),
}  # fmt: skip
CARDS = tuple(tool.card for tool in TOOLS.values())
_DATABASES = {"景点": "attraction", "餐馆": "restaurant", "酒店": "hotel", "地铁": "metro"}
_WORDS = frozenset({"推荐菜", "酒店设施"})  # several may be asked for, with blanks between them
_NUMBERS = frozenset({"门票", "评分", "人均消费", "价格"})
_CARS = ("黑色大众帕萨特", "白色丰田凯美瑞", "银色现代索纳塔", "蓝色比亚迪秦", "灰色本田雅阁", "红色吉利帝豪")


class Database:
    """The places of the set. Raises SetMissing and FileUnreadable."""

    def __init__(self, folder: Path) -> None:
        self._entries: dict[str, list[JsonObject]] = {}
        for domain, name in _DATABASES.items():
            path = folder / f"{name}_db.json"
            if not path.exists():
                raise SetMissing("crosswoz", path, HOME)
            with needed(path):
                self._entries[domain] = [_entry(pair) for pair in json_rows(path)]
                if domain == "地铁":
                    self._stations = {str(entry["名称"]): entry["地铁"] for entry in self._entries[domain]}

    def find(self, domain: str, query: Mapping[str, str]) -> list[JsonObject]:
        """What fits a query, in the order of the database. query: by the set's own names of slots."""
        found = self._entries[domain]
        for slot, wanted in query.items():
            fits = _test(slot, wanted)
            found = [entry for entry in found if fits(entry.get(slot))]
        return found

    def station(self, place: str) -> object:
        """The station nearest to a place; None: none is known."""
        return self._stations.get(place)


def _entry(pair: object) -> JsonObject:
    """A place of [name, place]. Raises KeyError for one without a name of its own: by it, results are ordered."""
    entry = object_of(cast("list[object]", pair)[1], "an entry")
    return {**entry, "名称": entry["名称"]}


def _test(slot: str, wanted: str) -> Callable[[object], bool]:
    """Whether a value of a slot is what is wanted of it."""
    if slot in _NUMBERS:
        least, most = span(wanted)
        return lambda value: isinstance(value, (int, float)) and least <= value <= most
    if slot in _WORDS:
        words = wanted.split()
        return lambda value: isinstance(value, list) and all(any(word in each for each in value) for word in words)
    return lambda value: isinstance(value, (str, list)) and wanted in value  # a part of a text, or one of a list


def span(wanted: str) -> tuple[float, float]:
    """The least and the greatest number that fit a wish such as 免费, 20-50元, 4.5分以上, 100元以下 or 5分."""
    numbers = [float(each) for each in re.findall(r"\d+(?:\.\d+)?", wanted)]
    if "免费" in wanted:
        return 0.0, 0.0
    if not numbers:
        return float("-inf"), float("inf")
    if "以上" in wanted or ">" in wanted:
        return numbers[0], float("inf")
    if "以下" in wanted or "<" in wanted:
        return float("-inf"), numbers[0]
    return numbers[0], numbers[-1]


def read(folder: Path, part: str) -> Iterator[Row]:
    """The dialogues of a part."""
    path = folder / DATA / FILES[part]
    if not path.exists():
        raise SetMissing("crosswoz", path, HOME)
    database = Database(folder / DATA / "database")
    for name, dialogue in _dialogues(path).items():
        id = f"{part}-{name}"
        yield row(id, partial(_example, id, dialogue, database, TRAINING_SIZE if SET.parts[part] == "training" else None))


def _dialogues(path: Path) -> JsonObject:
    try:
        with zipfile.ZipFile(path) as archive:
            found = orjson.loads(archive.read(archive.namelist()[0]))
    except (zipfile.BadZipFile, IndexError, OSError, ValueError) as failure:
        raise FileUnreadable(path, str(failure)) from failure
    if not isinstance(found, dict):
        raise FileUnreadable(path, "it holds no object of dialogues")
    return found


def _example(id: str, dialogue: object, database: Database, size: int | None) -> Example:
    """A dialogue; size: how many characters of messages it may have, it ends after an earlier search to fit."""
    whole = object_of(dialogue, "the dialogue")
    turns = list_of(whole["messages"], "messages")
    said, ends = _said(turns, _Answers(database, _spoken(turns), _taxi(id)))
    if not ends:
        raise Unusable("nothing is searched in it")
    fitting = [end for end in ends if sum(len(each.content) for each in said.messages[:end]) <= (size or 0)]
    end = (fitting or ends[:1])[-1] if size else len(said.messages)
    return Example(id, (), "", CARDS, tuple(said.messages[:end]), "crosswoz", str(whole["type"]), "zh")


def _spoken(turns: Sequence[JsonObject]) -> frozenset[str]:
    """All that the acts of a dialogue name: values, and facilities, which stand in the slot (酒店设施-早餐服务)."""
    acts = [act for turn in turns for act in cast("list[list[object]]", turn["dialog_act"])]
    return frozenset(str(named) for act in acts for named in (act[3], str(act[2]).partition("-")[2]) if named)


def _said(turns: Sequence[JsonObject], answers: _Answers) -> tuple[Conversation, list[int]]:
    """The conversation, and how long it is after the words that follow each search."""
    said, ends = Conversation(), []
    made: set[str] = set()  # searches; what one of them found still stands in the conversation
    for turn in turns:
        text = str(turn["content"]).strip()
        if turn["role"] == "usr":
            said.user(text)
            continue
        before = len(made)
        for state in ("sys_state_init", "sys_state"):
            new = [each for each in _searches(turn[state]) if each.key not in made]
            made.update(each.key for each in new)
            if new:
                said.call((TOOLS[each.domain].name, TOOLS[each.domain].arguments(each.query)) for each in new)
                for each in new:
                    said.result(TOOLS[each.domain].name, orjson.dumps(answers.to(each)).decode())
        said.answer(answers.filled(text))
        if len(made) > before:
            ends.append(len(said.messages))
    return said, ends


@dataclass(frozen=True)
class _Search:
    """A query to a domain. selected: what of its results the answering side chose."""

    domain: str
    query: Mapping[str, str]
    selected: frozenset[str]

    @property
    def key(self) -> str:
        return f"{self.domain} {sorted(self.query.items())}"


def _searches(state: object) -> Iterator[_Search]:
    """The searches of a state. One of two places is none yet."""
    for domain, filled in object_of(state, "the state").items():
        slots = object_of(filled, domain)
        query = {slot: value for slot, value in slots.items() if isinstance(value, str) and value}
        if query and (TOOLS[domain].slots != _PLACES or len(query) == len(_PLACES)):
            yield _Search(domain, query, frozenset(cast("list[str]", slots["selectedResults"])))


@dataclass(frozen=True)
class _Answers:
    """What the searches of one dialogue find. spoken: what is named in it, which stands first; taxi: the car that comes."""

    database: Database
    spoken: frozenset[str]
    taxi: Mapping[str, str]

    def filled(self, text: str) -> str:
        """Words with the car in place of its placeholders."""
        return text.replace("#CX", self.taxi["车型"]).replace("#CP", self.taxi["车牌"])

    def to(self, search: _Search) -> Mapping[str, object]:
        """The result of a search."""
        if search.domain == "出租":
            return self.taxi
        if search.domain == "地铁":
            return {f"{slot}附近地铁站": self.database.station(place) for slot, place in search.query.items()}
        found = self.database.find(search.domain, search.query)
        first = sorted(found, key=lambda entry: (entry["名称"] not in search.selected, entry["名称"] not in self.spoken))
        shown = max(FEWEST, min(MOST, len(search.selected)))
        wanted = [word for value in search.query.values() for word in value.split()]
        return {"总数": len(found), "结果": [_shown(entry, self.spoken, wanted) for entry in first[:shown]]}


def _shown(entry: JsonObject, spoken: Collection[str], wanted: Sequence[str]) -> JsonObject:
    """An entry with a few of each list; what is wanted stands first among them, then what is spoken of."""

    def place(each: str) -> tuple[bool, bool]:
        return not any(word in each for word in wanted), each not in spoken

    shown: JsonObject = {}
    for slot, value in entry.items():
        if isinstance(value, list):
            shown[slot] = sorted(value, key=place)[:LISTED]
        elif slot != "领域" and value is not None:
            shown[slot] = value
    return shown


def _taxi(id: str) -> dict[str, str]:
    """A car and a plate for the set's placeholders, the same for the same dialogue."""
    drawn = int(hashlib.sha256(id.encode()).hexdigest(), 16)
    return {"车型": _CARS[drawn % len(_CARS)], "车牌": f"京B{drawn // 7 % 100_000:05}"}


SET = DataSet(
    name="crosswoz", title="CrossWOZ", licence="Apache-2.0", languages=("zh",), home=HOME,
    parts={"val": "training", "test": "evaluation"}, read=read,
)  # fmt: skip
