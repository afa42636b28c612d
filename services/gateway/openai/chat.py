"""/v1/chat/completions: as OpenAI's, for clients that know nothing of runs, approvals or the bus."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter
from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from schemas.canonical import MAX_INTEGER, JsonObject
from schemas.commands import AskPerson
from schemas.errors import MilepostError
from schemas.tools import ToolName
from services.gateway.answers import openai_error, status_of
from services.gateway.door import Asker, Here
from services.gateway.gateway import Gateway
from services.gateway.openai import words
from services.gateway.openai.answering import Gone, Key, OnDisconnect, RunEnded, headers_of, heard, log, while_there
from services.gateway.openai.asked import (
    CONVERSATION,
    TOOLS,
    Content,
    Function,
    Lenient,
    Metadata,
    Name,
    Seed,
    Strict,
    Temperature,
    Tokens,
    TopP,
    Words,
    conversation_of,
    output_of,
    refuse,
    sampling_of,
    text_of,
)
from services.gateway.openai.beginning import APPROVE, Shape, Wanted, course_of
from services.gateway.openai.course import Approvals, Course, Ended, Stopped, Tally, Text
from services.gateway.openai.ids import call_id
from services.gateway.openai.plan import plan_of
from services.gateway.openai.specs import specs_of
from services.gateway.openai.spoken import MESSAGES, Call, Spoken, Unfit
from services.gateway.openai.waiting import Waiting, Waits
from services.gateway.principal import Principal
from services.gateway.streaming import stream

router = APIRouter()


class CalledFunction(Lenient):
    """What an assistant called. arguments: JSON text."""

    name: Name
    arguments: Words = ""


class ToolCallPart(Lenient):
    """A call of an assistant's message."""

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Lenient):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    tool_calls: Annotated[list[ToolCallPart], Field(max_length=TOOLS)] | None = None
    tool_call_id: Name | None = None

    def spoken(self) -> Spoken:
        """Raises Unfit."""
        if self.role == "tool" and self.tool_call_id is None:
            raise Unfit("A tool's message answers no call.", hint="give its tool_call_id")
        calls = tuple(Call(each.id, each.function.name, each.function.arguments) for each in self.tool_calls or ())
        who = "system" if self.role == "developer" else self.role
        called = calls if self.role == "assistant" else ()
        return Spoken(who, text_of(self.content), called, self.tool_call_id or "")


class Tool(Lenient):
    """A tool that the client brings."""

    type: Literal["function"]
    function: Function


class NamedFunction(Lenient):
    """The name of one."""

    name: ToolName


class NamedTool(Lenient):
    """The tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class Schema(Lenient):
    """What a JSON answer must fit."""

    name: Name = "answer"
    schema_: JsonObject | None = Field(default=None, alias="schema")


class Format(Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Lenient):
    """include_usage: a last chunk tells the tokens."""

    include_usage: bool | None = None


class ChatRequest(Strict):
    """A request. model: an agent's name, assistant, or a model's. metadata.conversation: one that Milepost remembers.

    approvals: how writes are put to whoever asks (docs/openai.md).
    """

    model: Name
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], Field(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    temperature: Temperature = None
    top_p: TopP = None
    top_k: Annotated[int | None, Field(ge=0, le=MAX_INTEGER)] = None
    seed: Seed = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    metadata: Metadata | None = None
    approvals: Approvals = "text"
    n: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    modalities: list[str] | None = None
    functions: object = None
    function_call: object = None
    audio: object = None
    web_search_options: object = None
    # Taken and not looked at: they change nothing of an answer here.
    user: object = None
    store: object = None
    service_tier: object = None
    reasoning_effort: object = None
    verbosity: object = None
    safety_identifier: object = None
    prompt_cache_key: object = None
    prompt_cache_retention: object = None
    prompt_cache_options: object = None
    prediction: object = None
    moderation: object = None

    def wanted(self, key: str | None) -> Wanted:
        """Raises Unfit."""
        self._refuse()
        conversation = (self.metadata or {}).get(CONVERSATION)
        return Wanted(
            model=self.model, spoken=tuple(each.spoken() for each in self.messages), shape=self._shape(), key=key,
            approvals=self.approvals, conversation=None if conversation is None else conversation_of(conversation),
        )  # fmt: skip

    def _shape(self) -> Shape:
        cards = tuple(each.function.card() for each in self.tools or ())
        if self.approvals == "tool" and any(card.name == APPROVE for card in cards):
            raise Unfit(f"A tool is named {APPROVE}.", why='approvals are told under this name where they are "tool"')
        chosen = self.tool_choice or "auto"
        choice, named = ("named", chosen.function.name) if isinstance(chosen, NamedTool) else (chosen, "")
        form = self.response_format
        longest = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return Shape(
            sampling=sampling_of(self.temperature, self.top_p, longest, self.seed, self.top_k), tools=cards, choice=choice,
            named=named, parallel=self.parallel_tool_calls,
            output=output_of(form.type, form.json_schema.schema_ if form.json_schema else None) if form else None,
        )  # fmt: skip

    def _refuse(self) -> None:
        if self.n not in (None, 1):
            refuse("n", "a request has one answer", "ask several times")
        if self.stop:
            refuse("stop", "an answer ends where the model ends it, or at max_tokens")
        if self.logprobs or self.top_logprobs:
            refuse("logprobs", "the log keeps texts")
        if self.logit_bias:
            refuse("logit_bias", "tokens are chosen by temperature, top_p and seed alone")
        if self.presence_penalty or self.frequency_penalty:
            refuse("A penalty other than 0", "tokens are chosen by temperature, top_p and seed alone")
        if self.audio or (self.modalities and self.modalities != ["text"]):
            refuse("An answer other than text", "models here write text")
        if self.functions or self.function_call:
            refuse("functions", "it was replaced by tools", "send tools and tool_choice")
        if self.web_search_options:
            refuse("web_search_options", "what an agent may search, its own tools say", "name such an agent as model")


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(
    asked: ChatRequest, request: Request, gateway: Here, who: Asker, key: Key = None, on_disconnect: OnDisconnect = "continue"
) -> Response:
    """An answer to a chat, whole or as server-sent events. Raises Unfit, NotThere, Conflict, NotPermitted, RunEnded."""
    course = await course_of(gateway, specs_of(request), who, asked.wanted(key))
    telling = Telling(gateway, who, asked, course)
    headers = headers_of(gateway, course.run)
    if asked.stream:
        return stream(request, who, telling.events(on_disconnect), headers)
    try:
        answer = await while_there(request, telling.whole(on_disconnect))
    except RunEnded as ended:
        error = openai_error(422, ended.kind, ended.what, ended.why, ended.hint)
        return JSONResponse(error, 422, headers)
    except Gone:
        return Response(status_code=499)
    return Response(orjson.dumps(answer), media_type="application/json", headers=headers)


class Telling:
    """One answer, as OpenAI's clients read it."""

    def __init__(self, gateway: Gateway, who: Principal, asked: ChatRequest, course: Course) -> None:
        self._gateway, self._who, self._asked, self._course = gateway, who, asked, course
        self._created = int(gateway.clock.now().timestamp())

    async def whole(self, on_disconnect: str) -> JsonObject:
        """The answer in one piece: the model's last words, or its calls. Raises RunEnded."""
        texts: dict[int, str] = {}
        text, calls, finish = "", list[JsonObject](), "stop"
        async for piece in heard(self._course, on_disconnect):
            match piece:
                case Text(text=new, number=number):
                    texts[number] = texts.get(number, "") + new
                case Stopped(waits=waits):
                    calls = self._calls(waits)
                    spoken = list(texts.values())
                    text = "\n\n".join([*spoken, *([] if calls else [self._words(waits)])])
                    finish = "tool_calls" if calls else "stop"
                case Ended(answer=answer, outcome=outcome):
                    if outcome != "completed":
                        raise RunEnded(piece, self._course.run, self._gateway.rules.public_url)
                    text, finish = answer, "length" if self._course.tally.cut else "stop"
        message: JsonObject = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice: JsonObject = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._frame("chat.completion"), "choices": [choice], "usage": usage_of(self._course.tally)}

    async def events(self, on_disconnect: str) -> AsyncIterator[ServerSentEvent]:
        """Chunks, and [DONE]; an error in the middle is an event of its own."""
        try:
            async for chunk in self._chunks(on_disconnect):
                yield _event(chunk)
        except RunEnded as ended:
            yield _event(openai_error(422, ended.kind, ended.what, ended.why, ended.hint))
        except MilepostError as error:
            yield _event(openai_error(status_of(error), type(error).__name__, error.what, error.why, error.hint))
        except Exception:
            log.exception("stream failed", run=self._course.run)
            yield _event(openai_error(500, "Unexpected", "The gateway failed.", f"run {self._course.run}", "see its log"))
        yield ServerSentEvent(data="[DONE]", sep="\n")

    async def _chunks(self, on_disconnect: str) -> AsyncIterator[JsonObject]:
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        number, finish = 0, "stop"
        async for piece in heard(self._course, on_disconnect):
            match piece:
                case Text(text=text):
                    gap, number = "\n\n" if piece.number > number else "", piece.number
                    yield self._chunk({"content": gap + text})
                case Stopped(waits=waits):
                    calls = self._calls(waits)
                    for index, call in enumerate(calls):
                        for part in _call_deltas(index, call):
                            yield self._chunk({"tool_calls": [part]})
                    if not calls:
                        yield self._chunk({"content": self._words(waits)})
                    finish = "tool_calls" if calls else "stop"
                case Ended(outcome=outcome):
                    if outcome != "completed":
                        raise RunEnded(piece, self._course.run, self._gateway.rules.public_url)
                    finish = "length" if self._course.tally.cut else "stop"
        yield self._chunk({}, finish)
        if self._usage:
            yield {**self._frame("chat.completion.chunk"), "choices": [], "usage": usage_of(self._course.tally)}

    @property
    def _usage(self) -> bool:
        options = self._asked.stream_options
        return bool(options and options.include_usage)

    def _frame(self, kind: str) -> JsonObject:
        return {
            "id": f"chatcmpl-{self._course.run}", "object": kind, "created": self._created, "model": self._asked.model,
            "system_fingerprint": None,
        }  # fmt: skip

    def _chunk(self, delta: JsonObject, finish: str | None = None) -> JsonObject:
        choice: JsonObject = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._frame("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._usage else chunk

    def _words(self, waits: Waits) -> str:
        return words.told(waits, self._who, self._gateway.rules.public_url)

    def _calls(self, waits: Waits) -> list[JsonObject]:
        """What the client is to do: run its own tools, or answer approvals where it wants them so."""
        run, told = self._course.run, [_own_call(each) for each in waits.calls]
        waiting = list(waits.calls)
        if self._asked.approvals == "tool":
            told += [(APPROVE, plan_of(each, self._gateway.rules.public_url, run)) for each in waits.approvals]
            waiting += waits.approvals
        return [
            {"id": call_id(run, each.id), "type": "function", "function": {"name": name, "arguments": _json(arguments)}}
            for each, (name, arguments) in zip(waiting, told, strict=True)
        ]


def usage_of(tally: Tally) -> JsonObject:
    """Tokens as chat completions tell them."""
    return {
        "prompt_tokens": tally.prompt, "completion_tokens": tally.completion, "total_tokens": tally.prompt + tally.completion,
        "prompt_tokens_details": {"cached_tokens": tally.cached}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def _own_call(waiting: Waiting) -> tuple[str, JsonObject]:
    asked = waiting.command
    if not isinstance(asked, AskPerson):
        raise TypeError("only a question is a client's call")
    return asked.call.name, asked.call.arguments


def _call_deltas(index: int, call: JsonObject) -> Iterator[JsonObject]:
    """A call as it is streamed: who it is, then its arguments."""
    function = call["function"]
    if not isinstance(function, dict):
        raise TypeError("a call has a function")
    yield {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
    yield {"index": index, "function": {"arguments": function["arguments"]}}


def _json(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(chunk: object) -> ServerSentEvent:
    return ServerSentEvent(data=orjson.dumps(chunk).decode(), sep="\n")
