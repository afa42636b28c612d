"""Conversations as each wire writes them, with what every character of them is part of marked by hand.

«c» what is only read, «a» words, «m» a call's syntax, «n» the tool's name, «p» its arguments, «u» its URL, «e» the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.messages import Message, Prompt
from schemas.tools import ToolCall, ToolCard
from services.llm.lesson import CONTEXT, END, KINDS, Lesson
from services.llm.tokenizer import Vocabulary

LETTERS = "camnpue"
"""In the order of services.llm.lesson.KINDS: context, answer, markup, name, parameters, url, end."""

TEXT = {"type": "string"}
AT = {
    "type": "object",
    "properties": {"days": {"type": "array", "items": {"type": "integer"}}, "on": {"type": ["string", "null"]}},
}
WEATHER = ToolCard(
    name="get_weather", description="The weather.",
    parameters={"type": "object", "properties": {"city": TEXT, "days": {"type": "integer"}}, "required": ["city"]},
)  # fmt: skip
NOTE = ToolCard(
    name="save_note", description="Keep a note. 记事",
    parameters={"type": "object", "properties": {"at": AT, "text": TEXT}, "required": ["text"]},
)  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """A conversation and how it reads from the first user's message on; what stands before is all read. urls: by call."""

    wire: str
    messages: tuple[Message, ...]
    text: str
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> Prompt:
        """As a model would be asked it."""
        system = Message(role="system", content="Be kind.")
        return Prompt(messages=(system, *self.messages), tools=(WEATHER, NOTE))


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, calls=calls)


def result(name: str, text: str) -> Message:
    return Message(role="tool", name=name, content=text)


def weather(id: str, city: str, **more: object) -> ToolCall:
    return ToolCall(id=id, name="get_weather", arguments={**more, "city": city})


def unmarked(text: str) -> tuple[str, list[int]]:
    """A marked text as it reads, and the kind of each of its characters."""
    bare, kinds, kind = "", [], 0
    for piece in re.split(r"(«[camnpue]»)", text):
        if re.fullmatch(r"«[camnpue]»", piece):
            kind = LETTERS.index(piece[1])
        else:
            bare += piece
            kinds += [kind] * len(piece)
    return bare, kinds


def by_byte(text: str, kinds: Sequence[int]) -> list[int]:
    """The kind of each byte of a text of which every character has one."""
    return [kind for letter, kind in zip(text, kinds, strict=True) for _ in letter.encode()]


def spelled(lesson: Lesson, vocabulary: Vocabulary) -> bytes:
    """A sequence as text, special tokens by their names."""
    return b"".join(map(vocabulary.bytes_of, lesson.tokens))


def missed(made: Sequence[Lesson], text: str, vocabulary: Vocabulary) -> list[int]:
    """The kinds of the bytes that are to be taught, and are not. All else is as it is marked: AssertionError where not."""
    bare, marks = unmarked(text)
    wanted, seen = by_byte(bare, marks), set[int]()
    whole = spelled(made[0], vocabulary)
    assert whole.decode().endswith(bare)
    for lesson in made:
        at = len(bare.encode()) - len(whole)
        for place, (token, kind) in enumerate(zip(lesson.tokens, lesson.kinds, strict=True)):
            covered = range(at, at + len(vocabulary.bytes_of(token)))
            at = covered.stop
            if kind == CONTEXT or (lesson is not made[0] and place == len(lesson.tokens) - 1):  # an end that the whole may lack
                continue
            strongest = max(wanted[place] for place in covered)
            assert KINDS[kind] == KINDS[strongest], (lesson.tokens, covered, bare[:80])
            assert not seen & {*covered}, "a token is taught twice"
            seen |= {*covered}
        assert lesson.kinds[-1] == END
    return [kind for place, kind in enumerate(wanted) if kind and place not in seen]


PARIS = (
    user("Weather in Paris?"), said("", weather("c1", "Paris")), result("get_weather", "Sunny, 21 C"),
    said("It is sunny."), user("Thanks!"), said("Any time."),
)  # fmt: skip
KEPT = ToolCall(id="c1", name="save_note", arguments={"at": {"days": [1, 2], "on": None}, "text": '"早会"\n🙂'})
NOTED = (user("记下 🙂"), said("", KEPT), result("save_note", "好"), said("记好了 👍"))
BOTH = (user("Rome and Oslo?"), said("Let me look.", weather("c1", "Rome"), weather("c2", "Oslo", days=3)))
ONE_BY_ONE = (
    user("Rome and Oslo?"), said("Let me look.", weather("c1", "Rome")), result("get_weather", "Rain"),
    said("", weather("c2", "Oslo", days=3)),
)  # fmt: skip

ASK = "«c»<|im_start|>user\n"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"
DONE = "«e»<|im_end|>«c»\n"
LAST = "«e»<|im_end|>"
NOTE_JSON = r'{"text": "\"早会\"\n🙂", "at": {"days": [1, 2], "on": null}}'
NOTE_WORDS = r'text="\"早会\"\n🙂", at={"days": [1, 2], "on": null}'

MARKED = (
    Marked(
        "json", PARIS,
        f'{ASK}Weather in Paris?{REPLY}«m»{{"name": "«n»get_weather«m»", "arguments": «p»{{"city": "Paris"}}«m»}}{DONE}'
        f"{ASK}<tool_response>\nSunny, 21 C\n</tool_response>\nWhat does this mean for me?{REPLY}«a»It is sunny.{DONE}"
        f"{ASK}Thanks!{REPLY}«a»Any time.{LAST}",
    ),
    Marked(
        "json", NOTED,
        f'{ASK}记下 🙂{REPLY}«m»{{"name": "«n»save_note«m»", "arguments": «p»{NOTE_JSON}«m»}}{DONE}'
        f"{ASK}<tool_response>\n好\n</tool_response>\n这个结果说明了什么？请用中文回答。{REPLY}«a»记好了 👍{LAST}",
    ),
    Marked(
        "json", BOTH,
        f"{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\n"
        '{"name": "«n»get_weather«m»", "arguments": «p»{"city": "Rome"}«m»}\n'
        f'{{"name": "«n»get_weather«m»", "arguments": «p»{{"city": "Oslo", "days": 3}}«m»}}{LAST}',
    ),
    Marked(
        "hermes", PARIS,
        f"{ASK}Weather in Paris?{REPLY}«m»<tool_call>\n"
        f'{{"name": "«n»get_weather«m»", "arguments": «p»{{"city": "Paris"}}«m»}}\n</tool_call>{DONE}'
        f"{ASK}<tool_response>\nSunny, 21 C\n</tool_response>{REPLY}«a»It is sunny.{DONE}{ASK}Thanks!{REPLY}«a»Any time.{LAST}",
    ),
    Marked(
        "hermes", NOTED,
        f'{ASK}记下 🙂{REPLY}«m»<tool_call>\n{{"name": "«n»save_note«m»", "arguments": «p»{NOTE_JSON}«m»}}\n</tool_call>{DONE}'
        f"{ASK}<tool_response>\n好\n</tool_response>{REPLY}«a»记好了 👍{LAST}",
    ),
    Marked(
        "hermes", BOTH,
        f"{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\n<tool_call>\n"
        '{"name": "«n»get_weather«m»", "arguments": «p»{"city": "Rome"}«m»}\n</tool_call>\n<tool_call>\n'
        f'{{"name": "«n»get_weather«m»", "arguments": «p»{{"city": "Oslo", "days": 3}}«m»}}\n</tool_call>{LAST}',
    ),
    Marked(
        "openai", PARIS,
        f'{ASK}Weather in Paris?{REPLY}«m»{{"tool_calls": [{{"type": "function", "function": {{"name": "«n»get_weather«m»", '
        f'"arguments": «p»{{"city": "Paris"}}«m»}}}}]}}{DONE}'
        f'{ASK}{{"role": "function", "name": "get_weather", "content": "Sunny, 21 C"}}{REPLY}«a»It is sunny.{DONE}'
        f"{ASK}Thanks!{REPLY}«a»Any time.{LAST}",
    ),
    Marked(
        "openai", NOTED,
        f'{ASK}记下 🙂{REPLY}«m»{{"tool_calls": [{{"type": "function", "function": {{"name": "«n»save_note«m»", '
        f'"arguments": «p»{NOTE_JSON}«m»}}}}]}}{DONE}'
        f'{ASK}{{"role": "function", "name": "save_note", "content": "好"}}{REPLY}«a»记好了 👍{LAST}',
    ),
    Marked(
        "openai", BOTH,
        f'{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\n{{"tool_calls": [{{"type": "function", "function": {{"name": "'
        '«n»get_weather«m»", "arguments": «p»{"city": "Rome"}«m»}}, {"type": "function", "function": {"name": "'
        f'«n»get_weather«m»", "arguments": «p»{{"city": "Oslo", "days": 3}}«m»}}}}]}}{LAST}',
    ),
    Marked(
        "msagent", PARIS,
        f'{ASK}Weather in Paris?{REPLY}«m»<|startofthink|>```JSON\n{{"api_name": "«n»get_weather«m»", '
        '"parameters": «p»{"city": "Paris"}«m»}\n```<|endofthink|>'
        f"«c»\n\n<|startofexec|>Sunny, 21 C<|endofexec|>\n«a»It is sunny.{DONE}{ASK}Thanks!{REPLY}«a»Any time.{LAST}",
    ),
    Marked(
        "msagent", NOTED,
        f'{ASK}记下 🙂{REPLY}«m»<|startofthink|>```JSON\n{{"api_name": "«n»save_note«m»", '
        f'"parameters": «p»{NOTE_JSON}«m»}}\n```<|endofthink|>«c»\n\n<|startofexec|>好<|endofexec|>\n«a»记好了 👍{LAST}',
    ),
    Marked(
        "msagent", ONE_BY_ONE,
        f'{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\n<|startofthink|>```JSON\n{{"api_name": "«n»get_weather«m»", '
        '"parameters": «p»{"city": "Rome"}«m»}\n```<|endofthink|>«c»\n\n<|startofexec|>Rain<|endofexec|>\n'
        '«m»<|startofthink|>```JSON\n{"api_name": "«n»get_weather«m»", "parameters": «p»{"city": "Oslo", "days": 3}'
        f"«m»}}\n```<|endofthink|>{LAST}",
    ),
    Marked(
        "msagent", (user("Rome?"), said("", weather("c1", "Rome"))),
        f'{ASK}Rome?{REPLY}«m»<|startofthink|>```JSON\n{{"api_name": "«n»get_weather«m»", '
        '"url": "«u»https://天气.example/\\"v1\\"«m»", "parameters": «p»{"city": "Rome"}'
        f"«m»}}\n```<|endofthink|>{LAST}",
        urls={"c1": 'https://天气.example/"v1"'},
    ),
    Marked(
        "mrkl", PARIS,
        f'{ASK}Weather in Paris?{REPLY}«m»Action: «n»get_weather«m»\nAction Input: «p»{{"city": "Paris"}}'
        f"«c»\nObservation: Sunny, 21 C\n«m»Final Answer: «a»It is sunny.{DONE}"
        f"{ASK}Thanks!{REPLY}«m»Final Answer: «a»Any time.{LAST}",
    ),
    Marked(
        "mrkl", NOTED,
        f"{ASK}记下 🙂{REPLY}«m»Action: «n»save_note«m»\nAction Input: «p»{NOTE_JSON}"
        f"«c»\nObservation: 好\n«m»Final Answer: «a»记好了 👍{LAST}",
    ),
    Marked(
        "mrkl", ONE_BY_ONE,
        f"{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\nAction: «n»get_weather«m»\n"
        'Action Input: «p»{"city": "Rome"}«c»\nObservation: Rain\n«m»Action: «n»get_weather«m»\n'
        f'Action Input: «p»{{"city": "Oslo", "days": 3}}{LAST}',
    ),
    Marked(
        "chatglm3", PARIS,
        f'{ASK}Weather in Paris?{REPLY}«n»get_weather«m»\n```python\ntool_call(«p»city="Paris"«m»)\n```{DONE}'
        f"{ASK}Sunny, 21 C{REPLY}«m»\n «a»It is sunny.{DONE}{ASK}Thanks!{REPLY}«m»\n «a»Any time.{LAST}",
    ),
    Marked(
        "chatglm3", NOTED,
        f"{ASK}记下 🙂{REPLY}«n»save_note«m»\n```python\ntool_call(«p»{NOTE_WORDS}«m»)\n```{DONE}"
        f"{ASK}好{REPLY}«m»\n «a»记好了 👍{LAST}",
    ),
    Marked(
        "chatglm3", ONE_BY_ONE,
        f'{ASK}Rome and Oslo?{REPLY}«a»Let me look.«m»\n«n»get_weather«m»\n```python\ntool_call(«p»city="Rome"«m»)\n```{DONE}'
        f'{ASK}Rain{REPLY}«n»get_weather«m»\n```python\ntool_call(«p»city="Oslo", days=3«m»)\n```{LAST}',
    ),
    Marked(
        "chatglm3", (user("Rome?"), said("", ToolCall(id="c1", name="get_weather", arguments={"city": "Rome", "on-day": ")"}))),
        f'{ASK}Rome?{REPLY}«n»get_weather«m»\n```python\ntool_call(«p»**{{"city": "Rome", "on-day": ")"}}«m»)\n```{LAST}',
    ),
)  # fmt: skip
