"""The prefix cache: slots keep what their streams have read, for the next one that begins alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.llm.speculation import Tokens
from services.llm.stream import Stream

# What a token in the cache is worth fades by this factor with every stream that gets a slot.
FADING = 0.95
# Only the slots unused for longest are thought of for another stream: each of them is compared with all slots.
CANDIDATES = 8


class Slot:
    """One place in the decoder's memory. length: tokens that it holds. used: when it was last stepped, in turns."""

    def __init__(self, index: int, tokens: Tokens, heat: NDArray[np.float32]) -> None:
        self.index = index
        self.length = 0
        self.stream: Stream | None = None
        self.label = ""
        self.used = 0
        self._tokens, self.heat = tokens, heat

    @property
    def tokens(self) -> Tokens:
        """What it holds; good until it changes."""
        return self._tokens[: self.length]

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens have been read."""
        end = self.length + len(tokens)
        self._tokens[self.length : end] = tokens
        self.heat[self.length : end] = 1.0
        self.length = end

    def truncate(self, length: int) -> None:
        """Forget what comes after the first tokens."""
        self.length = min(self.length, length)

    def copy(self, source: Slot, length: int) -> None:
        """Hold what another slot begins with."""
        self._tokens[:length], self.heat[:length] = source.tokens[:length], source.heat[:length]
        self.length = length


class Slots:
    """All slots of a decoder.

    A token that is held is worth 1 when it is read, 1 more with every stream that reuses it, and fades. Room for a new
    stream is made where least is lost: the worth of the tokens that no other slot holds. So a prompt's beginning that many
    streams share outlives long answers that nobody will ask for again.
    """

    def __init__(self, count: int, capacity: int) -> None:
        self._tokens = np.zeros((count, capacity), np.int32)
        self._heat = np.zeros((count, capacity), np.float32)
        self.all = [Slot(index, self._tokens[index], self._heat[index]) for index in range(count)]

    def forget(self) -> None:
        """Hold nothing any more where no stream is; what one reads by then goes when the next one takes its place."""
        for slot in self.free():
            slot.truncate(0)
            self._tokens[slot.index] = 0

    def free(self) -> list[Slot]:
        """Slots without a stream."""
        return [slot for slot in self.all if slot.stream is None]

    def source(self, prompt: Sequence[int]) -> tuple[Slot, int]:
        """The slot that holds most of a prompt's beginning, and how much of it: never all, its last token is to be read."""
        shared = self._shared(prompt)
        best = int(shared.argmax())
        return self.all[best], min(int(shared[best]), len(prompt) - 1)

    def room(self, stream: Stream) -> tuple[Slot, int]:
        """The free slot to give to a stream (of its label, else where least is lost), and how much of its prompt is known."""
        free = self.free()
        source, known = self.source(stream.pending)
        self._heat *= FADING
        for slot in free:
            if stream.terms.label and slot.label == stream.terms.label:
                return slot, known
        oldest = sorted(free, key=lambda slot: slot.used)[:CANDIDATES]
        if source in free and source not in oldest:
            oldest.append(source)
        return min(oldest, key=lambda slot: self._loss(slot, known if slot is source else 0)), known

    def reuse(self, source: Slot, target: Slot, length: int) -> None:
        """Let a slot hold what another one begins with, or itself."""
        source.heat[:length] += 1.0
        if target is source:
            target.truncate(length)
        else:
            target.copy(source, length)

    def _loss(self, slot: Slot, kept: int) -> float:
        if not slot.length:
            return 0.0
        shared = self._shared(slot.tokens)
        shared[slot.index] = kept
        return float(slot.heat[int(shared.max()) : slot.length].sum())

    def _shared(self, tokens: Sequence[int] | Tokens) -> NDArray[np.int64]:
        """How many of these tokens each slot begins with [slots]."""
        wanted = np.asarray(tokens, np.int32)
        lengths = np.array([slot.length for slot in self.all], np.int64)
        if not len(wanted):
            return lengths * 0
        differs = self._tokens[:, : len(wanted)] != wanted
        same: NDArray[np.int64] = np.where(differs.any(axis=1), differs.argmax(axis=1), len(wanted))
        return np.minimum(same, lengths)
