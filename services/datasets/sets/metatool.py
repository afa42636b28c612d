"""MetaTool (arXiv 2310.03128): which plugin a request is for, which two it takes, and whether it needs one at all.

Gold are names: plugins take no arguments here. Requests are split as the map of `services.retrieval` was trained: by SHA-256,
a fifth of the plugins and a fifth of the requests are never learned from, and such plugins are not even offered in training.
A request is offered its plugin among nine others, drawn by the request; those of two-tool are offered the ten of the set.
Half of the requests of `need` want no plugin; NO_CALL stands for the words, which the set has not. The others stand among the
requests for one plugin, too, and are left out of training.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card, tool_name
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable, json_rows
from services.datasets.conversion.offering import drawn
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing

HOME = "https://github.com/HowieHwong/MetaTool"
NO_CALL = "I can do this without a tool."
OFFERED = 10
FOLDS, HELD_OUT = 5, 0
_LISTED = re.compile(r"^\d+\. tool name: (.+?), tool description: (.*)$", re.MULTILINE)


def read(folder: Path, part: str) -> Iterator[Row]:
    """The requests of a part."""
    data = folder / "dataset"
    if part == "two-tool":
        yield from _pairs(data)
    elif part == "need":
        yield from _needs(data)
    else:
        yield from _singles(data, part)


def catalogue(folder: Path) -> dict[str, ToolCard]:
    """The card of each of the 199 plugins, by its name in the set."""
    path = _there(folder / "dataset" / "plugin_des.json")
    with needed(path):
        told = object_of(orjson.loads(path.read_bytes()), "the table of plugins")
        return {name: card({"name": name, "description": text}) for name, text in told.items()}


def fold(text: str) -> int:
    """Which of five folds a plugin or a request falls in; fold 0 is for evaluation."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % FOLDS


def _there(path: Path) -> Path:
    if not path.exists():
        raise SetMissing("metatool", path, HOME)
    return path


def _singles(data: Path, part: str) -> Iterator[Row]:
    """Requests for one plugin: `train`, or `retrieval` with those whose text is held out, for plugins that are or are not."""
    every = catalogue(data.parent)
    learned = {name: tool for name, tool in every.items() if fold(name) != HELD_OUT}
    needs = _there(data / "tmp_dataset" / "Task1.json")
    with needed(needs):
        asked = {str(each["query"]) for each in list_of(json_rows(needs), "Task1")}
    for number, (text, tool) in enumerate(_requests(_there(data / "data" / "all_clean_data.csv"))):
        id = f"{part}-{number}"
        if part == "retrieval" and fold(text) == HELD_OUT:
            yield row(id, partial(_example, id, text, [tool], every, every))
        elif part == "train" and fold(text) != HELD_OUT and fold(tool) != HELD_OUT:
            if text in asked:
                yield Skipped(id, "it stands in the evaluation part `need`, too")
            else:
                yield row(id, partial(_example, id, text, [tool], every, learned))


def _requests(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for each in csv.DictReader(file):
                yield each["Query"] or "", each["Tool"] or ""
    except (csv.Error, KeyError, UnicodeError, OSError) as wrong:
        raise FileUnreadable(path, f"{type(wrong).__name__}: {wrong}") from wrong


def _pairs(data: Path) -> Iterator[Row]:
    for number, each in enumerate(json_rows(_there(data / "tmp_dataset" / "Task2-Subtask4.json"))):
        yield row(f"two-tool-{number}", partial(_pair, f"two-tool-{number}", each))


def _pair(id: str, each: object) -> Example:
    asked = object_of(each, "the request")
    listed = _LISTED.findall(str(asked["action_prompt"]))
    offered = {name: card({"name": name, "description": text.strip("[]'\" ")}) for name, text in listed}
    gold = asked["tool"]
    if not isinstance(gold, list):
        raise Unusable("the gold is no list of names")
    return _example(id, str(asked["query"]), gold, offered, offered)


def _needs(data: Path) -> Iterator[Row]:
    every = catalogue(data.parent)
    for number, each in enumerate(json_rows(_there(data / "tmp_dataset" / "Task1.json"))):
        yield row(f"need-{number}", partial(_need, f"need-{number}", each, every))


def _need(id: str, each: object, every: dict[str, ToolCard]) -> Example:
    asked: JsonObject = object_of(each, "the request")
    gold = [str(asked["tool"])] if asked["label"] == "positive" else []
    return _example(id, str(asked["query"]), gold, every, every)


def _example(id: str, text: str, gold: Sequence[str], every: dict[str, ToolCard], others: Iterable[str]) -> Example:
    if unknown := [name for name in gold if name not in every]:
        raise Unusable(f"nothing is told of {unknown[0]}")
    names = drawn(text, gold, others, OFFERED)
    said = Conversation()
    said.user(text)
    if gold:
        said.call((tool_name(name), {}) for name in gold)
    else:
        said.answer(NO_CALL)
    offered = tuple(every[name] for name in names)
    return Example(id, (), "", offered, tuple(said.messages), "metatool", gold[0] if gold else "none", "en")


SET = DataSet(
    name="metatool", title="MetaTool", licence="MIT", languages=("en",), home=HOME,
    parts={"train": "training", "retrieval": "evaluation", "two-tool": "evaluation", "need": "evaluation"}, read=read,
)  # fmt: skip
