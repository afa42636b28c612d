"""A world that calls act on, and an episode in it: a model calls, reads the results and goes on, until it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import orjson

from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.evaluation.benchmark import Speak
from services.evaluation.executed.records import Records, Tables
from services.evaluation.item import Reply
from services.evaluation.metrics.fitting import invalid

ANSWERED, ENDLESS, UNREADABLE = "answered", "endless", "unreadable"
"""How an episode ends: in words, at the bound of calls, or in what nobody can read."""
_SUMMED = ("prompt_tokens", "cached_tokens", "completion_tokens", "ms")


class Failed(Exception):
    """A call that did nothing; what it says is what the model reads."""


class Executed(NamedTuple):
    """What a call gave. done: it did not fail."""

    text: str
    done: bool


class World(ABC):
    """Tools over records. cards: of tools whose arguments are checked before; a call either does all it does, or nothing."""

    def __init__(self, tables: Tables, cards: Sequence[ToolCard] = ()) -> None:
        self.records = Records(tables)
        self._cards = {card.name: (card,) for card in cards}
        self._tools = self.tools()

    @abstractmethod
    def tools(self) -> Mapping[str, Callable[..., object]]:
        """What each tool does. It takes the arguments by name, returns text or JSON, and raises Failed."""

    def execute(self, call: ToolCall) -> Executed:
        """The result of a call as text, errors included."""
        try:
            result = self._result(call)
        except Failed as failure:
            self.records.forget()
            return Executed(orjson.dumps({"error": str(failure)}).decode(), False)
        self.records.keep()
        return Executed(result if isinstance(result, str) else orjson.dumps(result).decode(), True)

    def _result(self, call: ToolCall) -> object:
        if call.name not in self._tools:
            raise Failed(f"There is no tool {call.name}.")
        if why := invalid((call,), self._cards.get(call.name, ()), (call.name,)):
            raise Failed(why)
        try:
            return self._tools[call.name](**call.arguments)
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # arguments of another form than the tool reads
            raise Failed(f"The arguments do not fit: {error}"[:300]) from error


async def episode(
    messages: Sequence[Message], cards: Sequence[ToolCard], world: World, speak: Speak, most: int
) -> Reply:  # fmt: skip
    """All that is said and called until words, something unreadable or `most` calls, as one reply.

    Its `extra` tells how it ended (`ended`) and all words beside calls and at the end (`said`). Calls are executed in their
    order; whoever judges executes them again, for a world does the same each time.
    """
    told, replies, calls = list(messages), list[Reply](), list[ToolCall]()
    while True:
        reply = await speak(told, cards)
        replies.append(reply)
        if not reply.readable or not reply.calls or len(calls) >= most:
            break
        calls.extend(reply.calls)
        told.append(Message(role="assistant", content=reply.text, calls=reply.calls, origin="model"))
        told.extend(
            Message(role="tool", name=call.name, content=world.execute(call).text, origin="tool") for call in reply.calls
        )
    last = replies[-1]
    ended = UNREADABLE if not last.readable else ENDLESS if last.calls else ANSWERED
    return joined(replies, calls).model_copy(
        update={"extra": {"ended": ended, "said": "\n".join(reply.text for reply in replies if reply.text)}}
    )


def joined(replies: Sequence[Reply], calls: Sequence[ToolCall]) -> Reply:
    """Replies as one with these calls: tokens and time summed. One that is unreadable makes the whole so only if nothing was
    called before it."""
    last = replies[-1]
    update: dict[str, object] = {name: sum(getattr(reply, name) for reply in replies) for name in _SUMMED}
    costs = [reply.cost for reply in replies if reply.cost is not None]
    if costs:
        from decimal import Decimal

        update["cost"] = f"{sum(map(Decimal, costs), Decimal(0)):f}"
    return replies[0].model_copy(update={
        **update, "calls": tuple(calls), "text": last.text, "steps": sum(reply.steps for reply in replies),
        "trouble": last.trouble, "malformed": "" if calls else last.malformed,
        "estimated": any(reply.estimated for reply in replies), "unfinished": last.unfinished,
        "cut": tuple(dict.fromkeys(what for reply in replies for what in reply.cut)),
    })  # fmt: skip
