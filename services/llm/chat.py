"""From a prompt to tokens: messages and tools as a family of models reads them.

The order is system, tools, messages; nothing of a later message changes what stands before it. So within a run each prompt
begins with the one before it, token for token, and a model that kept its slot reads only what is new. Tools that were found
for a request may stand before its words; how tools are called is told in the system message all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from schemas.messages import Message, Prompt
from services.llm.calls import written
from services.llm.context import written_context
from services.llm.remaining import left
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Asked, Language, Markup, Text, Wire

TokensOf: TypeAlias = Callable[[str], list[int]]

CHINESE = re.compile(r"[\u4e00-\u9fff]")


class ChatFormat(BaseModel):
    """How a family of models frames messages.

    begin: what stands before the first message. roles: the text before and after a message of system, user, assistant
    and tool; without tool a result is a user's message, without system it begins the first message of the user.
    ends: the special tokens that end the model's message. system: the system message of prompts that have none; None: they
    go without. reply: what the model's own message begins with, where that is more than what stands before earlier ones.
    All of these may spell special tokens; what people, tools and models write never can.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    begin: str = ""
    roles: Mapping[str, tuple[str, str]]
    ends: tuple[str, ...]
    system: str | None = None
    reply: str = ""


def _same(roles: Iterable[str], prefix: str, suffix: str) -> dict[str, tuple[str, str]]:
    return {role: (prefix.replace("ROLE", role), suffix) for role in roles}


CHATML = ChatFormat(
    name="chatml",
    roles=_same(("system", "user", "assistant"), "<|im_start|>ROLE\n", "<|im_end|>\n"),
    ends=("<|im_end|>", "<|endoftext|>"),
)
LLAMA3 = ChatFormat(
    name="llama3",
    begin="<|begin_of_text|>",
    roles={
        **_same(("system", "user", "assistant"), "<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>"),
        "tool": ("<|start_header_id|>ipython<|end_header_id|>\n\n", "<|eot_id|>"),
    },
    ends=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
)
ZEPHYR = ChatFormat(
    name="zephyr",
    begin="<s>",
    roles=_same(("system", "user", "assistant"), "<|ROLE|>\n", "</s>\n"),
    ends=("</s>",),
)
MISTRAL = ChatFormat(
    name="mistral",
    begin="<s>",
    roles={"user": ("[INST] ", " [/INST]"), "assistant": ("", "</s>")},
    ends=("</s>",),
)
CHATGLM3 = ChatFormat(
    name="chatglm3",
    begin="[gMASK]sop",
    roles={
        **_same(("system", "user"), "<|ROLE|>\n ", ""),
        "assistant": ("<|assistant|>", ""),
        "tool": ("<|observation|>\n ", ""),
    },
    ends=("<|user|>", "<|observation|>", "</s>"),
)
FORMATS = {chat.name: chat for chat in (CHATML, LLAMA3, ZEPHYR, MISTRAL, CHATGLM3)}


def encode(
    prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary, tokens_of: TokensOf | None = None
) -> list[int]:  # fmt: skip
    """The tokens of a prompt up to where the model's own words begin. ValueError if the vocabulary cannot frame it.

    tokens_of: the vocabulary's own `encode`, for one who remembers what it said of the same text.
    """
    if vocabulary.special(chat.ends[0]) is None:
        raise ValueError(f"the vocabulary has no {chat.ends[0]}, so it does not speak {chat.name}")
    pieces: list[str] = [Markup(chat.begin)]
    spoken = turns(prompt, chat, wire)
    for role, text in spoken:
        prefix, suffix = chat.roles[role]
        pieces += [Markup(prefix), *text, Markup(suffix)]
    if wire.inline and prompt.messages and prompt.messages[-1].role == "tool":
        pieces.pop()  # the model goes on with its own turn, in which the result stands
    else:
        pieces.append(Markup(chat.reply or chat.roles["assistant"][0]))
    return spelled(pieces, vocabulary, tokens_of)


def turns(prompt: Prompt, chat: ChatFormat, wire: Wire) -> list[tuple[str, Text]]:
    """Role and text of each message as the model reads it; every role is one that the chat format has."""
    framed = _folded(_turns(prompt, chat, wire), chat)
    return list(_joined(framed) if wire.inline else framed)


def spelled(pieces: Iterable[str], vocabulary: Vocabulary, tokens_of: TokensOf | None = None) -> list[int]:
    """The tokens of pieces of text, plain ones and Markup; text that meets between special tokens is read as one."""
    tokens_of = tokens_of or vocabulary.encode
    tokens: list[int] = []
    plain = ""
    for piece in pieces:
        for part in parts(piece, vocabulary) if isinstance(piece, Markup) else (piece,):
            if isinstance(part, str):
                plain += part
            else:
                tokens += [*tokens_of(plain), part]
                plain = ""
    return tokens + tokens_of(plain)


def parts(markup: str, vocabulary: Vocabulary) -> Iterable[str | int]:
    """Markup as plain text and the special tokens in it."""
    for part in _special_names(vocabulary).split(markup):
        token = vocabulary.special(part)
        yield part if token is None else token


@lru_cache(maxsize=8)
def _special_names(vocabulary: Vocabulary) -> re.Pattern[str]:
    special = [vocabulary.bytes_of(index).decode() for index in range(len(vocabulary)) if vocabulary.is_special(index)]
    return re.compile("|".join(re.escape(name) for name in sorted(special, key=len, reverse=True)).join("()"))


def _turns(prompt: Prompt, chat: ChatFormat, wire: Wire) -> Iterable[tuple[str, Text]]:
    """Role and text of each message; tools stand in the first system message, which is made for them if need be."""
    messages = list(prompt.messages)
    given = messages.pop(0).content if messages and messages[0].role == "system" else ""
    system = given or chat.system
    in_system = [card for message in messages if message.role == "system" for card in message.tools]
    offered = wire.offer([*prompt.tools, *in_system]) if prompt.offered else ()
    if system is not None or offered:
        yield "system", _stripped((system or "", *offered))
    cards = {card.name: card for card in prompt.offered}
    language: Language = "en"
    request = used = ""
    context: list[Message] = []
    for message in messages:
        if message.context:
            context += () if message.role == "system" else (message,)
            continue
        if message.role == "user" and message.name is None:  # one with a name is ours, about a reply that could not be read
            language = "zh" if CHINESE.search(message.content) else "en"
            request, used = message.content, ""
        used += "".join(written(call.arguments) for call in message.calls)
        if message.role == "tool":
            role, text = wire.result(message, language, left(request, used))
            yield role if role in chat.roles else "user", text
        elif message.role == "assistant":
            yield "assistant", wire.said(message.content, [Asked(call.name, call.arguments) for call in message.calls], cards)
        else:
            yield message.role, (*written_context(context, wire), message.content)
            context = []


def _stripped(pieces: Text) -> Text:
    """Without the blanks at the beginning."""
    first, *rest = pieces
    bare = first.lstrip()
    kept: Text = (Markup(bare) if isinstance(first, Markup) else bare, *rest)
    return kept if bare or not rest else _stripped(tuple(rest))


def _folded(turns: Iterable[tuple[str, Text]], chat: ChatFormat) -> Iterable[tuple[str, Text]]:
    """A system message of a family that knows none stands before the words of the next user."""
    waiting: Text = ()
    for role, text in turns:
        if role not in chat.roles:
            waiting = (*waiting, *text, "\n\n")
        elif role == "user":
            yield role, (*waiting, *text)
            waiting = ()
        else:
            yield role, text
    if waiting:
        yield "user", waiting


def _joined(turns: Iterable[tuple[str, Text]]) -> Iterable[tuple[str, Text]]:
    """With what an assistant said and the results that stand in its turn as one."""
    last: tuple[str, Text] | None = None
    for role, text in turns:
        if last and role == last[0] == "assistant":
            last = (role, (*last[1], *text))
        else:
            if last:
                yield last
            last = (role, text)
    if last:
        yield last
