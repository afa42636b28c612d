"""What the llm service reads and writes: chat messages, sampling, usage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from pydantic import Field

from schemas.canonical import canonical, digest
from schemas.tools import ToolCall, ToolCard, Value

Origin: TypeAlias = Literal["user", "model", "tool", "retrieved", "system"]


class Message(Value):
    """One message of a prompt. calls: what an assistant message asked for; name: the tool of a tool message."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    origin: Origin = "system"


class Sampling(Value):
    """How tokens are chosen; temperature 0 is greedy."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    seed: int = 0
    max_tokens: int = Field(default=512, ge=1, le=8192)

    def hash(self) -> str:
        """Digest over the sampling."""
        return digest("sampling", canonical(self.model_dump(mode="json")))


class Prompt(Value):
    """Everything a model needs to speak: messages, the tools it may call, and how.

    tools: empty means that the model may only answer. call_margin: how much likelier than an answer a
    call must be (in log-probability) before the model may call; positive leans to answering.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolCard, ...] = ()
    sampling: Sampling = Sampling()
    call_margin: float = 0.0

    def hash(self) -> str:
        """Digest over the whole prompt: proves that a replay would say the same to the model."""
        return digest_asked(digest_said(digest_opened(self.tools, self.sampling), self.messages), self.call_margin)


def digest_opened(tools: Iterable[ToolCard], sampling: Sampling) -> str:
    """Where the digest of a prompt begins: before its first message."""
    return digest("prompt", sampling.hash(), *(card.hash() for card in tools))


def digest_said(begun: str, messages: Iterable[Message]) -> str:
    """The digest gone on over further messages, so that a run that grows never reads its beginning again."""
    for message in messages:
        begun = digest("said", begun, canonical(message.model_dump(mode="json")))
    return begun


def digest_asked(begun: str, call_margin: float) -> str:
    """The digest of the prompt that ends here."""
    return digest("asked", begun, canonical(call_margin))


class Usage(Value):
    """Tokens read and written; cached_tokens of the prompt were not computed again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Generation(Value):
    """What a model said: an answer in text, or calls. model: name and hash of what ran."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "length", "calls"] = "stop"
    usage: Usage = Usage()
    model: str = ""
    model_hash: str = ""
    provider: str = ""
    first_token_ms: float = 0.0
    total_ms: float = 0.0
