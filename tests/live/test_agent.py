"""The Python API on a real scripted stack: tools and models hosted in this process, sync and async, streams and resets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

import milepost
from infra.settings import Settings
from milepost import (
    Agent,
    Approval,
    CallContext,
    Generation,
    MilepostError,
    NeedsAnswer,
    Prompt,
    Result,
    Stack,
    Text,
    ToolCall,
    ToolQuestion,
    tool,
)
from runtime.errors import Permanent
from schemas.tools import Question as AskedFor
from services.llm.model import ANYBODY, Terms
from tests.support.stack import LocalStack, open_folder
from tests.support.terminal import Terminal

ROOT = Path(milepost.__file__).parent


class Echo:
    """A model of the caller's own: calls `shout` with what it hears, then repeats the result."""

    name = "echo"

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        last = prompt.messages[-1]
        if last.role == "user" and prompt.tools:
            return Generation(text="", calls=(ToolCall(id="call-1", name="shout", arguments={"text": last.content}),))
        on_text(f"heard {last.content}")
        return Generation(text=f"heard {last.content}")


@tool
def shout(text: str) -> str:
    """Shout a text in capitals.

    Args:
        text: what to shout
    """
    return text.upper()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    import asyncio

    with open_folder() as folder:
        local = asyncio.run(LocalStack.start(folder))
        link = Stack(home=local.home, start=False)
        yield link
        link.close()
        asyncio.run(local.down())


def test_a_function_and_a_model_of_the_callers_own_answer_a_run(stack: Stack) -> None:
    agent = Agent("own", model=Echo(), tools=[shout], tool_k=0, knowledge_k=0, stack=stack)
    result = agent.run("hello")
    assert result.text == "heard HELLO"
    assert [each.text for each in result.results] == ["HELLO"]
    assert [step.event for step in result.steps][-1] == "RunCompleted"


def test_the_second_run_recalls_the_first_until_reset(stack: Stack) -> None:
    seen: list[int] = []

    def count(prompt: Prompt) -> Prompt:
        seen.append(len(prompt.messages))
        return prompt

    agent = Agent("own", model=Echo(), prompt=count, tool_k=0, knowledge_k=0, stack=stack)
    agent.run("one")
    agent.run("two")
    agent.reset()
    agent.run("three")
    assert seen == [2, 4, 2]


def test_a_parser_of_the_callers_own_has_the_last_word(stack: Stack) -> None:
    agent = Agent(
        "own", model=Echo(), parser=lambda said: said.model_copy(update={"text": said.text.upper()}), tool_k=0, knowledge_k=0,
        stack=stack,
    )  # fmt: skip
    assert agent.run("quiet").text == "HEARD QUIET"


def test_a_model_of_the_callers_own_gives_way_to_the_stacks_default(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Echo):
        name = "mute"

        async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
            raise Permanent("It has no voice.")

    async def bring(settings: Settings, name: str) -> Echo:
        assert name == settings.model.name
        return Echo()

    monkeypatch.setattr("infra.agent.bring_model", bring)
    agent = Agent("own", model=Mute(), fallback=["default"], tool_k=0, knowledge_k=0, stack=stack)
    assert agent.run("hello").text == "heard hello"


def test_a_stream_gives_text_steps_and_the_result(stack: Stack) -> None:
    agent = Agent("own", model=Echo(), tool_k=0, knowledge_k=0, stack=stack)
    items = list(agent.stream_run("hello"))
    assert "".join(item.text for item in items if isinstance(item, Text)) == "heard hello"
    assert isinstance(items[-1], Result)


async def test_a_stream_works_on_the_callers_own_loop(stack: Stack) -> None:
    agent = Agent("own", model=Echo(), tool_k=0, knowledge_k=0, stack=stack)
    items = [item async for item in agent.astream_run("hello")]
    assert isinstance(items[-1], Result)
    assert items[-1].text == "heard hello"


def test_the_same_key_is_the_same_run(stack: Stack) -> None:
    agent = Agent("own", model=Echo(), tool_k=0, knowledge_k=0, stack=stack)
    assert agent.run("hello", key="agent-key").run == agent.run("hello", key="agent-key").run


def test_a_write_waits_for_its_approval_and_is_refused_without_one(stack: Stack) -> None:
    written: list[str] = []

    @tool(effect="write")
    def file_away(text: str) -> str:
        """Put a text into the archive.

        Args:
            text: what to archive
        """
        written.append(text)
        return "archived"

    class Archivist(Echo):
        async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
            last = prompt.messages[-1]
            if last.role == "user":
                return Generation(text="", calls=(ToolCall(id="c", name="file_away", arguments={"text": last.content}),))
            return Generation(text=last.content)

    agent = Agent("archivist", model=Archivist(), tools=[file_away], tool_k=0, knowledge_k=0, stack=stack)
    assert "refused" in agent.run("first").text
    assert written == []
    assert agent.run("second", approve=lambda asked: asked.arguments == {"text": "second"}).text == "archived"
    assert written == ["second"]
    asked = [item for item in _approving(agent, "third") if isinstance(item, Approval)]
    assert [item.tool for item in asked] == ["file_away"]
    assert written == ["second", "third"]


def test_an_approval_tells_what_is_doubtful_and_may_reach_further(stack: Stack) -> None:
    removed: list[int] = []

    @tool(effect="destructive")
    def remove_shelf(number: int) -> str:
        """Take a shelf away for good.

        Args:
            number: which one
        """
        removed.append(number)
        return f"shelf {number} is gone"

    class Mover(Echo):
        async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
            last = prompt.messages[-1]
            if last.role == "user":
                number = 4711 if "any" in last.content else 12
                return Generation(text="", calls=(ToolCall(id="c", name="remove_shelf", arguments={"number": number}),))
            return Generation(text=last.content)

    agent = Agent("mover", model=Mover(), tools=[remove_shelf], tool_k=0, knowledge_k=0, stack=stack)
    seen: list[Approval] = []

    def look(asked: Approval) -> Literal["conversation"]:
        seen.append(asked)
        return "conversation"

    assert agent.run("remove shelf 12", approve=look).text == "shelf 12 is gone"
    assert (seen[0].effect, seen[0].ungrounded, bool(seen[0].why), seen[0].before) == ("destructive", (), True, None)
    agent.run("remove any shelf", approve=lambda asked: bool(seen.append(asked)))
    assert seen[-1].ungrounded == ("number",), "whom nobody named is asked about, whatever was allowed"
    assert removed == [12]


@tool
async def order_tea(context: CallContext) -> str:
    """Say how to make tea, and ask which one first."""
    answer = context.answers.get("kind", ...)
    if answer is ...:
        kinds = {"type": "string", "enum": ["green", "black"], "default": "green"}
        cups = {"type": "integer", "minimum": 1}
        fields = {"type": "object", "properties": {"kind": kinds, "cups": cups}, "required": ["cups"]}
        raise NeedsAnswer(AskedFor(id="kind", text="Which tea?", fields=fields))
    return "no tea" if answer is None else f"{answer['cups']} {answer['kind']}"  # type: ignore[index]  # as asked for


class Waiter(Echo):
    """Orders tea, whatever is said, and tells what came."""

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        last = prompt.messages[-1]
        if last.role == "user":
            return Generation(text="", calls=(ToolCall(id="c", name="order_tea", arguments={}),))
        return Generation(text=last.content)


@pytest.fixture(scope="module")
def waiter(stack: Stack) -> Agent:
    return Agent("waiter", model=Waiter(), tools=[order_tea], tool_k=0, knowledge_k=0, approval="never", stack=stack)


def test_a_tool_asks_a_person_and_goes_on_with_the_answer(waiter: Agent) -> None:
    asked: list[ToolQuestion] = []

    def answer(question: ToolQuestion) -> dict[str, object]:
        asked.append(question)
        return {"kind": "black", "cups": 2}

    result = waiter.run("tea please", answer=answer)
    assert result.text == "2 black"
    assert [(each.tool, each.text) for each in asked] == [("order_tea", "Which tea?")]
    events = [step.event for step in result.steps]
    assert events.index("ToolAsked") < events.index("PersonAnswered") < events.index("ToolReturned")
    assert waiter.run("tea please").text == "no tea", "nobody answers: the tool hears so"


def test_a_tools_question_is_asked_at_the_terminal_or_answered_from_elsewhere(waiter: Agent, tmp_path: Path) -> None:
    agent = tmp_path / "waiter.json"
    agent.write_text(waiter.spec.model_dump_json())
    home = waiter.stack.settings.home
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "infra", *words, "--home", str(home)]

    with Terminal(command("ask", "tea", "--agent", str(agent)), environment=environment, folder=tmp_path) as terminal:
        terminal.wait_for("Which tea?")
        terminal.wait_for("n to decline")
        terminal.type("\n")
        terminal.wait_for("kind (one of green, black, Enter: green):")
        terminal.type("\n")
        terminal.wait_for("cups (integer, required):")
        terminal.type("none\n")
        terminal.wait_for("does not fit")
        terminal.type("3\n")
        code, rest = terminal.end()
    assert (code, "3 green" in rest) == (0, True)

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            command(*words), capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    waits = run("ask", "tea", "--agent", str(agent), "--yes", code=3)
    name = waits.split("milepost approvals answer ")[1].split()[0]
    assert "Which tea?" in run("approvals", "ls") and "cups (integer, required)" in run("approvals", "show", name)
    assert "cups" in run("approvals", "answer", name, "kind=black", code=1)
    assert "answered order_tea: Which tea?" in run("approvals", "answer", name, "kind=black", "cups=1")
    assert "1 black" in run("runs", "follow", name)


def _approving(agent: Agent, task: str) -> Iterator[object]:
    for item in agent.stream_run(task):
        if isinstance(item, Approval):
            item.approve()
        yield item


def test_a_tool_nobody_registered_ends_the_run_with_its_name(stack: Stack) -> None:
    agent = Agent("own", model=Echo(), tools=["no_such_tool"], tool_k=0, knowledge_k=0, stack=stack)
    with pytest.raises(MilepostError, match=r"no_such_tool|ended without an answer"):
        agent.run("hello")


def test_no_stack_and_no_leave_to_start_one_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MilepostError, match="milepost up"):
        Stack(home=tmp_path / "nothing", start=False)


def test_a_users_own_schemas_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("")
    script = tmp_path / "mine.py"
    script.write_text("import milepost\n")
    done = subprocess.run(
        [sys.executable, str(script)], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert str(tmp_path / "schemas") in done.stderr
    assert "rename that folder" in done.stderr
