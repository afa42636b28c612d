"""Schema-Guided Dialogue: service calls and their results become calls of tools, in any of six wordings."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.datasets.conversion.files import FileUnreadable
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.sgd import SHOWN, TRAINING_SIZE
from tests.support.conversations import examples, rows, said, skipped

BOATS: dict[str, object] = {
    "service_name": "Boats_1", "description": "Boats for hire",
    "slots": [
        {"name": "harbour", "description": "Where", "is_categorical": False, "possible_values": []},
        {"name": "seats", "description": "How many", "is_categorical": True, "possible_values": ["2", "4"]},
        {"name": "sail", "description": "With a sail", "is_categorical": False, "possible_values": []},
    ],
    "intents": [
        {"name": "FindBoat", "description": "Look for a boat", "is_transactional": False, "required_slots": ["harbour"],
         "optional_slots": {"seats": "2", "sail": "dontcare"}},
        {"name": "HireBoat", "description": "Hire a boat", "is_transactional": True, "required_slots": ["harbour", "seats"],
         "optional_slots": {}},
    ],
}  # fmt: skip
KAYAKS = {**BOATS, "service_name": "Kayaks_1", "description": "Kayaks for hire"}


def worded(service: Mapping[str, object], variant: int) -> dict[str, object]:
    """The service in other words: every name ends in the variant's number."""
    other = json.loads(json.dumps(service))
    renamed = {slot["name"]: f"{slot['name']}_{variant}" for slot in other["slots"]}
    other["service_name"] += str(variant)
    for slot in other["slots"]:
        slot["name"] = renamed[slot["name"]]
    for intent in other["intents"]:
        intent["name"] += str(variant)
        intent["required_slots"] = [renamed[name] for name in intent["required_slots"]]
        intent["optional_slots"] = {renamed[name]: value for name, value in intent["optional_slots"].items()}
    return dict(other)


def user(text: str) -> dict[str, object]:
    return {"speaker": "USER", "utterance": text, "frames": []}


def system(text: str, *frames: dict[str, object]) -> dict[str, object]:
    return {"speaker": "SYSTEM", "utterance": text, "frames": [*frames]}


def call(service: str, method: str, results: int, **parameters: str) -> dict[str, object]:
    found = [{"harbour": parameters.get("harbour", ""), "seats": str(n)} for n in range(results)]
    return {
        "service": service, "service_call": {"method": method, "parameters": parameters}, "service_results": found,
    }  # fmt: skip


def dialogue(name: str, *turns: dict[str, object], services: tuple[str, ...] = ("Boats_1",)) -> dict[str, object]:
    return {"dialogue_id": name, "services": [*services], "turns": [*turns]}


HIRED = dialogue(
    "1_00000",
    user("A boat in Hull, please."),
    system("How many seats?"),
    user("I don't mind."),
    system("There is one for 2.", call("Boats_1", "FindBoat", 1, harbour="Hull", sail="dontcare")),
    user("Take it."),
    system("Shall I hire it?"),
    user("Yes."),
    system("It is yours.", call("Boats_1", "HireBoat", 1, harbour="Hull", seats="2")),
    user("Bye."),
    system("Goodbye."),
)


def write(path: Path, files: Mapping[str, object]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    others = {f"sgd_x/data/v{n}/{part}/schema.json": [worded(BOATS, n)] for n in range(1, 6) for part in ("train", "dev")}
    write(tmp_path / "sgd_x_schemas.tar.xz", others)
    return tmp_path


def put(folder: Path, part: str, *dialogues: object, schema: object = None) -> None:
    write(folder / f"{part}.tar.xz", {f"{part}/dialogues_001.json": dialogues, f"{part}/schema.json": schema or [BOATS]})


def test_a_dialogue_ends_with_the_words_after_its_last_call(folder: Path) -> None:
    put(folder, "dev", HIRED)
    (example,) = examples(rows("sgd", folder, "dev"))
    assert said(example) == [
        "user: A boat in Hull, please.", "assistant: How many seats?", "user: I don't mind.",
        'assistant: FindBoat({"harbour": "Hull"})',
        'FindBoat: {"count":1,"results":[{"harbour":"Hull","seats":"0"}]}',
        "assistant: There is one for 2.", "user: Take it.", "assistant: Shall I hire it?", "user: Yes.",
        'assistant: HireBoat({"harbour": "Hull", "seats": "2"})',
        'HireBoat: {"count":1,"results":[{"harbour":"Hull","seats":"0"}]}',
        "assistant: It is yours.",
    ]  # fmt: skip
    assert (example.id, example.group, example.language) == ("dev-1_00000", "Boats_1", "en")
    assert "2019-03-01" in example.system


def test_an_intent_is_a_tool_with_its_slots(folder: Path) -> None:
    put(folder, "dev", HIRED)
    find, hire = examples(rows("sgd", folder, "dev"))[0].tools
    assert (find.name, find.effect, find.description) == ("FindBoat", "read", "Look for a boat (Boats for hire)")
    assert (hire.effect, hire.parameters["required"]) == ("write", ["harbour", "seats"])
    assert find.parameters["required"] == ["harbour"]
    assert find.parameters["properties"] == {
        "harbour": {"type": "string", "description": "Where"},
        "seats": {"type": "string", "description": "How many", "enum": ["2", "4"], "default": "2"},
        "sail": {"type": "string", "description": "With a sail"},
    }


def test_another_wording_is_the_same_dialogue_in_other_names(folder: Path) -> None:
    put(folder, "dev", HIRED)
    (plain,), (other,) = (examples(rows("sgd", folder, part)) for part in ("dev", "dev-x3"))
    assert [card.name for card in other.tools] == ["FindBoat3", "HireBoat3"]
    assert 'HireBoat3({"harbour_3": "Hull", "seats_3": "2"})' in said(other)[9]
    assert '"harbour_3":"Hull"' in said(other)[10]
    assert [m.content for m in plain.messages if m.role == "user"] == [m.content for m in other.messages if m.role == "user"]
    assert other.group == "Boats_1", "that of the service, however it is worded"


def test_training_draws_a_wording_by_the_dialogue_alone(folder: Path) -> None:
    several = [{**HIRED, "dialogue_id": f"1_{n:05}"} for n in range(60)]
    put(folder, "train", *several)
    drawn = {example.id: example.tools[0].name for example in examples(rows("sgd", folder, "train"))}
    put(folder, "train", *several[::-1])
    assert drawn == {example.id: example.tools[0].name for example in examples(rows("sgd", folder, "train"))}
    assert set(drawn.values()) == {"FindBoat", *(f"FindBoat{n}" for n in range(1, 6))}


def test_a_long_dialogue_is_cut_after_an_earlier_call_in_training_alone(folder: Path) -> None:
    long = copy.deepcopy(HIRED)
    turns = long["turns"]
    assert isinstance(turns, list)
    turns[4]["utterance"] = "Take it. " * TRAINING_SIZE
    for part in ("train", "dev"):
        put(folder, part, long)
    (cut,), (whole,) = (examples(rows("sgd", folder, part)) for part in ("train", "dev"))
    assert (len(cut.messages), len(whole.messages)) == (6, 12)


def test_of_many_results_a_few_are_shown_and_all_are_counted(folder: Path) -> None:
    put(folder, "dev", dialogue("1", user("A boat?"), system("Many.", call("Boats_1", "FindBoat", 9, harbour="Hull"))))
    (example,) = examples(rows("sgd", folder, "dev"))
    told = json.loads(example.messages[2].content)
    assert (told["count"], len(told["results"])) == (9, SHOWN)


def test_two_services_with_one_intent_are_told_apart_and_called_at_once(folder: Path) -> None:
    both = (call("Boats_1", "FindBoat", 1, harbour="Hull"), call("Kayaks_1", "FindBoat", 0, harbour="Hull"))
    put(
        folder, "dev", dialogue("1", user("What floats?"), system("A boat.", *both), services=("Boats_1", "Kayaks_1")),
        schema=[BOATS, KAYAKS],
    )  # fmt: skip
    (example,) = examples(rows("sgd", folder, "dev"))
    assert [call.name for call in example.messages[1].calls] == ["Boats_1_FindBoat", "Kayaks_1_FindBoat"]
    assert [message.name for message in example.messages[2:4]] == ["Boats_1_FindBoat", "Kayaks_1_FindBoat"]


def test_what_is_wrong_with_a_dialogue_is_told_and_the_next_is_read(folder: Path) -> None:
    talk = dialogue("talk", user("Hello"), system("Hello"))
    unknown = dialogue("unknown", user("Hi"), system("Ok", call("Trains_9", "FindTrain", 0)))
    short = dialogue("short", user("Hi"), system("Ok", call("Boats_1", "HireBoat", 0, harbour="Hull")))
    put(folder, "dev", talk, 7, unknown, short, HIRED)
    found = rows("sgd", folder, "dev")
    assert [example.id for example in examples(found)] == ["dev-1_00000"]
    assert dict(skipped(found)) == {
        "dev-talk": "nothing is called in it", "dev-dialogues_001:1": "the dialogue is no object",
        "dev-unknown": "there is no Trains_9", "dev-short": "a required argument is missing",
    }  # fmt: skip


def test_what_is_wrong_with_a_file_is_told_by_its_name(folder: Path) -> None:
    with pytest.raises(SetMissing, match=r"test\.tar\.xz"):
        rows("sgd", folder, "test")
    (folder / "test.tar.xz").write_bytes(b"no archive")
    with pytest.raises(FileUnreadable, match=r"test\.tar\.xz"):
        rows("sgd", folder, "test")
    write(folder / "test.tar.xz", {"test/dialogues_001.json": b"[{", "test/schema.json": [BOATS]})
    with pytest.raises(FileUnreadable, match="dialogues_001"):
        rows("sgd", folder, "test")


def test_only_train_is_for_training() -> None:
    uses = data_set("sgd").parts
    assert [part for part, use in uses.items() if use == "training"] == ["train"]
    assert len(uses) == 13
