"""A model behind an OpenAI-compatible HTTP endpoint: DashScope, vLLM, Ollama, OpenAI, another Milepost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.errors import Permanent, Retryable
from schemas.canonical import JsonObject, digest, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.messages import ChoiceOutput, Generation, JsonOutput, Message, Prompt, Usage
from schemas.tools import ToolCall, ToolCard
from services.llm.context import together
from services.llm.engine import DeadlinePassed
from services.llm.model import ANYBODY, Terms
from services.llm.own import plain_messages
from services.llm.replies import LIMIT, Reply, checked, read_reply
from services.llm.wire import WIRES
from services.llm.wire.form import Asked
from services.llm.wire.showing import Showing

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

TIMEOUT_S = 120.0
RETRIES = 2


class RemoteAway(Retryable):
    """The endpoint does not answer, is overloaded, or broke off; it may answer later."""

    def __init__(self, name: str, base_url: str, why: str) -> None:
        super().__init__(
            f"The model {name} cannot be reached at {base_url}.", why=why[:500], hint="check the endpoint, or give a fallback"
        )


class RemoteRefused(Permanent):
    """The endpoint answered that it will not do this: a wrong key, an unknown model, a request it does not take."""

    def __init__(self, name: str, base_url: str, why: str) -> None:
        super().__init__(
            f"The model {name} at {base_url} refused the request.", why=why[:500], hint=f"milepost models show {name}"
        )


@dataclass(frozen=True)
class Endpoint:
    """Where a remote model is. model: its name there; key: the API key itself, never shown nor logged."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_S
    retries: int = RETRIES


class OpenAIModel:
    """A TextModel over chat completions, streamed. What it says is checked, since nothing here constrains it."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self.name = name
        self._endpoint = endpoint
        self._connected: AsyncOpenAI | None = None

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the model says. Raises RemoteAway, RemoteRefused, DeadlinePassed."""
        if prompt.manner.certified:
            raise RemoteRefused(self.name, self._endpoint.base_url, "it cannot be certified: its machine is unknown")
        began = time.perf_counter()
        native = prompt.manner.wire in ("model", "openai")
        wire = None if native else WIRES[prompt.manner.wire]
        heard = _Heard(Showing(wire if prompt.offered else None, on_text))
        try:
            async with asyncio.timeout(terms.left()):
                await self._listen(self._request(prompt, native), heard)
        except TimeoutError as late:
            raise DeadlinePassed(began=heard.first is not None) from late
        reply = checked(heard.text, heard.asked(), prompt) if wire is None else read_reply(heard.text, prompt, wire)
        if heard.unreadable:
            reply = Reply(heard.text, malformed=heard.unreadable)
        if wire is not None and not reply.calls and not reply.malformed:
            heard.showing.end(reply.text)
        return self._generation(prompt, heard, reply, began)

    async def _listen(self, request: JsonObject, heard: _Heard) -> None:
        client, endpoint = self._client(), self._endpoint
        import httpx2
        import openai

        try:
            stream = await client.chat.completions.create(**request)  # type: ignore[call-overload]  # JSON by name
            async with stream:
                async for chunk in stream:
                    heard.hear(chunk)
        except openai.APIStatusError as error:
            again = error.status_code in (408, 409, 429) or error.status_code >= 500
            failure = RemoteAway if again else RemoteRefused
            raise failure(self.name, endpoint.base_url, f"{error.status_code}: {error.message}") from error
        except openai.APIError as error:  # no connection, a timeout, or an error in the middle of the stream
            raise RemoteAway(self.name, endpoint.base_url, error.message) from error
        except (httpx2.HTTPError, json.JSONDecodeError) as error:  # the library hands these on from a stream under way
            raise RemoteAway(self.name, endpoint.base_url, f"its stream broke: {error!r}") from error
        if not heard.finish:
            raise RemoteAway(self.name, endpoint.base_url, "the reply broke off before its end")

    def _client(self) -> AsyncOpenAI:
        """Made at the first use, for the library takes half a second to import."""
        if self._connected is None:
            try:
                from openai import AsyncOpenAI
            except ImportError as error:
                raise MilepostError(
                    "Remote models need the openai library.", why=str(error), hint="pip install 'milepost[openai]'"
                ) from error
            endpoint = self._endpoint
            self._connected = AsyncOpenAI(
                base_url=endpoint.base_url, api_key=endpoint.key or "none", timeout=endpoint.timeout_s,
                max_retries=endpoint.retries,
            )  # fmt: skip
        return self._connected

    def _request(self, prompt: Prompt, native: bool) -> JsonObject:
        sampling = prompt.sampling
        request: JsonObject = {
            "model": self._endpoint.model, "stream": True, "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "seed": sampling.seed,
        }  # fmt: skip
        if not native:
            return {**request, "messages": plain_messages(prompt, WIRES[prompt.manner.wire])}
        request["messages"] = list(_messages(prompt.messages))
        if prompt.offered:
            choice = "none" if prompt.manner.calls == "never" else prompt.manner.calls
            tools = [_tool(card) for card in prompt.offered]
            request |= {"tools": tools, "tool_choice": choice, "parallel_tool_calls": prompt.manner.parallel}
        return request | _output(prompt)

    def _generation(self, prompt: Prompt, heard: _Heard, reply: Reply, began: float) -> Generation:
        first = heard.first or time.perf_counter()
        return Generation(
            text=reply.text, calls=reply.calls, malformed=reply.malformed,
            finish="calls" if reply.calls else "length" if heard.finish == "length" else "stop",
            usage=heard.usage, model=self.name, seed=prompt.sampling.seed, provider=self._endpoint.base_url,
            model_hash=digest("remote", self._endpoint.base_url, heard.model or self._endpoint.model, heard.fingerprint),
            first_token_ms=(first - began) * 1000, total_ms=(time.perf_counter() - began) * 1000,
        )  # fmt: skip


@dataclass
class _Asking:
    name: str = ""
    arguments: str = ""


class _Heard:
    """A streamed reply as far as it has come."""

    def __init__(self, showing: Showing) -> None:
        self.showing = showing
        self.finish = ""
        self.model = ""
        self.fingerprint = ""
        self.first: float | None = None
        self.usage = Usage()
        self.unreadable = ""
        self._calls: dict[int, _Asking] = {}

    @property
    def text(self) -> str:
        return self.showing.text

    def hear(self, chunk: ChatCompletionChunk) -> None:
        """A further chunk; text in it is passed on."""
        self.model, self.fingerprint = chunk.model or self.model, chunk.system_fingerprint or self.fingerprint
        if chunk.usage:
            cached = chunk.usage.prompt_tokens_details.cached_tokens if chunk.usage.prompt_tokens_details else 0
            self.usage = Usage(
                prompt_tokens=chunk.usage.prompt_tokens, completion_tokens=chunk.usage.completion_tokens,
                cached_tokens=cached or 0,
            )  # fmt: skip
        for choice in chunk.choices:
            self.finish = choice.finish_reason or self.finish
            if choice.delta.content or choice.delta.tool_calls:
                self.first = self.first or time.perf_counter()
            if choice.delta.content:
                self.showing.hear(choice.delta.content)
            for part in choice.delta.tool_calls or ():
                call = self._calls.setdefault(part.index, _Asking())
                if part.function:
                    call.name += part.function.name or ""
                    call.arguments += part.function.arguments or ""

    def asked(self) -> list[Asked]:
        """The calls; `unreadable` says when one is no JSON object."""
        found: list[Asked] = []
        for _, call in sorted(self._calls.items()):
            try:
                arguments = read_json((call.arguments or "{}").encode(), limit=LIMIT)
            except ProtocolError as error:
                self.unreadable = f"The arguments of {call.name} are no JSON: {error.why or error.what}."
                continue
            if not isinstance(arguments, dict):
                self.unreadable = f"The arguments of {call.name} are no JSON object."
                continue
            found.append(Asked(call.name, arguments))
        return found


def _messages(messages: Iterable[Message]) -> Iterable[JsonObject]:
    """Chat messages; the results after a message with calls belong to them in their order."""
    open_calls: list[ToolCall] = []
    for message in together(tuple(messages)):
        if message.role == "tool" and open_calls:
            yield {"role": "tool", "tool_call_id": open_calls.pop(0).id, "content": message.content}
        elif message.role == "tool":
            yield {"role": "user", "content": f"{message.name or 'tool'}: {message.content}"}
        elif message.calls:
            open_calls = list(message.calls)
            yield {"role": "assistant", "content": message.content or None, "tool_calls": [_called(c) for c in message.calls]}
        else:
            open_calls = open_calls if message.role != "user" else []
            yield {"role": message.role, "content": message.content}


def _called(call: ToolCall) -> JsonObject:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(card: ToolCard) -> JsonObject:
    about = {"name": card.name, "description": card.description, "parameters": card.parameters}
    return {"type": "function", "function": about}


def _output(prompt: Prompt) -> JsonObject:
    """What the endpoint can enforce of the wanted output; the rest is only checked."""
    match prompt.manner.output:
        case JsonOutput(json_schema=schema):
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
        case ChoiceOutput(options=options):
            wish = f"Answer with exactly one of: {json.dumps(options, ensure_ascii=False)}"
            messages = [*_messages(prompt.messages), {"role": "system", "content": wish}]
            return {"messages": messages}
        case _:
            return {}
