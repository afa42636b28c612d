"""From a prompt to tokens: messages and tools in a model's chat format.

The order is system, tools, messages; nothing of a later message changes what stands before it. So within a run each prompt
begins with the one before it, token for token, and a model that kept its slot reads only what is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.messages import Message, Prompt
from schemas.tools import ToolCard
from services.llm.calls import argument_names, call_text
from services.llm.tokenizer import Vocabulary


@dataclass(frozen=True)
class ChatFormat:
    """How a family of models is spoken to. begin and end: special tokens around a message.

    tools: how functions are announced, with {functions} for one line each; result: how a tool's result is handed over,
    with {result} and {question}; questions: what is asked about a result, by the language of the person.
    """

    name: str
    begin: str
    end: str
    tools: str
    result: str
    questions: Mapping[str, str]


# Measured on Qwen2.5-Coder-0.5B: a line for `reply` and an explicit way to call separate calls from answers (AUC 0.92 over
# BFCL simple, multiple and irrelevance) better than Qwen's own <tools> block (0.85), in half the tokens; untuned, it never
# writes <tool_call> (log-probability -23), so a call is one bare line of JSON.
CHATML = ChatFormat(
    name="chatml",
    begin="<|im_start|>",
    end="<|im_end|>",
    tools=(
        "\n\nFunctions:\n{functions}\n"
        "reply(text: string): Answer in words. For greetings, general knowledge, and all that no other function does.\n\n"
        'To call a function, write a JSON object on one line: {{"name": <function name>, "arguments": {{...}}}}'
    ),
    # Without a question it echoes the result as markup; "answer my request" makes it refuse; this one it answers in words.
    result="<tool_response>\n{result}\n</tool_response>\n{question}",
    questions={"en": "What does this mean for me?", "zh": "这个结果说明了什么？请用中文回答。"},
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
FORMATS = {CHATML.name: CHATML}


def encode(prompt: Prompt, chat: ChatFormat, vocabulary: Vocabulary) -> list[int]:
    """The tokens of a prompt up to where the model's own words begin."""
    begin, end = vocabulary.special(chat.begin), vocabulary.special(chat.end)
    if begin is None or end is None:
        raise ValueError(f"the vocabulary has no {chat.begin} or {chat.end}")
    tokens: list[int] = []
    for role, text in _turns(prompt, chat):
        tokens += [begin, *vocabulary.encode(f"{role}\n{text}"), end, *vocabulary.encode("\n")]
    return [*tokens, begin, *vocabulary.encode("assistant\n")]


def _turns(prompt: Prompt, chat: ChatFormat) -> Iterable[tuple[str, str]]:
    """Role and text of each message; tools stand in the first system message, which is made for them if need be."""
    messages = list(prompt.messages)
    system = messages.pop(0).content if messages and messages[0].role == "system" else ""
    if prompt.tools:
        system += chat.tools.format(functions="\n".join(function_line(card) for card in prompt.tools))
    if system:
        yield "system", system.lstrip()
    cards = {card.name: card for card in prompt.tools}
    language = "en"
    for message in messages:
        if message.role == "user":
            language = "zh" if CHINESE.search(message.content) else "en"
        yield _turn(message, chat, cards, language)


def _turn(message: Message, chat: ChatFormat, cards: Mapping[str, ToolCard], language: str) -> tuple[str, str]:
    match message.role:
        case "tool":
            return "user", chat.result.format(result=message.content, question=chat.questions[language])
        case "assistant" if message.calls:
            lines = [call_text(call.name, call.arguments, cards.get(call.name)) for call in message.calls]
            return "assistant", "\n".join([message.content, *lines] if message.content else lines)
        case _:
            return message.role, message.content


def function_line(card: ToolCard) -> str:
    """A tool as one line, `name(required: type, optional?: type): description`: short, for prefill is what people wait for."""
    properties = card.parameters.get("properties", {})
    required = card.parameters.get("required", [])
    arguments = [
        f"{name}{'' if name in _names(required) else '?'}: {_type(_schema(properties, name))}" for name in argument_names(card)
    ]
    return f"{card.name}({', '.join(arguments)}): {' '.join(card.description.split())}"


def _type(schema: Mapping[str, object]) -> str:
    """A schema in a word or two: `string`, `integer[]`, `"Week" | "Month"`."""
    options = schema.get("enum")
    if isinstance(options, list | tuple):
        return " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
    kind = schema.get("type", "any")
    if kind == "array":
        return f"{_type(_schema(schema, 'items'))}[]"
    return " | ".join(_names(kind)) if isinstance(kind, list | tuple) else str(kind)


def _schema(container: object, key: str) -> Mapping[str, object]:
    value = container.get(key) if isinstance(container, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _names(value: object) -> Sequence[str]:
    return [str(name) for name in value] if isinstance(value, list | tuple) else []
