"""The official OpenAI SDK against a whole stack: by another base_url alone, chats, tools and approved writes work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from openai import (
    AsyncOpenAI,
    BadRequestError,
    ConflictError,
    DefaultAsyncHttpxClient,
    NotFoundError,
    UnprocessableEntityError,
)

from infra.gateway.address import remembered
from infra.gateway.door_secret import door_seed
from infra.local_stack import attached
from infra.postgres.agents import PostgresAgentStore
from infra.postgres.door_keys import PostgresKeyStore
from infra.wiring import open_engine
from schemas.ids import RunId
from services.gateway.agents.agent import Agent
from services.gateway.keys import new_key
from tests.support.script import RULES
from tests.support.stack import OPERATOR, LocalStack, for_the_session, reached

WEATHER_CALL = {"name": "weather", "arguments": {"city": "{city}"}}
RULES_HERE: list[dict[str, object]] = [
    {"role": "user", "match": r"weather in (?P<city>\w+) and (?P<other>\w+)",
     "call": [WEATHER_CALL, {"name": "weather", "arguments": {"city": "{other}"}}]},
    {"role": "user", "match": r"weather in (?P<city>\w+)", "call": [WEATHER_CALL]},
    {"role": "tool", "asked": "weather", "match": ".*", "say": "It is {0} there."},
    {"role": "user", "match": "as JSON", "say": '{"city": "Hangzhou", "warm": true}'},
    {"role": "user", "match": "a long tale", "say": "once upon a time " * 200},
    *RULES,
]  # fmt: skip
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather", "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip
FIRST, SECOND, THIRD = "i-bp1f8k2m9x4q7web01", "i-bp1f8k2m9x4q7web02", "i-bp1c3n6v8z2w5api01"
WEATHER_IN_RESPONSES: Any = {"type": "function", **WEATHER["function"], "strict": None}


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """One for all tests here, which serves an agent that can renew instances."""
    for found in for_the_session(RULES_HERE, services__gateway=1):
        with ThreadPoolExecutor(1) as pool:  # a thread: the test's own loop is not to be touched
            pool.submit(asyncio.run, publish(found)).result()
        yield found


async def publish(stack: LocalStack) -> None:
    engine = open_engine(attached(stack.loaded.settings))
    agents = PostgresAgentStore(engine)
    await agents.put(Agent(tenant="default", name="ops", version=1, spec=OPERATOR, by="me", at=datetime.now(UTC)))
    await agents.publish("default", "ops", 1)
    await engine.dispose()


@asynccontextmanager
async def sdk(stack: LocalStack) -> AsyncIterator[Any]:
    """The SDK as it is; its types know more than what is answered here."""
    url = remembered(stack.home)
    assert url is not None
    async with DefaultAsyncHttpxClient(trust_env=False) as http:
        key = door_seed(stack.loaded.settings).local_key
        yield AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=http, max_retries=0, timeout=60.0)


async def said(client: Any, *messages: Any, **fields: Any) -> Any:
    return await client.chat.completions.create(model=fields.pop("model", "assistant"), messages=list(messages), **fields)


@asynccontextmanager
async def other_tenant(stack: LocalStack) -> AsyncIterator[Any]:
    """A client with the key of another tenant."""
    key, text = new_key("other", "test", "eve", ("admin",), datetime.now(UTC))
    engine = open_engine(attached(stack.loaded.settings))
    await PostgresKeyStore(engine).put(key)
    await engine.dispose()
    async with sdk(stack) as client:
        yield client.with_options(api_key=text)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def streamed(client: Any, *messages: Any, **fields: Any) -> tuple[list[Any], str]:
    stream = await said(client, *messages, stream=True, **fields)
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return chunks, "".join(texts)


async def test_an_answer_whole(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        raw = await client.chat.completions.with_raw_response.create(model="default", messages=[user("hello")])
        answer = raw.parse()
    run = raw.headers["x-milepost-run"]
    assert raw.headers["link"].endswith(f'/runs/{run}>; rel="run"')
    assert answer.id == f"chatcmpl-{run}" and answer.model == "default"
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: hello", "stop")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens == 3


async def test_an_answer_in_pieces(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        chunks, text = await streamed(client, user("tell me a long tale"), stream_options={"include_usage": True})
    assert text == "once upon a time " * 200
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 800


async def test_what_was_said_before_reaches_the_model_and_the_log(stack: LocalStack) -> None:
    system = {"role": "system", "content": "Speak like a pirate."}
    async with sdk(stack) as client:
        answer = await said(client, system, user("first"), {"role": "assistant", "content": "one"}, user("second"))
    assert answer.choices[0].message.content == "You said: second"
    async with stack.session() as (own, _):
        request = (await own.state(RunId(answer.id.removeprefix("chatcmpl-")))).request
    assert request is not None and request.agent.instructions.endswith("Speak like a pirate.")
    assert [(each.role, each.content) for each in request.said] == [("user", "first"), ("assistant", "one")]


async def test_a_conversation_that_milepost_remembers(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        first = await said(client, user("My name is Ann."), metadata={"conversation": "sdk-talk"})
        second = await said(client, user("ignored"), user("who?"), metadata={"conversation": "sdk-talk"})
    async with stack.session() as (own, _):
        state = await own.state(RunId(second.id.removeprefix("chatcmpl-")))
    assert first.id != second.id and [turn.task for turn in state.history] == ["My name is Ann."]
    assert state.request is not None and state.request.said == ()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_that_the_caller_answers(stack: LocalStack, stream: bool) -> None:
    asked = user("the weather in Hangzhou?")
    async with sdk(stack) as client:
        if stream:
            chunks, _ = await streamed(client, asked, tools=[WEATHER])
            deltas = [each for chunk in chunks for each in chunk.choices[0].delta.tool_calls or ()]
            id, name = deltas[0].id, deltas[0].function.name
            arguments = "".join(each.function.arguments for each in deltas)
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
        else:
            answer = await said(client, asked, tools=[WEATHER])
            (call,) = answer.choices[0].message.tool_calls
            id, name, arguments = call.id, call.function.name, call.function.arguments
            assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.content is None
        assert (name, json.loads(arguments)) == ("weather", {"city": "Hangzhou"})
        made = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        messages = [
            asked,
            {"role": "assistant", "tool_calls": [made]},
            {"role": "tool", "tool_call_id": id, "content": "sunny"},
        ]
        if stream:
            chunks, text = await streamed(client, *messages, tools=[WEATHER])
            run = chunks[0].id
        else:
            answer = await said(client, *messages, tools=[WEATHER])
            text, run = answer.choices[0].message.content, answer.id
        again = await said(client, *messages, tools=[WEATHER])  # as a client does whose connection broke
    assert text == again.choices[0].message.content == "It is sunny there."
    assert run == again.id == f"chatcmpl-{id[5:44]}"


async def test_several_calls_are_answered_together(stack: LocalStack) -> None:
    asked = user("the weather in Hangzhou and Beijing?")
    async with sdk(stack) as client:
        answer = await said(client, asked, tools=[WEATHER], parallel_tool_calls=True)
        calls = answer.choices[0].message.tool_calls
        results = [{"role": "tool", "tool_call_id": each.id, "content": "fine"} for each in calls]
        final = await said(client, asked, answer.choices[0].message, *results, tools=[WEATHER])
    assert [json.loads(each.function.arguments)["city"] for each in calls] == ["Hangzhou", "Beijing"]
    assert final.choices[0].message.content == "It is fine there." and final.id == answer.id


async def test_the_call_of_another_model_is_history(stack: LocalStack) -> None:
    made = {"id": "toolu:1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    async with sdk(stack) as client:
        answer = await said(
            client, user("the weather in Bonn?"), {"role": "assistant", "tool_calls": [made]},
            {"role": "tool", "tool_call_id": "toolu:1", "content": "cold"}, tools=[WEATHER],
        )  # fmt: skip
    assert answer.choices[0].message.content == "It is cold there."


async def test_a_form_of_json(stack: LocalStack) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "warm": {"type": "boolean"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}
    async with sdk(stack) as client:
        answer = await said(client, user("the weather as JSON"), model="default", response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"city": "Hangzhou", "warm": True}
    async with stack.session() as (own, _):
        request = (await own.state(RunId(answer.id.removeprefix("chatcmpl-")))).request
    assert request is not None and request.agent.manner.output is not None
    assert request.agent.manner.output.model_dump()["json_schema"] == schema


# --- writes ---


async def effects(stack: LocalStack, instance: str) -> int:
    return len(await stack.effects(instance))


@pytest.mark.parametrize(("reply", "done"), [("yes", 1), ("no, not now", 0), ("同意", 1)])
async def test_a_plan_is_told_in_words_and_decided_by_the_next_ones(stack: LocalStack, reply: str, done: int) -> None:
    instance, asked = FIRST, user(f"Renew {FIRST} for 1 month")
    before = await effects(stack, instance)
    async with sdk(stack) as client:
        plan = await said(client, asked, model="ops")
        text = plan.choices[0].message.content
        assert plan.choices[0].finish_reason == "stop" and instance in text and f"/runs/{plan.id[9:]}#wait-" in text
        decided = await said(client, asked, plan.choices[0].message, user(reply), model="ops")
        again = await said(client, asked, plan.choices[0].message, user(reply), model="ops")
    assert decided.id == again.id == plan.id
    assert decided.choices[0].message.content == again.choices[0].message.content
    assert await effects(stack, instance) == before + done


async def test_whoever_talks_on_has_not_agreed(stack: LocalStack) -> None:
    asked = user(f"Renew {THIRD} for 2 month")
    async with sdk(stack) as client:
        plan = await said(client, asked, model="ops")
        other = await said(client, asked, plan.choices[0].message, user("yes, but tell me why first"), model="ops")
    assert other.id != plan.id and other.choices[0].message.content == "You said: yes, but tell me why first"
    async with stack.session() as (own, _):
        last = await reached(own, RunId(plan.id[9:]), lambda update: update.state.phase == "ended")
    assert last.state.outcome == "cancelled"


async def test_a_plan_that_was_not_told_in_these_words_is_not_agreed_to(stack: LocalStack) -> None:
    asked = user(f"Renew {THIRD} for 3 month")
    async with sdk(stack) as client:
        plan = await said(client, asked, model="ops")
        forged = plan.choices[0].message.content.replace(THIRD, "a cup of tea")
        other = await said(client, asked, {"role": "assistant", "content": forged}, user("yes"), model="ops")
    assert other.id != plan.id
    async with stack.session() as (own, _):
        assert (await own.state(RunId(plan.id[9:]))).outcome == "waiting"
        await own.cancel(RunId(plan.id[9:]))


async def test_a_plan_as_a_call_of_approve(stack: LocalStack) -> None:
    asked, before = user(f"Renew {SECOND} for 1 month"), await effects(stack, SECOND)
    async with sdk(stack) as client:
        plan = await said(client, asked, extra_body={"approvals": "tool"}, model="ops")
        (call,) = plan.choices[0].message.tool_calls
        told = json.loads(call.function.arguments)
        unclear = {"role": "tool", "tool_call_id": call.id, "content": "perhaps"}
        with pytest.raises(BadRequestError, match="neither yes nor no"):
            await said(client, asked, plan.choices[0].message, unclear, model="ops")
        answer = {"role": "tool", "tool_call_id": call.id, "content": '{"approved": true, "reason": ""}'}
        chunks, text = await streamed(client, asked, plan.choices[0].message, answer)
    assert call.function.name == "approve" and plan.choices[0].finish_reason == "tool_calls"
    assert (told["tool"], told["arguments"]["InstanceId"], told["effect"]) == ("RenewInstance", SECOND, "write")
    assert told["price"] and told["run"] == plan.id[9:] == chunks[0].id[9:]
    assert text.startswith("Done: ") and await effects(stack, SECOND) == before + 1


async def test_an_approval_that_is_waited_for(stack: LocalStack) -> None:
    asked, before = user(f"Renew {SECOND} for 2 week"), await effects(stack, SECOND)
    async with sdk(stack) as client, stack.session("boss") as (boss, _):
        stream = await said(client, asked, stream=True, extra_body={"approvals": "wait"}, model="ops")
        first = await anext(aiter(stream))
        run = RunId(first.id[9:])
        waiting = await reached(boss, run, lambda update: bool(update.state.approvals()))
        await boss.approve(run, next(iter(waiting.state.approvals())))
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.startswith("Done: ") and await effects(stack, SECOND) == before + 1


# --- responses ---


async def test_a_response_whole_and_again(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        made = await client.responses.create(model="assistant", input="hello", instructions="Be brief.")
        again = await client.responses.retrieve(made.id)
        after = await client.responses.create(model="assistant", input="and?", previous_response_id=made.id)
        with pytest.raises(BadRequestError, match="not deleted"):
            await client.responses.delete(made.id)
    assert (made.output_text, made.status) == ("You said: hello", "completed")
    assert (again.output_text, again.id, again.status) == (made.output_text, made.id, "completed")
    assert made.usage.output_tokens == 3
    async with stack.session() as (own, _):
        state = await own.state(RunId(after.id.removeprefix("resp_")))
    assert [(turn.task, turn.answer) for turn in state.history] == [("hello", "You said: hello")]


async def test_a_response_in_pieces_has_the_events_that_the_sdk_knows(stack: LocalStack) -> None:
    async with sdk(stack) as client, client.responses.stream(model="assistant", input="tell me a long tale") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == "once upon a time " * 200
    order = [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    assert order == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip


async def test_a_function_that_a_responses_client_answers(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        made = await client.responses.create(model="assistant", input="the weather in Bonn?", tools=[WEATHER_IN_RESPONSES])
        (call,) = made.output
        given: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "cold"}
        async with client.responses.stream(
            model="assistant", previous_response_id=made.id, input=[given], tools=[WEATHER_IN_RESPONSES]
        ) as stream:
            final = await stream.get_final_response()
        again = await client.responses.retrieve(final.id)
        first = await client.responses.retrieve(made.id)
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Bonn"})
    assert final.output_text == again.output_text == "It is cold there." and final.id != made.id
    assert first.output == made.output


@pytest.mark.parametrize("approve", [True, False])
async def test_a_renewal_with_the_apis_own_approvals(stack: LocalStack, approve: bool) -> None:
    before = await effects(stack, FIRST)
    async with sdk(stack) as client:
        made = await client.responses.create(model="ops", input=f"Renew {FIRST} for 3 week")
        (asked,) = made.output
        said: Any = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": approve}
        final = await client.responses.create(model="ops", previous_response_id=made.id, input=[said])
    assert (asked.type, asked.name, asked.server_label) == ("mcp_approval_request", "RenewInstance", "milepost")
    assert json.loads(asked.arguments)["InstanceId"] == FIRST
    assert final.output_text.startswith("Done: ") and await effects(stack, FIRST) == before + approve


async def test_a_response_is_cancelled(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        made = await client.responses.create(model="assistant", input="the weather in Bonn?", tools=[WEATHER_IN_RESPONSES])
        gone = await client.responses.cancel(made.id)
        again = await client.responses.retrieve(made.id)
    assert (gone.id, gone.status) == (again.id, again.status) == (made.id, "cancelled")
    async with stack.session() as (own, _):
        assert (await own.state(RunId(made.id.removeprefix("resp_")))).outcome == "cancelled"


# --- the rest ---


async def test_the_same_key_is_the_same_run_and_no_other_request(stack: LocalStack) -> None:
    headers = {"idempotency-key": "sdk-key-1"}
    async with sdk(stack) as client:
        first, second = [await said(client, user("once"), extra_headers=headers) for _ in range(2)]
        with pytest.raises(ConflictError, match="another request"):
            await said(client, user("twice"), extra_headers=headers)
    assert first.id == second.id and first.choices[0].message.content == second.choices[0].message.content


@pytest.mark.parametrize(("on_disconnect", "outcome"), [("cancel", "cancelled"), ("continue", "waiting")])
async def test_what_becomes_of_a_run_whose_client_goes_away(stack: LocalStack, on_disconnect: str, outcome: str) -> None:
    async with sdk(stack) as client:
        stream = await said(
            client, user(f"Renew {THIRD} for 1 week"), model="ops", stream=True, extra_body={"approvals": "wait"},
            extra_headers={"x-milepost-on-disconnect": on_disconnect},
        )  # fmt: skip
        run = RunId((await anext(aiter(stream))).id[9:])
        async with stack.session() as (own, _):
            await reached(own, run, lambda update: bool(update.state.approvals()))
            await stream.close()
            if outcome == "cancelled":
                last = await reached(own, run, lambda update: update.state.phase == "ended")
                assert last.state.outcome == outcome
            else:
                assert await client.models.list()  # the gateway has seen what came before
                assert (await own.state(run)).outcome == outcome
                await own.cancel(run)


async def test_another_tenants_runs_are_not_there(stack: LocalStack) -> None:
    async with sdk(stack) as client, other_tenant(stack) as other:
        made = await client.responses.create(model="assistant", input="the weather in Bonn?", tools=[WEATHER_IN_RESPONSES])
        (call,) = made.output
        with pytest.raises(NotFoundError):
            await other.responses.retrieve(made.id)
        with pytest.raises(NotFoundError):
            await other.responses.create(model="default", input="and?", previous_response_id=made.id)
        called = {"id": call.call_id, "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        answer = await said(
            other, user("the weather in Bonn?"), {"role": "assistant", "tool_calls": [called]},
            {"role": "tool", "tool_call_id": call.call_id, "content": "hot"}, model="default",
        )  # fmt: skip
        assert call.call_id[5:44] not in answer.id
        async with stack.session() as (own, _):
            assert (await own.state(RunId(made.id.removeprefix("resp_")))).outcome == "waiting"
        await client.responses.cancel(made.id)


async def test_models_are_listed(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        names = [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("assistant")).id == "assistant"
        with pytest.raises(NotFoundError, match="Nobody answers"):
            await client.models.retrieve("nobody")
        with pytest.raises(NotFoundError, match="Nobody answers"):
            await said(client, user("x"), model="nobody")
    assert names[:3] == ["ops", "assistant", "default"]


async def test_embeddings_in_both_forms(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        plain = await client.embeddings.create(model="default", input=["one", "two"], encoding_format="float")
        packed = await client.embeddings.create(model="default", input="one")  # the SDK asks for base64 and unpacks it
    assert len(plain.data) == 2 and plain.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)


async def test_a_file_becomes_knowledge(stack: LocalStack) -> None:
    text = b"# Opening hours\n\nThe blue workshop opens at seven in the morning on Mondays.\n"
    async with sdk(stack) as client:
        made = await client.files.create(file=("hours.md", text), purpose="assistants", extra_body={"collection": "sdk"})
        listed = [each.id async for each in client.files.list()]
        found = await client.files.retrieve(made.id)
        gone = await client.files.delete(made.id)
        with pytest.raises(NotFoundError):
            await client.files.retrieve(made.id)
    assert (made.filename, made.bytes, made.status) == ("hours.md", len(text), "processed")
    assert made.id in listed and found.id == made.id and gone.deleted


BAD: list[tuple[str, dict[str, Any]]] = [
    ("no user's message", {"messages": [{"role": "system", "content": "x"}]}),
    ("nobody called", {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}, user("z")]}),
    ("assistant's own", {"messages": [user("z"), {"role": "assistant", "content": "y"}]}),
    ("is empty", {"messages": [user("  ")]}),
    ("image_url", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ("stop is not", {"stop": ["x"]}),
    ("one answer", {"n": 2}),
    ("no tool 'y'", {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "y"}}}),
    ("same name", {"tools": [WEATHER, WEATHER]}),
    ("too long", {"messages": [{"role": "system", "content": "x" * 50_001}, user("z")]}),
    ("no schema", {"response_format": {"type": "json_schema"}}),
    ("no valid conversation", {"metadata": {"conversation": "a.b"}}),
]
UNFIT: list[dict[str, Any]] = [
    {"messages": []}, {"messages": [{"role": "king", "content": "x"}]}, {"messages": [user("x")] * 10_000},
    {"messages": "x"}, {"messages": [user("x" * 100_001)]}, {"temperature": 3}, {"tools": [{"type": "function"}]},
    {"temprature": 0.5}, {"seed": 1 << 70}, {"max_tokens": 0}, {"approvals": "never"},
]  # fmt: skip


async def test_what_cannot_be_answered_is_refused_in_openais_form(stack: LocalStack) -> None:
    async with sdk(stack) as client:
        for why, fields in BAD:
            asked = {"messages": [user("x")], **fields}
            with pytest.raises(BadRequestError, match=why) as refused:
                await said(client, *asked.pop("messages"), extra_body=asked)
            assert refused.value.type == "invalid_request_error" and refused.value.code
        for fields in UNFIT:
            with pytest.raises(UnprocessableEntityError) as unfit:
                await client.post(
                    "/chat/completions", body={"model": "default", "messages": [user("x")], **fields}, cast_to=object
                )
            assert unfit.value.type == "invalid_request_error"
        url, key = str(client.base_url), client.api_key
    async with httpx.AsyncClient(trust_env=False) as http:
        for body in (
            b"{",
            b"[]",
            b"",
            b'{"model": "default", "messages": [{"role": "user", "content": "\\ud800"}]}',
            b"[" * 5000,
        ):
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            answer = await http.post(f"{url}chat/completions", content=body, headers=headers)
            assert 400 <= answer.status_code < 500 and answer.json()["error"]["message"]
