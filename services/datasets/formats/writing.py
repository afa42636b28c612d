"""Examples as the lines of training files: all of them, MSAgent-Bench's conversations, and OpenAI's chat with tools.

milepost {"id", "source", "group", "language", "system", "tools", "messages"}, also "runs" and "urls" if there are any:
         nothing is lost, and `services.datasets.formats.reading` reads the same example; what is at its default is left out.
msagent  {"id", "conversations": [{"from": "system" | "user" | "assistant", "value"}]}: calls and results stand in the
         assistant's text, between <|startofthink|> and <|endofthink|>, <|startofexec|> and <|endofexec|> (arXiv 2309.00986,
         section 3.1; the roles are strictly a system message, then user and assistant in turn).
openai   {"messages": [...], "tools": [...]}: as the API's fine-tuning has it; arguments are JSON as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import orjson

from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example


def milepost(example: Example) -> dict[str, object]:
    """One line from which the same example is read."""
    line: dict[str, object] = {
        "id": example.id, "source": example.source, "group": example.group, "language": example.language,
        "system": example.system,
        "tools": [card.model_dump(mode="json", exclude_defaults=True) for card in example.tools],
        "messages": [message.model_dump(mode="json", exclude_defaults=True) for message in example.messages],
    }  # fmt: skip
    optional = {"runs": [*example.runs], "urls": {**example.urls}}
    return line | {name: value for name, value in optional.items() if value}


def msagent(example: Example) -> dict[str, object]:
    """One line of MSAgent-Bench."""
    listed = (f"{number}. {_json(_function(card))}" for number, card in enumerate(example.tools, 1))
    system = "\n\n".join([example.system, *listed])
    said = [{"from": "system", "value": system}]
    for role, text in _turns(example):
        said.append({"from": role, "value": text})
    return {"id": example.id, "conversations": said}


def _turns(example: Example) -> Iterator[tuple[str, str]]:
    """User and assistant in turn; what follows a call belongs to the turn that made it."""
    words: list[str] = []
    for message in example.messages:
        if message.role == "user":
            if words:
                yield "assistant", "\n".join(words)
                words = []
            yield "user", message.content
        elif message.role == "tool":
            words.append(f"\n<|startofexec|>```JSON\n{_json({'result': message.content})}\n```<|endofexec|>")
        else:
            words.extend([message.content] if message.content else [])
            words.extend(_msagent_call(call, example.urls.get(call.id, "")) for call in message.calls)
    if words:
        yield "assistant", "\n".join(words)


def _msagent_call(call: ToolCall, url: str) -> str:
    asked = _json({"api_name": call.name, **({"url": url} if url else {}), "parameters": call.arguments})
    return f"<|startofthink|>```JSON\n{asked}\n```<|endofthink|>"


def openai(example: Example) -> dict[str, object]:
    """One line for fine-tuning with OpenAI's chat format."""
    said: list[dict[str, object]] = [{"role": "system", "content": example.system}] if example.system else []
    waiting: list[str] = []
    for message in example.messages:
        if message.role == "assistant" and message.calls:
            waiting = [call.id for call in message.calls]
            said.append(
                {"role": "assistant", "content": message.content or None, "tool_calls": [*map(_openai_call, message.calls)]}
            )
        elif message.role == "tool":
            said.append({"role": "tool", "tool_call_id": waiting.pop(0) if waiting else "", "content": message.content})
        else:
            said.append({"role": message.role, "content": message.content})
    tools = [{"type": "function", "function": _function(card)} for card in example.tools]
    return {"messages": said, **({"tools": tools} if tools else {})}


def _openai_call(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _json(call.arguments)}}


def _function(card: ToolCard) -> dict[str, object]:
    return {"name": card.name, "description": card.description, "parameters": card.parameters}


def _json(value: Mapping[str, object]) -> str:
    return orjson.dumps(value).decode()


FORMATS: dict[str, Callable[[Example], dict[str, object]]] = {"milepost": milepost, "msagent": msagent, "openai": openai}
