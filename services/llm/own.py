"""A language model of the caller's own, hosted where it lives."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from runtime.errors import Retryable
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.messages import Generation, Prompt, Sampling
from services.llm.chat import CHATML, turns
from services.llm.model import ANYBODY, Terms
from services.llm.replies import read_reply
from services.llm.wire import WIRES
from services.llm.wire.form import Wire
from services.llm.wire.showing import Showing

ChatMessage = dict[str, str]
_END = object()


class LLM:
    """Subclass it and override `generate` or `stream_generate`; either may be async.

    name: what runs record. wire: the form in which it is shown tools and writes calls, where the agent names none.
    Both methods get messages as {"role": "system" | "user" | "assistant", "content": text}, in which tools, earlier calls
    and their results already stand as text, and how tokens are to be sampled.
    """

    name = "own"
    wire = "json"

    def generate(self, messages: list[ChatMessage], sampling: Sampling) -> str:
        """The whole reply."""
        return "".join(self.stream_generate(messages, sampling))

    def stream_generate(self, messages: list[ChatMessage], sampling: Sampling) -> Iterator[str]:
        """The reply in pieces as they come."""
        raise NotImplementedError(f"{type(self).__name__} has neither generate() nor stream_generate()")


class OwnModelFailed(Retryable):
    """The caller's code raised something."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"The model {name} failed.", why=repr(error)[:500], hint="mend its code, or give a fallback")


class OwnModel:
    """A caller's LLM behind the port of all models: a reply that cannot be read goes back to it, never to a person."""

    def __init__(self, model: LLM) -> None:
        if type(model).generate is LLM.generate and type(model).stream_generate is LLM.stream_generate:
            raise TypeError(f"{type(model).__name__} overrides neither generate() nor stream_generate()")
        self.name = model.name
        self._model = model

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the model says, read by the wire form of the agent or of the model. Raises OwnModelFailed."""
        wire = WIRES[self._model.wire if prompt.manner.wire == "model" else prompt.manner.wire]
        showing = Showing(wire if prompt.offered else None, on_text)
        messages = plain_messages(prompt, wire)
        try:
            async for piece in self._pieces(messages, prompt.sampling):
                showing.hear(piece)
        except MilepostError:
            raise
        except Exception as error:  # whatever it is, a fallback may still answer
            raise OwnModelFailed(self.name, error) from error
        reply = read_reply(showing.text, prompt, wire)
        showing.end(reply.text if not reply.malformed and not reply.calls else "")
        return Generation(
            text=reply.text, calls=reply.calls, malformed=reply.malformed, finish="calls" if reply.calls else "stop",
            model=self.name, model_hash=digest("own", type(self._model).__qualname__, self.name), provider="own",
            seed=prompt.sampling.seed,
        )  # fmt: skip

    async def _pieces(self, messages: list[ChatMessage], sampling: Sampling) -> AsyncIterator[str]:
        model = self._model
        if type(model).stream_generate is LLM.stream_generate:
            if inspect.iscoroutinefunction(model.generate):
                yield await model.generate(messages, sampling)
            else:
                yield await asyncio.to_thread(model.generate, messages, sampling)
            return
        stream: object = model.stream_generate(messages, sampling)
        if isinstance(stream, AsyncIterator):
            async for piece in stream:
                yield piece
            return
        pieces = iter(stream)  # type: ignore[call-overload]  # not async, so it is an iterable of text
        while (piece := await asyncio.to_thread(next, pieces, _END)) is not _END:
            yield str(piece)


def plain_messages(prompt: Prompt, wire: Wire) -> list[ChatMessage]:
    """A prompt as chat messages of text alone: tools, calls and results are written by the wire form."""
    said: Sequence[tuple[str, tuple[str, ...]]] = list(turns(prompt, CHATML, wire))
    return [{"role": role, "content": "".join(pieces)} for role, pieces in said]
