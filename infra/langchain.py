"""Our tools and agents for a LangChain program: each `invoke` is a run, with plan, policy, approval, ledger and log."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import orjson

from infra.agent import Agent, Approval, Decide, Reply, Result, Stack, ToolQuestion, decide, reply
from infra.given_call import caller
from schemas import subjects
from schemas.canonical import JsonObject, canonical, digest
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.llm.caller import CallerModel, task_of
from tool_adapters.names import tool_name

try:
    from langchain_core.tools import BaseTool, StructuredTool, ToolException
except ImportError as error:
    raise MilepostError(
        "LangChain is not installed.", why=str(error), hint="pip install 'milepost[langchain]'"
    ) from error  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import MutableMapping

ASK_S = 10.0
_TASK: JsonObject = {
    "type": "object",
    "properties": {"task": {"type": "string", "minLength": 1, "description": "What it is to do or to answer."}},
    "required": ["task"],
    "additionalProperties": False,
}
_callers: MutableMapping[Stack, str] = WeakKeyDictionary()


class ApprovalNeeded(MilepostError, ToolException):
    """A planned write waits for a person. Approve it, then invoke the same again: that takes up the same run.

    approval: what is planned, with `approve()` and `refuse()`.
    """

    def __init__(self, approval: Approval) -> None:
        super().__init__(
            f"{approval.tool} waits for a person's approval: {approval.preview.summary}", why=approval.why,
            hint=f"milepost approvals approve {approval.run}, then call the same again",
        )  # fmt: skip
        self.approval = approval


class AnswerNeeded(MilepostError, ToolException):
    """A tool waits for a person's answer. question: what it asks, with `answer(...)` and `decline()`."""

    def __init__(self, question: ToolQuestion) -> None:
        super().__init__(
            f"{question.tool} asks: {question.text}",
            hint=f"milepost approvals answer {question.run} NAME=VALUE, then call the same again",
        )
        self.question = question


def to_langchain(
    stack: Stack, tool: str | Agent, *, description: str = "", approve: Decide | None = None, answer: Reply | None = None
) -> BaseTool:
    """A tool of the catalogue, or an agent, as a tool of LangChain.

    Its content is what the model reads, its artifact the whole ToolResult (of an agent: the Result). approve, answer: asked
    when the run asks a person; without them it raises ApprovalNeeded or AnswerNeeded and the run waits. What was refused or
    failed is a ToolException. Raises MilepostError for a tool that nobody knows.
    """
    offered = _Agent(tool, approve, answer) if isinstance(tool, Agent) else _Tool(stack, tool, approve, answer)
    return StructuredTool(
        name=offered.name, description=description or offered.description, args_schema=offered.parameters,
        func=offered.invoke, coroutine=offered.ainvoke, response_format="content_and_artifact",
    )  # fmt: skip


class _Offered:
    """What both kinds share: a call is a run, and one that waits for a person is taken up by the same call."""

    name: str
    description: str
    parameters: JsonObject

    def __init__(self, stack: Stack, approve: Decide | None, answer: Reply | None) -> None:
        self._stack, self._approve, self._answer = stack, approve, answer
        self._waiting: dict[str, str] = {}

    def invoke(self, **arguments: object) -> tuple[str, object]:
        return self._stack.call(self.ainvoke(**arguments))

    async def ainvoke(self, **arguments: object) -> tuple[str, object]:
        same = digest("langchain", self.name, canonical(arguments))
        key = self._waiting.pop(same, secrets.token_hex(16))
        agent = await asyncio.to_thread(self.agent)  # which asks the loop that this may run on
        try:
            async for item in agent.astream_run(self.task(arguments), key=key):
                if isinstance(item, Approval | ToolQuestion):
                    await self._ask(agent, item)
                elif isinstance(item, Result):
                    return self.said(item)
        except (ApprovalNeeded, AnswerNeeded):
            self._waiting[same] = key
            raise
        except MilepostError as error:
            raise ToolException(str(error)) from error
        raise AssertionError("a run always ends")

    async def _ask(self, agent: Agent, item: Approval | ToolQuestion) -> None:
        """Have whoever is here answer, if nobody has."""
        state = await asyncio.to_thread(agent.stack.call, agent.client.state(item.run))
        if item.id not in {**state.approvals(), **state.questions()}:
            return
        if isinstance(item, Approval):
            if self._approve is None:
                raise ApprovalNeeded(item)
            await asyncio.to_thread(decide, item, self._approve)
        else:
            if self._answer is None:
                raise AnswerNeeded(item)
            await asyncio.to_thread(reply, item, self._answer)

    def agent(self) -> Agent:
        raise NotImplementedError

    def task(self, arguments: dict[str, object]) -> str:
        raise NotImplementedError

    def said(self, result: Result) -> tuple[str, object]:
        raise NotImplementedError


class _Agent(_Offered):
    """An agent; its conversation goes on from call to call."""

    parameters = _TASK

    def __init__(self, agent: Agent, approve: Decide | None, answer: Reply | None) -> None:
        super().__init__(agent.stack, approve, answer)
        self._agent, self.name = agent, tool_name(agent.spec.name)
        self.description = agent.description or f"Ask the agent {agent.spec.name} to do a task."

    def agent(self) -> Agent:
        return self._agent

    def task(self, arguments: dict[str, object]) -> str:
        return str(arguments["task"])

    def said(self, result: Result) -> tuple[str, object]:
        return result.text, result


class _Tool(_Offered):
    """A tool of the catalogue; each call is a conversation of its own."""

    def __init__(self, stack: Stack, name: str, approve: Decide | None, answer: Reply | None) -> None:
        super().__init__(stack, approve, answer)
        self._card = stack.call(_card(stack, name))
        self.name, self.description, self.parameters = name, self._card.description, self._card.parameters

    def agent(self) -> Agent:
        agent = Agent("langchain", stack=self._stack)
        agent.spec = caller(self._card, "langchain", _host(self._stack))
        return agent

    def task(self, arguments: dict[str, object]) -> str:
        return task_of(self.name, arguments)

    def said(self, result: Result) -> tuple[str, object]:
        if not result.results:
            raise ToolException(result.text)
        return result.text, result.results[-1]


async def _card(stack: Stack, name: str) -> ToolCard:
    question = orjson.dumps({"tenant": stack.settings.tenant, "names": [name]})
    told = orjson.loads(await stack.world.bus.ask(subjects.question("retrieval", "get_tools"), question, ASK_S))
    if not told:
        raise MilepostError(f"There is no tool {name}.", hint="milepost tools ls")
    return ToolCard.model_validate(told[0]["card"])


def _host(stack: Stack) -> str:
    """The lane of this process's model that makes the calls; one for all tools."""
    if stack not in _callers:
        _callers[stack] = stack.call(stack.host_model(CallerModel()))
    return _callers[stack]
