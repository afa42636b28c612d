"""LangChain and our stack: its tools under our rules, our tools and agents in its programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException
from langchain_core.tools import tool as langchain_tool

from infra.langchain import ApprovalNeeded, to_langchain
from milepost import Agent, Approval, Generation, MilepostError, Prompt, Stack, ToolCall, ToolResult
from services.llm.model import ANYBODY, Terms
from tests.support.stack import LocalStack

WEB = "i-bp1f8k2m9x4q7web02"


@pytest.fixture(scope="module")
def stack(scripted_stack: LocalStack) -> Iterator[Stack]:
    link = Stack(home=scripted_stack.home, start=False)
    yield link
    link.close()


class Files:
    """A model that has every wish filed with a LangChain tool."""

    name = "files"

    async def generate(self, prompt: Prompt, *, on_text: object, terms: Terms = ANYBODY) -> Generation:
        last = prompt.messages[-1]
        if last.role == "user":
            return Generation(text="", calls=(ToolCall(id="c", name="file_note", arguments={"text": last.content}),))
        return Generation(text=last.content)


def test_a_langchain_tool_is_a_write_that_a_person_approves(stack: Stack) -> None:
    filed: list[str] = []

    @langchain_tool
    def file_note(text: str) -> str:
        """Files a note."""
        filed.append(text)
        return f"filed {text}"

    agent = Agent("clerk", model=Files(), tools=[file_note], tool_k=0, knowledge_k=0, stack=stack)
    assert "refused" in agent.run("one").text and filed == []
    assert agent.run("two", approve=lambda asked: asked.tool == "file_note").text == "filed two"
    assert filed == ["two"]


async def test_a_read_of_ours_answers_a_langchain_program(stack: Stack) -> None:
    clock = to_langchain(stack, "current_time")
    assert clock.name == "current_time" and "timezone" in clock.args
    message = clock.invoke({"type": "tool_call", "id": "t1", "name": clock.name, "args": {"timezone": "Asia/Shanghai"}})
    assert "+0800" in message.content and isinstance(message.artifact, ToolResult)
    assert "+0800" in await clock.ainvoke({"timezone": "Asia/Shanghai"})
    chain = RunnableLambda(lambda city: {"timezone": city}) | clock
    assert "+0800" in chain.invoke("Asia/Shanghai")
    with pytest.raises(ToolException, match="Atlantis"):
        clock.invoke({"timezone": "Atlantis"})
    with pytest.raises(MilepostError, match="There is no tool nothing"):
        to_langchain(stack, "nothing")


async def test_a_write_waits_for_a_person_and_the_same_call_takes_it_up(stack: Stack, scripted_stack: LocalStack) -> None:
    before = len(await scripted_stack.effects(WEB))
    call = {"InstanceId": WEB, "Period": 1, "PeriodUnit": "Month"}
    renew = to_langchain(stack, "RenewInstance")
    with pytest.raises(ApprovalNeeded, match="milepost approvals approve") as waits:
        renew.invoke(call)
    assert len(await scripted_stack.effects(WEB)) == before
    waits.value.approval.approve()
    assert WEB in renew.invoke(call)
    assert len(await scripted_stack.effects(WEB)) == before + 1

    seen: list[Approval] = []
    asking = to_langchain(stack, "RenewInstance", approve=lambda asked: bool(seen.append(asked)))
    with pytest.raises(ToolException, match="refused"):
        asking.invoke({**call, "Period": 2})
    assert [asked.tool for asked in seen] == ["RenewInstance"]


def test_an_agent_answers_a_langchain_program(stack: Stack) -> None:
    agent = Agent("teller", tools=["current_time"], tool_k=0, knowledge_k=0, stack=stack, description="Tells the time.")
    tool = to_langchain(stack, agent)
    assert (tool.name, tool.description) == ("teller", "Tells the time.")
    assert "Done:" in tool.invoke({"task": "What time is it?"})
