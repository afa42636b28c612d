"""Many streams over one decoder: one thread, slots, prefix reuse, chunked prefill, ragged batches, cancel at any step.

A stream is tokens still to be read (its prompt at first) and a guide. When nothing is left to read, the guide sees the logits
and says which tokens follow: one that it chose, several where a grammar forces them, none at the end. So reading a prompt,
decoding and jumping over forced tokens are one thing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from runtime.errors import Busy, Permanent, Retryable
from services.llm.decoder import Decoder
from services.llm.model import ANYBODY, Terms
from services.llm.scores import Scores


class ModelBusy(Busy):
    """As many requests wait as may wait."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The model has {limit} requests waiting and takes no more.",
            why="they come faster than it can answer",
            hint="try again later, start another llm service, or raise its queue limit",
        )
        self.limit = limit


class PromptTooLong(Permanent):
    """The prompt leaves no room for an answer."""

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(
            f"The prompt has {tokens} tokens, the model's context is {limit}.",
            hint="send fewer messages, tools or passages, or raise the model's context",
        )
        self.tokens = tokens
        self.limit = limit


class EngineStopped(Retryable):
    """The engine was closed while the request waited or ran."""

    def __init__(self) -> None:
        super().__init__("The model was stopped.", hint="milepost status")


@dataclass(frozen=True)
class Next:
    """What follows: tokens to go on with, none at the end of the stream; drop: how many of the last ones were wrong."""

    tokens: Sequence[int]
    drop: int = 0


END = Next(())


class Guide(Protocol):
    """Who decides what follows."""

    def follow(self, scores: Scores) -> Next:
        """What comes after these scores."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a stream went: tokens of its prompt that were not computed again, and seconds to its first token and to its end."""

    cached_tokens: int
    first_token_s: float
    total_s: float


@dataclass
class _Stream:
    prompt: list[int]
    guide: Guide
    terms: Terms
    done: Future[Outcome] = field(default_factory=Future)
    began: float = field(default_factory=time.perf_counter)
    first: float | None = None
    cached: int = 0
    pending: list[int] = field(default_factory=list)


@dataclass
class _Slot:
    """tokens: what its cache holds; they stay after a stream's end, for the next one that begins alike."""

    index: int
    tokens: list[int] = field(default_factory=list)
    stream: _Stream | None = None
    label: str = ""
    used: int = 0


class Engine:
    """Runs streams over a decoder's slots in a thread of its own until close()."""

    def __init__(self, decoder: Decoder, *, max_waiting: int = 64) -> None:
        self._decoder = decoder
        self._max_waiting = max_waiting
        self._inbox: queue.SimpleQueue[_Stream | None] = queue.SimpleQueue()
        self._waiting: list[_Stream] = []
        self._slots = [_Slot(index) for index in range(decoder.slots)]
        self._turn = 0
        self._open = 0
        self._closed = False
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="llm-engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: Sequence[int], guide: Guide, *, terms: Terms = ANYBODY, certified: bool = False
    ) -> Future[Outcome]:
        """Begin a stream; cancel the future to end it at its next step. certified: alone at each step, nothing reused.

        Raises ModelBusy, PromptTooLong, EngineStopped.
        """
        if len(prompt) >= self._decoder.capacity:
            raise PromptTooLong(tokens=len(prompt), limit=self._decoder.capacity)
        stream = _Stream(list(prompt), guide, terms)
        with self._guard:
            if self._closed:
                raise EngineStopped
            if self._open >= self._max_waiting + len(self._slots):
                raise ModelBusy(self._max_waiting)
            self._open += 1
        stream.done.add_done_callback(self._count_down)
        self._inbox.put(stream)
        return stream.done

    def close(self) -> None:
        """Stop the thread; streams that run or wait fail with EngineStopped."""
        with self._guard:
            self._closed = True
        self._inbox.put(None)
        self._thread.join()

    def _count_down(self, _: Future[Outcome]) -> None:
        with self._guard:
            self._open -= 1

    def _run(self) -> None:
        while self._receive():
            self._drop_cancelled()
            self._admit()
            live = [slot for slot in self._slots if slot.stream]
            long = [slot for slot in live if slot.stream and len(slot.stream.pending) > 1]
            short = [slot for slot in live if slot.stream and len(slot.stream.pending) == 1]
            if short:
                self._step(short)
            if long:
                self._step([min(long, key=lambda slot: slot.used)])
        for stream in [*self._waiting, *(slot.stream for slot in self._slots if slot.stream)]:
            _fail(stream, EngineStopped())

    def _receive(self) -> bool:
        """Take in new streams; waits when there is nothing to do. False when the engine is closed."""
        idle = not self._waiting and not any(slot.stream for slot in self._slots)
        try:
            while True:
                stream = self._inbox.get(block=idle)
                if stream is None:
                    return False
                self._waiting.append(stream)
                idle = False
        except queue.Empty:
            return True

    def _drop_cancelled(self) -> None:
        self._waiting = [stream for stream in self._waiting if not stream.done.cancelled()]
        for slot in self._slots:
            if slot.stream and slot.stream.done.cancelled():
                slot.stream = None

    def _admit(self) -> None:
        while self._waiting and any(slot.stream is None for slot in self._slots):
            self._begin(self._waiting.pop(0))

    def _begin(self, stream: _Stream) -> None:
        """Give a stream a slot whose cache holds as much of its prompt as any slot does."""
        source = max(self._slots, key=lambda slot: common_prefix(slot.tokens, stream.prompt))
        # The last token is read in any case: its logits are what the answer begins from.
        shared = min(common_prefix(source.tokens, stream.prompt), len(stream.prompt) - 1)
        target = self._free_slot(stream, shared)
        if target is not source:
            self._decoder.fork(source.index, target.index, shared)
        target.tokens = stream.prompt[:shared]
        target.stream, target.label = stream, stream.terms.label
        stream.cached, stream.pending = shared, stream.prompt[shared:]
        self._touch(target)

    def _free_slot(self, stream: _Stream, shared: int) -> _Slot:
        """The idle slot of the same label, else one that the prompt merely extends, else the one unused for longest."""
        idle = [slot for slot in self._slots if slot.stream is None]
        for slot in idle:
            if stream.terms.label and slot.label == stream.terms.label:
                return slot
        for slot in idle:
            if slot.tokens and slot.tokens == stream.prompt[: len(slot.tokens)] and len(slot.tokens) >= shared:
                return slot
        return min(idle, key=lambda slot: slot.used)

    def _touch(self, slot: _Slot) -> None:
        self._turn += 1
        slot.used = self._turn

    def _step(self, slots: list[_Slot]) -> None:
        """Read pending tokens: one of each slot, or a chunk of the only one."""
        try:
            scores = self._read(slots)
        except Exception as error:  # whatever ONNX Runtime raises belongs to these streams, not to the thread
            for slot in slots:
                self._end(slot, error)
            return
        for slot, row in zip(slots, scores, strict=True):
            if slot.stream and not slot.stream.pending:
                self._follow(slot, slot.stream, row)

    def _read(self, slots: list[_Slot]) -> list[Scores]:
        streams = [(slot, slot.stream) for slot in slots if slot.stream]
        length = min(self._decoder.chunk, *(len(stream.pending) for _, stream in streams))
        first, last = slots[0].index, slots[-1].index
        # Slots between the live ones take part with a token behind their last one, where it hurts nothing.
        tokens = np.zeros((last - first + 1, length), np.int64)
        past = [min(len(slot.tokens), self._decoder.capacity - 1) for slot in self._slots[first : last + 1]]
        for slot, stream in streams:
            tokens[slot.index - first] = stream.pending[:length]
        scores = self._decoder.step(first, tokens, past)
        for slot, stream in streams:
            slot.tokens += stream.pending[:length]
            stream.pending = stream.pending[length:]
            self._touch(slot)
        return [scores[slot.index - first] for slot in slots]

    def _follow(self, slot: _Slot, stream: _Stream, scores: Scores) -> None:
        if stream.first is None:
            stream.first = time.perf_counter()
        try:
            following = stream.guide.follow(scores)
            stream.pending = list(following.tokens)
            slot.tokens = slot.tokens[: len(slot.tokens) - following.drop]
            if len(slot.tokens) + len(stream.pending) > self._decoder.capacity:
                raise PromptTooLong(tokens=len(slot.tokens) + len(stream.pending), limit=self._decoder.capacity)
        except Exception as error:  # a guide's error ends its stream alone
            self._end(slot, error)
        else:
            if not stream.pending:
                self._end(slot)

    def _end(self, slot: _Slot, error: Exception | None = None) -> None:
        stream, slot.stream = slot.stream, None
        if stream is None:
            return
        if error:
            _fail(stream, error)
        elif stream.done.set_running_or_notify_cancel():
            now = time.perf_counter()
            stream.done.set_result(Outcome(stream.cached, (stream.first or now) - stream.began, now - stream.began))


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share from their beginning."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _fail(stream: _Stream, error: Exception) -> None:
    if stream.done.set_running_or_notify_cancel():
        stream.done.set_exception(error)
