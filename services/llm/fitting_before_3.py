"""Making a prompt fit whose messages name no parts: those of deciders 1 and 2, and prompts from elsewhere.

Left out are, one by one until the rest fits: the oldest turns of the conversation, then passages from the documents, the
least fitting (the last) first. The system message, the tools, the request and all that this run did stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from schemas.messages import Message, Prompt

PASSAGES = re.compile(r"(?P<head>.*?:\n)(?P<passages>\[.*)(?P<question>\n\nQuestion: .*)", re.DOTALL)
PASSAGE = re.compile(r"^(?=\[)", re.MULTILINE)

Fits = Callable[[Prompt], bool]


def fitted_before_3(prompt: Prompt, fits: Fits) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt with as little left out as lets it fit, and what that is, in words; it may still not fit then."""
    if fits(prompt):
        return prompt, ()
    told: list[str] = []
    begin, request = _history(prompt.messages)
    turns = _turns(prompt.messages, begin, request)
    if turns:
        cut = _least(len(turns), lambda count: fits(_without_turns(prompt, begin, turns, count)))
        told.append(f"the oldest {cut} of {len(turns)} earlier turns")
        prompt = _without_turns(prompt, begin, turns, cut)
    place = _history(prompt.messages)[1]
    found = PASSAGES.fullmatch(prompt.messages[place].content) if prompt.messages else None
    if fits(prompt) or found is None or prompt.messages[place].origin != "retrieved":
        return prompt, tuple(told)
    passages = [each for each in PASSAGE.split(found["passages"]) if each]

    def without(count: int) -> Prompt:
        kept = "".join(passages[: len(passages) - count]).rstrip("\n")
        content = f"{found['head']}{kept}{found['question']}" if kept else found["question"].strip()
        return _with_message(prompt, place, content)

    cut = _least(len(passages), lambda count: fits(without(count)))
    return without(cut), (*told, f"the last {cut} of {len(passages)} passages from the documents")


def _least(most: int, enough: Callable[[int], bool]) -> int:
    """The smallest count from 1 to `most` that is enough; `most` if none is. More is enough where less is."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _history(messages: Sequence[Message]) -> tuple[int, int]:
    """Where the earlier turns begin, and where the request stands that follows them."""
    begin = 1 if messages and messages[0].role == "system" else 0
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    asked = [index for index in users if messages[index].origin in ("user", "retrieved")] or users
    return begin, asked[-1] if asked else begin


def _turns(messages: Sequence[Message], begin: int, request: int) -> list[int]:
    """Where each earlier turn ends: before the next message of a user."""
    return [index for index in range(begin + 1, request + 1) if messages[index].role == "user"]


def _without_turns(prompt: Prompt, begin: int, turns: Sequence[int], count: int) -> Prompt:
    messages = (*prompt.messages[:begin], *prompt.messages[turns[count - 1] :])
    return prompt.model_copy(update={"messages": messages})


def _with_message(prompt: Prompt, place: int, content: str) -> Prompt:
    changed = prompt.messages[place].model_copy(update={"content": content})
    return prompt.model_copy(update={"messages": (*prompt.messages[:place], changed, *prompt.messages[place + 1 :])})
