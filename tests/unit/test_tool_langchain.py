"""LangChain's own classes as tools of ours: schemas, injected arguments, what they return and raise."""

from __future__ import annotations

import base64
import threading
from dataclasses import replace
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import CallbackManagerForToolRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    create_retriever_tool,
    tool,
)
from pydantic import BaseModel, Field

from schemas.tools import Part, PartKind
from tool_adapters.langchain import LangchainTool, from_langchain, is_langchain
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidTool,
    OutcomeUnknown,
    Plan,
    ToolRefused,
)

CONTEXT = CallContext(tenant="acme", run="run", user="ann", command="c" * 32, conversation="talk", write_key="key")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 20).decode()


class Weather(BaseModel):
    """Where and how many days."""

    city: str = Field(description="which city")
    days: int = Field(default=1, ge=1, le=7)


@tool(args_schema=Weather)
def weather(city: str, days: int = 1) -> str:
    """Tells the weather."""
    return f"{city}: sunny for {days} days"


class Adder(BaseTool):
    name: str = "add two"
    description: str = "Adds two numbers."

    def _run(self, a: int, b: int, run_manager: CallbackManagerForToolRun | None = None) -> int:
        assert run_manager is not None
        return a + b


def read(each: BaseTool, **more: Any) -> LangchainTool:
    return from_langchain(each, effect="read", **more)


async def test_a_function_with_a_model_of_its_arguments() -> None:
    card = read(weather).card
    assert (card.name, card.description, card.effect) == ("weather", "Tells the weather.", "read")
    properties = card.parameters["properties"]
    assert isinstance(properties, dict) and properties["city"] == {"description": "which city", "type": "string"}
    assert (card.parameters["required"], card.parameters["additionalProperties"]) == (["city"], False)
    assert (await read(weather).call({"city": "Hangzhou", "days": 2}, CONTEXT)).text == "Hangzhou: sunny for 2 days"
    with pytest.raises(InvalidArguments):
        await read(weather).call({"city": "Hangzhou", "days": 9}, CONTEXT)


async def test_a_class_of_ones_own_gets_its_run_manager_and_a_fitting_name() -> None:
    adder = read(Adder())
    assert adder.card.name == "add_two"
    assert (await adder.call({"a": 1, "b": 2}, CONTEXT)).text == "3"


async def test_what_is_async_runs_on_the_loop_and_the_rest_in_a_thread() -> None:
    seen: list[threading.Thread] = []

    @tool
    async def here(text: str) -> str:
        """Runs here."""
        seen.append(threading.current_thread())
        return text

    @tool
    def there(text: str) -> str:
        """Runs there."""
        seen.append(threading.current_thread())
        return text

    await read(here).call({"text": "x"}, CONTEXT)
    await read(there).call({"text": "x"}, CONTEXT)
    assert seen[0] is threading.current_thread() and seen[1] is not threading.current_thread()


async def test_a_json_schema_is_the_cards() -> None:
    schema = {"type": "object", "title": "X", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    found = StructuredTool(name="find", description="Finds.", args_schema=schema, func=lambda q: {"found": q})
    assert read(found).card.parameters == {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    result = await read(found).call({"q": "x"}, CONTEXT)
    assert result.parts[0].text or result.parts[0].json_value == {"found": "x"}


async def test_a_tool_of_one_text_and_a_runnable_are_tools() -> None:
    loud = Tool(name="loud", description="Shouts.", func=str.upper)
    assert (await read(loud).call({"tool_input": "hi"}, CONTEXT)).text == "HI"

    def double(x: dict[str, int]) -> int:
        return x["n"] * 2

    runnable = RunnableLambda(double).as_tool(name="double", description="Doubles.", arg_types={"n": int})
    assert (await read(runnable).call({"n": 4}, CONTEXT)).text == "8"


async def test_langchains_own_retriever_tool_answers() -> None:
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: object) -> list[Document]:
            return [Document(page_content=f"about {query}")]

    found = create_retriever_tool(Shelf(), "shelf", "Searches the shelf.", response_format="content_and_artifact")
    result = await read(found).call({"query": "tea"}, CONTEXT)
    assert result.text == "about tea"


async def test_what_langchain_injects_is_not_shown_and_is_given() -> None:
    @tool
    def whose(
        text: str, user_id: Annotated[str, InjectedToolArg], call: Annotated[str, InjectedToolCallId], config: RunnableConfig
    ) -> str:
        """Says whose it is."""
        return f"{text} {user_id} {call} {config['metadata']['user']} {config['metadata']['write_key']}"

    with pytest.raises(InvalidTool, match="whose needs user_id, which LangChain injects"):
        read(whose)
    mine = read(whose, injected={"user_id": "u1"})
    assert list(mine.card.parameters["properties"]) == ["text"]  # type: ignore[call-overload]  # an object
    assert (await mine.call({"text": "x"}, CONTEXT)).text == f"x u1 {'c' * 32} ann key"


async def test_a_tool_exception_is_a_refusal_however_it_is_handled() -> None:
    def fails(text: str) -> str:
        raise ToolException("no such thing")

    for handled in (False, True):
        made = StructuredTool.from_function(fails, name="fails", description="Fails.", handle_tool_error=handled)
        with pytest.raises(ToolRefused, match="refused the call") as caught:
            await from_langchain(made).call({"text": "x"}, CONTEXT)
        assert "no such thing" in caught.value.why


async def test_a_write_that_raises_anything_else_is_in_doubt() -> None:
    def fails(text: str) -> str:
        raise ValueError("half done")

    made = StructuredTool.from_function(fails, name="fails", description="Fails.")
    with pytest.raises(OutcomeUnknown, match="while it was changing something"):
        await from_langchain(made).call({"text": "x"}, CONTEXT)
    with pytest.raises(ToolRefused, match="fails failed"):
        await read(made).call({"text": "x"}, CONTEXT)


async def test_it_is_a_write_unless_somebody_says_otherwise() -> None:
    made = from_langchain(weather)
    assert made.card.effect == "write"
    plan = await made.plan({"city": "Hangzhou"}, CONTEXT)
    assert ("city", "Hangzhou") in plan.preview.rows
    assert (await made.reconcile({"city": "Hangzhou"}, CONTEXT)).outcome == "unknown"

    async def look(arguments: dict[str, object], context: CallContext) -> Plan:
        return Plan(replace_summary(plan), "state")

    planned = from_langchain(weather, plan=look)
    assert (planned.card.dry_run, (await planned.plan({"city": "x"}, CONTEXT)).state) == ("look", "state")


def replace_summary(plan: Plan) -> Any:
    return plan.preview.model_copy(update={"summary": "looked"})


async def test_content_and_artifact_are_text_and_parts() -> None:
    @tool(response_format="content_and_artifact")
    def draw(kind: str) -> tuple[str, object]:
        """Draws."""
        return f"drew {kind}", {"json": {"points": [1, 2]}, "bytes": base64.b64decode(PNG), "object": object()}[kind]

    async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        return Part(kind=kind, ref="payload:" + "a" * 64, media_type=media_type, size=len(data))

    context = replace(CONTEXT, keep=keep)
    drawn = await read(draw).call({"kind": "json"}, context)
    assert (drawn.text, drawn.parts[-1].json_value) == ("drew json", {"points": [1, 2]})
    drawn = await read(draw).call({"kind": "bytes"}, context)
    assert drawn.text == f"drew bytes\nimage: payload:{'a' * 64}" and drawn.parts[-1].media_type == "image/png"
    assert (await read(draw).call({"kind": "object"}, context)).text == "drew object"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ],
)
async def test_blocks_of_content_are_text_and_media(block: dict[str, object]) -> None:
    @tool
    def look(at: str) -> list[dict[str, object]]:
        """Looks."""
        return [{"type": "text", "text": "here"}, block]

    result = await read(look).call({"at": "x"}, CONTEXT)
    assert [part.kind for part in result.parts] == ["text", "image"]
    assert result.text.startswith("here\nan image")


def test_only_langchains_tools_are_langchains() -> None:
    assert is_langchain(weather) and is_langchain(Adder())
    assert not is_langchain(read(weather)) and not is_langchain(lambda: None)
    assert LangchainTool is from_langchain


def test_a_tool_without_a_description_is_refused() -> None:
    class Mute(Adder):
        description: str = ""

    with pytest.raises(InvalidTool, match="cannot become a tool"):
        from_langchain(Mute())
    assert from_langchain(Mute(), description="Adds.").card.description == "Adds."
