"""Public sets of tools and requests, each request in the part it may be used for.

HammerBench tools whose name's digest divides by five are for evaluation alone, in both languages; so are a fifth of MetaTool's
tools, a fifth of its requests, and the test part of Seal-Tools. Translations of a conversation are in one part.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from schemas.tools import ToolCard
from tests.bench.retrieval import places
from tool_adapters.names import tool_name

Part: TypeAlias = Literal["train", "dev", "held", "unseen", "left out"]
"""train: may be learned from; dev: as well, but what is chosen is chosen on it. held: another request for a tool that is
learned. unseen: for a tool that is not. left out: for none of these."""

HELD_OUT, DEV = 0, 1
"""Folds of names and of requests."""


@dataclass(frozen=True)
class Request:
    """What a person says, and the names of the tools it takes."""

    text: str
    gold: tuple[str, ...]
    part: Part


@dataclass(frozen=True)
class Catalogue:
    """Tools and requests for them. closed: names that must not be learned from, not even as what was not meant."""

    name: str
    cards: tuple[ToolCard, ...]
    requests: tuple[Request, ...]
    closed: frozenset[str] = frozenset()


def metatool() -> Catalogue:
    """199 ChatGPT plugins with 20,614 requests in English; github.com/HowieHwong/MetaTool, MIT."""
    folder = places.data() / "metatool" / "dataset"
    told: dict[str, str] = json.loads((folder / "plugin_des.json").read_text())
    cards = [_card(name, text) for name, text in told.items()]
    with (folder / "data" / "all_clean_data.csv").open(newline="") as rows:
        said = [(row["Query"], row["Tool"]) for row in csv.DictReader(rows)]
    requests = tuple(Request(text, (tool_name(tool),), _part(text, tool)) for text, tool in said)
    return Catalogue("metatool", tuple(cards), requests, _closed(told))


def hammerbench(language: places.Language) -> Catalogue:
    """Some 940 functions of mobile apps with the first turns of 1,098 conversations, among 15,920 APIs of a cloud.

    github.com/MadeAgents/HammerBench and github.com/aliyun/aliyun-openapi-meta, both Apache-2.0.
    """
    tools, asked = places.hammerbench(language)
    original = {tool_name(name): name for name in _hammerbench_names(language)}
    held = _held_conversations()
    requests = tuple(
        Request(text, (tool,), _hammerbench_part(original[tool], text in held)) for text, tool in asked
    )  # fmt: skip
    cards = (*tools, *places.alibaba(language))
    return Catalogue(f"hammerbench_{language}", cards, requests, _closed(original.values()))


def seal_tools() -> Catalogue:
    """4,076 functions with requests in English, most of which take several; github.com/fairyshine/Seal-Tools, Apache-2.0."""
    folder = places.data() / "seal-tools" / "Seal-Tools_Dataset"
    cards = {
        tool["api_name"]: _card(tool["api_name"], tool["api_description"], tool["parameters"])
        for tool in _lines(folder / "tool.jsonl")
    }
    requests: list[Request] = []
    learned: set[str] = set()
    for file in ("dev", "test_in_domain"):
        for said in _lines(folder / f"{file}.jsonl"):
            gold = tuple(dict.fromkeys(cards[call["api"]].name for call in said["calling"] if call["api"] in cards))
            if file == "dev":
                learned.update(gold)
            part: Part = "held" if learned & set(gold) else "unseen"
            if file == "dev":
                part = "dev" if fold(said["query"]) == DEV else "train"
            requests.append(Request(said["query"], gold, part))
    unseen = {name for request in requests if request.part == "unseen" for name in request.gold}
    return Catalogue("seal", tuple(cards.values()), tuple(requests), frozenset(unseen))


def fold(text: str) -> int:
    """Which of five folds a name or a request falls in."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 5


def _part(text: str, tool: str) -> Part:
    """That of a MetaTool request. One that is held out by its text alone is never learned from."""
    if fold(tool) == HELD_OUT:
        return "unseen" if fold(text) == HELD_OUT else "left out"
    if fold(text) == HELD_OUT:
        return "held"
    return "dev" if fold(tool) == DEV else "train"


def _hammerbench_part(tool: str, held: bool) -> Part:
    if fold(tool) == HELD_OUT:
        return "unseen"
    if held:
        return "held"
    return "dev" if fold(tool) == DEV else "train"


def _closed(names: Iterable[str]) -> frozenset[str]:
    return frozenset(tool_name(name) for name in names if fold(name) == HELD_OUT)


def _held_conversations() -> frozenset[str]:
    """First turns, in both languages, of a fifth of the conversations, by their Chinese wording."""
    files = [_hammerbench("en"), _hammerbench("zh")]
    turns = ([dialogue["messages"][0]["content"] for dialogue in json.loads(file.read_text())] for file in files)
    return frozenset(text for pair in zip(*turns, strict=True) if fold(pair[1]) == DEV for text in pair)


def _hammerbench(language: places.Language) -> Path:
    """The one file whose lines are the same conversations in both languages."""
    return places.data() / "hammerbench" / "data" / language / "multi-turn" / "HammerBench_IS.json"


def _hammerbench_names(language: places.Language) -> Iterator[str]:
    for path in sorted((places.data() / "hammerbench" / "data" / language).glob("*-turn/*.json")):
        for dialogue in json.loads(path.read_text()):
            for key in ("multiple_tools", "single_tool"):
                said = dialogue.get(key) or []
                said = json.loads(said) if isinstance(said, str) else said
                yield from (tool["name"] for tool in (said if isinstance(said, list) else [said]))


def _card(name: str, text: str, parameters: dict[str, object] | None = None) -> ToolCard:
    return ToolCard(name=tool_name(name), description=text, parameters={"type": "object", "properties": parameters or {}})


def _lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open() as lines:
        yield from (json.loads(line) for line in lines)
