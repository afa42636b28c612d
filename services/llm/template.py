"""What a model's chat template writes, learnt once from a few renderings in a process that may do nothing else.

While serving no template is executed: what was learnt are texts before and after the messages of each role.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from schemas.errors import MilepostError
from services.llm.chat import FORMATS, ChatFormat

if TYPE_CHECKING:
    from services.llm.render import Conversation, Rendered  # at run time only its own process loads Jinja

PROGRAM = Path(__file__).with_name("render.py")
# What loops is stopped by its share of a processor; the clock stops what waits, also on a machine that is busy.
WALL_S = 10.0
LONGEST_TEMPLATE = 256 << 10

Role: TypeAlias = Literal["system", "user", "assistant"]
Messages: TypeAlias = Sequence[tuple[Role, str]]
Frame: TypeAlias = tuple[str, str]


class TemplateRefused(MilepostError):
    """A chat template does what it may not, or writes what no chat format of ours can write."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "The model's chat template cannot be used.",
            why=why,
            hint=f"name the one that it speaks: --chat {'|'.join(FORMATS)}",
        )


def learn(template: str, tokens: Mapping[str, str], special: Collection[str], *, name: str) -> ChatFormat:
    """The chat format that a Jinja chat template writes.

    tokens: bos_token, eos_token and the like; special: the names of all special tokens; name: what the format is called.
    Raises TemplateRefused for a template that fails, takes too long, reaches for what it may not have, or whose messages
    do not stand between fixed texts: what was learnt must write all probes as the template does, character for character.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise TemplateRefused(f"it has {len(template)} characters, at most {LONGEST_TEMPLATE} are read")
    rendered = _Renderings(template, tokens)
    takes_system = rendered.error(_WITH_SYSTEM) is None
    learnt = _learnt(rendered, tokens.get("bos_token", ""), "Sys" if takes_system else None)
    for messages in _PROBES:
        if messages[0][0] in learnt.roles and rendered.text(messages) != _written(learnt, messages):
            raise TemplateRefused(f"it does not write {_outline(messages)} as a text before and after each message")
    ends = _ends(learnt.roles["assistant"][1], tokens.get("eos_token", ""), special)
    return learnt.model_copy(update={"name": name, "ends": ends})


def _ends(after: str, eos: str, special: Collection[str]) -> tuple[str, ...]:
    """The special tokens that end a message: the first after it, and the one that ends texts."""
    there = sorted((after.index(token), -len(token), token) for token in special if token and token in after)
    ends = dict.fromkeys([token for *_, token in there[:1]] + ([eos] if eos in special else []))
    if not ends:
        raise TemplateRefused("no special token ends the model's message")
    return tuple(ends)


def _written(chat: ChatFormat, messages: Messages) -> str:
    """A conversation as the format writes it, up to where the model speaks."""
    if chat.system is not None and messages[0][0] != "system":
        messages = [("system", chat.system), *messages]
    text = "".join(chat.roles[role][0] + content + chat.roles[role][1] for role, content in messages)
    return chat.begin + text + (chat.reply or chat.roles["assistant"][0])


_ONE_TURN: Messages = [("user", "Uone")]
_ONE_ANSWER: Messages = [*_ONE_TURN, ("assistant", "Aone")]
_TWO_TURNS: Messages = [*_ONE_ANSWER, ("user", "Utwo")]
_SYSTEM: Messages = [("system", "Sys")]
_WITH_SYSTEM: Messages = [*_SYSTEM, *_ONE_TURN]
_ODD = "Zwei\n\nZeilen: \"a\" & <b> {{ c }} 你好 😀 'd' \\n {% e %}"
_PROBES: Sequence[Messages] = (
    _ONE_TURN,
    _TWO_TURNS,
    [("system", "Sys"), *_TWO_TURNS],
    [
        ("system", _ODD),
        ("user", _ODD),
        ("assistant", _ODD),
        ("user", _ODD),
        ("assistant", "{}"),
        ("user", "<tool_response>\n1"),
    ],
    [("user", _ODD), ("assistant", _ODD), *_TWO_TURNS, ("assistant", "Atwo"), ("user", "Uthree")],
)


class _Renderings:
    """What the template makes of each conversation, with the reply's beginning and without."""

    def __init__(self, template: str, tokens: Mapping[str, str]) -> None:
        open_ends = [[*start, *half] for start in ([], _SYSTEM) for half in (_ONE_TURN, _ONE_ANSWER)]
        asked = [(messages, True) for messages in (_WITH_SYSTEM, *_PROBES)] + [(messages, False) for messages in open_ends]
        answers = _render(template, tokens, [_conversation(messages, reply=reply) for messages, reply in asked])
        self._answers = {(tuple(messages), reply): answer for (messages, reply), answer in zip(asked, answers, strict=True)}

    def error(self, messages: Messages, *, reply: bool = True) -> str | None:
        return self._answers[tuple(messages), reply].get("error")

    def text(self, messages: Messages, *, reply: bool = True) -> str:
        if (error := self.error(messages, reply=reply)) is not None:
            raise TemplateRefused(error)
        return self._answers[tuple(messages), reply]["text"]


def _learnt(rendered: _Renderings, bos: str, system: str | None) -> ChatFormat:
    """Cut the renderings at the messages; what ends a message is what stands after it where no other follows."""
    start: Messages = [("system", system)] if system else []
    dialogue: Messages = [*start, *_TWO_TURNS]
    *opening, after_user, after_assistant, end = _cut(rendered.text(dialogue), [text for _, text in dialogue])
    user_end = _cut(rendered.text([*start, *_ONE_TURN], reply=False), ["Uone"])[-1]
    assistant_end = _cut(rendered.text([*start, *_ONE_ANSWER], reply=False), ["Aone"])[-1]
    user = (_without_start(after_assistant, assistant_end), user_end)
    assistant = (_without_start(after_user, user_end), assistant_end)
    begin = bos if bos and opening[0].startswith(bos) and not user[0].startswith(bos) else ""
    frame = (opening[0].removeprefix(begin), _without_end(opening[1], user[0])) if system else None
    alone = _cut(rendered.text(_ONE_TURN), ["Uone"])[0]
    reply = _without_start(end, user_end)
    return ChatFormat(
        name="", begin=begin, roles={"user": user, "assistant": assistant} | ({"system": frame} if frame else {}), ends=(),
        system=None if alone == begin + user[0] else _default(alone, begin, frame, user[0]),
        reply="" if reply == assistant[0] else reply,
    )  # fmt: skip


def _default(opening: str, begin: str, frame: Frame | None, user_start: str) -> str:
    """The system message that the template brings itself."""
    if frame is None:
        raise TemplateRefused("it begins with a text of its own, but takes no system message")
    left = _without_start(opening, begin + frame[0])
    return _without_end(left, frame[1] + user_start)


def _cut(text: str, messages: Sequence[str]) -> list[str]:
    """What stands before, between and after messages, each of which stands there once."""
    pieces = []
    for message in messages:
        before, found, text = text.partition(message)
        if not found or message in text:
            raise TemplateRefused("it leaves messages out, repeats or changes them")
        pieces.append(before)
    return [*pieces, text]


def _without_start(text: str, start: str) -> str:
    if not text.startswith(start):
        raise TemplateRefused("what it writes around a message depends on other messages")
    return text[len(start) :]


def _without_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise TemplateRefused("what it writes around a message depends on other messages")
    return text[: len(text) - len(end)]


def _conversation(messages: Messages, *, reply: bool) -> Conversation:
    return {"messages": [{"role": role, "content": content} for role, content in messages], "reply": reply}


def _outline(messages: Messages) -> str:
    return "a conversation of " + ", ".join(role for role, _ in messages)


def _render(template: str, tokens: Mapping[str, str], conversations: Sequence[Conversation]) -> list[Rendered]:
    """Render in a process that is cut off from our environment and killed when it takes too long."""
    asked = json.dumps({"template": template, "tokens": dict(tokens), "conversations": list(conversations)}).encode()
    with tempfile.TemporaryFile() as out:
        try:
            # -I: no folder and no variable of ours is read; a file for its output holds no more than it may write.
            ended = subprocess.run(
                [sys.executable, "-I", str(PROGRAM)],
                input=asked, stdout=out, stderr=subprocess.DEVNULL, env={}, cwd="/", timeout=WALL_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TemplateRefused(f"it did not end within {WALL_S:g} s") from None
        out.seek(0)
        written = out.read()
    if ended.returncode < 0:
        raise TemplateRefused("it was stopped: it takes more time than a chat template may")
    try:
        return cast("list[Rendered]", json.loads(written))
    except ValueError:
        raise TemplateRefused("the process that rendered it broke off") from None
