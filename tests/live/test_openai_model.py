"""A remote model over HTTP: what is sent, and every way in which an endpoint can disappoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from schemas.messages import Generation, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCall, ToolCard
from services.llm.engine import DeadlinePassed
from services.llm.model import Terms
from services.llm.openai_model import Endpoint, OpenAIModel, RemoteAway, RemoteRefused
from tests.support.openai_server import OpenAIServer, _chunk, serving

CARD = ToolCard(
    name="renew", description="Renew a server.",
    parameters={"type": "object", "properties": {"months": {"type": "integer"}}, "required": ["months"]},
)  # fmt: skip
PROMPT = Prompt(messages=(Message(role="user", content="renew it", origin="user"),), tools=(CARD,), sampling=Sampling(seed=7))


def called(name: str, arguments: str, index: int = 0) -> dict[str, object]:
    return _chunk({"tool_calls": [{"index": index, "id": "c1", "type": "function",
                                   "function": {"name": name, "arguments": arguments}}]})  # fmt: skip


END: list[dict[str, object] | str] = [_chunk({}, finish="stop"), "data: [DONE]\n\n"]


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with serving(None) as running:
        yield running


async def ask(server: OpenAIServer, prompt: Prompt = PROMPT, *, retries: int = 0, timeout_s: float = 10) -> Generation:
    endpoint = Endpoint(server.url, "served", key="secret-key", retries=retries, timeout_s=timeout_s)
    return await OpenAIModel("remote", endpoint).generate(prompt, on_text=lambda _: None)


async def test_the_request_says_it_all(server: OpenAIServer) -> None:
    server.raw = [[_chunk({"content": "done"}), *END]]
    first = ToolCall(id="call-a", name="renew", arguments={"months": 3})
    messages = (
        *PROMPT.messages,
        Message(role="assistant", content="", calls=(first,)),
        Message(role="tool", content="ok", name="renew"),
    )
    said = await ask(server, PROMPT.model_copy(update={"messages": messages}))
    (request,) = server.requests
    assert said.text == "done" and said.seed == 7
    assert server.keys == ["Bearer secret-key"]
    assert request["model"] == "served" and request["seed"] == 7 and request["parallel_tool_calls"] is False
    assert [each["function"]["name"] for each in request["tools"]] == ["renew"]  # type: ignore[attr-defined]
    sent = request["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "call-a"  # type: ignore[index]


@pytest.mark.parametrize(("status", "error"), [(401, RemoteRefused), (404, RemoteRefused), (400, RemoteRefused),
                                               (429, RemoteAway), (500, RemoteAway), (503, RemoteAway)])  # fmt: skip
async def test_a_status_is_tried_again_only_when_that_may_help(
    server: OpenAIServer, status: int, error: type[RemoteAway | RemoteRefused]
) -> None:
    server.statuses = [status]
    with pytest.raises(error) as caught:
        await ask(server)
    assert str(status) in caught.value.why
    assert "secret-key" not in str(caught.value)


async def test_a_passing_overload_is_waited_out(server: OpenAIServer) -> None:
    server.statuses = [503, 429]
    server.raw = [[_chunk({"content": "at last"}), *END]]
    assert (await ask(server, retries=2)).text == "at last"


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([called("renew", '{"months": 3'), *END], "no JSON"),
        ([called("renew", "[3]"), *END], "no JSON object"),
        ([called("stop", "{}"), *END], "no tool 'stop'"),
        ([called("renew", '{"months": "three"}'), *END], "not of type 'integer'"),
        ([called("renew", '{"months": 1}'), called("renew", '{"months": 2}', 1), *END], "one at a time"),
    ],
)
async def test_a_wrong_call_goes_back_to_the_model(
    server: OpenAIServer, chunks: list[dict[str, object] | str], why: str
) -> None:
    server.raw = [chunks]
    said = await ask(server)
    assert why in said.malformed and said.calls == ()


async def test_parallel_calls_where_they_are_wanted(server: OpenAIServer) -> None:
    server.raw = [[called("renew", '{"months": 1}'), called("renew", '{"months": 2}', 1), *END]]
    said = await ask(server, PROMPT.model_copy(update={"manner": Manner(parallel=True)}))
    assert [call.arguments["months"] for call in said.calls] == [1, 2]
    assert len({call.id for call in said.calls}) == 2


@pytest.mark.parametrize(
    "broken",
    [
        [_chunk({"content": "half a"})],
        ["data: {nonsense\n\n"],
        [_chunk({"content": "half a"}), "cut"],
        ['data: {"error": {"message": "oops"}}\n\n'],
    ],
)
async def test_a_reply_that_breaks_off_is_no_answer(server: OpenAIServer, broken: list[dict[str, object] | str]) -> None:
    server.raw = [broken]
    with pytest.raises(RemoteAway):
        await ask(server)


async def test_an_endpoint_that_hangs_or_is_gone_is_away(server: OpenAIServer) -> None:
    server.hanging = True
    with pytest.raises(RemoteAway):
        await ask(server, timeout_s=0.3)
    gone = OpenAIModel("remote", Endpoint("http://127.0.0.1:9/v1", "served", retries=0))
    with pytest.raises(RemoteAway):
        await gone.generate(PROMPT, on_text=lambda _: None)


async def test_nobody_listens_beyond_the_deadline(server: OpenAIServer) -> None:
    server.hanging = True
    model = OpenAIModel("remote", Endpoint(server.url, "served", retries=0, timeout_s=5))
    with pytest.raises(DeadlinePassed):
        await model.generate(PROMPT, on_text=lambda _: None, terms=Terms(deadline=time.monotonic() + 0.3))
    await asyncio.wait_for(server.left.wait(), 10)


async def test_an_empty_reply_goes_back_to_the_model(server: OpenAIServer) -> None:
    server.raw = [END]
    assert "empty" in (await ask(server)).malformed


async def test_cancelling_hangs_up(server: OpenAIServer) -> None:
    server.hanging = True
    heard = asyncio.Event()
    model = OpenAIModel("remote", Endpoint(server.url, "served"))
    task = asyncio.ensure_future(model.generate(PROMPT, on_text=lambda _: heard.set()))
    await asyncio.wait_for(heard.wait(), 10)
    task.cancel()
    await asyncio.wait_for(server.left.wait(), 10)


async def test_another_wire_form_is_written_as_text(server: OpenAIServer) -> None:
    server.raw = [[_chunk({"content": '{"name": "renew", "arguments": {"months": 3}}'}), *END]]
    said = await ask(server, PROMPT.model_copy(update={"manner": Manner(wire="json")}))
    assert "tools" not in server.requests[0]
    assert [call.arguments for call in said.calls] == [{"months": 3}]


async def test_what_runs_elsewhere_is_never_certified(server: OpenAIServer) -> None:
    with pytest.raises(RemoteRefused, match="refused"):
        await ask(server, PROMPT.model_copy(update={"manner": Manner(certified=True)}))
    assert server.requests == []
