"""What was said, as any client's words become one form: who spoke, the text, calls of tools and what came of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from schemas.canonical import JsonObject, digest, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import TOKEN
from schemas.messages import Message, Origin
from schemas.tools import ToolCall

Speaker: TypeAlias = Literal["system", "user", "assistant", "tool", "approval"]

TEXT = 1_000_000
"""Characters that one message may have."""
MESSAGES = 2_000
PARTS = 1_000
ARGUMENTS_BYTES = 1024 * 1024

_TOKEN = re.compile(TOKEN)
_ORIGINS: dict[str, Origin] = {"user": "user", "assistant": "model", "tool": "tool"}


class Unfit(MilepostError):
    """The request cannot be answered as it stands."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an assistant's message made. id: as the client knows it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """One message. call: of a tool's or an approval's answer, the id of what it answers; approved: what an approval says."""

    who: Speaker
    text: str = ""
    calls: tuple[Call, ...] = ()
    call: str = ""
    approved: bool | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A request in the form that a run begins with: instructions, what was said before and after the task, the task."""

    instructions: str
    task: str
    said: tuple[Message, ...] = ()


def told(spoken: Sequence[Spoken]) -> Told:
    """What a run is to be asked. Raises Unfit where nobody asks anything, or a tool answers what was not called."""
    instructions = "\n\n".join(each.text for each in spoken if each.who == "system" and each.text)
    others = [each for each in spoken if each.who in _ORIGINS]
    place = max((index for index, each in enumerate(others) if each.who == "user"), default=None)
    if place is None:
        raise Unfit("Nobody asks anything.", why="there is no user's message", hint="add one: it is what is answered")
    if not others[place].text.strip():
        raise Unfit("The last user's message is empty.", hint="write what is to be answered")
    if others[-1].who == "assistant":
        raise Unfit(
            "The last message is the assistant's own.", why="nothing is asked after it",
            hint="end with a user's message, or with what tools gave",
        )  # fmt: skip
    names: dict[str, str] = {}
    said = [
        *(_message(each, names, before=True) for each in others[:place]),
        *(_message(each, names, before=False) for each in others[place + 1 :]),
    ]
    return Told(instructions, others[place].text, tuple(said))


def results_at_the_end(spoken: Iterable[Spoken]) -> tuple[Spoken, ...]:
    """The answers of tools and to approvals that the client sends now: those after which nobody has said anything."""
    found: list[Spoken] = []
    for each in spoken:
        if each.who in ("tool", "approval"):
            found.append(each)
        elif each.who != "system":
            found = []
    return tuple(found)


def last_words(spoken: Sequence[Spoken]) -> tuple[str, str]:
    """What the user said last, if that ends it all, and what the assistant had said before; empty where there is none."""
    others = [each for each in spoken if each.who != "system"]
    if len(others) < 2 or others[-1].who != "user" or others[-2].who != "assistant":
        return "", ""
    return others[-1].text, others[-2].text


def _message(spoken: Spoken, names: dict[str, str], *, before: bool) -> Message:
    """names: of the tools that were called so far, by the calls' ids."""
    name = None
    if spoken.who == "tool":
        name = names.get(spoken.call)
        if name is None:
            raise Unfit(
                f"A tool's message answers {spoken.call[:100]!r}, which nobody called.",
                why="no assistant's message before it has a call of this id, and no run waits for it",
                hint="send the assistant's message with its tool_calls before the tool's",
            )  # fmt: skip
    names.update({call.id: call.name for call in spoken.calls})
    return Message(
        role="user" if spoken.who not in ("user", "assistant", "tool") else spoken.who, content=spoken.text, name=name,
        calls=tuple(map(_call, spoken.calls)), origin=_ORIGINS[spoken.who], part="history" if before else None,
    )  # fmt: skip


def _call(call: Call) -> ToolCall:
    id = call.id if _TOKEN.match(call.id) and not call.id.endswith("\n") else f"call-{digest('call', call.id)}"
    return ToolCall(id=id, name=call.name, arguments=arguments_of(call.arguments))


def arguments_of(text: str) -> JsonObject:
    """Arguments as a client tells them; what is no JSON object is one with the text as it stands."""
    try:
        found = read_json(text.encode(), limit=ARGUMENTS_BYTES)
    except (ProtocolError, UnicodeEncodeError):
        return {"arguments": text}
    return found if isinstance(found, dict) else {"arguments": text}
