"""What every language model does alike: the one that runs here, one behind an HTTP endpoint, and a caller's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.messages import ChoiceOutput, JsonOutput, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.llm.model import TextModel
from services.llm.openai_model import Endpoint, OpenAIModel
from services.llm.own import LLM, ChatMessage, OwnModel
from tests.support.openai_server import serving
from tests.support.tiny_llm import tiny_llm

CARD = ToolCard(
    name="renew",
    description="Renew a server.",
    parameters={
        "type": "object",
        "properties": {"id": {"type": "string", "maxLength": 8}, "months": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["id", "months"],
    },
)


class Ours(LLM):
    """A caller's own model: in this test it happens to be the same one, asked by text."""

    name = "ours"

    def __init__(self, model: TextModel) -> None:
        self._model = model

    async def generate(self, messages: list[ChatMessage], sampling: Sampling) -> str:  # type: ignore[override]  # may be async
        if "Functions:" in messages[0]["content"]:
            return '{"name": "renew", "arguments": {"id": "i-1", "months": 3}}'
        said = tuple(Message(role=each["role"], content=each["content"]) for each in messages)  # type: ignore[arg-type]
        spoken = await self._model.generate(Prompt(messages=said, sampling=sampling), on_text=lambda _: None)
        return spoken.text


@pytest.fixture(params=["onnx", "openai", "own"])
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TextModel]:
    with tiny_llm(tmp_path) as local:
        if request.param == "onnx":
            yield local
        elif request.param == "own":
            yield OwnModel(Ours(local))
        else:
            async with serving(local) as server:
                yield OpenAIModel("remote", Endpoint(server.url, "served", retries=0))


def asking(text: str, *, max_tokens: int = 12, **manner: object) -> Prompt:
    return Prompt(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content=text, origin="user")),
        sampling=Sampling(max_tokens=max_tokens), manner=Manner.model_validate(manner),
    )  # fmt: skip


async def test_an_answer_is_heard_as_it_comes_and_told_whole(model: TextModel) -> None:
    heard: list[str] = []
    said = await model.generate(asking("hello"), on_text=heard.append)
    assert said.text and "".join(heard) == said.text
    assert not said.calls and said.malformed == ""
    assert said.finish in ("stop", "length")
    assert said.model == model.name and said.model_hash and said.provider


async def test_the_same_prompt_is_answered_alike(model: TextModel) -> None:
    first, second = [await model.generate(asking("the"), on_text=lambda _: None) for _ in range(2)]
    assert first.text == second.text


async def test_a_call_fits_the_tools_schema(model: TextModel) -> None:
    prompt = asking("renew i-1", max_tokens=64, calls="required").model_copy(update={"tools": (CARD,)})
    said = await model.generate(prompt, on_text=lambda _: None)
    (call,) = said.calls
    assert said.finish == "calls" and call.name == "renew"
    assert set(call.arguments) == {"id", "months"} and 1 <= int(str(call.arguments["months"])) <= 9


async def test_what_was_called_and_came_back_can_be_told_again(model: TextModel) -> None:
    prompt = asking("renew i-1", max_tokens=64, calls="required").model_copy(update={"tools": (CARD,)})
    said = await model.generate(prompt, on_text=lambda _: None)
    messages = (
        *prompt.messages,
        Message(role="assistant", content=said.text, calls=said.calls, origin="model"),
        Message(role="tool", content="Renewed until May.", name="renew", origin="tool"),
    )
    answered = await model.generate(
        prompt.model_copy(update={"messages": messages, "tools": (), "manner": Manner()}), on_text=lambda _: None
    )
    assert answered.text and not answered.malformed


async def test_cancelling_ends_the_generation(model: TextModel) -> None:
    task = asyncio.ensure_future(model.generate(asking("hello", max_tokens=200), on_text=lambda _: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.wait_for(model.generate(asking("hello"), on_text=lambda _: None), 20)).text


DIGIT: dict[str, object] = {"type": "integer", "maximum": 9}
OUTPUTS = (
    JsonOutput(json_schema={"type": "object", "properties": {"n": DIGIT}, "required": ["n"], "additionalProperties": False}),
    ChoiceOutput(options=("yes", "no")),
)


@pytest.mark.parametrize("output", OUTPUTS)
async def test_an_answer_that_does_not_look_as_wanted_never_passes_for_one(
    model: TextModel, output: JsonOutput | ChoiceOutput
) -> None:
    said = await model.generate(asking("well?", max_tokens=40, output=output), on_text=lambda _: None)
    if said.malformed:
        assert isinstance(model, OwnModel)  # nothing holds its pen, but its reply is not taken for an answer
    elif isinstance(output, ChoiceOutput):
        assert said.text in output.options
    else:
        assert set(json.loads(said.text)) == {"n"}
