"""A real HTTP server that speaks OpenAI's chat completions over any of our models, and fails on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from schemas.messages import ChoiceOutput, Generation, JsonOutput, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCall, ToolCard
from services.llm.model import TextModel


@dataclass
class OpenAIServer:
    """What it heard, and what it is to do next. raw: replies to stream as they are in place of the model's, one a request."""

    model: TextModel | None
    url: str = ""
    requests: list[dict[str, object]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    raw: list[list[dict[str, object] | str]] = field(default_factory=list)
    hanging: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, streamed."""
        asked = await request.json()
        self.requests.append(asked)
        self.keys.append(request.headers.get("Authorization", ""))
        if self.statuses:
            status = self.statuses.pop(0)
            return web.json_response({"error": {"message": f"made to say {status}", "type": "test"}}, status=status)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            if self.hanging:
                await _send(answer, _chunk({"content": "wait"}))
                await asyncio.Event().wait()
            if self.raw:
                for chunk in self.raw.pop(0):
                    if chunk == "cut":
                        assert request.transport is not None
                        request.transport.abort()
                        return answer
                    await (answer.write(chunk.encode()) if isinstance(chunk, str) else _send(answer, chunk))
                return answer
            await self._speak(answer, asked)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise
        return answer

    async def _speak(self, answer: web.StreamResponse, asked: dict[str, Any]) -> None:
        assert self.model is not None
        pieces: asyncio.Queue[str] = asyncio.Queue()
        task = asyncio.ensure_future(self.model.generate(_prompt(asked), on_text=pieces.put_nowait))
        try:
            while not task.done() or not pieces.empty():
                getting = asyncio.ensure_future(pieces.get())
                await asyncio.wait({task, getting}, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    await _send(answer, _chunk({"content": getting.result()}))
                else:
                    getting.cancel()
            await self._finish(answer, task.result())
        finally:
            task.cancel()

    async def _finish(self, answer: web.StreamResponse, said: Generation) -> None:
        for index, call in enumerate(said.calls):
            arguments = json.dumps(call.arguments)
            half = len(arguments) // 2
            head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            await _send(answer, _chunk({"tool_calls": [head]}))
            for part in (arguments[:half], arguments[half:]):
                await _send(answer, _chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
        await _send(answer, _chunk({}, finish="tool_calls" if said.calls else said.finish))
        usage = said.usage
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        total = usage.prompt_tokens + usage.completion_tokens
        await _send(answer, {**_chunk({}), "choices": [], "usage": {**counts, "total_tokens": total}})
        await answer.write(b"data: [DONE]\n\n")


def _chunk(delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "served",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip


async def _send(answer: web.StreamResponse, chunk: dict[str, object]) -> None:
    await answer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


_CALLS: dict[str, Literal["auto", "required", "never"]] = {"auto": "auto", "required": "required", "none": "never"}


def _prompt(asked: dict[str, Any]) -> Prompt:
    """Our prompt of a request: the reverse of what the backend under test made of it."""
    messages = [
        Message(role=said["role"], content=said["content"] or "", calls=tuple(map(_call, said.get("tool_calls", ()))))
        for said in asked["messages"]
    ]
    form = asked.get("response_format")
    output = JsonOutput(json_schema=form["json_schema"]["schema"]) if form else _choice(messages)
    return Prompt(
        messages=tuple(messages), tools=tuple(ToolCard(**tool["function"]) for tool in asked.get("tools", ())),
        sampling=Sampling(max_tokens=asked["max_tokens"], temperature=asked["temperature"], seed=asked["seed"]),
        manner=Manner(
            calls=_CALLS[asked.get("tool_choice", "auto")], output=output, parallel=asked.get("parallel_tool_calls", False)
        ),
    )  # fmt: skip


def _call(said: dict[str, Any]) -> ToolCall:
    return ToolCall(id=said["id"], name=said["function"]["name"], arguments=json.loads(said["function"]["arguments"]))


def _choice(messages: list[Message]) -> ChoiceOutput | None:
    last = messages[-1].content
    if messages[-1].role == "system" and last.startswith("Answer with exactly one of: "):
        return ChoiceOutput(options=tuple(json.loads(last.partition(": ")[2])))
    return None


@asynccontextmanager
async def serving(model: TextModel | None) -> AsyncIterator[OpenAIServer]:
    """The server on a port of loopback while the context is open."""
    server = OpenAIServer(model)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
