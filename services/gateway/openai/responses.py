"""/v1/responses: as OpenAI's, with approvals as the items that it has for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from runtime.client import TooLate, UnknownRun
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.events import RunRequested
from schemas.ids import CommandId
from schemas.tools import ToolName
from services.gateway.answers import NotThere, status_of
from services.gateway.door import Asker, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.openai import telling
from services.gateway.openai.answering import Gone, Key, OnDisconnect, headers_of, heard, log, while_there
from services.gateway.openai.asked import (
    TOOLS,
    Function,
    Lenient,
    Metadata,
    Name,
    Strict,
    Temperature,
    Tokens,
    TopP,
    Words,
    conversation_of,
    output_of,
    refuse,
    sampling_of,
)
from services.gateway.openai.beginning import Shape, Wanted, course_of
from services.gateway.openai.course import Course
from services.gateway.openai.ids import Named, read_name
from services.gateway.openai.items import Item, together
from services.gateway.openai.specs import specs_of
from services.gateway.openai.spoken import MESSAGES, Spoken, Unfit
from services.gateway.openai.telling import Telling
from services.gateway.openai.waiting import read_tree
from services.gateway.principal import Principal
from services.gateway.streaming import stream

router = APIRouter()

BARE = "model"
"""The name of the agent that is nothing but a model (services.gateway.agents.agent.spec_named)."""
CANCEL_S = 10.0
"""A write that is under way is awaited, but not for ever."""

Id = Annotated[str, Path(min_length=1, max_length=128)]


class FunctionTool(Function):
    """A tool that the client brings."""

    type: Literal["function"]


class NamedTool(Lenient):
    """The tool that is to be called."""

    type: Literal["function"]
    name: ToolName


class Format(Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Name = "answer"
    schema_: JsonObject | None = Field(default=None, alias="schema")


class TextConfig(Lenient):
    """How text is to be."""

    format: Format | None = None


class ConversationParam(Lenient):
    """A conversation by its id."""

    id: Name


class ResponsesRequest(Strict):
    """A request. model: an agent's name, assistant, or a model's. conversation: one that Milepost remembers, by any name.

    previous_response_id: goes on in that response's conversation. approvals: "wait" tells none, and waits for them.
    """

    model: Name
    input: Words | Annotated[list[Item], Field(min_length=1, max_length=MESSAGES)]
    instructions: Words | None = None
    previous_response_id: Name | None = None
    conversation: Name | ConversationParam | None = None
    stream: bool | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int | None, Field(ge=0, le=1000)] = None
    text: TextConfig | None = None
    temperature: Temperature = None
    top_p: TopP = None
    max_output_tokens: Tokens = None
    metadata: Metadata | None = None
    approvals: Literal["items", "wait"] = "items"
    background: bool | None = None
    prompt: object = None
    top_logprobs: int | None = None
    # Taken and not looked at: they change nothing of an answer here. The log is kept, whatever store says.
    store: object = None
    include: object = None
    stream_options: object = None
    truncation: object = None
    reasoning: object = None
    service_tier: object = None
    user: Words | None = None
    safety_identifier: object = None
    prompt_cache_key: object = None
    prompt_cache_retention: object = None
    prompt_cache_options: object = None
    context_management: object = None
    moderation: object = None

    def wanted(self, key: str | None) -> Wanted:
        """Raises Unfit."""
        self._refuse()
        before = _named(self.previous_response_id) if self.previous_response_id else None
        items = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        spoken = together([said for each in items if (said := each.spoken())])
        system = (Spoken("system", self.instructions),) if self.instructions else ()
        conversation = self.conversation.id if isinstance(self.conversation, ConversationParam) else self.conversation
        return Wanted(
            model=self.model, spoken=(*system, *spoken), shape=self._shape(), key=key,
            approvals="wait" if self.approvals == "wait" else "tool", before=before.run if before else None,
            conversation=None if conversation is None else conversation_of(conversation),
        )  # fmt: skip

    def _shape(self) -> Shape:
        chosen = self.tool_choice or "auto"
        choice, named = ("named", chosen.name) if isinstance(chosen, NamedTool) else (chosen, "")
        form = self.text.format if self.text else None
        return Shape(
            sampling=sampling_of(self.temperature, self.top_p, self.max_output_tokens),
            tools=tuple(each.card() for each in self.tools or ()), choice=choice, named=named,
            parallel=self.parallel_tool_calls, output=output_of(form.type, form.schema_) if form else None,
            calls=self.max_tool_calls,
        )  # fmt: skip

    def _refuse(self) -> None:
        if self.background:
            refuse("background", "an answer is waited for, or streamed", "a run goes on when its client goes away, too")
        if self.prompt is not None:
            refuse("prompt", "there are no stored prompts", "name an agent as model")
        if self.top_logprobs:
            refuse("top_logprobs", "the log keeps texts")
        if self.conversation is not None and self.previous_response_id is not None:
            raise Unfit("Both conversation and previous_response_id are given.", hint="give one of them")


@router.post("/v1/responses", response_model=None)
async def create(
    asked: ResponsesRequest, request: Request, gateway: Here, who: Asker, key: Key = None,
    on_disconnect: OnDisconnect = "continue",
) -> Response:  # fmt: skip
    """An answer, whole or as server-sent events. Raises Unfit, NotThere, Conflict, NotPermitted."""
    try:
        course = await course_of(gateway, specs_of(request), who, asked.wanted(key))
    except UnknownRun as error:
        raise NotThere(f"There is no response {asked.previous_response_id}.", why=error.why) from error
    repeated = asked.model_dump(mode="json", by_alias=True, include=telling.REPEATED)
    told = Telling(gateway, who, course, telling.echoed(repeated))
    headers = headers_of(gateway, course.run)
    if asked.stream:
        return stream(request, who, _events(told, on_disconnect), headers)
    try:
        answer = await while_there(request, _whole(told, on_disconnect))
    except Gone:
        return Response(status_code=499)
    return _answer(answer, headers)


@router.get("/v1/responses/{id}", response_model=None)
async def retrieve(gateway: Here, who: Reader, id: Id, stream: Annotated[bool, Query()] = False) -> Response:
    """A response again, from the log. Raises NotThere, Unfit."""
    if stream:
        refuse("stream", "what was said is known as a whole", "leave it out")
    told = await _told(gateway, who, _named(id))
    return _answer(await told.now(), headers_of(gateway, told.course.run))


@router.delete("/v1/responses/{id}", response_model=None)
async def delete(gateway: Here, who: Asker, id: Id) -> Response:
    """Raises Unfit: the log is kept. NotThere for none."""
    await _told(gateway, who, _named(id))
    raise Unfit(
        "A response is not deleted.", why="it is read from the log, which is kept whole",
        hint="an administrator can forget its user: milepost forget",
    )  # fmt: skip


@router.post("/v1/responses/{id}/cancel", response_model=None)
async def cancel(gateway: Here, who: Asker, id: Id) -> Response:
    """Stop the response's run; one that has ended is told as it is. Raises NotThere."""
    told = await _told(gateway, who, _named(id))
    with suppress(TooLate, TimeoutError):
        await told.course.client.cancel(told.course.run, reason="its client cancelled it")
        async with asyncio.timeout(CANCEL_S), aclosing(told.course.pieces()) as pieces:  # type: ignore[type-var]  # a generator
            async for _ in pieces:
                pass
    again = await _told(gateway, who, _named(id))
    return _answer(await again.now(), headers_of(gateway, told.course.run))


def _named(id: str) -> Named:
    found = read_name("resp", id)
    if found is None:
        raise NotThere(f"There is no response {id[:100]}.", why="no id of ours has this form")
    return found


async def _told(gateway: Gateway, who: Principal, named: Named) -> Telling:
    """A response as the log tells it. Raises NotThere."""
    client, id = gateway.client(who), f"resp_{named.run}"
    try:
        tree = await read_tree(client, named.run)
    except UnknownRun as error:
        raise NotThere(f"There is no response {id}.") from error
    since: CommandId | Literal[""] = ""
    if named.mark:
        since = tree.last_answered([named.mark]) or ""
        if not since:
            raise NotThere(f"There is no response {id}_{named.mark}.")
    request = tree.state.request
    course = Course(client, named.run, since, "tool")
    began = tree.state.requested_at or gateway.clock.now()
    return Telling(gateway, who, course, _as_asked(request) if request else {}, began=began)


def _as_asked(request: RunRequested) -> JsonObject:
    """What a response repeats of its request, as far as the run tells it."""
    tools: list[JsonObject] = [
        {"type": "function", "name": card.name, "description": card.description, "parameters": card.parameters, "strict": None}
        for card in request.brought
    ]  # fmt: skip
    agent, sampling = request.agent, request.agent.sampling
    said: JsonObject = {
        "model": agent.model if agent.name == BARE else agent.name, "instructions": agent.instructions or None, "tools": tools,
        "temperature": sampling.temperature, "top_p": sampling.top_p, "max_output_tokens": sampling.max_tokens,
        "parallel_tool_calls": agent.manner.parallel,
    }  # fmt: skip
    return telling.echoed(said)


async def _whole(told: Telling, on_disconnect: str) -> JsonObject:
    async for piece in heard(told.course, on_disconnect):
        told.take(piece)
    return told.response()


async def _events(told: Telling, on_disconnect: str) -> AsyncIterator[ServerSentEvent]:
    try:
        for event in told.begin():
            yield _event(event)
        async for piece in heard(told.course, on_disconnect):
            for event in told.take(piece):
                yield _event(event)
        yield _event(told.end())
    except MilepostError as error:
        text = " ".join(part for part in (error.what, error.why) if part)
        yield _event(told.error(type(error).__name__ if status_of(error) < 500 else "server_error", text))
    except Exception:
        log.exception("stream failed", run=told.course.run)
        yield _event(told.error("server_error", f"The gateway failed; its log says why at run {told.course.run}."))


def _event(event: JsonObject) -> ServerSentEvent:
    return ServerSentEvent(event=str(event["type"]), data=orjson.dumps(event).decode(), sep="\n")


def _answer(answer: JsonObject, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json", headers=headers)
