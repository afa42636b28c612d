"""Recorded runs as training data: conversations in two formats, with nobody in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets.recorded import DatasetFiles, NoConversations, conversations
from infra.exports.reading import load_export
from runtime.fold import fold
from runtime.log import Stored
from runtime.state import RunState
from schemas.errors import MilepostError
from schemas.ids import RunId
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example
from services.datasets.formats.writing import msagent, openai
from services.datasets.pseudonyms import Pseudonyms
from services.datasets.recorded import example_of, unfit
from services.datasets.splits import part_of
from services.llm.wire import WIRES
from services.recorder.ports import RunSummary

GOLDEN = Path(__file__).parents[1] / "golden"
CARD = ToolCard(name="renew", description="Renew it.", parameters={"type": "object", "properties": {"id": {"type": "string"}}})


def state_of(name: str) -> RunState:
    run = load_export(GOLDEN / f"{name}.jsonl")
    return fold(run.run, run.facts).state


def example(*messages: Message) -> Example:
    return Example("c-1", ("r",), "Be kind.", (CARD,), messages)


CALL = ToolCall(id="call-1", name="renew", arguments={"id": "i-1", "note": "续费"})
TALK = example(
    Message(role="user", content="renew i-1"),
    Message(role="assistant", content="", calls=(CALL,)),
    Message(role="tool", content="renewed", name="renew"),
    Message(role="assistant", content="It is renewed."),
    Message(role="user", content="thanks"),
    Message(role="assistant", content="You are welcome."),
)


def test_a_recorded_run_becomes_the_conversation_that_it_was() -> None:
    state = state_of("decider-4")
    assert unfit(state) is None
    made = example_of("c-1", [state])
    assert made.messages[0].content == (state.request.task if state.request else "")
    assert made.messages[-1].content == state.answer
    assert made.calls == {call.name for message in state.messages for call in message.calls} != set()
    assert made.calls <= {card.name for card in made.tools}


def test_the_turns_of_a_conversation_are_one_example() -> None:
    state = state_of("decider-4")
    twice = example_of("c-1", [state, state])
    assert [each.content for each in twice.messages] == 2 * [each.content for each in example_of("c-1", [state]).messages]
    assert len(twice.tools) == len(example_of("c-1", [state]).tools)


def test_msagent_has_a_system_message_then_user_and_assistant_in_turn() -> None:
    line = msagent(TALK)
    assert [each["from"] for each in line["conversations"]] == ["system", "user", "assistant", "user", "assistant"]
    said = line["conversations"][2]["value"]
    asked = WIRES["msagent"].parse(said)
    assert [(call.name, call.arguments) for call in asked.calls] == [("renew", CALL.arguments)]
    assert said.index("<|endofthink|>") < said.index("<|startofexec|>") < said.index("It is renewed.")
    assert '1. {"name":"renew"' in line["conversations"][0]["value"]
    assert json.loads(json.dumps(line)) == line


def test_openai_lines_pair_each_result_with_its_call() -> None:
    line = openai(TALK)
    said = line["messages"]
    assert [each["role"] for each in said] == ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert json.loads(said[2]["tool_calls"][0]["function"]["arguments"]) == CALL.arguments
    assert said[3]["tool_call_id"] == said[2]["tool_calls"][0]["id"]
    assert line["tools"][0]["function"]["name"] == "renew"


def test_persons_are_replaced_the_same_by_the_same_in_words_and_arguments() -> None:
    told = "write to Ann@Corp.example and bob@corp.example, call 13812345678 or +49 170 1234567, card 4111 1111 1111 1111"
    call = ToolCall(id="c", name="mail", arguments={"to": ["ann@corp.example"], "n": 3})
    names = Pseudonyms()
    made = names.example(example(Message(role="user", content=told), Message(role="assistant", content="", calls=(call,))))
    text = made.messages[0].content
    assert text == (
        "write to person1@example.com and person2@example.com, call +1-555-0101 or +1-555-0102, card [card number 1]"
    )
    assert made.messages[1].calls[0].arguments == {"to": ["person1@example.com"], "n": 3}
    assert names.replaced == {"email": 3, "phone": 2, "card": 1}


@pytest.mark.parametrize(
    "text",
    [
        "i-bp1f8k2m9x4q7web02", "order 4111111111111112", "2026-11-21 10:00:00", "10.0.0.1 and 192.168.1.7", "1.2.3.4.5",
        "run 202611-0123456789abcdef0123456789abcdef", "11010119900307123X", "3.14159265358979", "¥1234567890",
    ],
)  # fmt: skip
def test_what_tells_of_nobody_stays(text: str) -> None:
    assert Pseudonyms().text(text) == text


def test_an_identity_number_and_a_public_host_go_and_secrets_before_them() -> None:
    names = Pseudonyms(clean=lambda text: text.replace("hunter2", "[redacted]"))
    assert names.text("11010519491231002X at 8.8.8.8 with hunter2") == "[identity number 1] at 192.0.2.1 with [redacted]"


def test_runs_that_teach_nothing_good_are_named() -> None:
    state = state_of("decider-4")
    assert unfit(RunState(run=state.run)) == "not completed"
    assert unfit(state.__class__(**{**vars(state), "doubts": {"c": "k"}})) == "in doubt"
    broken = (Message(role="user", content="Your reply could not be read", name="parser"), *state.messages)
    assert unfit(state.__class__(**{**vars(state), "messages": broken})) == "unreadable reply"
    assert unfit(state.__class__(**{**vars(state), "erased": True})) == "erased"


@given(st.text())
def test_a_part_is_a_matter_of_the_name_alone(name: str) -> None:
    assert part_of(name) == part_of(name) in ("train", "validation", "test")
    assert part_of(name, {"all": 1.0, "none": 0.0}) == "all"


def test_parts_have_their_shares() -> None:
    counts = Counter(part_of(f"c-{number}", {"train": 0.8, "test": 0.2}) for number in range(5000))
    assert 0.77 < counts["train"] / 5000 < 0.83
    with pytest.raises(ValueError, match=r"add up to 1, these add up to 0\.9"):
        part_of("x", {"train": 0.9})


# --- files --------------------------------------------------------------------------------------------


def listed(run: str, conversation: str, **more: object) -> RunSummary:
    began = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=int(run))
    told = {"tenant": "t", "status": "completed", "agent": "a", "user": "u", "task": "", "started": began, "seq": 1}
    return RunSummary.model_validate({**told, "run": run, "conversation": conversation, **more})


async def found(*runs: RunSummary) -> AsyncIterator[RunSummary]:
    for each in runs:
        yield each


async def test_a_fork_is_no_turn_of_the_conversation_that_it_left() -> None:
    runs = (listed("3", "c", fork_of="1"), listed("2", "c"), listed("1", "c"))
    assert await conversations(found(*runs), single=False) == {"3": ["3"], "c": ["1", "2"]}
    assert await conversations(found(*runs), single=True) == {"1": ["1"], "2": ["2"], "3": ["3"]}


async def test_no_run_is_no_data_set() -> None:
    with pytest.raises(NoConversations, match="No run fits"):
        await conversations(found(), single=False)


async def test_what_fails_while_runs_are_read_leaves_no_folder(tmp_path: Path) -> None:
    async def broken(run: RunId) -> list[Stored]:
        raise OSError("the log is gone")

    with pytest.raises(OSError, match="gone"), DatasetFiles(tmp_path / "o", ("openai",), {"train": 1.0}, Pseudonyms()) as files:
        await files.add_all({"c": [RunId("1")]}, broken)
    assert not (tmp_path / "o").exists()


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MilepostError, match="cannot be written"):
        DatasetFiles(tmp_path / "file", ("openai",), {"train": 1.0}, Pseudonyms(clean=str, personal=True))
