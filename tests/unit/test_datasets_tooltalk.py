"""ToolTalk: conversations on a simulated account, without the tokens that the model never sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.tooltalk import CARDS
from tests.support.conversations import examples, rows, said, skipped


def made(name: str, response: object, exception: str | None = None, **given: object) -> dict[str, object]:
    return {"request": {"api_name": name, "parameters": given}, "response": response, "exception": exception}


def put(folder: Path, name: str, conversation: object, username: str | None = "ann") -> None:
    path = folder / "data" / "easy" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"location": "Bergen", "timestamp": "2024-02-03 09:00:00", "username": username}
    path.write_text(json.dumps({"conversation": conversation, "metadata": metadata}))


WAKE = [
    {"role": "user", "text": "Wake me."}, {"role": "user", "text": "At seven."},
    {"role": "assistant", "text": "It is set.", "apis": [
        made("FindAlarms", {"alarms": []}, session_token="s"),
        made("AddAlarm", None, "No more alarms.", session_token="s", time="07:00:00"),
    ]},
    {"role": "user", "text": "Thanks."},
]  # fmt: skip


def test_calls_follow_each_other_and_carry_no_token(tmp_path: Path) -> None:
    put(tmp_path, "a", WAKE)
    (example,) = examples(rows("tooltalk", tmp_path, "easy"))
    assert said(example) == [
        "user: Wake me.\nAt seven.", "assistant: FindAlarms({})", 'FindAlarms: {"alarms":[]}',
        'assistant: AddAlarm({"time": "07:00:00"})', 'AddAlarm: {"error":"No more alarms."}', "assistant: It is set.",
    ]  # fmt: skip
    assert example.tools == CARDS
    assert example.system.endswith("It is 2024-02-03 09:00:00 in Bergen. The user is logged in as ann.")


def test_somebody_who_is_not_logged_in_is_nobody(tmp_path: Path) -> None:
    put(tmp_path, "a", WAKE, username=None)
    assert examples(rows("tooltalk", tmp_path, "easy"))[0].system.endswith("Nobody is logged in.")


def test_our_cards_ask_for_what_the_code_of_the_set_asks_for() -> None:
    known = {card.name: card for card in CARDS}
    assert len(known) == 28
    assert known["AddAlarm"].parameters["required"] == ["time"] and known["AddAlarm"].effect == "write"
    assert known["CreateEvent"].parameters["required"] == ["name", "event_type", "start_time", "end_time"]
    properties = known["CreateEvent"].parameters["properties"]
    assert isinstance(properties, dict)
    assert properties["event_type"]["enum"] == ["meeting", "event"] and properties["attendees"]["type"] == "array"
    assert known["SearchInbox"].effect == "read" and not known["GetReminders"].parameters.get("required")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="easy"):
        rows("tooltalk", tmp_path, "easy")
    put(tmp_path, "a", [*WAKE[:1], {"role": "assistant", "text": "No."}])
    put(tmp_path, "b", [WAKE[0], {"role": "assistant", "text": "Ok.", "apis": [made("AddLamp", {})]}])
    put(tmp_path, "c", "nothing")
    (tmp_path / "data" / "easy" / "d.json").write_text("[")
    found = skipped(rows("tooltalk", tmp_path, "easy"))
    assert [why for _, why in found[:3]] == [
        "nothing is called in it", "a call to a tool that is not offered", "the conversation is no list of objects",
    ]  # fmt: skip
    assert found[3][0] == "easy-d"


def test_it_is_for_evaluation_only() -> None:
    assert set(data_set("tooltalk").parts.values()) == {"evaluation"}
