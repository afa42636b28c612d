"""Schema-Guided Dialogue (arXiv 1909.05855) and SGD-X (arXiv 2110.06800): dialogues with calls to services and their results.

An intent is a tool; its slots are its arguments, all of them texts, as the calls have them. SGD-X words each schema in five
other ways: names and descriptions only, in the same order. The parts `dev-x1`, `test-x3` ... are the dialogues of dev and
test under one of these wordings; each dialogue of train draws one of the six by its id. "dontcare" is no value: an optional
argument that has it is left out. The dialogues take place on 1 March 2019, of which the system message tells.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import cast

import orjson

from runtime.prompt import INSTRUCTIONS
from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card, tool_name
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Row
from services.datasets.sets import DataSet, SetMissing, Use

HOME = "https://github.com/google-research-datasets/dstc8-schema-guided-dialogue"
WORDINGS = 6  # the schema's own and those of SGD-X
SYSTEM = f"{INSTRUCTIONS}\nToday is Friday, 2019-03-01."
SHOWN = 5  # results of one call; hardly any dialogue speaks of a later one
TRAINING_SIZE = 8_000  # characters of tools and messages of a training window: some 2,000 tokens
_ORDINARY: dict[str, Use] = {"train": "training", "dev": "evaluation", "test": "evaluation"}
_OTHER_WORDS: dict[str, Use] = {f"{part}-x{n}": "evaluation" for part in ("dev", "test") for n in range(1, WORDINGS)}


@dataclass(frozen=True)
class _Service:
    """A service under one wording. tools: the card of each intent; slots: what each slot is called; both by their own names.

    optional: the slots that an intent can do without.
    """

    tools: Mapping[str, ToolCard]
    slots: Mapping[str, str]
    optional: Mapping[str, frozenset[str]]


def read(folder: Path, part: str) -> Iterator[Row]:
    """The dialogues of a part, in the order of their files."""
    files, _, wording = part.partition("-x")
    archive = folder / f"{files}.tar.xz"
    if not archive.exists():
        raise SetMissing("sgd", archive, HOME)
    own = _schema(archive, f"{files}/schema.json")
    training = files == "train"
    size = TRAINING_SIZE if training else None
    with needed(archive):
        worded = {0: _services(own, own)}
    for variant in range(1, WORDINGS) if training else map(int, filter(None, [wording])):
        others = folder / "sgd_x_schemas.tar.xz"
        other = _schema(others, f"sgd_x/data/v{variant}/{files}/schema.json")
        with needed(others):
            worded[variant] = _services(own, other)
    for where, dialogue in _dialogues(archive):
        name = str(dialogue.get("dialogue_id", where)) if isinstance(dialogue, dict) else where
        drawn = int(hashlib.sha256(name.encode()).hexdigest(), 16) % WORDINGS if training else int(wording or 0)
        id = f"{part}-{name}"  # dialogues of several parts have the same name
        yield row(id, partial(_example, id, dialogue, worded[drawn], size))


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each JSON file in an archive, read from its beginning to its end and never unpacked."""
    try:
        with tarfile.open(archive, "r|xz") as files:
            for member in files:
                if member.isfile() and member.name.endswith(".json") and (file := files.extractfile(member)):
                    yield member.name, file.read()
    except FileNotFoundError as missing:
        raise SetMissing("sgd", archive, HOME) from missing
    except (tarfile.TarError, LZMAError, EOFError, OSError) as failure:
        raise FileUnreadable(archive, str(failure)) from failure


def _dialogues(archive: Path) -> Iterator[tuple[str, object]]:
    """Each dialogue with the file and the place where it stands."""
    for name, raw in _members(archive):
        if (file := Path(name)).name.startswith("dialogues"):
            yield from ((f"{file.stem}:{at}", each) for at, each in enumerate(_list(archive, name, raw)))


def _schema(archive: Path, wanted: str) -> list[JsonObject]:
    for name, raw in _members(archive):
        if name == wanted:
            return cast("list[JsonObject]", _list(archive, name, raw))
    raise FileUnreadable(archive, f"there is no {wanted} in it")


def _list(archive: Path, name: str, raw: bytes) -> list[object]:
    try:
        found = orjson.loads(raw)
    except ValueError as failure:
        raise FileUnreadable(archive, f"{name} in it is not JSON: {failure}") from failure
    if not isinstance(found, list):
        raise FileUnreadable(archive, f"{name} in it is not a list")
    return found


def _services(own: Sequence[JsonObject], worded: Sequence[JsonObject]) -> dict[str, _Service]:
    """Each service by its own name, as a wording has it: its n-th intent and slot there are its n-th here."""
    return {str(one["service_name"]): _service(one, other) for one, other in zip(own, worded, strict=True)}


def _service(own: JsonObject, worded: JsonObject) -> _Service:
    told = {str(slot["name"]): slot for slot in list_of(worded["slots"], "slots")}
    slots = dict(zip((str(slot["name"]) for slot in list_of(own["slots"], "slots")), told, strict=True))
    tools: dict[str, ToolCard] = {}
    optional: dict[str, frozenset[str]] = {}
    for one, other in zip(list_of(own["intents"], "intents"), list_of(worded["intents"], "intents"), strict=True):
        tools[str(one["name"])] = _card(other, told, str(worded["description"]))
        optional[str(one["name"])] = frozenset(cast("Mapping[str, object]", one["optional_slots"]))
    return _Service(tools, slots, optional)


def _card(intent: JsonObject, slots: Mapping[str, JsonObject], service: str) -> ToolCard:
    required = cast("list[str]", intent["required_slots"])
    defaults = cast("Mapping[str, str]", intent["optional_slots"])
    properties: dict[str, object] = {}
    for name in (*required, *defaults):
        slot = slots[name]
        schema: dict[str, object] = {"type": "string", "description": str(slot["description"])}
        if slot["is_categorical"] and slot["possible_values"]:
            schema["enum"] = slot["possible_values"]
        if defaults.get(name, "dontcare") != "dontcare":
            schema["default"] = defaults[name]
        properties[name] = schema
    parameters = {"type": "object", "properties": properties, "required": required}
    described = f"{intent['description']} ({service})"
    made = card({"name": intent["name"], "description": described, "parameters": parameters})
    return made.model_copy(update={"effect": "write" if intent.get("is_transactional") else "read"})


def _example(id: str, raw: object, services: Mapping[str, _Service], size: int | None) -> Example:
    """A dialogue up to the words after its last call. size: characters it may have; it ends after an earlier call to fit."""
    dialogue = object_of(raw, "the dialogue")
    turns = list_of(dialogue["turns"], "turns")
    named = [name for name in cast("list[str]", dialogue["services"]) if name in services]
    offered = _offered({name: services[name] for name in named})
    said, ends = _said(turns, services, offered)
    if not ends:
        raise Unusable("nothing is called in it")
    room = (size or 0) - sum(len(each.written) for each in offered.values())
    fitting = [end for end in ends if sum(len(each.content) for each in said.messages[:end]) <= room]
    end = (fitting or ends[:1])[-1] if size else ends[-1]
    messages = tuple(said.messages[:end])
    by_tool = {tool.name: service for (service, _), tool in offered.items()}
    called = next(call.name for message in messages for call in message.calls)
    return Example(
        id, (), SYSTEM, tuple(offered.values()), messages, "sgd", by_tool[called], "en"
    )  # fmt: skip


def _offered(services: Mapping[str, _Service]) -> dict[tuple[str, str], ToolCard]:
    """The card of each service's intents; of one name in two services, each says which service it is of."""
    every = {(name, intent): tool for name, service in services.items() for intent, tool in service.tools.items()}
    names = [tool.name for tool in every.values()]
    return {
        (service, intent): tool
        if names.count(tool.name) == 1
        else tool.model_copy(update={"name": tool_name(f"{service}_{tool.name}")})
        for (service, intent), tool in every.items()
    }


def _said(
    turns: Sequence[JsonObject], services: Mapping[str, _Service], offered: Mapping[tuple[str, str], ToolCard]
) -> tuple[Conversation, list[int]]:
    """The conversation, and how long it is after the words that follow each call."""
    said, ends = Conversation(), []
    for turn in turns:
        text = str(turn["utterance"])
        if turn["speaker"] == "USER":
            said.user(text)
            continue
        frames = [frame for frame in list_of(turn["frames"], "frames") if "service_call" in frame]
        if frames:
            said.call(_call(frame, services, offered) for frame in frames)
            for frame in frames:
                said.result(*_result(frame, services, offered))
        said.answer(text)
        if frames:
            ends.append(len(said.messages))
    return said, ends


def _call(
    frame: JsonObject, services: Mapping[str, _Service], offered: Mapping[tuple[str, str], ToolCard]
) -> tuple[str, dict[str, object]]:
    service, wanted = services[str(frame["service"])], cast("JsonObject", frame["service_call"])
    intent, given = str(wanted["method"]), cast("Mapping[str, str]", wanted["parameters"])
    kept = {slot: value for slot, value in given.items() if value != "dontcare" or slot not in service.optional[intent]}
    return offered[(str(frame["service"]), intent)].name, {service.slots[slot]: value for slot, value in kept.items()}


def _result(
    frame: JsonObject, services: Mapping[str, _Service], offered: Mapping[tuple[str, str], ToolCard]
) -> tuple[str, str]:
    slots, every = services[str(frame["service"])].slots, list_of(frame["service_results"], "service_results")
    found = [{slots.get(slot, slot): value for slot, value in each.items()} for each in every]
    intent = str(cast("JsonObject", frame["service_call"])["method"])
    told = orjson.dumps({"count": len(found), "results": found[:SHOWN]}).decode()
    return offered[(str(frame["service"]), intent)].name, told


SET = DataSet(
    name="sgd", title="Schema-Guided Dialogue and SGD-X", licence="CC BY-SA 4.0", languages=("en",),
    home=HOME, parts={**_ORDINARY, **_OTHER_WORDS}, read=read,
)  # fmt: skip
