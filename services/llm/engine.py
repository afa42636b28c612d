"""One scheduler over one decoder: a thread that steps all live streams, tick by tick.

A stream is tokens still to be read (its prompt at first) and a guide. When nothing is left to read, the guide sees the scores
and says which tokens follow: one that it chose, several where a grammar forces them, none at the end. So reading a prompt,
decoding and jumping over forced tokens are one thing. In a tick

- every stream that speaks moves on: those with one token to read share a step; a run of forced tokens takes a step of its
  own, unless it is so short against the number of those who would wait for it that reading it with them, token by token,
  costs less;
- then one prompt is read on: a chunk of it where nobody speaks, else a piece that takes about as long as STALL decoding
  steps (pace.py), so that whoever speaks never waits longer. It is the prompt that has least left to read, less PATIENCE
  tokens for every tick since it got its slot: short ones overtake, but none forever.

A stream alone guesses ahead (speculation.py). Certified streams have every step for themselves, read their prompt from its
beginning in chunks of fixed length and guess nothing: what they compute depends on nothing but their tokens.

For all others the reused beginning, runs and guesses decide whether a token is computed by a step of one token or of several,
which adds up in another order. In float32 that moves a logit by 1e-4 at the most; where activations are rounded to int8 a
difference in the last digit can tip a rounding, and logits move by as much as the rounding itself costs (up to 3 where they
spread by 2: SmolLM2-135M, int8 and int4, 60 random tokens). Which other streams share a step changes nothing on a CPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import structlog

from runtime.errors import Permanent
from services.llm.admission import Admission, EngineStopped, ModelBusy
from services.llm.decoder import Decoder
from services.llm.model import ANYBODY, Terms
from services.llm.pace import Pace
from services.llm.scores import NotFinite, Scores
from services.llm.slots import Slot, Slots
from services.llm.stream import END, Guide, Next, Outcome, Stream

__all__ = ["END", "DeadlinePassed", "Engine", "EngineStopped", "Guide", "ModelBusy", "Next", "Outcome", "PromptTooLong"]

PATIENCE = 64
# Behind more forced tokens than this the scores of every place would cost more than a guess can bring.
RUN_BEFORE_DRAFT = 16
SWEEP_S = 0.1

log = structlog.get_logger("services.llm")


class PromptTooLong(Permanent):
    """The prompt leaves no room for an answer."""

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(
            f"The prompt has {tokens} tokens, the model's context is {limit}.",
            hint="send fewer messages, tools or passages, or raise the model's context",
        )
        self.tokens = tokens
        self.limit = limit


class DeadlinePassed(Permanent):
    """The time in which the answer was wanted is over."""

    def __init__(self, *, began: bool) -> None:
        super().__init__(
            "The deadline passed before the model had answered.",
            why="it was still speaking" if began else "the request was still waiting for a place at the model",
            hint="give the run more time, or start another llm service",
        )


class Engine:
    """Runs streams over a decoder's slots in a thread of its own until close(); the decoder is the thread's alone.

    max_waiting: as Admission says. speculate: whether a stream that is alone guesses ahead. Each token is then still the
    model's own choice, but by kernels that read several tokens at once, which round otherwise than those that read one:
    on quantised weights near ties may fall the other way, so it is off unless asked for.
    """

    def __init__(self, decoder: Decoder, *, max_waiting: int = 64, speculate: bool = False) -> None:
        self._decoder = decoder
        self._speculate = speculate
        self._slots = Slots(decoder.slots, decoder.capacity)
        self._admission = Admission(slots=decoder.slots, max_waiting=max_waiting)
        self._pace = Pace()
        self._tick_count = 0
        self._swept = 0.0
        self._drafted = self._accepted = 0
        self._forgetting = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llm-engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: Sequence[int], guide: Guide, *, terms: Terms = ANYBODY, certified: bool = False
    ) -> Future[Outcome]:
        """Begin a stream; cancel the future to end it at its next step. certified: alone at each step, nothing reused.

        Raises ModelBusy, PromptTooLong, EngineStopped; the future also DeadlinePassed and what the guide raised.
        """
        if not prompt:
            raise ValueError("an empty prompt has no scores to go on from")
        if len(prompt) >= self._decoder.capacity:
            raise PromptTooLong(tokens=len(prompt), limit=self._decoder.capacity)
        stream = Stream(list(prompt), guide, terms, certified)
        self._admission.enter(stream)
        return stream.done

    def forget(self) -> None:
        """Hold nothing that was read before for other streams, from the next tick on."""
        self._forgetting.set()
        self._admission.wake()

    def close(self) -> None:
        """Stop the thread; streams that run or wait fail with EngineStopped."""
        self._admission.close()
        self._thread.join()

    def stats(self) -> dict[str, float]:
        """How it is doing, for a status page: streams, slots, the cache's filling, tokens per second, guesses."""
        held = sum(slot.length for slot in self._slots.all)
        return {
            "waiting": self._admission.waiting,
            "running": len(self._live()),
            "slots": self._decoder.slots,
            "cached_share": held / (self._decoder.slots * self._decoder.capacity),
            "decode_tok_s": self._pace.decode_tok_s,
            "prefill_tok_s": self._pace.prefill_tok_s,
            "drafted": self._drafted,
            "accepted": self._accepted,
        }

    def _run(self) -> None:
        try:
            while not self._admission.closed:
                if not self._live():
                    self._admission.wait()
                self._tick()
        except Exception as error:  # a defect of ours must not leave anybody waiting for ever
            log.exception("engine stopped", error=str(error))
        finally:
            self._admission.close()
            for stream in self._admission.empty():
                stream.fail(EngineStopped())

    def _live(self) -> list[Slot]:
        return [slot for slot in self._slots.all if slot.stream]

    def _tick(self) -> None:
        self._tick_count += 1
        if self._forgetting.is_set():
            self._forgetting.clear()
            self._slots.forget()
        self._drop_unwanted()
        self._admit()
        streams = [(slot, slot.stream) for slot in self._slots.all if slot.stream]
        speaking = [slot for slot, stream in streams if stream.speaks]
        reading = [(slot, stream) for slot, stream in streams if not stream.speaks]
        if len(streams) == 1 and speaking:
            self._step_alone(speaking[0], draft=self._speculate)
        else:
            self._speak(speaking)
        if reading:
            slot, stream = min(reading, key=lambda pair: self._left(pair[1]))
            whole = stream.certified or not speaking
            self._step_alone(slot, longest=self._decoder.chunk if whole else self._pace.piece(self._decoder.chunk))

    def _left(self, stream: Stream) -> int:
        """What orders prompts: tokens left to read, a context more for batch, less what it has waited."""
        left = len(stream.pending) - stream.known + (self._decoder.capacity if stream.terms.batch else 0)
        return left - PATIENCE * (self._tick_count - stream.began)

    def _drop_unwanted(self) -> None:
        for slot in self._live():
            if slot.stream and slot.stream.done.cancelled():
                self._end(slot)
            elif slot.stream and slot.stream.terms.late():
                self._end(slot, DeadlinePassed(began=True))
        now = time.monotonic()
        if self._admission.waiting and now - self._swept > SWEEP_S:
            self._swept = now
            for stream in self._admission.late():
                stream.fail(DeadlinePassed(began=False))

    def _admit(self) -> None:
        while self._slots.free() and (stream := self._admission.take()):
            self._seat(stream)
        while not self._slots.free() and (swap := self._admission.give_way()):
            loser, winner = swap
            slot = next(slot for slot in self._slots.all if slot.stream is loser)
            if loser.placed:
                loser.pending = [*slot.tokens.tolist(), *loser.pending]
            loser.placed = loser.speaks = False
            self._free(slot)
            self._seat(winner)

    def _seat(self, stream: Stream) -> None:
        if stream.terms.late():
            stream.fail(DeadlinePassed(began=False))
            return
        slot, known = self._slots.room(stream)
        slot.stream, slot.label = stream, stream.terms.label
        stream.known = 0 if stream.certified else known
        stream.entered = stream.entered or time.perf_counter()
        stream.began = self._tick_count

    def _place(self, slot: Slot, stream: Stream) -> None:
        """Begin to read: whatever a slot holds by now of the prompt's beginning is copied instead."""
        shared = 0
        if stream.certified:
            slot.truncate(0)
        else:
            source, shared = self._slots.source(stream.pending)
            if source is not slot and shared:
                self._decoder.fork(source.index, slot.index, shared)
            self._slots.reuse(source, slot, shared)
        stream.pending = stream.pending[shared:]
        stream.placed, stream.known = True, 0
        stream.cached = shared if stream.cached is None else stream.cached
        self._admission.charge(stream, -shared)

    def _speak(self, slots: list[Slot]) -> None:
        """Move all streams on that speak."""
        left = [(slot, len(slot.stream.pending)) for slot in slots if slot.stream and not slot.stream.certified]
        single = sum(pending == 1 for _, pending in left)
        together = [slot for slot, pending in left if pending <= single + 1]
        if single and len(together) > 1:
            self._step_together(together)
        else:
            together = []
        for slot in slots:
            if slot not in together and slot.stream:
                self._step_alone(slot, longest=None if slot.stream.certified else self._pace.piece(self._decoder.chunk))

    def _step_together(self, slots: list[Slot]) -> None:
        """One token of each slot."""
        began = time.perf_counter()
        first, last = slots[0].index, slots[-1].index
        between = self._slots.all[first : last + 1]
        # Slots between them take part with a token behind their last one, where it hurts nothing.
        tokens = np.zeros((len(between), 1), np.int64)
        for slot in slots:
            if slot.stream:
                tokens[slot.index - first] = slot.stream.pending[0]
        try:
            scores = self._decoder.step(first, tokens, [slot.length for slot in between])
        except Exception as error:  # whatever ONNX Runtime raises belongs to these streams, not to the thread
            for slot in slots:
                self._spoil(slot, error)
            return
        for slot in slots:
            self._took(slot, 1)
            if slot.stream and not slot.stream.pending:
                self._follow(slot, slot.stream, [scores[slot.index - first]], [])
        self._pace.decoded(len(slots), time.perf_counter() - began)

    def _step_alone(self, slot: Slot, *, longest: int | None = None, draft: bool = False) -> None:
        """The next tokens of one slot, and a guess behind them."""
        stream = slot.stream
        if stream is None:
            return
        began, spoke = time.perf_counter(), stream.speaks
        try:
            if not stream.placed:
                self._place(slot, stream)
            taken = min(len(stream.pending), longest or self._decoder.chunk)
            guess = self._guess(slot, stream) if draft and not stream.certified else []
            tokens = np.array([[*stream.pending[:taken], *guess]], np.int64)
            scores = self._decoder.step(slot.index, tokens, [slot.length], every=bool(guess))
        except Exception as error:  # as above
            self._spoil(slot, error)
            return
        self._took(slot, taken)
        said = stream.said
        if not stream.pending:
            slot.extend(guess)
            self._follow(slot, stream, scores[taken - 1 :] if guess else scores, guess)
        seconds = time.perf_counter() - began
        if spoke:
            self._pace.decoded(stream.said - said, seconds)
        else:
            self._pace.read(taken, seconds)

    def _guess(self, slot: Slot, stream: Stream) -> list[int]:
        if len(stream.pending) > RUN_BEFORE_DRAFT:
            return []
        known = np.concatenate([slot.tokens, np.array(stream.pending, np.int32)])
        return stream.drafter.draft(known, self._decoder.capacity - len(known))

    def _took(self, slot: Slot, count: int) -> None:
        if slot.stream:
            slot.extend(slot.stream.pending[:count])
            slot.stream.pending = slot.stream.pending[count:]
            slot.used = self._tick_count

    def _follow(self, slot: Slot, stream: Stream, scores: Sequence[Scores], guess: list[int]) -> None:
        """Ask the guide what follows, place after place for as long as it says what was guessed."""
        stream.first = stream.first or time.perf_counter()
        stream.speaks = True
        sure, right = slot.length - len(guess), 0
        try:
            while True:
                following = stream.guide.follow(scores[right])
                tokens = list(following.tokens)
                agreed = 0 if following.drop else _agreement(guess[right:], tokens)
                right += agreed
                if following.drop or not tokens or agreed < len(tokens):
                    break
            slot.truncate(sure + right - following.drop)
            stream.pending = tokens[agreed:]
            stream.said += right + len(stream.pending)
            if slot.length + len(stream.pending) > self._decoder.capacity:
                raise PromptTooLong(tokens=slot.length + len(stream.pending), limit=self._decoder.capacity)
        except NotFinite as error:
            self._spoil(slot, error)
        except Exception as error:  # a guide's error ends its stream alone
            self._end(slot, error)
        else:
            self._judge(stream, len(guess), right)
            if not stream.pending:
                self._end(slot)

    def _judge(self, stream: Stream, drafted: int, accepted: int) -> None:
        if drafted:
            stream.drafter.judge(drafted, accepted)
            self._drafted += drafted
            self._accepted += accepted

    def _spoil(self, slot: Slot, error: Exception) -> None:
        """End a stream after which nobody knows what the slot's memory holds."""
        self._end(slot, error)
        slot.truncate(0)

    def _end(self, slot: Slot, error: Exception | None = None) -> None:
        stream = slot.stream
        if stream is None:
            return
        self._free(slot)
        self._admission.charge(stream, stream.said)
        if error:
            stream.fail(error)
        else:
            self._admission.stayed(time.perf_counter() - (stream.entered or stream.submitted))
            stream.finish()

    def _free(self, slot: Slot) -> None:
        # One place is left free: slots between live ones take part in their steps with a token behind their last one.
        slot.truncate(self._decoder.capacity - 1)
        slot.stream = None


def _agreement(guess: list[int], tokens: list[int]) -> int:
    """How many tokens two sequences share from their beginning."""
    same = 0
    while same < min(len(guess), len(tokens)) and guess[same] == tokens[same]:
        same += 1
    return same
