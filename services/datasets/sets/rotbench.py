"""RoTBench: the same requests over tools whose names and arguments are noisier by the level; RoTTuning: its trajectories.

https://github.com/Junjie-Ye/RoTBench (arXiv 2401.08326). Its traps:

- 77 of the 105 requests of the examination are in the training trajectories, word for word: who is trained on `train` is not
  to be examined on the other parts.
- A row is one turn of a trajectory with all before it. Of rows that another one goes on from, only the longest is kept.
- `finish` and `ask_to_user` are tools; here the answer and the question are words. In noise they have other names, and other
  tools have theirs: they are told by their descriptions.
- The examination has several right calls for a turn: an example ends with the first; `golds` gives all of them.
- A thought before each call, and "Begin!" after each request, are left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import cast

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCard
from services.datasets.checks import checked
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import cards, names
from services.datasets.conversion.conversation import Asked, Conversation
from services.datasets.conversion.files import FileUnreadable, json_rows, parsed_lines
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import DataSet, SetMissing, Use

HOME = "https://github.com/Junjie-Ye/RoTBench"
LEVELS = ("clean", "slight", "medium", "heavy", "union")
_ARCHIVE = "rottuning_train/train_gpt4_clean.tar.xz"
_LARGEST = 64 << 20  # bytes of one file of the archive
_STEP = re.compile(r"Action:[ \t]*(?P<name>[^\n]*)\n+Action Input:\s*(?P<arguments>.*)", re.DOTALL)
_FINISH, _ASK = "Finish the task", "You can ask user for guidance"


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of a part: train, or TURN-LEVEL of the examination."""
    if part == "train":
        yield from _trajectories(folder / _ARCHIVE)
        return
    turn, level = part.rsplit("-", 1)
    path = folder / "Data" / turn.title().replace("-", "_") / f"{level}.json"
    if not path.exists():
        raise SetMissing("rotbench", path, HOME)
    for place, raw in enumerate(json_rows(path)):
        row = _example(raw, f"{part}/{place}", group=f"{turn}-{level}")
        yield row if isinstance(row, Skipped) else checked(row, last=True)


def golds(raw: object) -> list[Asked]:
    """All right calls of a row of the examination, by its own names. Raises ValueError for what is no such row."""
    last = _turns(raw)[-1]["value"]
    steps = [_STEP.search(str(each)) for each in (last if isinstance(last, list) else [last])]
    return [(step["name"].strip(), _arguments(step["arguments"])) for step in steps if step]


def _trajectories(path: Path) -> Iterator[Row]:
    if not path.exists():
        raise SetMissing("rotbench", path, HOME)
    seen: set[bytes] = set()
    for name, data in _members(path):
        rows = []
        for where, raw in parsed_lines(name, io.BytesIO(data)):
            rows.append(raw if isinstance(raw, Skipped) else _example(raw, where, group=PurePosixPath(name).parts[0]))
        begun = {key for row in rows if isinstance(row, Example) for key in _beginnings(row)[:-1]}
        for row in rows:
            if isinstance(row, Skipped):
                yield row
            elif (key := _beginnings(row)[-1]) in begun or key in seen:
                yield Skipped(row.id, "another row holds it")
            else:
                seen.add(key)
                yield Skipped(row.id, "it gives up") if _gives_up(row) else checked(row)


def _gives_up(row: Example) -> bool:
    """Whether calls led to nothing: the set's agent stopped for want of steps or context."""
    return bool(row.calls) and row.messages[-1].content.startswith(("I cannot handle the task", "I cannot solve this task"))


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of the archive, each as FIELD/TOOLS and its bytes; nothing is unpacked onto the disk. Raises FileUnreadable."""
    try:
        with tarfile.open(path, "r:xz") as archive:
            for member in archive:
                if not member.isfile() or not member.name.endswith(".jsonl"):
                    continue
                if member.size > _LARGEST:
                    raise FileUnreadable(path, f"{member.name} in it is larger than {_LARGEST:,} bytes")
                file = archive.extractfile(member)
                if file is not None:
                    yield "/".join(PurePosixPath(member.name).parts[-3:-1]), file.read()
    except (OSError, tarfile.TarError, LZMAError, EOFError) as failure:
        raise FileUnreadable(path, f"it is no archive of files: {failure}") from failure


def _beginnings(row: Example) -> list[bytes]:
    """A digest of each beginning of it, the last of all of it: what a row holds of another."""
    begun = hashlib.sha256("\n".join(card.name for card in row.tools).encode())
    found = []
    for message in row.messages:
        begun.update(message.written())
        found.append(begun.copy().digest())
    return found


def _example(raw: object, id: str, group: str) -> Row:
    try:
        turns = _turns(raw)
        listed = _tools(str(turns[0]["value"]))
        said = _conversation(turns[1:], listed)
    except (KeyError, IndexError, ValueError) as failure:
        return Skipped(id, str(failure) if type(failure) is ValueError else "not a trajectory")
    offered = tuple(card for card in listed if not card.description.startswith((_FINISH, _ASK)))
    return Example(id, (), "", offered, tuple(said), "rotbench", group, "en")


def _turns(raw: object) -> list[JsonObject]:
    turns = raw.get("conversations") if isinstance(raw, Mapping) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(each, dict) for each in turns):
        raise ValueError("not a trajectory")
    return cast("list[JsonObject]", turns)


def _tools(system: str) -> tuple[ToolCard, ...]:
    """The tools that a system message lists as JSON."""
    begin = system.find("[{", system.find("following tools:"))
    try:
        listed, _ = _decode(system[begin:]) if begin >= 0 else (None, 0)
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        raise ValueError("tools or a call cannot be read")
    return cards(cast("list[JsonObject]", listed))


def _decode(text: str) -> tuple[object, int]:
    """The JSON that a text begins with, and where it ends."""
    found: tuple[object, int] = json.JSONDecoder().raw_decode(text)
    return found


def _conversation(turns: Iterable[JsonObject], listed: Iterable[ToolCard]) -> list[Message]:
    said = Conversation()
    known = {card.name: card for card in listed}
    called = names(known.values())
    waiting = ""
    for turn in turns:
        speaker, value = turn["from"], turn["value"]
        if speaker == "user":
            said.user(str(value).removesuffix("\n").removesuffix("Begin!").strip())
        elif speaker == "function":
            said.result(waiting, str(value)) if waiting else said.user(str(value))
        elif speaker == "assistant":
            name, arguments = _step(value)
            card = known.get(called.get(name, ""))
            waiting = ""
            if card is not None and card.description.startswith((_FINISH, _ASK)):
                said.answer(str(next(iter(arguments.values()), "")).strip())
            else:
                waiting = card.name if card else name
                said.call([(waiting, fitted(arguments, card) if card else arguments)])
        else:
            raise ValueError("a speaker that nobody knows")
    return said.messages


def _step(value: object) -> tuple[str, JsonObject]:
    """The tool and the arguments of the first step that stands in a turn."""
    step = _STEP.search(str(value[0] if isinstance(value, list) and value else value))
    if not step:
        raise ValueError("tools or a call cannot be read")
    return step["name"].strip(), _arguments(step["arguments"])


def _arguments(text: str) -> JsonObject:
    try:
        found = json.loads(text.strip() or "{}", strict=False)  # line breaks stand in texts as they are
    except (ValueError, RecursionError):
        raise ValueError("tools or a call cannot be read") from None
    if not isinstance(found, dict):
        raise ValueError("tools or a call cannot be read")
    return found


_EXAMINATION: dict[str, Use] = {f"{turn}-turn-{level}": "evaluation" for turn in ("first", "third") for level in LEVELS}
SET = DataSet(
    "rotbench",
    "RoTBench: noisy tools, and RoTTuning's trajectories",
    "Apache-2.0",
    ("en",),
    HOME,
    {"train": "training", **_EXAMINATION},
    read,
)
