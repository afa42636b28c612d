"""What the llm service reads and writes: chat messages, sampling, what an answer must look like, usage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from schemas.canonical import JsonObject, Written, canonical, digest
from schemas.tools import Grown, ToolCall, ToolCard, Value

Origin: TypeAlias = Literal["user", "model", "tool", "retrieved", "system"]
# What of a prompt may be left out; the rest never is.
Part: TypeAlias = Literal["examples", "summary", "facts", "history", "similar", "tools", "passages"]


class Message(Grown):
    """One message of a prompt. calls: what an assistant message asked for; name: the tool of a tool message.

    tools: cards that are offered from this message on, beside those of the whole prompt. part: with what it may be left
    out; None: never. A user's message of a part and with a name stands before the words of the next user, as one with them;
    a system message of tools, in the first system message.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"tools", "part"})

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    origin: Origin = "system"
    tools: tuple[ToolCard, ...] = ()
    part: Part | None = None

    @property
    def context(self) -> bool:
        """Whether it is no message of its own, but belongs to the next user's or to the first system message."""
        return self.role in ("user", "system") and self.name is not None and self.part is not None

    def written(self) -> bytes:
        """The canonical JSON of its dump, made without one: most are a text, and a card is written once for all of them."""
        said: dict[str, object] = {"role": self.role, "content": self.content, "name": self.name, "origin": self.origin}
        said["calls"] = [Written(canonical(call.model_dump(mode="json"))) for call in self.calls]
        if self.tools:
            said["tools"] = [Written(card.written) for card in self.tools]
        if self.part is not None:
            said["part"] = self.part
        return canonical(said)


class Sampling(Value):
    """How tokens are chosen; temperature 0 is greedy."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    seed: int = 0
    max_tokens: int = Field(default=512, ge=1, le=8192)

    def hash(self) -> str:
        """Digest over the sampling."""
        return _sampling_hash(self)


@lru_cache(maxsize=256)  # agents are few
def _sampling_hash(sampling: Sampling) -> str:
    return digest("sampling", canonical(sampling.model_dump(mode="json")))


class JsonOutput(Value):
    """The answer is JSON that fits a JSON Schema."""

    kind: Literal["json"] = "json"
    json_schema: JsonObject = Field(default_factory=dict)


class RegexOutput(Value):
    """The answer matches a regular expression as a whole (Rust's syntax: no look-around, no back-references)."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(min_length=1, max_length=10_000)


class ChoiceOutput(Value):
    """The answer is one of these texts."""

    kind: Literal["choice"] = "choice"
    options: tuple[str, ...] = Field(min_length=1, max_length=1_000)


Output: TypeAlias = Annotated[JsonOutput | RegexOutput | ChoiceOutput, Field(discriminator="kind")]

# How tools are shown to a model and how it writes calls; "model": as its catalogue entry says.
Wire: TypeAlias = Literal["model", "json", "hermes", "openai", "msagent", "mrkl", "chatglm3"]


class Manner(Grown):
    """How a model is to speak, beside what it reads.

    wire: the form of tools, calls and results. calls: whether it may call a tool, must, or must not. constrained: only
    what parses can be written; without it a reply that is no valid call goes back to the model. parallel: several calls
    in one reply. output: what an answer must look like. certified: alone in its batch, nothing reused, with fixed threads
    and chunks, so that it can be executed again token for token.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"wire", "calls", "constrained", "parallel", "output", "certified"})

    wire: Wire = "model"
    calls: Literal["auto", "required", "never"] = "auto"
    constrained: bool = True
    parallel: bool = False
    output: Output | None = None
    certified: bool = False


class Prompt(Value):
    """Everything a model needs to speak: messages, the tools it may call, and how.

    tools: empty means that the model may only answer. call_margin: how much likelier than an answer a
    call must be (in log-probability) before the model may call; positive leans to answering. shares: how many tokens a
    part may take, by its name; without one, what there is room for.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolCard, ...] = ()
    sampling: Sampling = Sampling()
    call_margin: float = 0.0
    manner: Manner = Manner()
    shares: dict[Part, int] = Field(default_factory=dict)

    @property
    def offered(self) -> tuple[ToolCard, ...]:
        """All tools that may be called: the prompt's own and those of its messages. Of one name, the first."""
        cards = (*self.tools, *(card for message in self.messages for card in message.tools))
        return tuple({card.name: card for card in reversed(cards)}.values())[::-1]

    def without_tools(self) -> Prompt:
        """The same prompt, which offers none."""
        bare = tuple(each.model_copy(update={"tools": ()}) if each.tools else each for each in self.messages)
        return self.model_copy(update={"tools": (), "messages": bare})

    def hash(self) -> str:
        """Digest over the whole prompt: proves that a replay would say the same to the model."""
        opened = digest_opened(self.tools, self.sampling, self.manner, self.shares)
        return digest_asked(digest_said(opened, self.messages), self.call_margin)


def digest_opened(
    tools: Iterable[ToolCard], sampling: Sampling, manner: Manner, shares: Mapping[Part, int] | None = None
) -> str:
    """Where the digest of a prompt begins: before its first message."""
    stated = manner.model_dump(mode="json")
    special = [digest("manner", canonical(stated))] if stated else []  # the usual manner is the one of the first logs
    if shares:
        special.append(digest("shares", canonical(dict(shares))))
    return digest("prompt", sampling.hash(), *special, *(card.hash() for card in tools))


def digest_said(begun: str, messages: Iterable[Message]) -> str:
    """The digest gone on over further messages, so that a run that grows never reads its beginning again."""
    for message in messages:
        begun = digest("said", begun, message.written())
    return begun


def digest_asked(begun: str, call_margin: float) -> str:
    """The digest of the prompt that ends here."""
    return digest("asked", begun, canonical(call_margin))


class Usage(Value):
    """Tokens read and written; cached_tokens of the prompt were not computed again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Certificate(Value):
    """Under what a certified generation ran; under the same it says the same, token for token.

    engine: the inference library and its version; machine: instruction sets that its kernels are chosen by; chunk:
    prompt tokens read at once.
    """

    engine: str
    machine: str
    precision: str
    threads: int
    chunk: int
    tokens_hash: str


class Generation(Grown):
    """What a model said: an answer in text, or calls. model: name and hash of what ran.

    malformed: why an unconstrained reply is neither an answer nor a call. cut: what did not fit into the model's
    context and was left out. tried: models that were asked before this one, each with its failure. drafted and
    accepted: tokens guessed ahead of decoding, and those of them that were right.
    """

    LATER: ClassVar[frozenset[str]] = frozenset(
        {"seed", "tokenizer_hash", "malformed", "cut", "tried", "waited_ms", "drafted", "accepted", "certificate"}
    )

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "length", "calls"] = "stop"
    usage: Usage = Usage()
    model: str = ""
    model_hash: str = ""
    provider: str = ""
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    seed: int = 0
    tokenizer_hash: str = ""
    malformed: str = ""
    cut: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    waited_ms: float = 0.0
    drafted: int = 0
    accepted: int = 0
    certificate: Certificate | None = None
