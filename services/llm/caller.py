"""A model that does what it is told: it makes the one call that the request states, and says what came of it.

For callers that are programs: what they ask for becomes a run like any other, with plan, policy, approval, ledger and log.
It says by its name that nobody thought about the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from schemas.canonical import canonical, digest, read_json
from schemas.errors import MilepostError
from schemas.messages import Generation, Message, Prompt, Usage
from schemas.tools import ToolCall
from services.llm.model import ANYBODY, Terms

NAME = "caller"
"""The model's name, and the lane in which it is hosted."""

BYTES = 128 * 1024
_TASK = re.compile(r"Call ([A-Za-z0-9_-]{1,64}) with (\{.*\})", re.S)


def task_of(name: str, arguments: dict[str, object]) -> str:
    """The request that leads to this call. Raises ProtocolError for arguments that are no plain JSON."""
    return f"Call {name} with {canonical(arguments).decode()}"


class CallerModel:
    """Reads the call from the last request; the same prompt gives the same generation, so any process may host it."""

    name = NAME

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """The call; after its result, the result."""
        at = max((n for n, each in enumerate(prompt.messages) if each.role == "user" and not each.context), default=-1)
        results = [each for each in prompt.messages[at + 1 :] if each.role == "tool"]
        call = _call(prompt.messages[at]) if at >= 0 else None
        if results or call is None:
            text = results[-1].content if results else "The request states no call."
            on_text(text)
            return _said(text, ())
        return _said("", (call,))


def _call(message: Message) -> ToolCall | None:
    found = _TASK.fullmatch(message.content.strip())
    if found is None:
        return None
    try:
        arguments = read_json(found.group(2), limit=BYTES)
    except MilepostError:
        return None
    return ToolCall(id="call-0", name=found.group(1), arguments=arguments) if isinstance(arguments, dict) else None


def _said(text: str, calls: tuple[ToolCall, ...]) -> Generation:
    return Generation(
        text=text, calls=calls, finish="calls" if calls else "stop", model=NAME, model_hash=digest("model", NAME, "1"),
        provider="none", usage=Usage(prompt_tokens=0, completion_tokens=0),
    )  # fmt: skip
