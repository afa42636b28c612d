"""What a model is examined on, and what it said: a question with what should follow, and a reply with what it took."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard, Value


@dataclass(frozen=True)
class Item:
    """A prompt and its gold. group: what figures are told apart by (a language, a kind of question).

    calls: what should be called, in any order; none: it should answer. text: a reference answer, "" where there is none.
    parallel: several calls may come in one reply. source: what the benchmark's own rule needs beside these.
    """

    id: str
    benchmark: str
    group: str
    language: str
    messages: tuple[Message, ...]
    cards: tuple[ToolCard, ...]
    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    source: object = None
    parallel: bool = False

    @property
    def after_result(self) -> bool:
        """Whether a tool has answered since the last request."""
        for message in reversed(self.messages):
            if message.role == "user":
                return False
            if message.role == "tool":
                return True
        return False


class Reply(Value):
    """What was said to an item. malformed: why it is neither an answer nor a call; trouble: why there is no reply at all.

    cut: what of the prompt did not fit into the model's context, in words; unfinished: it ended at the bound of its tokens.
    offered: names of the tools that could be called, where the one asked found them itself. ms, first_ms: in all, and to the
    first token; cost: in `currency`, as decimal text; estimated: the tokens are counted by us, for nobody told believable ones.
    """

    item: str
    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    malformed: str = ""
    trouble: str = ""
    cut: tuple[str, ...] = ()
    unfinished: bool = False
    model: str = ""
    offered: tuple[str, ...] | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    steps: int = 1
    ms: float = 0.0
    first_ms: float = 0.0
    cost: str | None = None
    currency: str | None = None
    extra: dict[str, object] = Field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Whether it can be judged as words or calls."""
        return not (self.malformed or self.trouble)
